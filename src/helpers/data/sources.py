"""Rows of a source as it holds them: the hub, a mirror folder of it, own files, or a generator of the package."""

import csv
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helpers.study import StudyError, Task
from helpers.study.catalogue import Source

MIRROR = "HUB_MIRROR"
"""Environment variable: a folder laid out like the hub, read instead of it."""
_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")


def rows(
    task: Task, source: Source, split: str, language: str, folder: Path | None
) -> Sequence[dict | ValueError]:
    """Every row of a (task, split, language); one that cannot be read stands as the error that says why.

    Raises
    ------
    StudyError
        The source has no such split, or is not there, or cannot be read.
    """
    if source.generator:
        from helpers.data import mini

        return mini.examples(source.generator, split, language)
    if split not in source.splits:
        given = ", ".join(source.splits) or "none given"
        raise StudyError(f"task {task.name}: splits: no '{split}'; expected one of {given}")
    code = task.codes.get(language, language)
    found = (
        _own(task, source, split, language, code, folder)
        if source.files
        else _hub(task, source, split, code)
    )
    if task.where:
        wanted = {column: begin.format(language=code) for column, begin in task.where.items()}
        found = [
            row
            for row in found
            if all(str(row[c]).startswith(begin) for c, begin in wanted.items())
        ]
    return found


def _own(
    task: Task, source: Source, split: str, language: str, code: str, folder: Path | None
) -> Sequence[dict]:
    where = f"task {task.name}"
    path = (folder or Path()) / source.files.format(language=code, split=source.splits[split])
    if folder is None:
        raise StudyError(
            f"{where}: files: '{path}' is relative to data_dir, which the study does not give"
        )
    if not path.is_file():
        raise StudyError(
            f"{where}: no such file {path}; expected its {split} split in '{language}'"
        )
    readers = {".tsv": _tsv, ".csv": _csv, ".auto": _derivations, **dict.fromkeys(_BUILDERS)}
    if path.suffix not in readers:
        raise StudyError(
            f"{where}: {path} ends in '{path.suffix}'; expected one of {', '.join(readers)}"
        )
    if path.suffix in _BUILDERS:
        return _load(
            where, str(path), path=_BUILDERS[path.suffix], data_files=str(path), split="train"
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return readers[path.suffix](file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{where}: cannot read {path}: {error}") from None


def _tsv(file) -> list[dict | ValueError]:
    return _table([line.rstrip("\r\n").split("\t") for line in file if line.strip("\r\n")])


def _csv(file) -> list[dict | ValueError]:
    return _table([fields for fields in csv.reader(file, strict=True) if fields])


def _table(lines: list[list[str]]) -> list[dict | ValueError]:
    if not lines:
        return []
    names, *lines = lines
    return [
        dict(zip(names, fields, strict=True))
        if len(fields) == len(names)
        else ValueError(f"{len(fields)} columns; expected {len(names)}: {', '.join(names)}")
        for fields in lines
    ]


def _derivations(file) -> list[dict | ValueError]:
    """Words and supertags of derivations as CCGbank's AUTO files hold them: a line of ids, a line of brackets."""
    out, name = [], ""
    for line in file:
        if line.startswith("ID="):
            name = line.split()[0].removeprefix("ID=")
        elif line.strip():
            leaves = _LEAF.findall(line)
            row = {
                "id": name,
                "tokens": [word for _, word in leaves],
                "tags": [tag for tag, _ in leaves],
            }
            out.append(
                row
                if leaves
                else ValueError("no (<L category tag tag word predicate>) in the derivation")
            )
    return out


def _hub(task: Task, source: Source, split: str, code: str) -> Sequence[dict]:
    where, mirror = f"task {task.name}", os.environ.get(MIRROR)
    config = source.config.format(language=code) if source.config else None
    origin = f"{mirror}/{source.hub}" if mirror else source.hub
    if mirror and not Path(origin).is_dir():
        raise StudyError(
            f"{where}: no such mirror folder {origin}; expected a copy of hub data set {source.hub}"
        )
    arguments = {"path": origin, "name": config, "split": source.splits[split]}
    if source.revision and not mirror:
        arguments["revision"] = source.revision
    return _load(where, origin, cached=not mirror, **arguments)


def _load(where: str, origin: str, cached: bool = False, **arguments) -> Sequence[dict]:
    import datasets

    datasets.disable_progress_bars()
    try:
        if cached:
            return datasets.load_dataset(**arguments)
        # The library's cache does not notice that a local file has changed: read local files past it.
        with tempfile.TemporaryDirectory() as scratch:
            return datasets.load_dataset(
                **arguments, cache_dir=scratch, keep_in_memory=True
            ).to_list()
    except Exception as error:  # the loaders of datasets raise anything; the user needs one line
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        config = f", config {arguments['name']}" if arguments.get("name") else ""
        raise StudyError(
            f"{where}: cannot read {origin}{config}, split {arguments['split']}: {reason}"
        ) from error
