"""Kill a study at random moments, again and again: ``python tests/stress.py KILLS [--seed S]``.

Not part of ``make test``. A study (a tiny one, or that of ``--study``) is run once undisturbed,
with one thread a job. Then batches of it are started, one a core beside each other, and at random
moments a process of theirs is killed with SIGKILL: the batch, Snakemake, the fork server, a job, or
all of them at once; now and then a job is sent SIGTERM or SIGUSR1, or the batch SIGTERM, which is
not counted as a kill. After what ends the batch no process may work on. Whenever a study gets
through, its results must equal those of the undisturbed one file by file; the next one starts from
nothing.
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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import conftest

from helpers.study import Study

TOKEN = "HELPERS_STRESS"
CHANGES = {
    "checkpoint_minutes": 0.005,
    "phases": {
        phase: {
            "steps": 150,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "max_length": 32,
            "evaluations": 6,
        }
        for phase in ("intermediate", "target")
    },
}
SIGNALS = ("SIGTERM to a job", "SIGUSR1 to a job", "SIGTERM to the batch")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument(
        "--study", type=Path, default=None, help="params/smoke.yaml for example; needs no network"
    )
    parser.add_argument(
        "--lanes", type=int, default=os.cpu_count(), help="studies at a time, each on one core"
    )
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    conftest.tiny_sources.__wrapped__(Factory(folder))
    params = given.study.resolve() if given.study else None
    params = params or conftest.write_study(folder / "params", folder / "sources", **CHANGES)
    begin = time.monotonic()
    if start(params, folder, "reference").wait() != 0:
        return 1
    whole = time.monotonic() - begin
    reference = results(Study.load(params, folder / "reference"))
    print(f"undisturbed: {len(reference)} files in {whole:.0f} s", flush=True)
    shares = [
        given.kills // given.lanes + (lane < given.kills % given.lanes)
        for lane in range(given.lanes)
    ]
    with ThreadPoolExecutor(given.lanes) as pool:
        lanes = [
            pool.submit(
                disturb,
                params,
                folder,
                f"lane-{lane}",
                share,
                0.6 * whole,
                given.seed + lane,
                reference,
            )
            for lane, share in enumerate(shares)
        ]
        tallies = [lane.result() for lane in lanes]
    counts = sum((tally["struck"] for tally in tallies), Counter())
    kills = sum(number for kind, number in counts.items() if kind not in SIGNALS)
    equal, wrong, orphans = (
        sum(tally[key] for tally in tallies) for key in ("equal", "wrong", "orphans")
    )
    seconds = time.monotonic() - begin
    print(f"{kills} kills in {seconds:.0f} s: {equal} studies equal, {wrong} not; {dict(counts)}")
    print(f"processes that worked on: after {orphans} kills")
    return 1 if orphans or wrong else 0


def disturb(
    params: Path, folder: Path, name: str, kills: int, longest: float, seed: int, reference: dict
) -> dict:
    """Kill studies ``kills`` times, each within ``longest`` seconds; then let one through."""
    chance, outputs = random.Random(seed), folder / name
    tally = {"struck": Counter(), "equal": 0, "wrong": 0, "orphans": 0}
    while kills > 0 or outputs.exists():  # what was killed last has to get through
        process, struck = start(params, folder, name), True
        try:
            process.wait(chance.uniform(2, longest) if kills > 0 else None)
            struck = False
        except subprocess.TimeoutExpired:
            kind = strike(process.pid, name, chance)
            kills -= kind not in SIGNALS
            tally["struck"][kind] += 1
            if kind in ("server", "job", *SIGNALS[:2]):
                process.wait()  # the batch lives and has to cope
            seconds = until_quiet(name)
            tally["orphans"] += seconds is None
            print(f"{name}: {kind}; all quiet after {seconds} s; {kills} kills to go", flush=True)
            process.wait()
        if process.returncode == 0:
            wrong = differences(reference, results(Study.load(params, outputs)))
            tally["wrong" if wrong else "equal"] += 1
            print(f"{name}: got through; {wrong or 'equal file by file'}", flush=True)
            shutil.rmtree(outputs)
        elif kills <= 0 and not struck:
            raise RuntimeError(f"an undisturbed batch failed, see {folder / name}.log")
    return tally


class Factory:
    """Stands in for pytest's tmp_path_factory: makes folders in a given one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mktemp(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name


def start(params: Path, folder: Path, name: str) -> subprocess.Popen:
    """A batch of the study into ``folder / name``; all its processes carry a token."""
    environment = {
        **os.environ,
        TOKEN: f"{os.getpid()}-{name}",
        "HUB_MIRROR": str(folder / "sources/hub"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    place = folder / f"{name}-work"  # Snakemake notes there what is incomplete
    place.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "helpers.batch",
        str(params),
        "--outputs",
        str(folder / name),
        "--cores",
        "1",
    ]
    with (folder / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            command, env=environment, cwd=place, stdout=log, stderr=log, start_new_session=True
        )


def processes(name: str) -> dict[int, str]:
    """Every process of a batch of this script: its id and command line."""
    found, token = {}, f"{TOKEN}={os.getpid()}-{name}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if token in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (
                    (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                )
        except OSError:
            continue
    return found


def strike(batch: int, name: str, chance: random.Random) -> str:
    """Kill something; says what."""
    there = processes(name)
    snakemake = [p for p, line in there.items() if "helpers.batch.scheduler" in line]
    forks = [p for p, line in there.items() if "multiprocessing.forkserver" in line]
    server = [p for p in forks if parent(p) in snakemake]
    kinds = {
        "batch": [batch],
        "snakemake": snakemake,
        "server": server,
        "job": [p for p in forks if p not in server],
        "everything": list(there),
    }
    kinds |= dict.fromkeys(SIGNALS[:2], kinds["job"]) | {SIGNALS[2]: [batch]}
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


def until_quiet(name: str, limit: float = 120) -> float | None:
    """Seconds until no process of the batch is left; None when some work on."""
    begin = time.monotonic()
    while left := processes(name):
        if time.monotonic() - begin > limit:
            print("still there:", left, flush=True)
            return None
        time.sleep(0.1)
    return round(time.monotonic() - begin, 1)


def results(study: Study) -> dict[str, bytes]:
    """Everything a study found out, by file; of run.json what no clock and no machine decides."""
    found = {}
    for path in sorted(study.folder.rglob("*")):
        name = path.relative_to(study.folder).as_posix()
        if name.startswith("data/tokens/") or any(
            part.startswith(".") for part in Path(name).parts
        ):
            continue
        if path.suffix in (".parquet", ".safetensors") or path.name == "scores.json":
            found[name] = path.read_bytes()
        elif path.name == "run.json":
            kept = {"parameters", "seed", "log", "steps", "best step"}
            found[name] = json.dumps(
                {k: v for k, v in json.loads(path.read_text()).items() if k in kept}
            ).encode()
    return found


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


if __name__ == "__main__":
    sys.exit(main())
