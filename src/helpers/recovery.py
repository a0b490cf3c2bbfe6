"""What a batch does so that nothing is lost or mixed up: one batch at a time, parameters that stay, damage found."""

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from helpers import collect
from helpers.catalogue import StudyError, read_yaml
from helpers.files import damage, write_json, write_whole
from helpers.study import Study
from helpers.warm import PATIENCE, alive

_PARAMS, _LOCK = ".params", ".lock"
_BEGUN = re.compile(r"^\..+\.\d+(\.\w+)?$")
"""The names that files.write_whole gives to what is not whole yet."""


@contextmanager
def only_one(study: Study) -> Iterator[int]:
    """Hold the study's outputs for this batch; yields the lock's descriptor, which processes at work there inherit.

    The system frees the lock when the last of them is gone, however it ended. What is left of a killed batch on this
    machine is waited for.

    Raises
    ------
    StudyError
        Another batch is at work on the same outputs, or nothing can be written there.
    """
    path = study.folder / _LOCK
    _stay_inside(study)
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StudyError(f"{study.folder}: cannot be written: {error.strerror}") from None
    try:
        _take(descriptor, path, study)
        os.ftruncate(descriptor, 0)
        about = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        yield descriptor
    except OSError as error:
        raise StudyError(f"{study.folder}: {error.strerror}: {error.filename or ''}".rstrip(": ")) from error
    finally:
        os.close(descriptor)


def _stay_inside(study: Study) -> None:
    """Nothing in the study's folder may be a link that leads out of it, which would be written or removed through."""
    home = study.outputs.resolve() / study.name
    for path in [study.folder, *study.folder.rglob("*")]:
        if path.is_symlink() and not (path.resolve().is_relative_to(home) and path != study.folder):
            raise StudyError(f"{path}: a link that leads out of {study.folder}; expected what the study made")


def _take(descriptor: int, path: Path, study: Study) -> None:
    end, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = collect.read_json(path)
            here = other.get("host") == socket.gethostname()
            if not (here and not alive(other["process"]) and time.monotonic() < end):
                raise StudyError(
                    f"{study.folder}: another batch is at work there (process {other.get('process')} on "
                    f"{other.get('host')}, since {other.get('since')}); expected one at a time"
                ) from None
            if not told:
                print(f"{study.folder}: waiting for the last jobs of a killed batch to end", flush=True)
            told = True
            time.sleep(0.2)


def frozen(study: Study) -> Study:
    """The study as read from a copy of its files inside its outputs, which no edit during the batch reaches."""
    folder = study.folder / _PARAMS
    raw = {**read_yaml(study.path), "catalogue": "tasks.yaml"}
    catalogue = (study.path.parent / study.catalogue).read_bytes()
    write_whole(folder / "tasks.yaml", lambda path: path.write_bytes(catalogue))
    write_whole(
        folder / "study.yaml", lambda path: path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    )
    return Study.load(folder / "study.yaml", study.outputs)


def edited(study: Study, copy: Study) -> bool:
    """Whether the files that ``copy`` was made of say something else by now, or nothing that can be read."""
    try:
        return parameters(Study.load(study.path, study.outputs)) != parameters(copy)
    except StudyError:
        return True


def parameters(study: Study) -> dict:
    """Everything that a study's files say, as plain data."""
    return study.model_dump(mode="json", exclude={"path", "outputs", "catalogue"})


def repair(study: Study) -> list[str]:
    """Make ready for a restart: what is broken, or was made under other parameters, no longer counts as done.

    Returns one line for each such thing. What was being written when a batch was killed is removed without a word.
    """
    lines = []
    for path in study.folder.rglob(".*"):
        if _BEGUN.match(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (study.folder / "data").rglob("*.parquet"):
        if wrong := damage(path):
            lines.append(f"{path}: {wrong}; reading it again")
            path.unlink()
    for record in collect.records(study):
        if wrong := _broken(record.parent):
            lines.append(f"{wrong}; making it again")
            discard(record.parent)
    for folder in collect.outdated(study):
        lines.append(f"{folder}: made under other parameters; making it again")
        discard(folder)
    report, compared = study.folder / "report.html", study.folder / _PARAMS / "compared.json"
    stale = report.exists() and collect.read_json(compared) != parameters(study)
    if stale or damage(study.folder / "4_compare.ipynb") not in (None, "missing"):
        for name in ("report.html", "4_compare.ipynb"):
            (study.folder / name).unlink(missing_ok=True)
        lines.append(f"{report}: made of another version of the study; making it again")
    return lines


def compared(study: Study) -> None:
    """Note the parameters that the report was made under."""
    write_json(study.folder / _PARAMS / "compared.json", parameters(study))


def discard(folder: Path) -> None:
    """Remove what marks a result as done; Snakemake then makes it again."""
    for name in ("scores.json", "run.json"):
        (folder / name).unlink(missing_ok=True)


def _broken(folder: Path) -> str | None:
    """The first thing that is wrong with a result that counts as done."""
    if folder.name == "encoder":
        done, files, encoder = folder / "run.json", ["run.json", "../notebook.ipynb"], folder
    else:
        done, encoder = folder / "scores.json", folder / "encoder"
        files = ["scores.json", "run.json", "notebook.ipynb"]
        files += [] if encoder.is_dir() else ["predictions.parquet"]
        if (folder / collect.RETRY / "scores.json").exists():
            files += [f"{collect.RETRY}/{name}" for name in ("scores.json", "run.json", "predictions.parquet")]
    if not done.exists():
        return None
    paths = [folder / name for name in files]
    if encoder.is_dir():
        weights = {*encoder.glob("*.safetensors")}
        if not any(path.name.startswith("model") for path in weights):  # one file, or several where it is large
            weights.add(encoder / "model.safetensors")
        paths += [*weights, encoder / "config.json", encoder / "tokenizer.json"]
    for path in paths:
        if wrong := damage(path):
            return f"{path}: {wrong}"
    return None
