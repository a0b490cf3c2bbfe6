"""Execute a notebook: ``python tools/run_notebook.py NOTEBOOK OUTPUT -p NAME VALUE ...``.

This is papermill with three additions. OUTPUT appears only when every cell has run; a failed
notebook stays beside it as ``*.failed.ipynb``. Ctrl-C and SIGTERM interrupt the running cell, which
has time to write a checkpoint; so does the end of the process that started this one. Values are
text, except ``seeds`` (``-p seeds "[1, 2]"``), ``join`` and ``again`` (true or false).
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from filelock import FileLock, Timeout

GPUS = "STUDY_GPUS"
"""Environment variable: the GPUs that a batch's notebooks divide among them, as ``0,1,2``."""
SECONDS_TO_SAVE = 600
"""After an interrupt: half of it passes before a kernel gets SIGTERM, the rest before SIGKILL."""
SECONDS_TO_END = 20
"""The same after the last cell, for a kernel that does not end by itself."""
STOPPED: list[int] = []
"""Signals that asked this process to stop. No Event: a second signal may find its lock taken."""


def on_parents_end(interrupt: Callable[[], None]) -> None:
    """Call ``interrupt`` once the process that started this one is gone (killed, for example)."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        interrupt()

    threading.Thread(target=watch, daemon=True).start()


def reserve_gpu() -> FileLock:
    """Let CUDA see one of the batch's GPUs that no other notebook has reserved.

    Returns the lock: the GPU is free again when it is released, or its process ends.
    """
    for gpu in cycle(os.environ[GPUS].split(",")):  # Snakemake starts no more notebooks than GPUs
        lock = FileLock(Path(tempfile.gettempdir(), f"study-{os.getuid()}-gpu-{gpu}.lock"))
        with suppress(Timeout):
            lock.acquire(timeout=0.1)
            break
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return lock


def execute(notebook: Path, output: Path, parameters: dict, report: bool) -> str | None:
    """Execute a notebook in a kernel of its own; with ``report`` write a page of it, too.

    Returns what went wrong, if anything did.
    """
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from traitlets import Float

    class PatientKernelManager(AsyncKernelManager):
        shutdown_wait_time = Float(SECONDS_TO_SAVE)

        async def shutdown_kernel(self, *args, **options):
            if not STOPPED:  # no cell is running that would have to save
                self.shutdown_wait_time = SECONDS_TO_END
            await super().shutdown_kernel(*args, **options)

    unfinished = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            unfinished,
            parameters,
            kernel_name="python3",
            kernel_manager_class=PatientKernelManager,
            progress_bar=False,
            request_save_on_cell_execute=False,  # twice a cell: a third of the comparison's time
        )
        os.replace(unfinished, output)
        if report:
            from comparison import page

            page.write(output, output.with_name("report.html"))
    except papermill.PapermillExecutionError as error:
        if error.ename in ("KeyboardInterrupt", "Stopped"):  # the kernel got a signal of its own
            raise KeyboardInterrupt from error
        return f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        return "the kernel was killed (out of memory?)"
    except Exception as error:  # a library's or the disk's: the user needs one line
        return f"{type(error).__name__}: {error}"
    return None


def stop(number: int, _) -> None:
    """Interrupt the running cell. If the same signal comes again, the cell has no time to save.

    Another kind asks for no more than the first: where all processes are sent SIGTERM, as by a
    cluster's time limit, the batch still passes an interrupt on.
    """
    is_first = not STOPPED
    STOPPED.append(number)
    if is_first or STOPPED.count(number) > 1:
        raise KeyboardInterrupt


def main() -> int:
    on_parents_end(lambda: STOPPED or os.kill(os.getpid(), signal.SIGINT))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--report", action="store_true", help="write report.html beside OUTPUT")
    arguments = parser.parse_args()
    parameters = dict(arguments.p)
    for name in parameters.keys() & {"seeds", "join", "again"}:
        try:
            parameters[name] = json.loads(parameters[name])
        except ValueError:
            parser.error(f"-p {name}: found {parameters[name]}, expected [1, 2], true or false")
    try:
        reserved = reserve_gpu() if GPUS in os.environ else None
        reason = execute(arguments.notebook, arguments.output, parameters, arguments.report)
    except KeyboardInterrupt:
        print(f"STOPPED {arguments.output}", file=sys.stderr)
        return 130
    if reserved:
        reserved.release()
    if reason:
        print(f"FAILED {arguments.output}: {' '.join(reason.split())[:600]}", file=sys.stderr)
    return int(reason is not None)


if __name__ == "__main__":
    sys.exit(main())
