"""Read all data of a study once: check every cell, alone and against the others, and keep it."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import combinations, product
from operator import add
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from helpers import formats
from helpers.data import reading, sources
from helpers.data.reading import Cell, examples, path, read
from helpers.study import ENGLISH, Study, StudyError, Task
from helpers.study.architectures import MIRROR
from helpers.study.files import read_json, write_json, write_whole
from helpers.study.params import task_of

Name = tuple[str, str, str]
"""Task, split and language of a cell."""


def prepare(study: Study) -> dict:
    """Read, check and keep all that the study reads; returns and writes ``data/summary.json``.

    Data is read again only if params, catalogue or sources changed. Raises StudyError where a
    source or row is bad, parallel items differ, or an evaluated item is also trained on and
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
        write_json(study.labels_file(name), labels)
    summary = {"settings": settings, "cells": _cells(study), "texts": texts}
    write_json(file, summary)
    return summary


def _cells(study: Study) -> dict[str, dict]:
    """Read, compare and keep every cell; returns the entry of each in summary.json."""
    cells: dict[str, dict] = {}
    for name in study.needed():
        cell = _read(study, *name)
        units = {row.get("group", row["id"]) for row in cell.examples}
        if name[1] == study.tasks[name[0]].evaluate and len(units) < 2:
            wrong = "found one item or group; expected two or more"
            raise StudyError(f"{study.path}: {'/'.join(name)}: {wrong}")
        cells["/".join(name)] = _keep(study, name, cell.examples) | {
            "source": _source_digest(cell.files),
            "files": [str(file) for file in cell.files],
            "skipped": cell.skipped,
            "rows_of_source": cell.rows,
        }
    for task in (study.tasks[target.task] for target in study.targets):
        for wrong in _unlike(study, task, cells) if task.parallel else []:
            hint = "(parallel: false in the catalogue if the languages have items of their own)"
            where = f"{study.path}: task {task.name}, {task.evaluate}"
            raise StudyError(f"{where}: {wrong} {hint}")
    for name, keys in _leaks(study).items():
        task = study.tasks[name[0]]
        rows = examples(study.data, task, *name[1:])
        left = [row for row in rows if formats.key(task, row) not in keys]
        if not left:
            raise StudyError(f"{study.path}: on_leak: drop leaves nothing of {name[0]} to train on")
        cells["/".join(name)] |= _keep(study, name, left) | {"dropped": len(rows) - len(left)}
    for one, other in combinations(cells, 2):
        is_one_task = one.split("/")[0] == other.split("/")[0]
        if is_one_task and cells[one]["digest"] == cells[other]["digest"]:
            wrong = f"found the same examples in {one} and {other}; expected examples for each"
            raise StudyError(f"{study.path}: {wrong}")
    return cells


def _settings(study: Study) -> dict:
    """All settings that the kept data depends on, without the content of the sources."""
    cells = study.needed()
    names = {name for task, *_ in cells for name in (task, *study.tasks[task].parts)}
    prose = {"licence", "citation", "obtain"}
    return study.model_dump(include={"check_sizes", "on_bad_row", "on_leak"}) | {
        "cells": ["/".join(cell) for cell in cells],
        "tasks": {n: study.tasks[n].model_dump(mode="json", exclude=prose) for n in sorted(names)},
        "data_dir": str(study.files_folder),
        "mirror": os.environ.get(MIRROR),
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


def _read(study: Study, name: str, split: str, language: str) -> Cell:
    """Examples by the study's settings; a pooled task has those of its parts, in order."""
    task, skip = study.labelled(name), study.on_bad_row == "skip"
    if not task.parts:
        return read(task, split, language, study.files_folder, study.check_sizes, skip)
    pooled = Cell([], [], 0, [])
    for part in task.parts:
        cell = _read(study, part, split, language)
        rows = [row | {"id": f"{part}/{row['id']}"} for row in cell.examples]
        pooled = Cell(*map(add, pooled, cell._replace(examples=rows)))
    return pooled


def _keep(study: Study, name: Name, rows: list[dict]) -> dict:
    """Write the examples of a cell; returns its entry in summary.json."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    columns = dict.fromkeys(key for row in rows for key in row)  # the first may lack one
    table = pa.Table.from_pylist([dict.fromkeys(columns) | row for row in rows])
    write_whole(path(study.data, *name), partial(pq.write_table, table))
    return {"rows": len(rows), "digest": digest.hexdigest()}


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


def _unlike(study: Study, task: Task, cells: dict[str, dict]) -> Iterator[str]:
    """Where languages have other ids, and where an id has another label or question."""
    items, rows = {}, {}
    for code in study.languages(task.name):
        items[code] = examples(study.data, task, task.evaluate, code)
        rows[code] = cells[f"{task.name}/{task.evaluate}/{code}"]["rows_of_source"]
    first = max(rows, key=lambda language: rows[language])  # it is complete
    known = {item["id"] for item in items[first]}
    for language, some in items.items():
        if "id" not in task.columns and rows[language] != rows[first]:
            both = f"{rows[first]} rows in {first} and {rows[language]} in {language}"
            yield f"found {both}, and no column of ids; expected equally many, or ids"
        lacking = [item["id"] for item in some if item["id"] not in known]
        if lacking and len(some) in (len(lacking), len(known)):
            expected = f"expected those of {first}, such as {items[first][0]['id']!r}"
            yield f"found id {lacking[0]!r} in {language}; {expected}"
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


def _leaks(study: Study) -> dict[Name, set]:
    """Keys of training items that are also evaluated, or that an evaluated item translates.

    Raises StudyError unless the study drops them.
    """
    targets = [study.tasks[target.task] for target in study.targets]
    tested = {(task.name, task.evaluate) for task in targets}
    evaluated: dict[str, dict[str, str]] = {}
    trained: dict[Name, dict[str, str]] = {}
    for name in study.needed():
        if name[1] != "train" and name[:2] not in tested:
            continue
        task = study.tasks[name[0]]
        rows = examples(study.data, task, *name[1:])
        keys = {formats.key(task, row): row["id"] for row in rows}
        if name[1] == "train":
            trained[name] = keys
        if name[:2] in tested:
            evaluated[f"{name[0]} {name[1]} in {name[2]}"] = keys
    for task in targets:
        if origin := task.translates.get(task.evaluate):
            source, split = origin.split("/")
            title = f"{origin} (translated in {task.name})"
            rows = _read(study, source, split, ENGLISH).examples
            evaluated[title] = {formats.key(study.tasks[source], row): row["id"] for row in rows}
    leaks: dict[Name, set] = defaultdict(set)
    for (title, items), (name, others) in product(evaluated.items(), trained.items()):
        shared = items.keys() & others.keys()
        is_tagging = study.tasks[name[0]].format == "tagging"
        if not shared or (is_tagging and 2 * len(shared) <= len(items)):
            continue  # short sentences recur between a treebank's splits
        if study.on_leak == "error":
            first = f"the first has id {items[min(shared)]}"
            place = f"the training set of {name[0]} in {name[2]}"
            raise StudyError(
                f"{study.path}: {len(shared)} items of {title} ({first}) are in {place}; expected "
                "no evaluated item, nor its translation, in any training set (on_leak: drop leaves "
                "them out of training)"
            )
        leaks[name] |= shared
    return leaks
