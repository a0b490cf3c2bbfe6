"""Execute notebooks from Snakemake's threads, each in a fork of Python's own fork server.

In a batch on this machine's processors that server has imported torch before, once for all runs.
Elsewhere a run does: CUDA does not survive a fork, and a cluster's job has one notebook only.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path

from helpers import pictures
from helpers.batch import recovery, scheduler
from helpers.study import Study

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
VISIBLE = "CUDA_VISIBLE_DEVICES"

_lock = threading.Lock()
"""Held to read exit codes, as starting a process does too: each can be read only once."""
_ending = threading.Event()
_free_gpus: queue.SimpleQueue[str] = queue.SimpleQueue()


def serve_snakemake() -> None:
    """Have an interrupt, or the end of its batch, end Snakemake's process and its notebooks."""

    def end(*_):
        _ending.set()
        for process in multiprocessing.active_children():
            process.terminate()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # notebooks inherit it: only trainings listen
    if batch := os.environ.pop(scheduler.BATCH, None):  # a cluster's jobs must not see it
        _end_unless(lambda: os.getppid() == int(batch), signal.SIGINT)
    given = os.environ.get(scheduler.GPUS)
    for name in given.split(",") if given else []:
        _free_gpus.put(name)
    if given == "":
        scheduler.preload()  # unless it began before, as where there is no driver of a GPU


def notebook(name: str, output: str | Path, study: Study, /, report=False, **parameters) -> None:
    """Execute ``notebooks/NAME.ipynb`` by ``engine.run`` in a process of its own, on a GPU.

    Raises RuntimeError when it failed; a line on stderr that begins with FAILED says why.
    """
    given = {"study": str(study.path), "outputs": str(study.outputs), **parameters}
    gpus = os.environ.get(scheduler.GPUS)
    gpu = _free_gpus.get() if gpus else None
    here, there = multiprocessing.Pipe()
    log = None if gpus is None else study.folder / recovery.LOG
    work = (NOTEBOOKS / f"{name}.ipynb", Path(output), given, report)
    process = multiprocessing.get_context("forkserver").Process(
        target=_work, args=(work, gpu, there, log)
    )
    with _lock:
        process.start()
    there.close()
    if _ending.is_set():
        process.terminate()
    _draw(here, process.sentinel)
    connection.wait([process.sentinel])
    with _lock:
        code = process.exitcode
    if code not in (0, 1):
        print(f"FAILED {output}: the process was killed (out of memory?)", file=sys.stderr)
        # If its fork server was, it still ends.
        recovery.is_free(Path(output).parent, recovery.PATIENCE)
    if gpu is not None:
        _free_gpus.put(gpu)
    if code:
        raise RuntimeError(f"{output}: failed")


def _draw(asked: connection.Connection, ended: int) -> None:
    """Draw charts for a notebook's process until it has ended; Vega would not outlive a fork."""
    with suppress(EOFError, ConnectionError):
        while asked in connection.wait([asked, ended]):
            chart = asked.recv()
            try:
                found: str | Exception = pictures.draw(chart)
            except Exception as error:  # the notebook's to report, as if it had drawn by itself
                found = error
            asked.send(found)


def _drawn(asked: connection.Connection, chart: dict) -> str:
    """Have a chart drawn by the process that waits for this one."""
    asked.send(chart)
    if isinstance(found := asked.recv(), Exception):
        raise found
    return found


def _work(what: tuple, gpu: str | None, asked: connection.Connection, log: Path | None) -> None:
    """What a notebook's process does; its fork server may be older than the log."""
    if log is not None:
        scheduler.redirect(log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal Snakemake gets it, and asks to end
    snakemake, server = multiprocessing.parent_process(), os.getppid()
    assert snakemake is not None
    _end_unless(lambda: snakemake.is_alive() and os.getppid() == server, signal.SIGTERM)
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    from helpers.batch import engine

    pictures.draw = partial(_drawn, asked)
    sys.exit(engine.run(*what))


def _end_unless(condition: Callable[[], bool], number: int) -> None:
    """Have this process get a signal once ``condition()`` is false, and in the end SIGKILL."""

    def watch():
        while condition():
            time.sleep(1)
        os.kill(os.getpid(), number)
        time.sleep(recovery.PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
