"""Batches as a user starts them, their processes, and the results that they leave."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOKEN = "STUDY_STRESS"
KINDS = {
    "batch": "tools/study.py",
    "snakemake": "tools/run_snakemake.py",
    "papermill": "tools/run_notebook.py",
    "kernel": "ipykernel",
}
"""What the command lines of a batch's processes have in them."""


def start(params: Path, folder: Path, name: str, *more: str, cores: int = 2, **environment: str):
    """A batch of the study into ``folder / name``; all its processes carry a token."""
    environment = {
        **os.environ,
        TOKEN: f"{os.getpid()}-{name}",
        "HUB_MIRROR": str(folder / "sources/hub"),
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    environment.pop("DATA_DIR", None)
    command = [sys.executable, str(ROOT / "tools/study.py"), str(params), "--cores", str(cores)]
    command += ["--outputs", str(folder / name), *more]
    with (folder / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, process_group=0,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # & has it ignored
        )  # fmt: skip


def processes(name: str, kind: str = "") -> list[int]:
    """The processes of a batch that this process started, or those of a kind."""
    token = f"{TOKEN}={os.getpid()}-{name}".encode()
    numbers = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_of_batch = token in (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended
            continue
        if is_of_batch and KINDS.get(kind, "") in command:
            numbers.append(int(path.name))
    return numbers


def kill(numbers: Iterable[int], number: int = signal.SIGKILL) -> None:
    for process in numbers:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def until_quiet(name: str, limit: float = 60) -> float | None:
    """Seconds until no process of the batch is left; None when some work on."""
    begin = time.monotonic()
    while processes(name):
        if time.monotonic() - begin > limit:
            return None
        time.sleep(0.1)
    return round(time.monotonic() - begin, 1)


def results(folder: Path) -> dict[str, bytes]:
    """What a study found out, by file; of run.json what no clock decides, nor where it stopped."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith((".", "data")) for part in Path(name).parts):
            continue
        if path.name in ("predictions.parquet", "model.safetensors", "scores.json"):
            files[name] = path.read_bytes()
        elif path.name == "run.json":
            record = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: record.get(key) for key in ("settings", "seed")}
            kept["log"] = [row for row in record.get("log", []) if "loss" not in row]
            files[name] = json.dumps(kept).encode()
    return files


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
