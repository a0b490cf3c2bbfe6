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
from itertools import product
from pathlib import Path

import command
from study import locked_log, write_settings

from helpers import data
from helpers.study import Condition, Study, StudyError, sweeps
from helpers.study.catalogue import reason
from helpers.study.condition import REPETITION
from helpers.study.files import read_json, write_whole

RESULTS = ["predictions*.parquet", "run.json", "sweep.json", "scores.json"]
"""What a training leaves, in the order of copying: a run that has scores.json is finished."""


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
            try:
                yield add(study, Path(unpack).expanduser(), Path(scratch))
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                raise StudyError(f"{unpack}: cannot be unpacked: {reason(error)}") from None


def pack(study: Study) -> str:
    """Write the archive; returns a line about it. Raises StudyError if no run is finished."""
    made = [place for part, place in trainings(study) if part.is_finished(place)]
    if not made:
        wrong = f"found no finished run, expected results in {study.folder}"
        raise StudyError(f"{study.path}: {wrong}")
    homes = {home for place in made for home in place.parents if study.folder in home.parents}
    encoders = [study.encoder_folder(size) for size in study.sizes]
    places = product([*made, *homes, *encoders], [*RESULTS, "notebook.ipynb"])
    files = [file for folder, name in places for file in folder.glob(name)]
    files += study.folder.glob("precision.*.json")
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
    with tarfile.open(archive, "r:gz") as tar:
        tar.extractall(scratch, filter="data")  # nothing outside of scratch, no devices
    theirs = study.model_copy(update={"outputs": scratch})
    if not theirs.folder.is_dir():
        names = ", ".join(path.name for path in scratch.iterdir()) or "none"
        raise StudyError(f"{archive}: found study {names}, expected {study.name} ({study.path})")
    for file in study.data.rglob("*.json"):  # settings name the examples: those that are here
        copy(file, theirs.data / file.relative_to(study.data))
    try:
        files = list(checked(study, theirs))
    except StudyError as error:
        raise StudyError(f"{archive}: {error}; nothing was unpacked") from None
    new = [file for file in files if not (study.folder / file).exists()]
    for file in new:
        copy(theirs.folder / file, study.folder / file)
    write_settings(study)
    for home in {home for file in new for home in file.parents}:  # newer than their settings
        if (theirs.folder / home / "notebook.ipynb").is_file():
            copy(theirs.folder / home / "notebook.ipynb", study.folder / home / "notebook.ipynb")
    made, added = (sum(f.name == "scores.json" for f in some) for some in (files, new))
    return f"{archive}: {made} trainings, {added} of them new; make study goes on with the rest"


def checked(study: Study, theirs: Study) -> Iterator[Path]:
    """The archive's files with results of the study, relative to its folder; a StudyError where
    they were made in another way, or where other results lie here.
    """
    measured = {read_json(f)["precision"] for f in study.folder.glob("precision.*.json")}
    folders = [(part.settings, place) for part, place in trainings(theirs)]
    folders += [(study.encoder_settings(s), theirs.encoder_folder(s)) for s in study.sizes]
    folders += [(None, theirs.folder / size / "sweep") for size in study.sizes]
    for settings, folder in folders:
        record, home = read_json(folder / "run.json"), folder.relative_to(theirs.folder)
        if record and (wrong := difference(record.get("settings"), settings)):
            raise StudyError(f"{home}: {wrong}")
        precision = record.get("precision")
        if study.precision == "auto" and precision and measured - {precision}:
            expected = f"expected {min(measured)} as in the runs here; set it in the study's file"
            raise StudyError(f"{home}: precision: found {precision}, {expected}")
        for there in (file for name in RESULTS for file in folder.glob(name)):
            file = home / there.name
            here = study.folder / file
            is_same = not here.exists() or here.read_bytes() == there.read_bytes()
            if not is_same and home.name != "encoder":  # the same encoder, made twice, is no result
                wrong = "found another result here, expected none or the same"
                raise StudyError(f"{file}: {wrong}")
            yield file
    yield from (file.relative_to(theirs.folder) for file in theirs.folder.glob("precision.*.json"))


def difference(found, expected, key: str = "settings") -> str:
    """The first key in which a run's settings differ from the study's; empty if none does."""
    if found == expected:
        return ""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return f"{key}: found {str(found)[:80]}, expected {str(expected)[:80]}"
    name = next(name for name in found | expected if found.get(name) != expected.get(name))
    return difference(found.get(name), expected.get(name), f"{key}.{name}")


def copy(source: Path, target: Path) -> None:
    write_whole(target, lambda beside: shutil.copyfile(source, beside))


if __name__ == "__main__":
    command.run(__doc__, carry, unpack="an archive whose results join the study")
