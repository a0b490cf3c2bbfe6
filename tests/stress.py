"""Kill a study at random moments, again and again: ``python tests/stress.py KILLS [--seed S]``.

Not part of ``make test``. A tiny study is run once undisturbed. Then batches of it are started, one
after the other, and at random moments a process of theirs is killed with SIGKILL: the batch,
Snakemake, papermill, a kernel, or all of them at once; now and then the batch is sent SIGTERM
instead. After what ends the batch no process may work on. Whenever a study gets through, its
results must equal those of the undisturbed one file by file; the next one starts from nothing.
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
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

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


def study(folder: Path) -> Path:
    """A study whose trainings take some seconds each and save a checkpoint several times."""
    import conftest

    (folder / "sources").mkdir()
    conftest.tiny_sources.__wrapped__(SimpleNamespace(mktemp=folder.joinpath))  # as pytest's
    recipe = {"steps": 300, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    phases = dict.fromkeys(("intermediate", "target"), recipe | {"evaluations": 6})
    size = {"encoder": str(folder / "sources/encoder"), "title": "tiny", "pooling": "mean"}
    changes = {"checkpoint_minutes": 0.01, "precision": "fp32", "seeds": [1, 2]}
    changes |= {"sizes": {"base": size}}
    return conftest.write_study(folder / "params", folder / "sources", phases=phases, **changes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder, chance = Path(tempfile.mkdtemp()), random.Random(arguments.seed)
    params, begin = study(folder), time.monotonic()
    if start(params, folder, "reference").wait() != 0:
        print((folder / "reference.log").read_text())
        return 1
    whole, reference = time.monotonic() - begin, results(folder / "reference")
    print(f"undisturbed: {len(reference)} files in {whole:.0f} s", flush=True)
    kills, counts, wrong, orphans = 0, Counter(), 0, 0
    outputs = folder / "disturbed"
    while kills < arguments.kills or outputs.exists():  # what was killed last has to get through
        batch = start(params, folder, outputs.name)
        try:
            batch.wait(chance.uniform(2, 0.6 * whole) if kills < arguments.kills else None)
            kind = "nothing"
        except subprocess.TimeoutExpired:
            kind = chance.choice([*KINDS, "everything", "SIGTERM"])
            victims = processes(outputs.name, kind)
            if kind == "SIGTERM":
                kill([batch.pid], signal.SIGTERM)
            else:
                kill(victims if kind == "everything" else victims[:1])
                kills += 1
        batch.wait()
        seconds = until_quiet(outputs.name)
        counts[kind] += 1
        orphans += seconds is None
        print(f"{kills}: {kind}, status {batch.returncode}, quiet after {seconds} s", flush=True)
        if batch.returncode == 0:
            different = differences(reference, results(outputs))
            wrong += bool(different)
            print(f"got through: {different or 'equal file by file'}", flush=True)
            shutil.rmtree(outputs)
        elif kind == "nothing":
            print((folder / "disturbed.log").read_text()[-3000:])
            return 1
    print(f"{kills} kills: {dict(counts)}, {wrong} studies differ, {orphans} left processes")
    return 1 if orphans or wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
