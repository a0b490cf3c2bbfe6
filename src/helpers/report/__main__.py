"""The page of an executed notebook: ``python -m helpers.report outputs/demo/4_compare.ipynb``."""

import sys

from helpers.report import page

if len(sys.argv) != 2:
    sys.exit("usage: python -m helpers.report EXECUTED.ipynb")
print(page.write(sys.argv[1]))
