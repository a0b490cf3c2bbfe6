"""One batch at a time on a study's outputs, one notebook at a time on a run's, on any machine.

A lock is the system's (``flock``), free as soon as its holder has ended, however that was. Nodes of
a cluster see it on the file system that they share; where that has none, a run goes without.
"""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.study import Study, StudyError
from helpers.study.files import read_json

PATIENCE = 180
"""Seconds that a notebook has for a last checkpoint before it is killed."""
LOG = "snakemake.log"
"""In a study's folder: what Snakemake says of its newest batch."""
_BATCH, _RUN = ".lock", ".at-work"
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def only_one(study: Study) -> Iterator[None]:
    """Hold the study's outputs for this batch.

    Raises
    ------
    StudyError
        Another batch or a cluster's job is at work there, a link leads out, or it is read-only.
    """
    home = study.outputs.resolve() / study.name
    for path in [study.folder, *study.folder.rglob("*")]:
        inside = path != study.folder and path.resolve().is_relative_to(home)
        if path.is_symlink() and not inside:  # files would be written or removed through it
            expected = "expected what the study made"
            raise StudyError(f"{path}: a link that leads out of {study.folder}; {expected}")
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{study.folder}: cannot be written: {error.strerror}") from None
    with _held(study.folder / _BATCH):
        no_job_left(study)
        yield


def one_run(folder: Path):
    """Hold a run's folder while its notebook is executed; waits for a process that is to end.

    Raises
    ------
    StudyError
        Another process is at work there, and still was after the time that it has to end.
    """
    return _held(folder / _RUN, PATIENCE)


def is_free(folder: Path, patience: float = 0) -> bool:
    """Whether no notebook is at work in a run's folder, after ``patience`` seconds at most."""
    try:
        with _held(folder / _RUN, patience):
            return True
    except StudyError:
        return False


def no_job_left(study: Study) -> None:
    """Wait for the notebooks that a killed batch left on this machine.

    Raises
    ------
    StudyError
        A notebook is at work elsewhere or waits in the queue: a cluster's jobs outlive their batch.
    """
    if jobs := _queued(study.folder / LOG):
        cancel = f"wait for their end, or cancel them (scancel {' '.join(jobs)})"
        left = f"jobs {', '.join(jobs)}, left by an earlier batch, are in Slurm's queue"
        raise StudyError(f"{study.folder}: {left}; {cancel}")
    busy = [path for path in study.folder.rglob(_RUN) if not is_free(path.parent)]
    if busy and all(read_json(path).get("place", _place()) == _place() for path in busy):
        print(f"{study.folder}: waiting for the last jobs of a killed batch to end", flush=True)
        busy = [path for path in busy if not is_free(path.parent, PATIENCE)]
    if busy:
        more = f", and {len(busy) - 1} more elsewhere" if len(busy) > 1 else ""
        left = f"{_holder(busy[0])}, left by an earlier batch, is still at work there{more}"
        raise StudyError(f"{busy[0].parent}: {left}; wait for its end, or cancel it")


@contextmanager
def _held(path: Path, patience: float = 0) -> Iterator[None]:
    """Hold the lock file ``path``, which is there only meanwhile and says who holds it."""
    lock = FileLock(path, timeout=patience, poll_interval=0.2, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        who = f"another {'batch' if path.name == _BATCH else 'process'} is at work there"
        raise StudyError(f"{path.parent}: {who}: {_holder(path)}; expected one at a time") from None
    except OSError as error:
        if path.name == _BATCH or error.errno not in _NO_LOCKS_HERE:
            raise
    try:
        (host, job), since = _place(), time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"job {job}, " * bool(job) + f"process {os.getpid()} on {host} (since {since})"
        path.write_text(json.dumps({"place": [host, job], "holder": holder}), encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: filelock takes no file without a name
        lock.release()


def _holder(path: Path) -> str | None:
    return read_json(path).get("holder")


def _place() -> list[str | None]:
    """Where this process runs: the machine and, on a cluster, the job."""
    return [socket.gethostname(), os.environ.get("SLURM_JOB_ID")]


def _queued(log: Path) -> list[str]:
    """Ids of the Slurm jobs of the batch that wrote the log, running or waiting."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    names = ",".join(re.findall(r"SLURM run ID: (\S+)", text))  # its jobs all have it for a name
    if not names or shutil.which("squeue") is None:
        return []
    command = ["squeue", "--noheader", "--format=%i", f"--name={names}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()
