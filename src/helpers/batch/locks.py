"""One batch at a time on a study's outputs, and one process at a time on a run's, whatever machine it is on.

A lock is the system's (``flock``): it is free as soon as its last holder has ended, however that was. Batches on one
machine hand theirs to all that they start. What a cluster's scheduler starts has only the run's own, on the file system
that the nodes share; where that has no locks, a run goes without.
"""

import errno
import fcntl
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

from helpers.batch.server import PATIENCE, alive
from helpers.study import Study, StudyError
from helpers.study.files import read_json

LOG = "snakemake.log"
"""In a study's folder: what Snakemake says of its newest batch."""
_BATCH, _RUN = ".lock", ".at-work"
_NONE_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def only_one(study: Study) -> Iterator[int]:
    """Hold the study's outputs for this batch; yields the lock's descriptor, which processes at work there inherit.

    What is left of a killed batch on this machine is waited for.

    Raises
    ------
    StudyError
        Another batch, or a job that an earlier one left on a cluster, is at work on the same outputs, or nothing can
        be written there.
    """
    path = study.folder / _BATCH
    _stay_inside(study)
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StudyError(f"{study.folder}: cannot be written: {error.strerror}") from None
    try:
        _take(descriptor, path, study)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _about(), 0)
        _no_job_left(study)
        yield descriptor
    except OSError as error:
        raise StudyError(
            f"{study.folder}: {error.strerror}: {error.filename or ''}".rstrip(": ")
        ) from error
    finally:
        os.close(descriptor)


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Hold a run's folder while its notebook is executed; waits for a process that is about to end.

    Raises
    ------
    StudyError
        Another process is at work there, and still was after the time that a job has to end.
    """
    path, end = folder / _RUN, time.monotonic() + PATIENCE
    while (descriptor := _open(path)) is None:
        if time.monotonic() > end:
            raise StudyError(f"{folder}: {_holder(path)} is at work there; expected one at a time")
        time.sleep(0.2)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _about(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> int | None:
    """A descriptor that holds the lock at ``path``; None when another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in _NONE_HERE:
                raise
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:  # removed by the process that held it, between the two calls
            pass
        os.close(descriptor)


def _no_job_left(study: Study) -> None:
    """Raise when a process that is none of this batch's works on a run or waits to: a cluster's jobs outlive it."""
    if jobs := _queued(study):
        raise StudyError(
            f"{study.folder}: jobs {', '.join(jobs)}, left by an earlier batch, are in Slurm's queue; "
            f"wait for their end, or cancel them (scancel {' '.join(jobs)})"
        )
    busy = []
    for path in study.folder.rglob(_RUN):
        descriptor = _open(path)
        if descriptor is None:
            busy.append(path)
        else:  # left by a process that was killed
            path.unlink(missing_ok=True)
            os.close(descriptor)
    if busy:
        more = f", and {len(busy) - 1} more elsewhere" if len(busy) > 1 else ""
        raise StudyError(
            f"{busy[0].parent}: {_holder(busy[0])}, left by an earlier batch, is still at work there{more}; "
            "wait for its end, or cancel it"
        )


def _queued(study: Study) -> list[str]:
    """Ids of the Slurm jobs of the batch that wrote the study's log, running or waiting."""
    log = study.folder / LOG
    if shutil.which("squeue") is None or not log.exists():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    names = ",".join(re.findall(r"SLURM run ID: (\S+)", text))  # its jobs all have it for a name
    if not names:
        return []
    command = ["squeue", "--noheader", "--format=%i", f"--name={names}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def _about() -> bytes:
    said = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    return json.dumps(said | {"slurm_job": os.environ.get("SLURM_JOB_ID")}).encode()


def _holder(path: Path) -> str:
    """Who holds a lock, as its file says."""
    other = read_json(path)
    job = f"job {other['slurm_job']}, " if other.get("slurm_job") else ""
    return (
        f"{job}process {other.get('process')} on {other.get('host')} (since {other.get('since')})"
    )


def _stay_inside(study: Study) -> None:
    """Nothing in the study's folder may be a link that leads out of it, which would be written or removed through."""
    home = study.outputs.resolve() / study.name
    for path in [study.folder, *study.folder.rglob("*")]:
        if path.is_symlink() and not (path.resolve().is_relative_to(home) and path != study.folder):
            raise StudyError(
                f"{path}: a link that leads out of {study.folder}; expected what the study made"
            )


def _take(descriptor: int, path: Path, study: Study) -> None:
    end, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = read_json(path)
            here = other.get("host") == socket.gethostname()
            if not (here and not alive(other["process"]) and time.monotonic() < end):
                raise StudyError(
                    f"{study.folder}: another batch is at work there: {_holder(path)}; expected one at a time"
                ) from None
            if not told:
                print(
                    f"{study.folder}: waiting for the last jobs of a killed batch to end",
                    flush=True,
                )
            told = True
            time.sleep(0.2)
