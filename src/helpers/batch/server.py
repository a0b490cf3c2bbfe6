"""Start notebooks from a process that has imported everything already.

A batch begins ``python -m helpers.batch.server SOCKET``; each job (``helpers.batch.execute``) hands its command to it, and a fork of
it runs the notebook. Without a server, as on a cluster's nodes, a job imports for itself; the result is the same.

Nothing works on when the batch is gone: the server and every client watch the batch, and a fork watches its client and
the server. A fork that has to end gets SIGTERM, with time for a checkpoint, and in the end SIGKILL.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

VARIABLE = "HELPERS_WARM"
"""Environment variable: the server's socket."""
BATCH = "HELPERS_BATCH"
"""Environment variable: the process id of the batch that jobs on this machine belong to."""
PATIENCE = 180
"""Seconds that jobs have for a last checkpoint before they are killed, and that a batch waits for a killed one's."""


def ask(arguments: list[str]) -> int | None:
    """Let the server run ``helpers.batch.execute ARGUMENTS``; its exit status, or None when there is no server."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return None
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        client.sendall(json.dumps(request).encode() + b"\n")
        try:
            with client.makefile("r", encoding="utf-8") as answer:
                reply = answer.readline()
        except ConnectionError:
            reply = ""
    if not reply:
        print(
            f"FAILED {' '.join(arguments)}: the process was killed (out of memory?)",
            file=sys.stderr,
        )
        return 1
    outcome = json.loads(reply)
    if outcome["message"]:
        print(outcome["message"], file=sys.stderr)
    return outcome["status"]


def end_with_batch() -> None:
    """Have this process get SIGTERM when the batch that it belongs to is gone; at once if it is already."""
    if batch := os.environ.get(BATCH):
        if not alive(int(batch)):
            sys.exit("the batch that this job belongs to has ended")
        _when(lambda: not alive(int(batch)), lambda: os.kill(os.getpid(), signal.SIGTERM))


def alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_with_parent() -> None:
    """On Linux, have this process get SIGTERM when its parent ends, however that ends; nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def serve(path: Path) -> None:
    """Import what notebooks need, then fork a process for every request until the parent process ends."""
    parent, forks, ending = os.getppid(), set(), []
    signal.signal(signal.SIGUSR1, lambda *_: [os.kill(fork, signal.SIGUSR1) for fork in forks])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(64)  # clients wait here while the imports run
        server.settimeout(0.5)
        import helpers.batch.engine
        import helpers.evaluation
        import helpers.report.run_charts  # noqa: F401
        from helpers.batch.execute import run

        signal.signal(
            signal.SIGTERM, lambda *_: ending.append(True)
        )  # before, there is no fork to end
        while os.getppid() == parent and not ending:
            forks -= _ended(forks)
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            fork = os.fork()
            if fork == 0:
                server.close()
                _answer(connection, run, os.getppid())
            forks.add(fork)
            connection.close()
    _end(forks)


def _end(forks: set[int]) -> None:
    """SIGTERM to all, and after the time for a checkpoint SIGKILL."""
    deadline = time.monotonic() + PATIENCE
    for number in (signal.SIGTERM, signal.SIGKILL):
        for fork in forks:
            os.kill(fork, number)
        while (forks := forks - _ended(forks)) and (
            number == signal.SIGKILL or time.monotonic() < deadline
        ):
            time.sleep(0.05)


def _ended(forks: set[int]) -> set[int]:
    return {fork for fork in forks if os.waitpid(fork, os.WNOHANG)[0]}


def _answer(connection: socket.socket, run, server: int) -> None:
    status, message = 1, "interrupted"
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(
            signal.SIGUSR1, signal.SIG_IGN
        )  # a checkpoint is asked for: there is none before the training
        connection.settimeout(None)
        stream = connection.makefile("r", encoding="utf-8")
        request = json.loads(stream.readline())
        threading.Thread(target=_follow, args=(stream,), daemon=True).start()
        _when(lambda: os.getppid() != server, _leave)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        status, message = run(request["arguments"])
        connection.sendall(json.dumps({"status": status, "message": message}).encode() + b"\n")
    finally:
        os._exit(status)


def _follow(stream) -> None:
    """End this process when the client that asked for it is gone."""
    stream.readline()
    _leave()


def _leave() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def _when(condition, act) -> None:
    """Look once a second, from a thread, whether ``condition()`` holds, and then ``act()``."""

    def watch():
        while not condition():
            time.sleep(1)
        act()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
