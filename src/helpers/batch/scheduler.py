"""Snakemake's process, which begins with all imports before the batch knows what it asks for.

A batch takes seconds to check its study; meanwhile this process imports Snakemake, and its fork
server what every notebook needs. Importing this module alone costs nothing.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

BATCH, GPUS = "HELPERS_BATCH", "HELPERS_GPUS"
"""What Snakemake's environment says: the batch's process id; here, names of GPUs, if only ""."""
DRIVERS = ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"]
"""Of which a machine with a GPU for torch has one: NVIDIA's, AMD's, Windows' for Linux."""


def start(here: bool) -> subprocess.Popen:
    """A process that waits for `order`, or for this one's end.

    Its notebooks run here or on a cluster. It has a session of its own: a terminal's signals come
    to the batch only, and one from there reaches them all.
    """
    processors = here and not any(map(os.path.exists, DRIVERS))
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.batch.scheduler", *["preload"] * processors],
        env=os.environ | {BATCH: str(os.getpid())},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # up to the order
        stderr=subprocess.DEVNULL,
    )


def order(process: subprocess.Popen, arguments: list[str], gpus: str | None, log: Path) -> None:
    """Have a waiting process run Snakemake with these arguments and write what is said to a log."""
    request = {"arguments": arguments, "gpus": gpus, "log": str(log)}
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # its exit status says if it has ended
        pipe.write(json.dumps(request).encode())


def preload() -> None:
    """Start the fork server of this process, which imports what notebooks need."""
    forkserver.set_forkserver_preload(["helpers.batch.preloaded"])
    forkserver.ensure_running()


def redirect(log: str | Path) -> None:
    """Append what this process says to a log."""
    with open(log, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def main() -> None:
    """What the waiting process does."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # nothing to save
    if sys.argv[1:]:
        preload()
    for name in ("snakemake.cli", "helpers.batch.execute"):
        with suppress(Exception):  # raised again below, for the log
            import_module(name)
    request = sys.stdin.buffer.read()
    if not request:  # the batch has ended, and so does what still imports
        os.killpg(os.getpgrp(), signal.SIGKILL)
    asked = json.loads(request)
    redirect(asked["log"])
    if asked["gpus"] is not None:
        os.environ[GPUS] = asked["gpus"]
    sys.argv[1:] = asked["arguments"]
    import_module("snakemake.cli").main()


if __name__ == "__main__":
    main()
