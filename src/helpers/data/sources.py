"""Rows as their source holds them: the hub, a mirror folder of it, or own files."""

import csv
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from helpers.study import StudyError, Task
from helpers.study.architectures import MIRROR
from helpers.study.catalogue import Source

_TABLES = {".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE}, ".csv": {}}
_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")
csv.field_size_limit(2**31 - 1)  # a text may be longer than the 131,072 characters of the default

Rows = Sequence[dict | ValueError]
"""Rows by column; one that cannot be read stands as the error that says why."""


def rows(task: Task, source: Source, split: str, language: str, folder: Path | None) -> Rows:
    """Every row of a (task, split, language); ``folder`` is what own files are relative to.

    Raises
    ------
    StudyError
        The source has no such split, or is not there, or cannot be read.
    """
    where = f"task {task.name}"
    if split not in source.splits:
        given = ", ".join(source.splits) or "none given"
        raise StudyError(f"{where}: splits: no '{split}'; expected one of {given}")
    code, named = task.codes.get(language, language), source.splits[split]
    if source.files:
        path = (folder or Path()) / source.files.format(language=code, split=named)
        hint = f"expected its {split} split in '{language}'{task.obtain and ': ' + task.obtain}"
        if folder is None:
            given = f"files: '{path}' is relative to data_dir, which the study does not give"
            raise StudyError(f"{where}: {given}; {hint}")
        if not path.is_file():
            raise StudyError(f"{where}: no such file {path}; {hint}")
        found = _own(where, path)
    else:
        found = _hub(where, source, named, code)
    begins = {column: begin.format(language=code) for column, begin in task.where.items()}
    return [row for row in found if _begins(where, row, begins)] if begins else found


def _begins(where: str, row: dict | ValueError, begins: dict[str, str]) -> bool:
    """Whether each of these columns begins so; a row that cannot be read stays, to be reported."""
    if isinstance(row, ValueError):
        return True
    if missing := begins.keys() - row.keys():
        raise StudyError(f"{where}: where: no column '{min(missing)}'; found {', '.join(row)}")
    return all(str(row[column]).startswith(begin) for column, begin in begins.items())


def _own(where: str, path: Path) -> Rows:
    kind, known = path.suffix, [*_TABLES, ".auto", *_BUILDERS]
    if kind not in known:
        raise StudyError(f"{where}: {path} ends in '{kind}'; expected one of {', '.join(known)}")
    if kind in _BUILDERS:
        found = _load(where, _BUILDERS[kind], data_files=str(path), split="train")
        return _passages(path.stem, found[0]["data"]) if found and "data" in found[0] else found
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets begin with a mark
            return _derivations(lines) if kind == ".auto" else _table(lines, **_TABLES[kind])
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{where}: cannot read {path}: {error}") from None


def _table(lines: Iterable[str], **dialect) -> Rows:
    """Rows under a header; blank lines do not count."""
    filled = (fields for fields in csv.reader(lines, strict=True, **dialect) if fields)
    names = next(filled, [])
    wanted = f"expected {len(names)}: {', '.join(names)}"
    return [
        dict(zip(names, fields, strict=True))
        if len(fields) == len(names)
        else ValueError(f"{len(fields)} columns; {wanted}")
        for fields in filled
    ]


def _passages(name: str, articles: list[dict]) -> Rows:
    """Questions and candidate sentences, paragraphs behind, of SQuAD's layout with sentence breaks.

    A question whose answer begins in no sentence is left out.
    """
    out = []
    passages = [passage for article in articles for passage in article["paragraphs"]]
    for number, passage in enumerate(passages, start=1):
        context = passage["context"]
        for at, (low, high) in enumerate(passage.get("sentence_breaks", [])):
            own = [q for q in passage["qas"] if low <= q["answers"][0]["answer_start"] < high]
            ids, text = [q["id"] for q in own], [context[low:high], context]
            sentence = {"id": f"{name}_{number}_{at}", "text": text, "answers": ids}
            asked = [{"id": q["id"], "text": q["question"], "answers": [q["id"]]} for q in own]
            out += [{"kind": "question", "passage": number, **question} for question in asked]
            out.append({"kind": "sentence", "passage": number, **sentence})
    return out


def _derivations(lines: Iterable[str]) -> Rows:
    """Words and supertags as CCGbank's AUTO files hold them: a line of ids, a line of brackets."""
    out: list[dict | ValueError] = []
    name = ""
    for line in lines:
        if line.startswith("ID="):
            name = line.split()[0].removeprefix("ID=")
        elif leaves := _LEAF.findall(line):
            tags, tokens = map(list, zip(*leaves, strict=True))
            out.append({"id": name, "tokens": tokens, "tags": tags})
        elif line.strip():
            out.append(ValueError("no (<L category tag tag word predicate>) in the derivation"))
    return out


def _hub(where: str, source: Source, split: str, code: str) -> Rows:
    assert source.hub
    config = source.config and source.config.format(language=code)
    wanted: dict[str, Any] = {"name": config, "split": split}
    if not (mirror := os.environ.get(MIRROR)):
        return _load(where, source.hub, cached=True, revision=source.revision, **wanted)
    folder = f"{mirror}/{source.hub}"
    if not Path(folder).is_dir():
        expected = f"a copy of hub data set {source.hub}"
        raise StudyError(f"{where}: no such mirror folder {folder}; expected {expected}")
    return _load(where, folder, **wanted)


def _load(where: str, path: str, cached: bool = False, **wanted) -> Sequence[dict]:
    import datasets  # here, since it takes a second to import

    datasets.disable_progress_bars()
    try:
        if cached:
            return datasets.load_dataset(path, **wanted)
        # The library's cache does not notice that a local file has changed: read it past that.
        with tempfile.TemporaryDirectory() as scratch:
            found = datasets.load_dataset(path, **wanted, cache_dir=scratch, keep_in_memory=True)
            return found.to_list()
    except Exception as error:  # the loaders of datasets raise anything; the user needs one line
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        config = f", config {wanted['name']}" if wanted.get("name") else ""
        shown = f"{wanted.get('data_files', path)}{config}, split {wanted['split']}"
        raise StudyError(f"{where}: cannot read {shown}: {reason}") from error
