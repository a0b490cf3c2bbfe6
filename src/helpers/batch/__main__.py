"""``python -m helpers.batch``: see :mod:`helpers.batch.run`."""

import sys

from helpers.batch.run import main

if __name__ == "__main__":
    sys.exit(main())
