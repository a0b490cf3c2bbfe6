"""Carry results to another machine: ``python tools/pack.py STUDY.yaml [--unpack ARCHIVE]``.

Packing writes ``outputs/NAME.tar.gz``: what every finished run found out, the executed notebooks
and the study's files, without weights. Unpacking adds the results of an archive to the study here.
It changes nothing unless all of them were made with this study's settings.
"""

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import command
import pandas as pd
from study import locked_log, write_settings

from helpers import data
from helpers.study import Condition, Study, StudyError, sweeps
from helpers.study.catalogue import reason
from helpers.study.condition import REPETITION
from helpers.study.files import read_json, write_whole

RESULTS = ["predictions*.parquet", "run.json", "scores.json"]
"""What a training leaves, in the order of copying: a run that has scores.json is finished."""
OTHERS = ["*/encoder/run.json", "*/sweep/sweep.json", "precision.*.json"]
NOTEBOOKS = "**/notebook.ipynb"


def carry(study: Study, unpack: str) -> Iterator[str]:
    """Pack the study's results or, with the name of an archive, unpack this."""
    if not unpack:
        yield pack(study)
    elif study.keep_models:
        wrong = "keep_models: found true, expected false, as an archive holds no models"
        raise StudyError(f"{study.path}: {wrong}")
    else:
        data.prepare(study)
        with locked_log(study), tempfile.TemporaryDirectory(dir=study.outputs) as scratch:
            yield add(study, Path(unpack).expanduser(), Path(scratch))


def pack(study: Study) -> str:
    """Write the archive; returns a line about it. Raises StudyError if no run is finished."""
    made = [place for part, place in trainings(study) if part.is_finished(place)]
    if not made:
        wrong = f"found no finished run, expected results in {study.folder}"
        raise StudyError(f"{study.path}: {wrong}")
    files = [file for place in made for name in RESULTS for file in place.glob(name)]
    files += [file for name in [*OTHERS, NOTEBOOKS] for file in study.folder.glob(name)]
    archive = study.folder.with_name(f"{study.name}.tar.gz")

    def write(beside: Path) -> None:
        with tarfile.open(beside, "w:gz") as tar:
            for file in files:
                tar.add(file, file.relative_to(study.outputs))
            tar.add(study.path, f"{study.name}/params.yaml")
            tar.add(study.path.parent / study.catalogue, f"{study.name}/tasks.yaml")

    write_whole(archive, write)
    return f"{archive}: {len(made)} trainings, {archive.stat().st_size / 1e6:.1f} MB"


def trainings(study: Study) -> Iterator[tuple[Condition, Path]]:
    """Every training of the study with the folder of its results, repetitions and sweep too."""
    trials = [t for size in study.sizes if study.sweep for t in sweeps.trials(study, size)]
    for part in [*trials, *study.conditions()]:
        for seed in part.seeds:
            yield part, part.seed_folder(seed)
            yield part, part.seed_folder(seed) / REPETITION
        for attempt in part.crossed_attempts().values():
            yield part, attempt.folder


def add(study: Study, archive: Path, scratch: Path) -> str:
    """Check all results of an archive, then copy those that are not here; returns a line."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(scratch, filter="data")  # nothing outside of scratch, no devices
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{archive}: cannot be unpacked: {reason(error)}") from None
    theirs = study.model_copy(update={"outputs": scratch})
    if not theirs.folder.is_dir():
        names = ", ".join(path.name for path in scratch.iterdir()) or "none"
        raise StudyError(f"{archive}: found study {names}, expected {study.name} ({study.path})")
    theirs.data.symlink_to(study.data.absolute())  # settings name the examples: those that are here
    for wrong in misfits(study, theirs):
        raise StudyError(f"{archive}: {wrong}; nothing was unpacked")
    made = [place for _, place in trainings(theirs) if (place / "scores.json").exists()]
    here = [study.folder / place.relative_to(theirs.folder) / "scores.json" for place in made]
    new = sum(not file.exists() for file in here)
    copy(study, theirs, *OTHERS, *(f"**/{name}" for name in RESULTS))
    write_settings(study)
    copy(study, theirs, NOTEBOOKS)  # newer than their settings
    return f"{archive}: {len(made)} trainings, {new} of them new; make study goes on with the rest"


def copy(study: Study, theirs: Study, *names: str) -> None:
    """Copy the files of theirs with these names that are not here."""
    for file in (file for name in names for file in theirs.folder.glob(name)):
        here = study.folder / file.relative_to(theirs.folder)
        if not here.exists():
            write_whole(here, partial(shutil.copyfile, file))


def misfits(study: Study, theirs: Study) -> Iterator[str]:
    """What in an archive was made in another way than here, or has another result here."""
    files = study.folder.glob("precision.*.json")
    measured = {file.name.split(".")[1]: read_json(file)["precision"] for file in files}
    for part, place in trainings(theirs):
        home, record = place.relative_to(theirs.folder), read_json(place / "run.json")
        if record and (wrong := difference(record["settings"], part.settings)):
            yield f"{home}: {wrong}"
        found, device = record.get("precision"), "cpu"
        if record.get("hardware", {}).get("gpu"):
            device = "cuda"
        here = [measured[device]] if device in measured else [*measured.values()]
        if study.precision == "auto" and here and found and found not in here:
            expected = f"expected {here[0]} as in the runs here; set it in the study's file"
            yield f"{home}: precision: found {found}, {expected}"
        scores = [one.folder / home / "scores.json" for one in (study, theirs)]
        if len({file.read_bytes() for file in scores if file.exists()}) > 1:
            yield f"{home}/scores.json: found another result here, expected none or the same"


def difference(found: dict, expected: dict) -> str:
    """The first key in which a run's settings differ from the study's; empty if none does."""
    one, other = (pd.json_normalize({"settings": s}).iloc[0].to_dict() for s in (found, expected))
    for key in one | other:
        if one.get(key) != other.get(key):
            return f"{key}: found {one.get(key)!s:.80}, expected {other.get(key)!s:.80}"
    return ""


if __name__ == "__main__":
    command.run(__doc__, carry, unpack="an archive whose results join the study")
