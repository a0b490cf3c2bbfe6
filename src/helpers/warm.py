"""Start notebooks from a process that has imported everything already.

A batch begins ``python -m helpers.warm SOCKET``; each job (``helpers.execute``) hands its command to it, and a fork of
it runs the notebook. Without a server, as on a cluster's nodes, a job imports for itself; the result is the same.
The server ends with the process that began it; a job ends when its client goes away.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

VARIABLE = "HELPERS_WARM"
"""Environment variable: the server's socket."""


def ask(arguments: list[str]) -> int | None:
    """Let the server run ``helpers.execute ARGUMENTS``; its exit status, or None when there is no server."""
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
        with client.makefile("r", encoding="utf-8") as answer:
            reply = answer.readline()
    if not reply:
        print(f"FAILED {' '.join(arguments)}: the process was killed (out of memory?)", file=sys.stderr)
        return 1
    outcome = json.loads(reply)
    if outcome["message"]:
        print(outcome["message"], file=sys.stderr)
    return outcome["status"]


def serve(path: Path) -> None:
    """Import what notebooks need, then fork a process for every request until the parent process ends."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(64)  # clients wait here while the imports run
        server.settimeout(0.5)
        import helpers.engine
        import helpers.evaluation
        import helpers.phase_charts  # noqa: F401
        from helpers.execute import run

        while os.getppid() == parent:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                _reap()
                continue
            if os.fork() == 0:
                server.close()
                _answer(connection, run)
            connection.close()
            _reap()


def _answer(connection: socket.socket, run) -> None:
    status, message = 1, "interrupted"
    try:
        connection.settimeout(None)
        stream = connection.makefile("r", encoding="utf-8")
        request = json.loads(stream.readline())
        threading.Thread(target=_follow, args=(stream,), daemon=True).start()
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
    os.kill(os.getpid(), signal.SIGTERM)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
