"""Execute notebooks of a study, each in a process of its own: a fork of Python's fork server.

In a batch on this machine's processors that server has imported torch and transformers before, once
for all runs. Elsewhere a notebook imports for itself: CUDA does not survive a fork, and a cluster's
job has one notebook only.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, forkserver
from pathlib import Path

from helpers.batch import locks
from helpers.study import Study

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
BATCH, GPUS = "HELPERS_BATCH", "HELPERS_GPUS"
"""What Snakemake's environment says: the batch's process id; here, names of GPUs, if only ""."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
PRELOADED = ["helpers.batch.engine", "helpers.evaluation", "helpers.report.run_charts"]

_lock = threading.Lock()
"""Held to read exit codes, as starting a process does too: each can be read only once."""
_running: set[multiprocessing.process.BaseProcess] = set()
_ending = threading.Event()
_free_gpus: queue.SimpleQueue[str] = queue.SimpleQueue()


def serve_snakemake() -> None:
    """Make Snakemake's process, which calls this, ready for notebooks.

    An interrupt ends it and its notebooks, and so does the end of the batch that started it.
    """
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # notebooks inherit it: only trainings listen
    if batch := os.environ.pop(BATCH, None):  # a cluster's jobs must not see it
        _live_while(lambda: os.getppid() == int(batch), signal.SIGINT)
    given = os.environ.get(GPUS)
    for name in given.split(",") if given else []:
        _free_gpus.put(name)
    if given == "":
        forkserver.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()  # imports while Snakemake plans


def notebook(name: str, output: str | Path, study: Study, /, report=False, **parameters) -> None:
    """Execute ``notebooks/NAME.ipynb`` as :func:`run` does, in a process and on a GPU of its own.

    Raises
    ------
    RuntimeError
        It failed; stderr has one line that begins with FAILED and says why.
    """
    given = {"study": str(study.path), "outputs": str(study.outputs), **parameters}
    gpu = _free_gpus.get() if os.environ.get(GPUS) else None
    work = (NOTEBOOKS / f"{name}.ipynb", Path(output), given, report, gpu)
    process = multiprocessing.get_context("forkserver").Process(target=_work, args=work)
    with _lock:
        process.start()
        _running.add(process)
    if _ending.is_set():
        process.terminate()
    connection.wait([process.sentinel])
    with _lock:
        code = process.exitcode
        _running.remove(process)
    if code not in (0, 1):
        print(f"FAILED {output}: the process was killed (out of memory?)", file=sys.stderr)
        locks.is_free(Path(output).parent, locks.PATIENCE)  # if its fork server was, it still ends
    if gpu is not None:
        _free_gpus.put(gpu)
    if code:
        raise RuntimeError(f"{output}: failed")


def run(source: Path, output: Path, parameters: dict, report: bool = False) -> str | None:
    """Execute a notebook in this process, which holds the lock of the output's folder meanwhile.

    The executed notebook appears as ``output`` only when every cell has run; a failed one stays
    beside it as ``*.failed.ipynb``. With ``report``, a page is made of it too. Returns one line
    when something failed.
    """
    import papermill
    import torch

    from helpers.batch import engine
    from helpers.report import page

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))  # runs have a core each
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    unfinished = output.with_suffix(".failed.ipynb")
    how = {"engine_name": engine.NAME, "kernel_name": "python3", "progress_bar": False}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with locks.one_run(output.parent):
            papermill.execute_notebook(source, unfinished, parameters, **how)
            os.replace(unfinished, output)
            if report:
                page.write(output)
    except (Exception, KeyboardInterrupt) as error:
        kind = getattr(error, "ename", type(error).__name__)
        reason = f"{kind}: {getattr(error, 'evalue', error)}"
        return f"FAILED {output}: {' '.join(reason.split())[:600]}"
    return None


def _work(source: Path, output: Path, parameters: dict, report: bool, gpu: str | None) -> None:
    """What a notebook's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal Snakemake gets it, and asks to end
    snakemake, server = multiprocessing.parent_process(), os.getppid()
    _live_while(lambda: snakemake.is_alive() and os.getppid() == server, signal.SIGTERM)
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    sys.exit(run(source, output, parameters, report))


def _end(*_) -> None:
    """Ask the notebooks for a last checkpoint, and leave Snakemake."""
    _ending.set()
    for process in list(_running):
        process.terminate()
    raise KeyboardInterrupt


def _live_while(condition: Callable[[], bool], number: int) -> None:
    """Have this process get a signal once ``condition()`` is false, and in the end SIGKILL."""

    def watch():
        while condition():
            time.sleep(1)
        os.kill(os.getpid(), number)
        time.sleep(locks.PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
