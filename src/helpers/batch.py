"""Run a study in batch: ``python -m helpers.batch params/STUDY.yaml --cores N``.

Checks the params and the data first, hands the work to Snakemake, shows how many runs are done and how long the rest
will take, and ends by naming every run that failed, the report, and the one-sentence finding.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from helpers import collect, warm
from helpers.catalogue import StudyError
from helpers.study import NONE, Study

ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0 only when every run of the study is there."""
    parser = argparse.ArgumentParser(prog="helpers.batch", description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    given, more = parser.parse_known_args(arguments)
    try:
        study = Study.load(given.study, given.outputs)
        _prepare(study)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    for folder in collect.outdated(study):
        print(f"{folder}: made under other parameters; making it again")
        _discard(folder)
    begin = time.time()
    status = _snakemake(study, given.cores, more)
    return _summary(study, status, time.time() - begin)


def _prepare(study: Study) -> None:
    from helpers import data

    if not data.prepared(study):
        print(f"reading the data of study {study.name}", flush=True)
        data.prepare(study)


def _discard(folder: Path) -> None:
    """Remove what marks a result as done; Snakemake then makes it again."""
    for name in ("scores.json", "run.json"):
        (folder / name).unlink(missing_ok=True)


def _snakemake(study: Study, cores: int, more: list[str]) -> int:
    gpus = _gpus()
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--cores", str(gpus or cores), "--resources", f"gpu={gpus or cores}"),
        *("--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock"),
        *("--config", f"study={study.path}", f"outputs={study.outputs}"),
        *more,
    ]
    log = study.folder / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, log.open("w", encoding="utf-8") as file:
        socket = Path(scratch) / "warm"
        server = subprocess.Popen([sys.executable, "-m", "helpers.warm", str(socket)], stderr=file)
        while not socket.exists() and server.poll() is None:
            time.sleep(0.05)
        environment = {**os.environ, warm.VARIABLE: str(socket)}
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(study, gpus or cores, stop), daemon=True)
        watcher.start()
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return process.wait()
        finally:
            stop.set()
            watcher.join()
            server.terminate()
            server.wait()


def _watch(study: Study, cores: int, stop: threading.Event) -> None:
    """One line whenever another run is done: how many are, and how long the rest will take."""
    shown = -1
    while not stop.wait(1.0):
        done, total, seconds = progress(study, cores)
        if done != shown:
            rest = f", about {seconds / 60:.0f} min left" if seconds is not None and done < total else ""
            print(f"{time.strftime('%H:%M:%S')}  {done} of {total} runs done{rest}", flush=True)
            shown = done


def progress(study: Study, cores: int) -> tuple[int, int, float | None]:
    """Trainings done, trainings in all, and the seconds that the rest will take on ``cores`` (None: not known yet).

    A training that is not done is taken to last as long as the mean of the done ones most like it: of the same size,
    phase and task, else of the same size, else of any.
    """
    durations: dict[tuple, list[float]] = {}
    todo = []
    for path, key in trainings(study).items():
        record = collect.read_json(path)
        if record and (path.parent / "scores.json").exists():
            for k in (key, key[:1], ()):
                durations.setdefault(k, []).append(record["wall_seconds"])
        else:
            todo.append(key)
    total = len(trainings(study))
    if len(todo) == total:
        return 0, total, None
    seconds = 0.0
    for key in todo:
        like = next(durations[k] for k in (key, key[:1], ()) if k in durations)
        seconds += sum(like) / len(like)
    return total - len(todo), total, seconds / cores


def trainings(study: Study) -> dict[Path, tuple[str, str]]:
    """run.json of every intermediate and target training, with (size, task)."""
    found = {}
    for run in study.runs():
        found[study.run_folder(run) / "run.json"] = (run.size, run.target)
        if run.intermediate != NONE:
            folder = study.encoder_folder(run.size, run.intermediate, run.seed).parent
            found[folder / "run.json"] = (run.size, run.intermediate)
    return found


def _summary(study: Study, status: int, seconds: float) -> int:
    absent = collect.missing(study)
    log = study.folder / "snakemake.log"
    if status:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("FAILED"):
                print(line, file=sys.stderr)
    if len(absent):
        runs = ", ".join("/".join(map(str, run)) for run in absent.itertuples(index=False))
        print(f"{len(absent)} of {len(study.runs())} runs are missing: {runs} (see {log})", file=sys.stderr)
        if len(absent) < len(study.runs()):
            _compare(study)
    elif status:
        print(f"snakemake ended with status {status}, see {log}", file=sys.stderr)
    print(f"{study.name}: {len(study.runs()) - len(absent)} of {len(study.runs())} runs in {seconds / 60:.1f} min")
    report = study.folder / "report.html"
    if report.exists():
        print(f"report: {report.resolve()}")
        print(_finding(study))
    return status or (1 if len(absent) else 0)


def _finding(study: Study) -> str:
    """The study in one sentence, from the estimates that the comparison wrote."""
    import pandas as pd

    from helpers import summary

    effects, (runs, *_) = pd.read_parquet(study.folder / "effects.parquet"), collect.finished(study)
    return summary.summary_sentence(effects, runs, {n: s.title for n, s in study.sizes.items()}, study.runs())


def _compare(study: Study) -> None:
    """Compare what there is: the report of an unfinished study shows its gaps."""
    notebook = study.folder / "4_compare.ipynb"
    common = ["--study", str(study.path), "--outputs", str(study.outputs), "4_compare", str(notebook)]
    if subprocess.run([sys.executable, "-m", "helpers.execute", *common]).returncode == 0:
        subprocess.run([sys.executable, "-m", "helpers.report", str(notebook)])


def _gpus() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len(listed.stdout.splitlines()) if listed.returncode == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
