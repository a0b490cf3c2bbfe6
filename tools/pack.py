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
from pathlib import Path

import command
from study import locked_log, write_settings

from helpers import data
from helpers.study import Condition, Study, StudyError, sweeps
from helpers.study.condition import REPETITION
from helpers.study.files import read_json, write_whole

RESULTS = ["predictions.parquet", "run.json", "scores.json"]
"""What a training leaves, in the order of copying: a run that has scores.json is finished."""
PARTS = [*RESULTS, "sweep.json", "notebook.ipynb"]


def pack(study: Study) -> Iterator[str]:
    """Write the archive; a StudyError if no run is finished."""
    made = [place for part, place in trainings(study) if part.is_finished(place)]
    if not made:
        expected = f"expected results in {study.folder}"
        raise StudyError(f"{study.path}: found no finished run; {expected}")
    homes = {home for place in made for home in place.parents if home.is_relative_to(study.folder)}
    folders = [*made, *homes, *(study.encoder_folder(size) for size in study.sizes)]
    files = [folder / name for folder in folders for name in PARTS]
    files += study.folder.glob("precision.*.json")
    names = {file: file.relative_to(study.outputs) for file in files if file.is_file()}
    names[study.path] = Path(study.name, "params.yaml")
    names[study.path.parent / study.catalogue] = Path(study.name, "tasks.yaml")

    def write(beside: Path) -> None:
        with tarfile.open(beside, "w:gz") as tar:
            for file, name in names.items():
                tar.add(file, name)

    archive = study.folder.with_name(f"{study.name}.tar.gz")
    write_whole(archive, write)
    yield f"{archive}: {len(made)} trainings, {archive.stat().st_size / 1e6:.1f} MB"


def trainings(study: Study) -> Iterator[tuple[Condition, Path]]:
    """Every training of the study with the folder of its results, repetitions and sweep too."""
    trials = [t for size in study.sizes if study.sweep for t in sweeps.trials(study, size)]
    for part in [*trials, *study.conditions()]:
        for seed in part.seeds:
            yield part, part.seed_folder(seed)
            yield part, part.seed_folder(seed) / REPETITION


def add(study: Study, archive: Path) -> Iterator[str]:
    """Check the archive, then copy what is not here yet."""
    if study.keep_models:
        wrong = "keep_models: found true, expected false, as an archive holds no models"
        raise StudyError(f"{study.path}: {wrong}")
    data.prepare(study)
    with locked_log(study), tempfile.TemporaryDirectory(dir=study.outputs) as scratch:
        extract(archive, Path(scratch), study)
        theirs = study.model_copy(update={"outputs": Path(scratch)})
        for file in study.data.rglob("*.json"):  # the settings are those of the examples here
            copy(file, theirs.data / file.relative_to(study.data))
        try:
            files = list(checked(study, theirs))
        except StudyError as error:
            raise StudyError(f"{archive}: {error}; nothing was unpacked") from None
        new = [file for file in files if not (study.folder / file).exists()]
        for file in new:
            copy(theirs.folder / file, study.folder / file)
        write_settings(study)
        for home in {home for file in new for home in file.parents}:  # newer than the settings
            if (theirs.folder / home / "notebook.ipynb").is_file():
                copy(
                    theirs.folder / home / "notebook.ipynb", study.folder / home / "notebook.ipynb"
                )
    made, added = (sum(f.name == "scores.json" for f in some) for some in (files, new))
    yield f"{archive}: {made} trainings, {added} of them new; make study goes on with the rest"


def extract(archive: Path, folder: Path, study: Study) -> None:
    """Extract the archive's known files below ``folder``, nothing outside of it."""

    def known(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        member = tarfile.data_filter(member, path)
        name = Path(member.name).name
        is_known = name in PARTS or name.startswith("precision.") or name == "params.yaml"
        return member if member.isfile() and is_known else None

    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=known)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{archive}: cannot be unpacked: {error}") from None
    names = [file.parent.name for file in folder.glob("*/params.yaml")]
    if names != [study.name]:
        expected = f"expected {study.name}, the study of {study.path}"
        raise StudyError(f"{archive}: found study {', '.join(names) or 'none'}; {expected}")


def checked(study: Study, theirs: Study) -> Iterator[Path]:
    """The files of the archive that hold results of the study, relative to its folder; a StudyError
    where they were made otherwise, or where others lie here.
    """
    measured = {read_json(f)["precision"] for f in study.folder.glob("precision.*.json")}
    folders = [(part.settings, place) for part, place in trainings(theirs)]
    folders += [(study.encoder_settings(s), theirs.encoder_folder(s)) for s in study.sizes]
    files = [file.relative_to(theirs.folder) for file in theirs.folder.glob("precision.*.json")]
    files += [Path(size, "sweep/sweep.json") for size in study.sizes]
    for settings, folder in folders:
        record, home = read_json(folder / "run.json"), folder.relative_to(theirs.folder)
        if wrong := difference(record.get("settings"), settings) if record else "":
            raise StudyError(f"{home}: {wrong}")
        precision = record.get("precision")
        if study.precision == "auto" and precision and measured - {precision}:
            expected = f"expected {min(measured)} as in the runs here; set it in the study's file"
            raise StudyError(f"{home}: precision: found {precision}, {expected}")
        files += [home / name for name in RESULTS] if record else []
    for file in files:
        there, here = theirs.folder / file, study.folder / file
        is_result = file.name in [*RESULTS, "sweep.json"] and file.parent.name != "encoder"
        if is_result and here.exists() and here.read_bytes() != there.read_bytes():
            raise StudyError(f"{file}: found another result here; expected none, or the same")
        if there.is_file():
            yield file


def difference(found, expected, key: str = "settings") -> str:
    """The first key in which a run's settings differ from the study's; empty if none does."""
    if found == expected:
        return ""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return f"{key}: found {str(found)[:80]}, expected {str(expected)[:80]}"
    names = [name for name in found | expected if found.get(name) != expected.get(name)]
    return difference(found.get(names[0]), expected.get(names[0]), f"{key}.{names[0]}")


def copy(source: Path, target: Path) -> None:
    write_whole(target, lambda beside: shutil.copyfile(source, beside))


def carry(study: Study, unpack: str) -> Iterator[str]:
    return add(study, Path(unpack).expanduser()) if unpack else pack(study)


if __name__ == "__main__":
    command.run(__doc__, carry, unpack="an archive whose results join the study")
