"""GPUs of one machine: which there are, and one for each job, no two jobs the same."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS = "HELPERS_DEVICES"
"""Environment variable: a folder with one file for each device that a batch may use, named as CUDA names it."""
_held: list[int] = []


def listed() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists."""
    if (given := os.environ.get(VISIBLE)) is not None:
        return [name for name in given.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    lines = [line for line in found.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(lines))] if found.returncode == 0 else []


def offer(names: list[str], folder: Path) -> dict[str, str]:
    """Lay out the devices for jobs to claim; the environment that jobs need."""
    for name in names:
        (folder / f"gpu-{name}").touch()
    return {LOCKS: str(folder)} if names else {}


def claim() -> str | None:
    """Take a free device for as long as this process lives, and see no other one; None when none was offered.

    The system gives it back when the process ends, however it ends.
    """
    if not (folder := os.environ.get(LOCKS)):
        return None
    while True:
        for path in sorted(Path(folder).glob("gpu-*")):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            _held.append(descriptor)
            os.environ[VISIBLE] = path.name.removeprefix("gpu-")
            return os.environ[VISIBLE]
        time.sleep(0.2)
