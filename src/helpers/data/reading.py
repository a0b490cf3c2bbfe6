"""A task's examples for a split and a language: from the hub, a mirror folder, own files or a generator.

One code path: whatever the source, rows go through the task's format once, are checked, and are kept as parquet under
``outputs/STUDY/data``. Later phases read nothing else, so a study that has started needs no source and no network.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import tasks
from helpers.data import sources
from helpers.study import ENGLISH, Study, StudyError, Task
from helpers.study.files import write_json, write_whole

UNSEEN = "<unseen>"
"""The label of whatever the training data has not: it is never right to predict it."""


def examples(study: Study, task: str, split: str, language: str = ENGLISH) -> list[dict]:
    """The normalised examples of one (task, split, language), from the study's own copy if there is one.

    Raises
    ------
    StudyError
        The source cannot be found or a row does not fit the task.
    """
    if task in study.mixtures:  # one of each of its tasks, to look at
        return [trained_on(study, name, split)[0] for name in study.mixtures[task].tasks]
    kept = _kept(study, task, split, language)
    if kept.exists():
        return pq.read_table(kept).to_pylist()
    return _read(study, task, split, language, [])


def sample(rows: list[dict], count: int | None, seed: int) -> list[dict]:
    """``count`` rows drawn without replacement, the same for the same seed; all of them if there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[i] for i in np.sort(chosen)]


def table(rows: list[dict]) -> pd.DataFrame:
    """Examples as a table to look at."""
    return pd.DataFrame(rows).drop(columns=["id"])


def read(
    task: Task,
    split: str,
    language: str,
    data_dir: Path | None = None,
    check_sizes: bool = False,
    skipped: list[str] | None = None,
) -> list[dict]:
    """Read and check one (task, split, language) at its source.

    With a list ``skipped``, bad rows are left out and said there.

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
    where = f"{task.name} ({source.origin}), {language} {split}"
    rows = sources.rows(task, source, split, language, data_dir)
    expected = task.sizes.get(split)
    if check_sizes and expected is not None and len(rows) != expected:
        raise StudyError(
            f"{where}: found {len(rows)} rows, expected {expected}: the data changed, or is a part of it "
            "(then set check_sizes: false in the study)"
        )
    if source.generator:
        tasks.check(task, rows, where)
        return rows
    return tasks.normalise(task, rows, where, skipped)


def labelled(study: Study, name: str) -> Task:
    """A catalogue entry with its labels: with ``unseen_label``, those of its training data and one more."""
    entry = study.tasks[name]
    if not entry.unseen_label:
        return entry
    kept = _labels(study, name)
    if kept.exists():
        return entry.model_copy(update={"labels": json.loads(kept.read_text(encoding="utf-8"))})
    found: set[str] = set()
    for language in entry.trained_in:
        for row in sources.rows(entry, entry.source(language), "train", language, data_dir(study)):
            found.update(() if isinstance(row, ValueError) else row[entry.columns["labels"]])
    return entry.model_copy(update={"labels": [*sorted(found), UNSEEN]})


def trained_on(study: Study, name: str, split: str) -> list[dict]:
    """Examples that a training on a task draws from ("train") or selects on ("validation"), in all its languages."""
    entry = study.tasks[name]
    languages = entry.trained_in if split == "train" else entry.selected_in
    return [row for language in languages for row in examples(study, name, split, language)]


def _read(study: Study, name: str, split: str, language: str, skipped: list[str]) -> list[dict]:
    """One (task, split, language) as the study wants it read; a pooled task is its parts one after the other."""
    entry, out = study.tasks[name], []
    for part in entry.parts or [name]:
        bad = [] if study.on_bad_row == "skip" else None
        rows = read(labelled(study, part), split, language, data_dir(study), study.check_sizes, bad)
        out += [{**row, "id": f"{part}/{row['id']}"} for row in rows] if entry.parts else rows
        if bad:
            skipped += bad
            where = f"{part} ({study.tasks[part].source(language).origin}), {language} {split}"
            print(
                f"{where}: skipped {len(bad)} of {len(bad) + len(rows)} rows; {bad[0]}", flush=True
            )
    return out


def data_dir(study: Study) -> Path | None:
    """The folder that own files are relative to: ``data_dir`` of the study, or the environment's DATA_DIR."""
    given = os.environ.get("DATA_DIR") or study.data_dir
    return Path(given) if given else None


def prepare(study: Study) -> dict:
    """Read, check and keep everything that the study reads; returns and writes ``data/summary.json``.

    Raises
    ------
    StudyError
        Any source or row is bad, or something that is evaluated is also trained on.
    """
    splits, trained, evaluated = {}, {}, {}
    shutil.rmtree(token_cache(study), ignore_errors=True)
    for name in {name for name, *_ in study.needed() if study.tasks[name].unseen_label}:
        _labels(study, name).unlink(missing_ok=True)
        write_json(_labels(study, name), labelled(study, name).labels)
    for name, split, language in study.needed():
        skipped: list[str] = []
        rows, entry = _read(study, name, split, language, skipped), labelled(study, name)
        write_whole(
            _kept(study, name, split, language),
            lambda path, rows=rows: pq.write_table(pa.Table.from_pylist(rows), path),
        )
        splits[f"{name}/{split}/{language}"] = {
            "rows": len(rows),
            "labels": tasks.label_counts(entry, rows),
        }
        if skipped:
            splits[f"{name}/{split}/{language}"]["skipped"] = skipped
        if (
            entry.format == "tagging"
        ):  # short sentences recur between the splits of treebanks: the benchmark is so
            continue
        keys = {tasks.key(entry, row): row["id"] for row in rows}
        if split == "train":
            trained.setdefault(name, {}).update(keys)
        elif language == ENGLISH and split == entry.evaluate and entry.train_on:
            evaluated[f"{name} {split}"] = keys
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
    return summary["parameters"] == _parameters(study) and all(
        _kept(study, *cell).exists() for cell in study.needed()
    )


def _parameters(study: Study) -> dict:
    cells = study.needed()
    names = {name for cell in cells for name in (cell[0], *study.tasks[cell[0]].parts)}
    tasks = {
        name: study.tasks[name].model_dump(mode="json", exclude={"licence", "citation"})
        for name in sorted(names)
    }
    return {
        "cells": ["/".join(cell) for cell in cells],
        "tasks": tasks,
        "data_dir": str(data_dir(study)),
        "on_bad_row": study.on_bad_row,
    }


def _summary(study: Study) -> Path:
    return study.folder / "data" / "summary.json"


def _originals(study: Study) -> dict[str, dict]:
    """English originals of the evaluated items, where the catalogue says what they are translations of."""
    originals = {}
    for target in study.targets:
        entry = study.tasks[target.task]
        if source := entry.translates.get(entry.evaluate):
            name, split = source.split("/")
            rows = read(study.tasks[name], split, ENGLISH, data_dir(study))
            originals[f"{source} (translated in {entry.name})"] = {
                tasks.key(study.tasks[name], row): row["id"] for row in rows
            }
    return originals


def token_cache(study: Study) -> Path:
    """Where the study's texts are kept once they are cut into pieces (:mod:`helpers.data.tokens`)."""
    return study.folder / "data" / "pieces"


def _labels(study: Study, name: str) -> Path:
    return study.folder / "data" / name / "labels.json"


def _kept(study: Study, task: str, split: str, language: str) -> Path:
    return study.folder / "data" / task / f"{language}.{split}.parquet"
