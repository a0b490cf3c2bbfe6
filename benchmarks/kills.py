"""Kill a study at random moments, again and again: ``python benchmarks/kills.py KILLS [--seed S]``.

A tiny study is run once undisturbed. Then batches of it are started, one after the other, and at
random moments a process of theirs is killed with SIGKILL: the batch, Snakemake, papermill, a
kernel, or all of them at once; now and then the batch is sent SIGTERM instead. After what ends the
batch no process may work on. Whenever a study gets through, its results must equal those of the
undisturbed one file by file; the next one starts from nothing.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import conftest
from stress import KINDS, differences, kill, processes, results, start, until_quiet


def study(folder: Path) -> Path:
    """A study whose trainings take some seconds each and save a checkpoint several times."""
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
    sys.exit(main())
