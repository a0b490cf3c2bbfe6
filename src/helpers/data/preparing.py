"""All that a study reads, once: every cell checked by itself and against the others, and kept."""

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

Name = tuple[str, str, str]
"""Task, split and language of a cell."""


def prepare(study: Study) -> dict:
    """Read, check and keep all that the study reads; returns and writes ``data/summary.json``.

    Nothing is read again while params, catalogue and sources are as they were.

    Raises
    ------
    StudyError
        Any source or row is bad; items that are said to be parallel are not; or something that is
        evaluated is also trained on and not dropped (``on_leak``).
    """
    for target in study.targets:
        for name in study.train_on(target.task)[-1:]:
            formats.check_match(study.tasks[name], study.tasks[target.task])
    file, settings = study.data / "summary.json", _settings(study)
    summary = read_json(file)
    if summary.get("settings") == settings and _is_current(study, summary):
        return summary
    file.unlink(missing_ok=True)  # what it says does not hold for what is written now
    texts = _texts(study)
    for name in {name for name, *_ in study.needed() if study.tasks[name].unseen_label}:
        labels = reading.read_labels(study.tasks[name], study.files_folder)
        write_json(labels_file(study.data, study.tasks[name]), labels)
    summary = {"settings": settings, "cells": _cells(study), "texts": texts}
    write_json(file, summary)
    return summary


def _cells(study: Study) -> dict[str, dict]:
    """Read and keep every cell, and compare it with the others; what summary.json says of each."""
    cells: dict[str, dict] = {}
    trained: dict[Name, dict[str, str]] = {}
    evaluated: dict[Name, dict[str, str]] = {}
    parallel: dict[str, dict[str, Cell]] = defaultdict(dict)
    targets = [target.task for target in study.targets]
    for name, split, language in study.needed():
        task = labelled(study.data, study.tasks[name])
        cell = _read(study, task, split, language)
        cells[f"{name}/{split}/{language}"] = _keep(study, (name, split, language), task, cell)
        if split == "train":
            trained[name, split, language] = _keys(task, cell.examples)
        if name in targets and split == task.evaluate:
            evaluated[name, split, language] = _keys(task, cell.examples)
            if task.parallel:
                parallel[name][language] = cell
    for name, languages in parallel.items():
        _check_parallel(study, study.tasks[name], languages)
    for leaking, keys in _leaks(study, trained, evaluated).items():
        cells["/".join(leaking)] |= _drop(study, leaking, keys)
    return cells


def _settings(study: Study) -> dict:
    """All that what is kept depends on, but for the content of the sources."""
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
    """Whether everything is kept, and no source has changed; one that is gone has not."""
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
    """Examples as the study wants them read; a pooled task is its parts one after the other."""
    skip = study.on_bad_row == "skip"
    if not task.parts:
        return read(task, split, language, study.files_folder, study.check_sizes, skip)
    cells = []
    for part in (study.tasks[name] for name in task.parts):
        cell = read(part, split, language, study.files_folder, study.check_sizes, skip)
        rows = [row | {"id": f"{part.name}/{row['id']}"} for row in cell.examples]
        cells.append(cell._replace(examples=rows))
    return Cell(
        examples=[row for cell in cells for row in cell.examples],
        skipped=[wrong for cell in cells for wrong in cell.skipped],
        rows=sum(cell.rows for cell in cells),
        files=[file for cell in cells for file in cell.files],
    )


def _keep(study: Study, name: Name, task: Task, cell: Cell) -> dict:
    """Write a cell's examples; what data/summary.json says of them."""
    rows = pa.Table.from_pylist(cell.examples)
    write_whole(path(study.data, *name), partial(pq.write_table, rows))
    about = _counts(task, cell.examples)
    about |= {"source": _source_digest(cell.files), "files": [str(file) for file in cell.files]}
    return about | ({"skipped": cell.skipped} if cell.skipped else {})


def _counts(task: Task, rows: list[dict]) -> dict:
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
    """Lines and digest of the text files that the study's mixtures model."""
    texts: dict[str, dict] = {}
    for mixture_name in (name for name in study.intermediate if name in study.mixtures):
        mixture = study.mixtures[mixture_name]
        for name in mixture.mlm.files if mixture.mlm else []:
            file = Path(study.files_folder or "") / name
            try:
                count = len(sources.lines(file))
            except StudyError as error:
                raise StudyError(
                    f"{study.path}: mixtures.{mixture_name}.mlm.files: {error}"
                ) from None
            texts[name] = {"lines": count, "digest": _source_digest([file])}
    return texts


def _check_parallel(study: Study, task: Task, cells: dict[str, Cell]) -> None:
    """Check that the same id is the same item in every language.

    Raises
    ------
    StudyError
        Names the item and both languages.
    """
    for wrong in (*_unlike_ids(task, cells), *_unlike_items(task, cells)):
        where = f"{study.path}: task {task.name}, {task.evaluate}"
        hint = "(parallel: false in the catalogue if the languages have items of their own)"
        raise StudyError(f"{where}: {wrong} {hint}")


def _unlike_ids(task: Task, cells: dict[str, Cell]) -> Iterator[str]:
    (first, most), *others = sorted(cells.items(), key=lambda cell: -cell[1].rows)
    known = {row["id"] for row in most.examples}
    for language, cell in others:
        if "id" not in task.columns and cell.rows != most.rows:
            counts = f"{most.rows} rows in {first} and {cell.rows} in {language}"
            yield f"found {counts}, and no column of ids; expected equally many, or ids"
        lacking = [row["id"] for row in cell.examples if row["id"] not in known]
        if lacking and len(cell.examples) in (len(lacking), len(known)):
            expected = f"expected those of {first}, such as {most.examples[0]['id']!r}"
            yield f"found id {lacking[0]!r} in {language}; {expected}"


def _unlike_items(task: Task, cells: dict[str, Cell]) -> Iterator[str]:
    for name in ("label", "question"):
        if name == "question" and name not in task.values:
            continue  # it is translated
        seen: dict[str, tuple] = {}
        exempt = task.known_differences.get(name, [])
        for language, cell in cells.items():
            for row in cell.examples if language not in exempt else []:
                value = row.get(name)
                if name == "label" and value is not None:
                    value = task.labels[value]
                other, before = seen.setdefault(row["id"], (language, value))
                if before != value:
                    both = f"{before!r} in {other} and {value!r} in {language}"
                    yield f"id {row['id']} has {name} {both}; expected the same"


def _keys(task: Task, rows: list[dict]) -> dict[str, str]:
    """What makes each row the item that it is, and its id."""
    if task.format == "tagging":  # short sentences recur between a treebank's splits
        return {}
    return {formats.key(task, row): row["id"] for row in rows}


def _leaks(study: Study, trained: dict, evaluated: dict) -> dict[Name, set]:
    """Keys of each training set that an evaluated item, or what it translates, has as well.

    Raises unless the study drops them.
    """
    sets = {f"{' '.join(name[:2])} in {name[2]}": keys for name, keys in evaluated.items()}
    for task in (study.tasks[target.task] for target in study.targets):
        if origin := task.translates.get(task.evaluate):
            name, split = origin.split("/")
            original = study.tasks[name]
            cell = _read(study, original, split, ENGLISH)
            sets[f"{origin} (translated in {task.name})"] = _keys(original, cell.examples)
    leaks: dict[Name, set] = defaultdict(set)
    for (title, items), (cell, others) in product(sets.items(), trained.items()):
        if not (shared := items.keys() & others.keys()):
            continue
        if study.on_leak == "error":
            first = f"the first has id {items[min(shared)]}"
            place = f"the training set of {cell[0]} in {cell[2]}"
            raise StudyError(
                f"{study.path}: {len(shared)} items of {title} ({first}) are in {place}; expected "
                "no evaluated item, nor its translation, in any training set (on_leak: drop leaves "
                "them out of training)"
            )
        leaks[cell] |= shared
    return leaks


def _drop(study: Study, cell: Name, keys: set) -> dict:
    """Keep a training set without the items of these keys; what data/summary.json says of it."""
    task = labelled(study.data, study.tasks[cell[0]])
    rows = examples(study.data, task, *cell[1:])
    left = [row for row in rows if formats.key(task, row) not in keys]
    if not left:
        raise StudyError(f"{study.path}: on_leak: drop leaves nothing of {cell[0]} to train on")
    write_whole(path(study.data, *cell), partial(pq.write_table, pa.Table.from_pylist(left)))
    return _counts(task, left) | {"dropped": len(rows) - len(left)}
