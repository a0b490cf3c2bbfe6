"""What a batch does so that nothing is lost or mixed up: locks, parameters that stay, repair.

A lock is the system's, free as soon as its holder has ended; nodes of a cluster see it on the file
system that they share. Where that has none, a run goes without.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from helpers.study import NONE, Study, StudyError, sweeps
from helpers.study.catalogue import read_yaml
from helpers.study.files import damage, read_json, write_text
from helpers.study.study import MODEL, REPETITION

PATIENCE = 180
"""Seconds that a notebook has for a last checkpoint before it is killed."""
LOG, SNAPSHOT = "snakemake.log", ".params/study.yaml"
"""In a study's folder: what Snakemake says of the newest batch, and the params of that batch."""
_PLACE = [socket.gethostname(), os.environ.get("SLURM_JOB_ID")]
"""Where this process runs: the machine and, on a cluster, the job."""
_LOCKS = {"batch": ".lock", "notebook": ".at-work"}
_RESULTS = ["scores.json", "run.json", "predictions.parquet"]
_TOKENIZER = "encoder/tokenizer.json"
_FILES = {
    1: ["encoder/run.json", _TOKENIZER],
    2: ["scores.json", "run.json", _TOKENIZER],
    3: _RESULTS,
    4: ["scores.json", "run.json"],
}
"""Files of a size, an intermediate task, a target and a training of the sweep; the first one is
written last."""


@contextmanager
def only_one(study: Study) -> Iterator[None]:
    """Hold the study's outputs for this batch; a StudyError says why that cannot be."""
    home = study.outputs.resolve() / study.name
    for path in filter(Path.is_symlink, [study.folder, *study.folder.rglob("*")]):
        inside = path != study.folder and path.resolve().is_relative_to(home)
        if not inside:  # files would be written or removed through it
            expected = "expected what the study made"
            raise StudyError(f"{path}: a link that leads out of {study.folder}; {expected}")
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{study.folder}: cannot be written: {error.strerror}") from None
    with held(study.folder, "batch", patience=0):
        no_job_left(study)
        yield


@contextmanager
def held(folder: Path, by: str = "notebook", patience: float | None = None) -> Iterator[None]:
    """Hold a folder for a notebook or a batch; a StudyError says who does for too long already."""
    path, patience = folder / _LOCKS[by], PATIENCE if patience is None else patience
    lock = FileLock(path, timeout=patience, poll_interval=0.2, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        who = f"another {by} is at work there: {read_json(path).get('holder')}"
        raise StudyError(f"{folder}: {who}; expected one at a time") from None
    except OSError as error:
        if by == "batch" or error.errno not in (ENOLCK, ENOSYS, EOPNOTSUPP):
            raise
    try:
        (host, job), since = _PLACE, time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"job {job}, " * bool(job) + f"process {os.getpid()} on {host} (since {since})"
        path.write_text(json.dumps({"place": [host, job], "holder": holder}), encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: filelock takes no file without a name
        lock.release()


def is_free(folder: Path, patience: float = 0) -> bool:
    """Whether no notebook is at work in a folder, after ``patience`` seconds at most."""
    try:
        with held(folder, patience=patience):
            return True
    except StudyError:
        return False


def no_job_left(study: Study) -> None:
    """Wait for what a killed batch left on this machine; a StudyError names a cluster's jobs."""
    log = study.folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    names = ",".join(re.findall(r"SLURM run ID: (\S+)", text))  # its jobs all have it for a name
    command = ["squeue", "--noheader", "--format=%i", f"--name={names}"]
    asked = names and shutil.which("squeue")
    if asked and (jobs := subprocess.run(command, capture_output=True, text=True).stdout.split()):
        left = f"jobs {', '.join(jobs)}, left by an earlier batch, are in Slurm's queue"
        cancel = f"wait for their end, or cancel them (scancel {' '.join(jobs)})"
        raise StudyError(f"{study.folder}: {left}; {cancel}")
    for path in [p for p in study.folder.rglob(_LOCKS["notebook"]) if not is_free(p.parent)]:
        other = read_json(path)
        if other.get("place", _PLACE) == _PLACE:
            print(f"{path.parent}: waiting for the last jobs of a killed batch to end", flush=True)
            if is_free(path.parent, PATIENCE):
                continue
        left = f"{other.get('holder')}, left by an earlier batch, is still at work there"
        raise StudyError(f"{path.parent}: {left}; wait for its end, or cancel it")


def snapshot(study: Study) -> Study:
    """The study as read from a copy of its files in its outputs, which no edit reaches."""
    path = study.folder / SNAPSHOT
    catalogue = (study.path.parent / study.catalogue).read_text(encoding="utf-8")
    params = yaml.safe_dump({**read_yaml(study.path), "catalogue": "tasks.yaml"}, sort_keys=False)
    write_text(path.with_name("tasks.yaml"), catalogue)
    write_text(path, params)
    return Study.load(path, study.outputs)


def differs(path: Path, study: Study) -> bool:
    """Whether a params file says something else than ``study``, or nothing that can be read."""
    try:
        other = Study.load(path, study.outputs)
    except StudyError:
        return True
    said = [each.model_dump(exclude={"path", "catalogue"}) for each in (study, other)]
    return said[0] != said[1]


def repair(study: Study) -> list[str]:
    """Let what is broken or stale no longer count as done; returns one line for each such thing.

    What was being written when a batch was killed is removed without a word.
    """
    lines = []
    for path in study.folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name):  # as files.write_whole names it
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (study.folder / "data").rglob("*.parquet"):
        if wrong := damage(path):
            lines.append(f"{path}: {wrong}; reading it again")
            path.unlink()
    found = stale(study)
    for tried, run in sweeps.trials(study):
        folder = tried.run_folder(run)
        if folder in found or not (folder / "scores.json").exists():
            sweeps.file(study, run.size).unlink(missing_ok=True)
    for folder, wrong in found.items():
        lines.append(f"{wrong}; making it again")
        for name in ("scores.json", "run.json"):  # Snakemake makes again what has no such mark
            (folder / name).unlink(missing_ok=True)
    report, notebook = study.folder / "report.html", study.folder / "4_compare.ipynb"
    other = report.exists() and differs(study.folder / SNAPSHOT, study)
    if other or damage(notebook) not in (None, "missing"):
        lines.append(f"{report}: made of another version of the study; making it again")
        report.unlink(missing_ok=True)
        notebook.unlink(missing_ok=True)
    return lines


def stale(study: Study) -> dict[Path, str]:
    """Folders of results that are broken or were made under other parameters, and what is wrong."""
    found, texts = {}, set(study.texts())
    for path in study.results():
        folder, names = path.parent, path.relative_to(study.folder).parts[:-2]
        record = read_json(folder / "run.json")
        # A trimmed encoder knows the tokens of the texts that it was made for, and no others.
        current = texts <= set(record.get("texts", texts))
        model = [MODEL] if len(names) == 3 and study.keeps_model(names[-1]) else []
        where = folder.parent if len(names) == 1 else folder
        if wrong := _broken(where, [*_FILES[len(names)], *model]):
            found[folder] = wrong
        elif record and not (
            current and _settings(study, *names) in (None, record.get("parameters"))
        ):
            found[folder] = f"{folder}: made under other parameters"
    return found


def _settings(study: Study, size: str, *names: str) -> dict | None:
    """The settings of a result; None where the sweep has yet to choose one of them."""
    if len(names) == 3:
        return study.at(float(names[1])).settings(size, NONE, names[2])
    unknown = names and study.sweep and sweeps.chosen(study, size) is None
    return None if unknown else study.settings(size, *names)


def _broken(folder: Path, names: list[str]) -> str | None:
    """The first thing that is wrong with a result that counts as done."""
    paths, encoder = [folder / name for name in names], folder / "encoder"
    if not paths[0].exists():
        return None
    notebook = folder / "notebook.ipynb"  # papermill, by hand, may have written it elsewhere
    paths += [notebook] if notebook.exists() else []
    if folder / _TOKENIZER in paths:
        kind = "adapter_" if (encoder / "adapter_config.json").exists() else ""
        paths.append(encoder / f"{kind}config.json")
        whole = [*encoder.glob(f"{kind}model*.safetensors")]  # one, or several where it is large
        paths += encoder.glob("*.safetensors") if whole else [encoder / f"{kind}model.safetensors"]
    if (folder / REPETITION / "scores.json").exists():
        paths += [folder / REPETITION / name for name in _RESULTS]
    return next((f"{path}: {wrong}" for path in paths if (wrong := damage(path))), None)
