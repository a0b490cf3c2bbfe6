"""What a batch does so that nothing is lost or mixed up: parameters that stay, damage found."""

import re
import shutil
from pathlib import Path

import yaml

from helpers.study import Study, StudyError
from helpers.study.catalogue import read_yaml
from helpers.study.files import damage, read_json, write_whole
from helpers.study.study import REPETITION

SNAPSHOT = ".params/study.yaml"
"""In a study's folder: the params that its newest batch runs under, beside their catalogue."""
_UNFINISHED = re.compile(r"^\..+\.\d+(\.\w+)?$")
"""The names that files.write_whole gives to what is not whole yet."""


def snapshot(study: Study) -> Study:
    """The study as read from a copy of its files in its outputs, which no edit of them reaches."""
    path = study.folder / SNAPSHOT
    catalogue = (study.path.parent / study.catalogue).read_bytes()
    params = yaml.safe_dump({**read_yaml(study.path), "catalogue": "tasks.yaml"}, sort_keys=False)
    write_whole(path.with_name("tasks.yaml"), lambda beside: beside.write_bytes(catalogue))
    write_whole(path, lambda beside: beside.write_text(params, encoding="utf-8"))
    return Study.load(path, study.outputs)


def differs(path: Path, study: Study) -> bool:
    """Whether a params file says something else than ``study``, or nothing that can be read."""
    where = {"path", "outputs", "catalogue"}
    try:
        other = Study.load(path, study.outputs)
    except StudyError:
        return True
    return other.model_dump(exclude=where) != study.model_dump(exclude=where)


def repair(study: Study) -> list[str]:
    """Make ready for a restart: what is broken or stale no longer counts as done.

    Returns one line for each such thing. What was being written when a batch was killed is removed
    without a word.
    """
    lines = []
    for path in study.folder.rglob(".*"):
        if _UNFINISHED.match(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (study.folder / "data").rglob("*.parquet"):
        if wrong := damage(path):
            lines.append(f"{path}: {wrong}; reading it again")
            path.unlink()
    for folder, wrong in stale(study).items():
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
    found = {}
    for record, settings in records(study).items():
        said = read_json(record)
        # A trimmed encoder knows the tokens of the texts that it was made for, and no others.
        known = set(study.texts()) <= set(said.get("texts", study.texts()))
        if wrong := _broken(record.parent):
            found[record.parent] = wrong
        elif record.exists() and not (said.get("parameters") == settings and known):
            found[record.parent] = f"{record.parent}: made under other parameters"
    return found


def records(study: Study) -> dict[Path, dict]:
    """The run.json of every phase of every run, and the settings that it carries when current."""
    names = {path: path.relative_to(study.folder).parts[:-2] for path in study.results()}
    return {path.with_name("run.json"): study.settings(*names[path]) for path in names}


def _broken(folder: Path) -> str | None:
    """The first thing that is wrong with a result that counts as done."""
    results = ["scores.json", "run.json", "predictions.parquet"]
    if folder.name == "encoder":
        encoder, names = folder, ["run.json", "../notebook.ipynb"]
    else:
        encoder, names = folder / "encoder", [*results, "notebook.ipynb"]
    if not (folder / names[0]).exists():  # what is written last
        return None
    if encoder.is_dir():
        names = [name for name in names if name != "predictions.parquet"]
        weights = {*encoder.glob("*.safetensors")}
        if not any(path.name.startswith("model") for path in weights):  # may be several files
            weights.add(encoder / "model.safetensors")
        names += [*weights, encoder / "config.json", encoder / "tokenizer.json"]
    if (folder / REPETITION / "scores.json").exists():
        names += [f"{REPETITION}/{name}" for name in results]
    wrong = {folder / name: damage(folder / name) for name in names}
    return next((f"{path}: {what}" for path, what in wrong.items() if what), None)
