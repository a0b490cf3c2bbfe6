"""Rows as their source holds them: own files, a mirror folder of the hub, or the hub itself.

Texts stay as they are written: no reader here guesses at dates, numbers or missing values. Only the
hub itself is read by ``datasets``, which also says which files of a mirror belong to a split.
"""

import csv
import gzip
import json
import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from helpers.study import StudyError, Task
from helpers.study.architectures import MIRROR
from helpers.study.catalogue import Source, reason

_LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
datasets.disable_progress_bars()
csv.field_size_limit(2**31 - 1)  # a text may be longer than the 131,072 characters of the default

Row = dict | ValueError
"""A row's values by column, or the error that says why the row cannot be read."""


def read(
    task: Task, split: str, language: str, folder: Path | None
) -> tuple[list[Row], list[Path]]:
    """Every row of a (task, split, language), and the files that hold them.

    Own files are relative to ``folder``. If the hub itself is read, no files are returned. Raises
    StudyError if the source has no such split, is not there, or cannot be read.
    """
    where, source = f"task {task.name}", task.source(language)
    if split not in source.splits:
        known = ", ".join(source.splits) or "none given"
        raise StudyError(f"{where}: splits: no '{split}'; expected one of {known}")
    code, named = task.codes.get(language, language), source.splits[split]
    if source.files:
        name = source.files.format(language=code, split=named)
        hint = f"expected its {split} split in '{language}'{task.obtain and ': ' + task.obtain}"
        if folder is None:
            wrong = f"files: '{name}' is relative to data_dir, which the study does not give"
            raise StudyError(f"{where}: {wrong}; {hint}")
        path = folder / name
        if not path.is_file():
            raise StudyError(f"{where}: no such file {path}; {hint}")
        rows, files = _file(where, path), [path]
    else:
        rows, files = _hub(where, source, named, code)
    for column, begin in task.where.items():
        rows = _beginning(where, rows, column, begin.format(language=code))
    return rows, files


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; a StudyError if it is missing or not UTF-8."""
    if not path.is_file():
        raise StudyError(f"no such file {path}; expected one text per line")
    return [line.strip() for line in _lines(path) if line.strip()]


def _beginning(where: str, rows: list[Row], column: str, begin: str) -> list[Row]:
    """Rows whose ``column`` begins as asked or, if some have just that, those alone (zh is not
    zh-TW); unreadable rows stay, to be reported later.
    """
    kept = []
    for row in rows:
        if isinstance(row, dict) and column not in row:
            raise StudyError(f"{where}: where: no column '{column}'; found {', '.join(row)}")
        if isinstance(row, ValueError) or str(row[column]).startswith(begin):
            kept.append(row)
    equal = [row for row in kept if isinstance(row, ValueError) or str(row[column]) == begin]
    return equal if any(isinstance(row, dict) for row in equal) else kept


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _file(where: str, path: Path, separator: str = ",") -> list[Row]:
    """The rows of one file, read as its suffix says; ``separator`` is that of a ``.csv``."""
    kind = _kind(path)
    if kind not in _READERS:
        expected = f"expected one of {', '.join(_READERS)}"
        raise StudyError(f"{where}: {path} ends in '{path.suffix}'; {expected}")
    try:
        return _table(path, separator) if kind == ".csv" else _READERS[kind](path)
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise StudyError(f"{where}: cannot read {path}: {reason(error)}") from None


def _lines(path: Path) -> list[str]:
    """A text file's lines with their ends; only ordinary line breaks separate lines."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(file)  # spreadsheets begin UTF-8 with a mark, which goes
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#x}"
        raise StudyError(f"{path}: found {wrong}, expected text in UTF-8") from None


def _table(path: Path, separator: str = "\t") -> list[Row]:
    """Rows under a header; blank lines do not count."""
    lines = _lines(path)
    table = _fields(lines, separator, quoted=separator != "\t" or _is_quoted(lines))
    names = table[0] if table else []
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the header has '{name}' twice; expected each column once")
    rows: list[Row] = []
    for fields in table[1:]:
        if len(fields) == len(names):
            rows.append(dict(zip(names, fields, strict=True)))
        else:
            expected = f"expected {len(names)}: {', '.join(names)}"
            rows.append(ValueError(f"{len(fields)} columns; {expected}"))
    return rows


def _fields(lines: list[str], separator: str, quoted: bool) -> list[list[str]]:
    """The fields of every line that is not blank; if ``quoted``, read by RFC 4180."""
    reader = csv.reader(lines, delimiter=separator, strict=quoted)
    if not quoted:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    try:
        return [fields for fields in reader if fields]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _is_quoted(lines: list[str]) -> bool:
    """Whether a spreadsheet quoted these tab-separated lines; a text may also begin with a mark.

    A spreadsheet quotes a field that has a quotation mark (doubled there), a tab or a line break in
    it, or it quotes all fields, the header's too.
    """
    table = _fields(lines, "\t", quoted=False)
    begun = [field for fields in table for field in fields if field.startswith('"')]
    if begun and all(len(fields) == len(table[0]) for fields in table):  # no tabs, no line breaks
        everything = all(name.startswith('"') for name in table[0])
        marks = (_QUOTED.fullmatch(field) for field in begun)
        return all(mark and (everything or '""' in mark[1]) for mark in marks)
    try:
        table = _fields(lines, "\t", quoted=True)
    except ValueError:
        return False
    return all(len(fields) == len(table[0]) for fields in table)


def _json_lines(path: Path) -> list[Row]:
    return [_row(line) for line in _lines(path) if line.strip()]


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """A JSON object; ValueError if it has a key twice, for the library would take the last."""
    names = [name for name, _ in pairs]
    for name in names if len(set(names)) < len(names) else []:
        if names.count(name) > 1:
            raise ValueError(f"found '{name}' twice; expected each key once")
    return dict(pairs)


def _row(line: str) -> Row:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except ValueError as error:
        return ValueError(f"no JSON: {error}")
    return row if isinstance(row, dict) else ValueError(f"{line[:60]!r}; expected a JSON object")


def _document(path: Path) -> list[Row]:
    """Rows of JSON: a list of objects, alone or under ``data``; SQuAD's articles; or JSON lines."""
    text = _lines(path)
    try:
        content = json.loads("".join(text), object_pairs_hook=_once)
    except ValueError:
        if text and isinstance(_row(text[0]), dict):
            return _json_lines(path)
        raise
    if isinstance(content, dict):
        content = content["data"] if isinstance(content.get("data"), list) else [content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("expected a list of objects, or SQuAD's layout")
    if not content or "paragraphs" not in content[0]:
        return content
    try:
        passages = [passage for article in content for passage in article["paragraphs"]]
        if any("sentence_breaks" in passage for passage in passages):
            return _sentences(path.stem, passages)
        return [{**question, "context": p["context"]} for p in passages for question in p["qas"]]
    except (LookupError, TypeError):
        raise ValueError("expected SQuAD's paragraphs, each with a context and qas") from None


def _sentences(name: str, passages: list[dict]) -> list[Row]:
    """Questions and candidate sentences, each with its paragraph, of SQuAD's layout with breaks. A
    question whose answer begins in no sentence is left out.
    """
    out: list[Row] = []
    for number, passage in enumerate(passages, start=1):
        context = passage["context"]
        for at, (low, high) in enumerate(passage.get("sentence_breaks", [])):
            asked = [q for q in passage["qas"] if low <= q["answers"][0]["answer_start"] < high]
            ids, text = [q["id"] for q in asked], f"{context[low:high]} {context}"
            for q in asked:
                question = {"id": q["id"], "text": q["question"], "answers": [q["id"]]}
                out.append({"kind": "question", "passage": number, **question})
            sentence = {"id": f"{name}_{number}_{at}", "text": text, "answers": ids}
            out.append({"kind": "sentence", "passage": number, **sentence})
    return out


def _derivations(path: Path) -> list[Row]:
    """Words and supertags of CCGbank's AUTO files: a line of ids, then a line of brackets."""
    out: list[Row] = []
    name = ""
    for line in _lines(path):
        if line.startswith("ID="):
            name = line.split()[0].removeprefix("ID=")
        elif leaves := _LEAF.findall(line):
            tags, tokens = map(list, zip(*leaves, strict=True))
            out.append({"id": name, "tokens": tokens, "tags": tags})
        elif line.strip():
            out.append(ValueError("no (<L category tag tag word predicate>) in the derivation"))
    return out


def _parquet(path: Path) -> list[Row]:
    table = pq.ParquetFile(path).read()
    _once([(name, None) for name in table.column_names])
    return _named(table.to_pylist(), datasets.Features.from_arrow_schema(table.schema))


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".tsv": _table,
    ".csv": _table,
    ".jsonl": _json_lines,
    ".json": _document,
    ".parquet": _parquet,
    ".auto": _derivations,
}
"""The reader of each file suffix; any file may be compressed (``.gz``)."""


def _named(rows: list[Row], features: dict | None) -> list[Row]:
    """Rows with the names of labels that ``datasets`` stores as numbers (ClassLabel)."""
    labelled = {name: f for name, f in (features or {}).items() if "ClassLabel" in repr(f)}
    for row in (row for row in rows if isinstance(row, dict)):
        row |= {name: _name(row[name], f) for name, f in labelled.items() if name in row}
    return rows


def _name(value: Any, feature: Any) -> Any:
    if isinstance(value, dict):
        return {key: _name(part, feature.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_name(part, getattr(feature, "feature", feature)) for part in value]
    names = getattr(feature, "names", None) or []
    is_number = isinstance(value, int) and 0 <= value < len(names)  # -1 is no label
    return names[value] if is_number else value


def _hub(where: str, source: Source, split: str, code: str) -> tuple[list[Row], list[Path]]:
    """Rows of a hub data set, from the mirror if there is one, and the mirror's files."""
    assert source.hub
    config, mirror = source.config and source.config.format(language=code), os.environ.get(MIRROR)
    folder = Path(mirror or "").expanduser() / source.hub
    if mirror and not folder.is_dir():
        expected = f"a copy of hub data set {source.hub}"
        raise StudyError(f"{where}: no such mirror folder {folder}; expected {expected}")
    if mirror and "[" in str(folder):
        raise StudyError(f"{where}: {MIRROR}: found [ in {folder}, expected a name without it")
    try:
        if mirror:
            return _mirror(where, folder, config, split)
        rows = datasets.load_dataset(source.hub, config, split=split, revision=source.revision)
        return _named(rows.to_list(), rows.features), []
    except StudyError:
        raise
    except Exception as error:  # the loaders of datasets raise anything
        shown = f"{folder if mirror else source.hub}{f', config {config}' if config else ''}"
        wrong = f"cannot read {shown}, split {split}: {reason(error.__cause__ or error)}"
        raise StudyError(f"{where}: {wrong}") from error


def _mirror(
    where: str, folder: Path, config: str | None, split: str
) -> tuple[list[Row], list[Path]]:
    # The library's cache does not notice that a local file has changed: work beside it.
    with tempfile.TemporaryDirectory() as scratch:
        builder = datasets.load_dataset_builder(str(folder), config, cache_dir=scratch)
        names = sorted({part.partition("[")[0] for part in split.split("+")})
        held = {name: [Path(f) for f in files] for name, files in builder.config.data_files.items()}
        for name in names:
            if name not in held:
                raise ValueError(f"no split '{name}'; found {', '.join(held)}")
            shards = [(f.parent, re.match(r"(.*)-\d+-of-(\d+)", f.name)) for f in held[name]]
            sets = Counter((place, shard[1], shard[2]) for place, shard in shards if shard)
            for (_, _, count), found in sets.items():
                if found != int(count):
                    raise ValueError(f"found {found} files of {int(count)}; expected all")
        files = [file for name in names for file in held[name]]
        readable = all(_kind(file) in _READERS for file in files)
        if (card := folder / "README.md").is_file():
            files.append(card)
        if not readable:  # an archive
            rows = datasets.load_dataset(
                str(folder), config, split=split, cache_dir=scratch, keep_in_memory=True
            )
            return _named(rows.to_list(), rows.features), files
    separator = getattr(builder.config, "sep", ",")
    rows = {name: [r for f in held[name] for r in _file(where, f, separator)] for name in names}
    counts = {name: len(some) for name, some in rows.items()}
    chosen: list[Row] = []
    for part in datasets.ReadInstruction.from_spec(split).to_absolute(counts):
        chosen += rows[part.splitname][part.from_ : part.to]
    return _named(chosen, builder.info.features), files
