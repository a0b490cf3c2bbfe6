"""Run a study in batch: ``python -m helpers.batch params/STUDY.yaml --cores N``.

Checks the params and the data first, hands the work to Snakemake, shows how many runs are done and how long the rest
will take, and ends by naming every run that failed, the report, and the one-sentence finding.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from helpers import comparison
from helpers.batch import devices, locks, recovery, server
from helpers.study import NONE, Study, StudyError
from helpers.study.files import read_json

ROOT = Path(__file__).parents[3]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0 only when every run of the study is there."""
    parser = argparse.ArgumentParser(prog="helpers.batch", description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument(
        "--profile",
        type=Path,
        help="a Snakemake profile: jobs go to its executor, such as a cluster",
    )
    given, more = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        original = Study.load(given.study, given.outputs)
        with locks.only_one(original) as lock:
            study = recovery.frozen(original)
            for line in recovery.repair(study):
                print(line, flush=True)
            _prepare(study)
            begin = time.time()
            status = _snakemake(study, given.cores, given.profile, more, lock)
            status = _summary(study, status, time.time() - begin)
            if recovery.edited(original, study):
                print(
                    f"{original.path}: changed during the batch; run it again to follow the change",
                    file=sys.stderr,
                )
                status = status or 1
            return status
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _interrupt(*_):
    raise KeyboardInterrupt


def _prepare(study: Study) -> None:
    from helpers import data

    if not data.prepared(study):
        print(f"reading the data of study {study.name}", flush=True)
        data.prepare(study)


def _snakemake(study: Study, cores: int, profile: Path | None, more: list[str], lock: int) -> int:
    """Run Snakemake to its end; on this machine with a device or a core for each job, else where the profile says."""
    names = [] if profile else devices.listed()
    at_once = len(names) or cores
    here = ["--cores", str(at_once), "--resources", f"gpu={at_once}"]
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *(["--profile", str(profile)] if profile else here),
        *("--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock"),
        *("--config", f"study={study.path}", f"outputs={study.outputs}"),
        *more,
    ]
    log = study.folder / locks.LOG
    with tempfile.TemporaryDirectory() as scratch, log.open("w", encoding="utf-8") as file:
        environment, serving = dict(os.environ), None
        if not profile:
            environment |= {server.BATCH: str(os.getpid()), **devices.offer(names, Path(scratch))}
        if not profile and not names:  # CUDA does not survive a fork
            environment[server.VARIABLE] = str(Path(scratch) / "warm")
            serving = _server(environment, file, lock)
            signal.signal(signal.SIGUSR1, lambda *_: serving.send_signal(signal.SIGUSR1))
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock],
            preexec_fn=server.end_with_parent,
        )
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(study, at_once, stop), daemon=True)
        watcher.start()
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            stop.set()
            watcher.join()
            if serving:
                serving.terminate()
                serving.wait()


def _server(environment: dict[str, str], log, lock: int) -> subprocess.Popen:
    socket = Path(environment[server.VARIABLE])
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.batch.server", str(socket)],
        stderr=log,
        env=environment,
        pass_fds=[lock],
        start_new_session=True,  # an interrupt at the terminal goes to the batch, which ends jobs in order
    )
    while not socket.exists() and process.poll() is None:
        time.sleep(0.05)
    return process


def _watch(study: Study, cores: int, stop: threading.Event) -> None:
    """One line whenever another run is done: how many are, and how long the rest will take."""
    shown = -1
    while not stop.wait(1.0):
        done, total, seconds = progress(study, cores)
        if done != shown:
            rest = (
                f", about {seconds / 60:.0f} min left"
                if seconds is not None and done < total
                else ""
            )
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
        record = read_json(path)
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
    absent = comparison.missing_runs(study)
    log = study.folder / locks.LOG
    if status:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("FAILED"):
                print(line, file=sys.stderr)
    if len(absent):
        runs = ", ".join("/".join(map(str, run)) for run in absent.itertuples(index=False))
        print(
            f"{len(absent)} of {len(study.runs())} runs are missing: {runs} (see {log})",
            file=sys.stderr,
        )
        if len(absent) < len(study.runs()):
            _compare(study)
    elif status:
        print(f"snakemake ended with status {status}, see {log}", file=sys.stderr)
    print(
        f"{study.name}: {len(study.runs()) - len(absent)} of {len(study.runs())} runs in {seconds / 60:.1f} min"
    )
    report = study.folder / "report.html"
    if report.exists():
        recovery.compared(study)
        print(f"report: {report.resolve()}")
        print(_finding(study))
    return status or (1 if len(absent) else 0)


def _finding(study: Study) -> str:
    """The study in one sentence, from the estimates that the comparison wrote."""
    import pandas as pd

    from helpers.comparison import sentence

    effects, (runs, *_) = (
        pd.read_parquet(study.folder / "effects.parquet"),
        comparison.finished_runs(study),
    )
    return sentence.summary_sentence(
        effects, runs, {n: s.title for n, s in study.sizes.items()}, study.runs()
    )


def _compare(study: Study) -> None:
    """Compare what there is: the report of an unfinished study shows its gaps."""
    notebook = study.folder / "4_compare.ipynb"
    given = [
        "--study",
        str(study.path),
        "--outputs",
        str(study.outputs),
        "--report",
        "4_compare",
        str(notebook),
    ]
    subprocess.run([sys.executable, "-m", "helpers.batch.execute", *given])
