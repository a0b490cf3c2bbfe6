"""A task's examples for a split and a language: from the hub, a mirror folder, own files or a generator.

One code path: whatever the source, rows go through the task's format once, are checked, and are kept as parquet under
``outputs/STUDY/data``. Later phases read nothing else, so a study that has started needs no source and no network.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import formats
from helpers.catalogue import Source, StudyError, Task
from helpers.files import write_json, write_whole
from helpers.study import ENGLISH, Study

MIRROR = "HUB_MIRROR"
"""Environment variable: a folder laid out like the hub, read instead of it."""
_BUILDERS = {".tsv": "csv", ".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def examples(study: Study, task: str, split: str, language: str = ENGLISH) -> list[dict]:
    """The normalised examples of one (task, split, language), from the study's own copy if there is one.

    Raises
    ------
    StudyError
        The source cannot be found or a row does not fit the task.
    """
    kept = _kept(study, task, split, language)
    if kept.exists():
        return pq.read_table(kept).to_pylist()
    return read(study.tasks[task], split, language, data_dir(study), study.check_sizes)


def sample(rows: list[dict], count: int | None, seed: int) -> list[dict]:
    """``count`` rows drawn without replacement, the same for the same seed; all of them if there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[i] for i in np.sort(chosen)]


def table(rows: list[dict]) -> pd.DataFrame:
    """Examples as a table to look at."""
    return pd.DataFrame(rows).drop(columns=["id"])


def read(task: Task, split: str, language: str, data_dir: Path | None = None, check_sizes: bool = False) -> list[dict]:
    """Read and check one (task, split, language) at its source.

    Raises
    ------
    StudyError
        Unknown language or split, a missing mirror folder or file, a missing column, or a bad row; the message
        names the source, the key or row, what was found and what was expected.
    """
    if language not in task.languages:
        raise StudyError(
            f"task {task.name}: unknown language '{language}'; expected one of {', '.join(task.languages)}"
        )
    source = task.source(language)
    rows = _generated(source, split, language) if source.generator else _loaded(task, source, split, language, data_dir)
    where = f"{task.name} ({source.origin}), {language} {split}"
    normalised = rows if source.generator else formats.normalise(task, rows, where)
    formats.check(task, normalised, where)
    expected = task.sizes.get(split)
    if check_sizes and expected is not None and len(normalised) != expected:
        raise StudyError(
            f"{where}: found {len(normalised)} rows, expected {expected}: the data changed, or is a part of it "
            "(then set check_sizes: false in the study)"
        )
    return normalised


def data_dir(study: Study) -> Path | None:
    """The folder that own files are relative to: ``data_dir`` of the study, or the environment's DATA_DIR."""
    given = os.environ.get("DATA_DIR") or study.data_dir
    return Path(given) if given else None


def _generated(source: Source, split: str, language: str) -> list[dict]:
    from helpers import mini

    return mini.examples(source.generator, split, language)


def _loaded(task: Task, source: Source, split: str, language: str, folder: Path | None) -> Iterable[dict]:
    import datasets

    datasets.disable_progress_bars()
    where = f"task {task.name}"
    if split not in source.splits:
        raise StudyError(f"{where}: splits: no '{split}'; expected one of {', '.join(source.splits) or 'none given'}")
    code = task.codes.get(language, language)
    if source.files:
        path = (folder or Path()) / source.files.format(language=code, split=source.splits[split])
        if folder is None:
            raise StudyError(f"{where}: files: '{path}' is relative to data_dir, which the study does not give")
        if not path.is_file():
            raise StudyError(f"{where}: no such file {path}; expected its {split} split in '{language}'")
        if path.suffix not in _BUILDERS:
            raise StudyError(f"{where}: {path} ends in '{path.suffix}'; expected one of {', '.join(_BUILDERS)}")
        options = {"sep": "\t", "quoting": 3} if path.suffix == ".tsv" else {}
        if _BUILDERS[path.suffix] == "csv":
            options |= {"keep_default_na": False}
        arguments = {"path": _BUILDERS[path.suffix], "data_files": str(path), "split": "train", **options}
        origin = str(path)
    else:
        config = source.config.format(language=code) if source.config else None
        mirror = os.environ.get(MIRROR)
        origin = f"{mirror}/{source.hub}" if mirror else source.hub
        if mirror and not Path(origin).is_dir():
            raise StudyError(f"{where}: no such mirror folder {origin}; expected a copy of hub data set {source.hub}")
        arguments = {"path": origin, "name": config, "split": source.splits[split]}
        if source.revision and not mirror:
            arguments["revision"] = source.revision
    try:
        return datasets.load_dataset(**arguments)
    except Exception as error:  # the loaders of datasets raise anything; the user needs one line
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        config = f", config {arguments['name']}" if arguments.get("name") else ""
        raise StudyError(f"{where}: cannot read {origin}{config}, split {arguments['split']}: {reason}") from error


def prepare(study: Study) -> dict:
    """Read, check and keep everything that the study reads; returns and writes ``data/summary.json``.

    Raises
    ------
    StudyError
        Any source or row is bad, or something that is evaluated is also trained on.
    """
    splits, trained, evaluated = {}, {}, {}
    for task, split, language in study.needed():
        rows = read(study.tasks[task], split, language, data_dir(study), study.check_sizes)
        write_whole(
            _kept(study, task, split, language),
            lambda path, rows=rows: pq.write_table(pa.Table.from_pylist(rows), path),
        )
        splits[f"{task}/{split}/{language}"] = {
            "rows": len(rows),
            "labels": formats.label_counts(study.tasks[task], rows),
        }
        keys = {formats.key(study.tasks[task], row): row["id"] for row in rows}
        if split == "train":
            trained[task] = keys
        elif language == ENGLISH and split == study.tasks[task].evaluate and study.tasks[task].train_on:
            evaluated[f"{task} {split}"] = keys
    evaluated |= _originals(study)
    for name, items in evaluated.items():
        for task, keys in trained.items():
            if shared := items.keys() & keys.keys():
                item = items[min(shared, key=str)]
                raise StudyError(
                    f"{study.path}: {len(shared)} items of {name} (the first has id {item}) are in the training set "
                    f"of {task}; expected no evaluated item, nor its translation, in any training set"
                )
    summary = {"parameters": _parameters(study), "splits": splits}
    write_json(_summary(study), summary)
    return summary


def prepared(study: Study) -> bool:
    """Whether everything that the study reads has been kept, from the sources that it names now."""
    try:
        summary = json.loads(_summary(study).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return summary["parameters"] == _parameters(study) and all(_kept(study, *cell).exists() for cell in study.needed())


def _parameters(study: Study) -> dict:
    cells = study.needed()
    tasks = {task: study.tasks[task].model_dump(mode="json", exclude={"licence", "citation"}) for task, *_ in cells}
    return {"cells": ["/".join(cell) for cell in cells], "tasks": tasks, "data_dir": str(data_dir(study))}


def _summary(study: Study) -> Path:
    return study.folder / "data" / "summary.json"


def _originals(study: Study) -> dict[str, dict]:
    """English originals of the evaluated items, where the catalogue says what they are translations of."""
    originals = {}
    for target in study.targets:
        entry = study.tasks[target.task]
        if source := entry.translates.get(entry.evaluate):
            task, split = source.split("/")
            rows = read(study.tasks[task], split, ENGLISH, data_dir(study))
            originals[f"{source} (translated in {entry.name})"] = {
                formats.key(study.tasks[task], row): row["id"] for row in rows
            }
    return originals


def _kept(study: Study, task: str, split: str, language: str) -> Path:
    return study.folder / "data" / task / f"{language}.{split}.parquet"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="helpers.data", description="Read, check and keep a study's data.")
    parser.add_argument("study")
    parser.add_argument("--outputs", default="outputs")
    given = parser.parse_args()
    try:
        prepare(Study.load(given.study, given.outputs))
    except StudyError as error:
        sys.exit(str(error))
