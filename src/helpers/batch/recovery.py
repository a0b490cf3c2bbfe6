"""What a batch does so that nothing is lost or mixed up: parameters that stay, damage found."""

import re
import shutil
from pathlib import Path

import yaml

from helpers.study import NONE, Study, StudyError
from helpers.study.catalogue import read_yaml
from helpers.study.files import damage, read_json, write_json, write_whole
from helpers.study.study import REPETITION

_PARAMS = ".params"
_BEGUN = re.compile(r"^\..+\.\d+(\.\w+)?$")
"""The names that files.write_whole gives to what is not whole yet."""


def frozen(study: Study) -> Study:
    """The study as read from a copy of its files inside its outputs, which no edit during the batch reaches."""
    folder = study.folder / _PARAMS
    raw = {**read_yaml(study.path), "catalogue": "tasks.yaml"}
    catalogue = (study.path.parent / study.catalogue).read_bytes()
    write_whole(folder / "tasks.yaml", lambda path: path.write_bytes(catalogue))
    write_whole(
        folder / "study.yaml",
        lambda path: path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8"),
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
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(
                missing_ok=True
            )
    for path in (study.folder / "data").rglob("*.parquet"):
        if wrong := damage(path):
            lines.append(f"{path}: {wrong}; reading it again")
            path.unlink()
    for record in records(study):
        if wrong := _broken(record.parent):
            lines.append(f"{wrong}; making it again")
            discard(record.parent)
    for folder in outdated(study):
        lines.append(f"{folder}: made under other parameters; making it again")
        discard(folder)
    report, compared = study.folder / "report.html", study.folder / _PARAMS / "compared.json"
    stale = report.exists() and read_json(compared) != parameters(study)
    if stale or damage(study.folder / "4_compare.ipynb") not in (None, "missing"):
        for name in ("report.html", "4_compare.ipynb"):
            (study.folder / name).unlink(missing_ok=True)
        lines.append(f"{report}: made of another version of the study; making it again")
    return lines


def compared(study: Study) -> None:
    """Note the parameters that the report was made under."""
    write_json(study.folder / _PARAMS / "compared.json", parameters(study))


def records(study: Study) -> dict[Path, dict]:
    """The run.json of every phase of every run, and the settings that it must carry to be current."""
    wanted = {study.encoder_folder(size) / "run.json": study.settings(size) for size in study.sizes}
    for run in study.runs():
        wanted[study.run_folder(run) / "run.json"] = study.settings(*run[:3])
        if run.intermediate != NONE:
            folder = study.encoder_folder(run.size, run.intermediate, run.seed).parent
            wanted[folder / "run.json"] = study.settings(run.size, run.intermediate)
    return wanted


def outdated(study: Study) -> list[Path]:
    """Folders whose result was made under other parameters, or is broken."""
    folders = []
    for path, settings in records(study).items():
        if path.exists():
            record = read_json(path)
            # A trimmed encoder knows the pieces of the texts that it was made for, and no others.
            unknown = set(study.texts()) - set(record["texts"]) if "texts" in record else ()
            if record.get("parameters") != settings or unknown:
                folders.append(path.parent)
    return folders


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
        if (folder / REPETITION / "scores.json").exists():
            files += [
                f"{REPETITION}/{name}"
                for name in ("scores.json", "run.json", "predictions.parquet")
            ]
    if not done.exists():
        return None
    paths = [folder / name for name in files]
    if encoder.is_dir():
        weights = {*encoder.glob("*.safetensors")}
        if not any(
            path.name.startswith("model") for path in weights
        ):  # one file, or several where it is large
            weights.add(encoder / "model.safetensors")
        paths += [*weights, encoder / "config.json", encoder / "tokenizer.json"]
    for path in paths:
        if wrong := damage(path):
            return f"{path}: {wrong}"
    return None
