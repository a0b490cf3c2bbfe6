"""Read all data of a study once: check every cell, alone and against the others, and keep it."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from helpers import formats
from helpers.data import reading, sources
from helpers.data.reading import Cell, examples, labelled, labels_file, path, read
from helpers.study import ENGLISH, Study, StudyError, Task
from helpers.study.architectures import MIRROR
from helpers.study.files import read_json, write_json, write_whole
from helpers.study.params import task_of

Name = tuple[str, str, str]
"""Task, split and language of a cell."""


def prepare(study: Study) -> dict:
    """Read, check and keep all that the study reads; returns and writes ``data/summary.json``.

    Data is read again only if params, catalogue or sources changed.

    Raises
    ------
    StudyError
        A source or row is bad; parallel items differ; or an evaluated item is also trained on, and
        ``on_leak`` does not drop it.
    """
    for target in study.targets:
        for name in study.train_on(target.task)[-1:]:
            formats.check_match(study.tasks[name], study.tasks[target.task])
    file, settings = study.data / "summary.json", _settings(study)
    summary = read_json(file)
    if summary.get("settings") == settings and _is_current(study, summary):
        return summary
    file.unlink(missing_ok=True)  # it does not describe the new files
    texts = _texts(study)
    for name in {name for name, *_ in study.needed() if study.tasks[name].unseen_label}:
        labels = reading.read_labels(study.tasks[name], study.files_folder)
        write_json(labels_file(study.data, study.tasks[name]), labels)
    summary = {"settings": settings, "cells": _cells(study), "texts": texts}
    write_json(file, summary)
    return summary


def _cells(study: Study) -> dict[str, dict]:
    """Read, compare and keep every cell; returns the entry of each in summary.json."""
    cells: dict[str, dict] = {}
    counts: dict[Name, int] = {}
    for name in study.needed():
        task = labelled(study.data, study.tasks[name[0]])
        cell = _read(study, task, *name[1:])
        counts[name] = cell.rows
        _write(study, name, cell.examples)
        about = _about(task, cell.examples)
        about |= {"source": _source_digest(cell.files), "files": [str(file) for file in cell.files]}
        cells["/".join(name)] = about | ({"skipped": cell.skipped} if cell.skipped else {})
    for target in study.targets:
        _check_parallel(study, study.tasks[target.task], counts)
    for name, keys in _leaks(study).items():
        cells["/".join(name)] |= _drop(study, name, keys)
    return cells


def _settings(study: Study) -> dict:
    """All settings that the kept data depends on, without the content of the sources."""
    cells = study.needed()
    names = {name for task, *_ in cells for name in (task, *study.tasks[task].parts)}
    prose = {"licence", "citation", "obtain"}
    tasks = {n: study.tasks[n].model_dump(mode="json", exclude=prose) for n in sorted(names)}
    return {
        "cells": ["/".join(cell) for cell in cells],
        "tasks": tasks,
        "data_dir": str(study.files_folder),
        "mirror": os.environ.get(MIRROR),
        "check_sizes": study.check_sizes,
        "on_bad_row": study.on_bad_row,
        "on_leak": study.on_leak,
        "targets": [[target.task, *study.languages(target.task)] for target in study.targets],
    }


def _is_current(study: Study, summary: dict) -> bool:
    """Whether everything is kept and no source changed; a missing source counts as unchanged."""
    if not all(path(study.data, *cell).is_file() for cell in study.needed()):
        return False
    for cell in summary["cells"].values():
        files = [Path(file) for file in cell["files"]]
        if all(file.is_file() for file in files) and cell["source"] != _source_digest(files):
            return False
    return summary["texts"] == _texts(study)


def _source_digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _read(study: Study, task: Task, split: str, language: str) -> Cell:
    """Examples by the study's settings; a pooled task has those of its parts, in order."""
    skip = study.on_bad_row == "skip"
    if not task.parts:
        return read(task, split, language, study.files_folder, study.check_sizes, skip)
    pooled = Cell([], [], 0, [])
    for name in task.parts:
        cell = _read(study, study.tasks[name], split, language)
        rows = [row | {"id": f"{name}/{row['id']}"} for row in cell.examples]
        pooled = Cell(
            pooled.examples + rows,
            pooled.skipped + cell.skipped,
            pooled.rows + cell.rows,
            pooled.files + cell.files,
        )
    return pooled


def _write(study: Study, name: Name, rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows)
    write_whole(path(study.data, *name), partial(pq.write_table, table))


def _about(task: Task, rows: list[dict]) -> dict:
    shape, digest = formats.of(task), hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return {
        "rows": len(rows),
        "distinct": len({tuple(shape.texts(row)) for row in rows}),
        "labels": shape.counts(task, rows),
        "digest": digest.hexdigest(),
    }


def _texts(study: Study) -> dict[str, dict]:
    """Lines and digest of the text files on which mixtures train masked language modelling."""
    texts: dict[str, dict] = {}
    used = {task_of(name) for name in study.intermediate}
    for mixture, about in study.mixtures.items():
        for name in about.mlm.files if about.mlm and mixture in used else []:
            file = Path(study.files_folder or "") / name
            try:
                count = len(sources.lines(file))
            except StudyError as error:
                raise StudyError(f"{study.path}: mixtures.{mixture}.mlm.files: {error}") from None
            texts[name] = {"lines": count, "digest": _source_digest([file])}
    return texts


def _check_parallel(study: Study, task: Task, counts: dict[Name, int]) -> None:
    """Check that the same id is the same item in every language; ``counts``: rows of the sources.

    Raises
    ------
    StudyError
        Names the item and both languages.
    """
    names = [n for n in counts if task.parallel and n[:2] == (task.name, task.evaluate)]
    names.sort(key=lambda name: -counts[name])  # the first is complete
    items = {name[2]: examples(study.data, task, *name[1:]) for name in names}
    rows = {name[2]: counts[name] for name in names}
    for wrong in (*_unlike_ids(task, items, rows), *_unlike_items(task, items)):
        where = f"{study.path}: task {task.name}, {task.evaluate}"
        hint = "(parallel: false in the catalogue if the languages have items of their own)"
        raise StudyError(f"{where}: {wrong} {hint}")


def _unlike_ids(task: Task, items: dict[str, list[dict]], rows: dict[str, int]) -> Iterator[str]:
    first = next(iter(items), "")
    known = {item["id"]: None for item in items.get(first, [])}
    for language, some in items.items():
        if "id" not in task.columns and rows[language] != rows[first]:
            both = f"{rows[first]} rows in {first} and {rows[language]} in {language}"
            yield f"found {both}, and no column of ids; expected equally many, or ids"
        lacking = [item["id"] for item in some if item["id"] not in known]
        if lacking and len(some) in (len(lacking), len(known)):
            expected = f"expected those of {first}, such as {next(iter(known))!r}"
            yield f"found id {lacking[0]!r} in {language}; {expected}"


def _unlike_items(task: Task, items: dict[str, list[dict]]) -> Iterator[str]:
    # A question counts where the task words it; elsewhere it is translated.
    for name in ("label", "question") if "question" in task.values else ("label",):
        seen: dict[str, tuple] = {}
        exempt = task.known_differences.get(name, [])
        for language, some in items.items():
            for item in some if language not in exempt else []:
                value = item.get(name)
                if name == "label" and value is not None:
                    value = task.labels[value]
                other, before = seen.setdefault(item["id"], (language, value))
                if before != value:
                    both = f"{before!r} in {other} and {value!r} in {language}"
                    yield f"id {item['id']} has {name} {both}; expected the same"


def _keys(task: Task, rows: list[dict]) -> dict[str, str]:
    """The item that each row is (`formats.key`), and its id."""
    if task.format == "tagging":  # short sentences recur between a treebank's splits
        return {}
    return {formats.key(task, row): row["id"] for row in rows}


def _leaks(study: Study) -> dict[Name, set]:
    """Keys of training items that are also evaluated, or that an evaluated item translates.

    Raises StudyError unless the study drops them.
    """
    evaluated: dict[str, dict[str, str]] = {}
    trained: dict[Name, dict[str, str]] = {}
    names = [target.task for target in study.targets]
    for name in study.needed():
        task = study.tasks[name[0]]
        is_evaluated = name[0] in names and name[1] == task.evaluate
        if name[1] != "train" and not is_evaluated:
            continue
        keys = _keys(task, examples(study.data, task, *name[1:]))
        if name[1] == "train":
            trained[name] = keys
        if is_evaluated:
            evaluated[f"{name[0]} {name[1]} in {name[2]}"] = keys
    for task in (study.tasks[name] for name in names):
        if origin := task.translates.get(task.evaluate):
            source, split = origin.split("/")
            original = study.tasks[source]
            rows = _read(study, original, split, ENGLISH).examples
            evaluated[f"{origin} (translated in {task.name})"] = _keys(original, rows)
    leaks: dict[Name, set] = defaultdict(set)
    for (title, items), (name, others) in product(evaluated.items(), trained.items()):
        shared = items.keys() & others.keys()
        if shared and study.on_leak == "error":
            first = f"the first has id {items[min(shared)]}"
            place = f"the training set of {name[0]} in {name[2]}"
            raise StudyError(
                f"{study.path}: {len(shared)} items of {title} ({first}) are in {place}; expected "
                "no evaluated item, nor its translation, in any training set (on_leak: drop leaves "
                "them out of training)"
            )
        if shared:
            leaks[name] |= shared
    return leaks


def _drop(study: Study, name: Name, keys: set) -> dict:
    """Keep a training set without these items; returns its entry in data/summary.json."""
    task = labelled(study.data, study.tasks[name[0]])
    rows = examples(study.data, task, *name[1:])
    left = [row for row in rows if formats.key(task, row) not in keys]
    if not left:
        raise StudyError(f"{study.path}: on_leak: drop leaves nothing of {name[0]} to train on")
    _write(study, name, left)
    return _about(task, left) | {"dropped": len(rows) - len(left)}
