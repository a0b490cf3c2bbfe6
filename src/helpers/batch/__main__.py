"""``python -m helpers.batch``: see :mod:`helpers.batch.run`."""

import sys

from helpers.batch import scheduler

waiting = scheduler.start(here=not any(name.startswith("--pr") for name in sys.argv))

from helpers.batch.run import main  # noqa: E402  # takes a second, in which the other imports too

sys.exit(main(waiting=waiting))
