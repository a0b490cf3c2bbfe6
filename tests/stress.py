"""Kill a study at random moments, again and again: ``python tests/stress.py KILLS [--seed S] [--folder DIR]``.

Not part of ``make test``. A tiny study is run once undisturbed, with one thread a job. Then batches of it are started
and, at random moments, a process of theirs is killed with SIGKILL: the batch, Snakemake, the server, a job, or all of
them at once; now and then a job is sent SIGTERM or SIGUSR1. After a kill that ends the batch no process may work on.
Whenever a study gets through, its results must equal those of the undisturbed one file by file; the next one starts
from nothing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import conftest

from helpers.study import Study

TOKEN = "HELPERS_STRESS"
CHANGES = {
    "checkpoint_minutes": 0.005,
    "phases": {
        phase: {"steps": 150, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 6}
        for phase in ("intermediate", "target")
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    conftest.tiny_sources.__wrapped__(Factory(folder))
    params = conftest.write_study(folder / "params", folder / "sources", **CHANGES)
    process = start(params, folder / "reference")
    begin = time.monotonic()
    if process.wait() != 0:
        return 1
    whole = time.monotonic() - begin
    reference = results(Study.load(params, folder / "reference"))
    print(f"undisturbed: {len(reference)} files in {whole:.0f} s", flush=True)
    chance, kills, rounds, orphans, counts = random.Random(given.seed), 0, 0, 0, {}
    outputs = folder / "outputs"
    while kills < given.kills or outputs.exists():
        process = start(params, outputs)
        try:
            process.wait(chance.uniform(2, 0.6 * whole) if kills < given.kills else None)
        except subprocess.TimeoutExpired:
            kind = strike(process.pid, chance)
            kills += 1
            counts[kind] = counts.get(kind, 0) + 1
            if kind in ("server", "job", "SIGTERM to a job", "SIGUSR1 to a job"):
                process.wait()  # the batch lives and has to cope
            seconds = until_quiet()
            orphans += seconds is None
            print(f"kill {kills}: {kind}; all quiet after {seconds} s", flush=True)
            process.wait()
        if process.returncode == 0:
            rounds += 1
            wrong = differences(reference, results(Study.load(params, outputs)))
            print(f"study {rounds} got through after {kills} kills: {wrong or 'equal file by file'}", flush=True)
            if wrong:
                return 1
            shutil.rmtree(outputs)
    print(f"{kills} kills, {rounds} studies equal, orphans after {orphans} kills; {counts}")
    return 1 if orphans else 0


class Factory:
    """Stands in for pytest's tmp_path_factory: makes folders in a given one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mktemp(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name


def start(params: Path, outputs: Path) -> subprocess.Popen:
    """A batch of the study in a session of its own; every process of it carries a token in its environment."""
    environment = {
        **os.environ,
        TOKEN: str(os.getpid()),
        "HUB_MIRROR": str(params.parents[1] / "sources/hub"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "helpers.batch", str(params), "--outputs", str(outputs), "--cores", "1"]
    log = (params.parents[1] / "log.txt").open("a")
    return subprocess.Popen(
        command, env=environment, cwd=params.parents[1], stdout=log, stderr=log, start_new_session=True
    )


def processes() -> dict[int, str]:
    """Every process of a batch of this script: its id and command line."""
    found, token = {}, f"{TOKEN}={os.getpid()}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if token in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def strike(batch: int, chance: random.Random) -> str:
    """Kill something; says what."""
    there = processes()
    server = [p for p, line in there.items() if "helpers.warm" in line and parent(p) == batch]
    kinds = {
        "batch": [batch],
        "snakemake": [p for p, line in there.items() if "-m snakemake" in line],
        "server": server,
        "job": [p for p, line in there.items() if "helpers.warm" in line and p not in server],
        "everything": list(there),
    }
    kinds["SIGTERM to a job"] = kinds["SIGUSR1 to a job"] = kinds["job"]
    kind = chance.choice([name for name, ids in kinds.items() if ids])
    number = getattr(signal, kind.split()[0], signal.SIGKILL)
    for process in kinds[kind] if kind == "everything" else kinds[kind][:1]:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue
    return kind


def parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def until_quiet(limit: float = 60) -> float | None:
    """Seconds until no process of the batch is left; None when some work on."""
    begin = time.monotonic()
    while processes():
        if time.monotonic() - begin > limit:
            print("still there:", processes(), flush=True)
            return None
        time.sleep(0.1)
    return round(time.monotonic() - begin, 1)


def results(study: Study) -> dict[str, bytes]:
    """Everything a study found out, by file; of run.json what does not depend on the clock and the machine."""
    found = {}
    for path in sorted(study.folder.rglob("*")):
        name = path.relative_to(study.folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts):
            continue
        if path.suffix in (".parquet", ".safetensors") or path.name == "scores.json":
            found[name] = path.read_bytes()
        elif path.name == "run.json":
            kept = {"parameters", "seed", "log", "steps", "best step"}
            found[name] = json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k in kept}).encode()
    return found


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


if __name__ == "__main__":
    sys.exit(main())
