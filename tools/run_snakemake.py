"""Snakemake in a process group of its own, stopped when ``make study``'s process is gone.

Snakemake alone does not stop its notebooks, so a signal is for the whole group.
"""

import os
import signal

from run_notebook import on_parents_end

if __name__ == "__main__":
    on_parents_end(lambda: os.killpg(os.getpgrp(), signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    from snakemake.cli import main

    main()
