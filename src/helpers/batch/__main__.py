"""``python -m helpers.batch``: see :mod:`helpers.batch.run`."""

import sys

from helpers.batch.run import main

sys.exit(main())
