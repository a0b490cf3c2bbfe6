"""A task's examples for a split and a language: from their source, or as a study keeps them."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from helpers import formats
from helpers.data import sources
from helpers.study import ENGLISH, StudyError, Task
from helpers.study.catalogue import unknown

UNSEEN = "<unseen>"
"""Stands for all labels that the training data lacks; to predict it is never right."""


class Cell(NamedTuple):
    """The examples of a (task, split, language), and facts about their source."""

    examples: list[dict]
    skipped: list[str]
    """What is wrong with the rows that were left out."""
    rows: int
    """Rows of the source, those that were left out among them."""
    files: list[Path]
    """The files that were read; empty if the hub itself was read."""


def path(folder: Path, task: str, split: str, language: str) -> Path:
    """Where the examples of one (task, split, language) are kept."""
    return folder / task / f"{language}.{split}.parquet"


def examples(folder: Path, task: Task, split: str, language: str = ENGLISH) -> list[dict]:
    """The checked examples that a study keeps in ``folder``; a StudyError if none are there yet."""
    file = path(folder, task.name, split, language)
    if not file.is_file():
        raise StudyError(f"no such file {file}; run notebook 1_encoder or `make study` first")
    return pq.read_table(file).to_pylist()


def trained_on(folder: Path, task: Task, split: str) -> list[dict]:
    """Examples that a training draws from ("train") or selects on ("validation"), all languages."""
    languages = task.trained_in if split == "train" else task.selected_in
    return [row for language in languages for row in examples(folder, task, split, language)]


def sample(rows: list[dict], count: int | None, seed: int | list[int]) -> list[dict]:
    """``count`` rows drawn without replacement, the same for a seed; all if there are fewer."""
    if count is None or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[i] for i in np.sort(chosen)]


def read_labels(task: Task, data_dir: Path | None) -> list[str]:
    """The labels of a task with ``unseen_label``: those of its training data, and one more."""
    names: set[str] = set()
    for language in task.trained_in:
        rows, _ = sources.read(task, "train", language, data_dir)
        for row in (row for row in rows if isinstance(row, dict)):
            with suppress(ValueError, TypeError):  # a row without it is reported when it is read
                tags = formats.value(row, task.columns.get("labels", "labels")) or []
                names.update(tag for tag in tags if isinstance(tag, str))
    return [*sorted(names), UNSEEN]


def read(
    task: Task,
    split: str,
    language: str,
    data_dir: Path | None = None,
    check_sizes: bool = False,
    skip: bool = False,
) -> Cell:
    """Read and check one (task, split, language) at its source.

    With ``skip`` bad rows are left out, and a line of output says how many. Raises StudyError where
    a language, split, file or column is missing, or a row is bad; the message names the source, the
    key or row, what was found and what was expected.
    """
    if language not in task.languages:
        raise StudyError(f"task {task.name}: {unknown('language', language, task.languages)}")
    source = task.source(language)
    origin = f"hub {source.hub}" if source.hub else f"files {source.files}"
    where = f"{task.name} ({origin}), {language} {split}"
    rows, files = sources.read(task, split, language, data_dir)
    expected = task.sizes.get(split, len(rows))
    if check_sizes and len(rows) != expected:
        raise StudyError(
            f"{where}: found {len(rows)} rows, expected {expected}: the data changed, "
            "or you have only a part of it (then set check_sizes: false in the study)"
        )
    good, bad = formats.normalise(task, rows, where)
    if bad and not skip:
        raise StudyError(f"{where}: {bad[0]}")
    if not good:
        first = f" that are good; the first: {bad[0]}" if bad else ""
        raise StudyError(f"{where}: found no rows{first}")
    if bad:
        print(f"{where}: skipped {len(bad)} of {len(rows)} rows; {bad[0]}", flush=True)
    return Cell(good, bad, len(rows), files)


def table(rows: list[dict], task: Task) -> pd.DataFrame:
    """Examples as a table to read: labels by name, each choice under its label."""
    frame = pd.DataFrame(rows).drop(columns="group", errors="ignore")  # a digest
    if "choices" in frame:
        frame[task.labels] = frame.pop("choices").tolist()
    for name in {"label", "labels"} & set(frame):
        each = frame[name].explode().map(lambda i: task.labels[i])
        frame[name] = each if name == "label" else each.groupby(level=0).agg(" ".join)
    return frame


def evaluated(folder: Path, task: Task, languages: list[str]) -> pd.DataFrame:
    """All evaluated items of a target as a table to read, with predictions' language and id."""
    tables = []
    for language in languages:
        items = table(examples(folder, task, task.evaluate, language), task)
        items["id"] = items["id"] if task.parallel else f"{language}/" + items["id"]
        tables.append(items.assign(language=language))
    return pd.concat(tables, ignore_index=True)
