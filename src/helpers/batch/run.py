"""Run a study in batch: ``python -m helpers.batch params/STUDY.yaml --cores N``."""

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd

from helpers.batch import execute, recovery, scheduler
from helpers.study import Study, StudyError, prepared, rules
from helpers.study.files import read_json

_interrupted = threading.Event()


def main(arguments: list[str] | None = None, waiting: subprocess.Popen | None = None) -> int:
    """The command line; returns 0 only when every run of the study is there.

    ``waiting`` is a process that `scheduler.start` has begun already.
    """
    parser = argparse.ArgumentParser(prog="helpers.batch", description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--profile", type=Path, help="a Snakemake profile, such as a cluster's")
    given, more = parser.parse_known_args(arguments)
    _interrupted.clear()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # nothing to save yet
    try:
        study = Study.load(given.study, given.outputs)
        with recovery.only_one(study):
            return _batch(study, given.cores, given.profile, more, waiting)
    except StudyError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        where = error.filename or given.outputs
        print(f"{where}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        if waiting and waiting.poll() is None:  # nothing was asked of it
            _signal(waiting, signal.SIGKILL)
    return 2


def _batch(original: Study, cores: int, profile: Path | None, more: list[str], waiting) -> int:
    """Everything between the study's checks and its last line; returns the exit status."""
    for line in recovery.repair(original):  # which looks at the snapshot of the last batch
        print(line, flush=True)
    study = recovery.snapshot(original)
    if not prepared.is_complete(study):
        from helpers import data  # here: most batches need not read any

        print(f"reading the data of study {study.name}", flush=True)
        data.prepare(study)
    begin = time.time()
    swept = study.model_copy(update={"sweep": None}).results() if study.sweep else []
    if any(path.exists() for path in swept if path.name == "scores.json"):
        # What is there is kept only if it was made with the rates that are chosen.
        _snakemake(study, cores, profile, ["sweep", *more], waiting)
        waiting = None
        for line in recovery.repair(study):
            print(line, flush=True)
    status = _snakemake(study, cores, profile, more, waiting)
    status = _summary(study, status, (time.time() - begin) / 60)
    if recovery.differs(original.path, study):
        what = "changed during the batch; run it again to follow the change"
        print(f"{original.path}: {what}", file=sys.stderr)
        return status or 1
    return status


def gpus(study: Study) -> list[str]:
    """Names of the GPUs that torch finds, those of CUDA_VISIBLE_DEVICES if it is set.

    A name stands there once for each run that has room beside the others (NVIDIA's GPUs only).
    """
    if not any(map(os.path.exists, scheduler.DRIVERS)):  # the usual laptop need not wait for torch
        return []
    import torch

    from helpers.batch import memory

    count = torch.cuda.device_count()
    found = os.environ.get(execute.VISIBLE, ",".join(map(str, range(count)))).split(",")[:count]
    query = ["nvidia-smi", "--query-gpu=memory.total,compute_mode", "--format=csv,noheader,nounits"]
    fits = dict.fromkeys(found, 1)
    for name in found:
        with suppress(OSError):  # there is no such program
            said = subprocess.run([*query, "-i", name], capture_output=True, text=True).stdout
            if mib := re.match(r"(\d+), Default", said):  # in other modes it takes one process
                fits[name] = memory.side_by_side(study, int(mib[1]) / 954)
    return [name for n in range(memory.AT_MOST) for name in found if n < fits[name]]


def _snakemake(
    study: Study,
    cores: int,
    profile: Path | None,
    more: list[str],
    waiting: subprocess.Popen | None,
) -> int:
    """Run Snakemake to its end, here with a GPU or a core a notebook, or where the profile says."""
    names, shown = [] if profile else gpus(study)[:cores], None
    at_once, log = len(names) or cores, study.folder / recovery.LOG
    log.write_bytes(b"")
    process = waiting or scheduler.start(here=not profile)
    of = None if profile else ",".join(names)
    scheduler.order(process, _arguments(study, at_once, profile, more), of, log)
    signal.signal(signal.SIGUSR1, lambda number, _: _signal(process, number))
    try:
        while process.poll() is None:
            if _interrupted.is_set():  # in code of C that clears every exception
                raise KeyboardInterrupt
            began = time.monotonic()
            if (line := progress(study, at_once)) != shown:
                print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
            shown = line
            with suppress(subprocess.TimeoutExpired):  # thousands of runs take a second to count
                process.wait(max(1, 20 * (time.monotonic() - began)))
        if process.returncode < 0:  # it was killed: its notebooks save a checkpoint and end
            recovery.no_job_left(study)
        return process.returncode
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    finally:  # after a second interrupt at once; else an idle fork server is left
        _signal(process, signal.SIGKILL)


def _arguments(study: Study, at_once: int, profile: Path | None, more: list[str]) -> list[str]:
    here = ["--cores", str(at_once), "--resources", f"gpu={at_once}"]
    snakefile = Path(__file__).parents[3] / "Snakefile"
    command = [*more, "--snakefile", str(snakefile)]
    command += ["--profile", str(profile)] if profile else here
    command += ["--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock"]
    command += ["--scheduler", "greedy"]  # not a linear program over all that is ready
    command += ["--force-use-threads"]  # else every notebook would get a Snakemake of its own
    return [*command, "--config", f"study={study.path}", f"outputs={study.outputs}"]


def _interrupt(*_) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _signal(session: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session.pid, number)


def progress(study: Study, at_once: int) -> str:
    """How many trainings are done, and how long the rest takes: the mean of those most like it."""
    rows = []
    for path in (path for path in study.results() if path.name == "scores.json"):
        size, *_, task = path.relative_to(study.folder).parts[:-2]
        record = read_json(path.with_name("run.json")) if path.exists() else {}
        rows.append((size, task, record.get("wall_seconds", math.nan)))
    table = pd.DataFrame(rows, columns=["size", "task", "seconds"])
    expected, todo = table["seconds"], table["seconds"].isna()
    for like in (["size", "task"], ["size"]):
        expected = expected.fillna(table.groupby(like)["seconds"].transform("mean"))
    minutes = expected.fillna(table["seconds"].mean())[todo].sum() / at_once / 60
    left = f", about {minutes:.0f} min left" if todo.any() and not todo.all() else ""
    return f"{len(table) - todo.sum()} of {len(table)} runs done{left}"


def _summary(study: Study, status: int, minutes: float) -> int:
    """Say what failed, what is missing and what was found; returns the exit status."""
    from helpers import comparison  # here, for Snakemake need not wait for scipy

    made = {size: read_json(study.encoder_folder(size) / "run.json") for size in study.sizes}
    key = "parameters_without_embeddings"
    for line in rules.order(study, {size: record.get(key, 0) for size, record in made.items()}):
        print(line, file=sys.stderr)
    missing, total = comparison.missing_runs(study), len(study.runs())
    log = study.folder / recovery.LOG
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if status else []:
        if line.startswith("FAILED"):
            print(line, file=sys.stderr)
    if len(missing):
        names = ", ".join("/".join(map(str, run)) for run in missing.itertuples(index=False))
        print(f"{len(missing)} of {total} runs are missing: {names} (see {log})", file=sys.stderr)
        if len(missing) < total:
            with suppress(RuntimeError):  # the report of an unfinished study shows its gaps
                execute.notebook("4_compare", study.folder / "4_compare.ipynb", study, report=True)
    elif status:
        print(f"snakemake ended with status {status}, see {log}", file=sys.stderr)
    print(f"{study.name}: {total - len(missing)} of {total} runs in {minutes:.1f} min")
    report = study.folder / "report.html"
    if report.exists():
        print(f"report: {report.resolve()}")
        effects = pd.read_parquet(study.folder / "effects.parquet")
        runs, *_ = comparison.finished_runs(study)
        print(comparison.summary_sentence(study, effects, runs))
    return status or int(len(missing) > 0)
