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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.study import StudyError, Task
from helpers.study.architectures import MIRROR
from helpers.study.catalogue import Source

_KINDS = (".tsv", ".csv", ".jsonl", ".json", ".parquet", ".auto")
"""Suffixes of files that are read here."""
_LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
csv.field_size_limit(2**31 - 1)  # a text may be longer than the 131,072 characters of the default

Row = dict | ValueError
"""A row by column; one that cannot be read stands as the error that says why."""


def read(
    task: Task, split: str, language: str, folder: Path | None
) -> tuple[list[Row], list[Path]]:
    """Every row of a (task, split, language), and the files that hold them.

    Own files are relative to ``folder``. Where the hub itself is read there are no files.

    Raises
    ------
    StudyError
        The source has no such split, or is not there, or cannot be read.
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
        if not (path := folder / name).is_file():
            raise StudyError(f"{where}: no such file {path}; {hint}")
        rows, files = _file(where, path), [path]
    else:
        rows, files = _hub(where, source, named, code)
    begins = {column: begin.format(language=code) for column, begin in task.where.items()}
    return [row for row in rows if _begins(where, row, begins)], files


def lines(path: Path) -> list[str]:
    """The lines of a text file that say something.

    Raises
    ------
    StudyError
        There is no such file, or it is not UTF-8.
    """
    if not path.is_file():
        raise StudyError(f"no such file {path}; expected a line of text a line")
    return [line.strip() for line in _lines(path) if line.strip()]


def _begins(where: str, row: Row, begins: dict[str, str]) -> bool:
    """Whether each of these columns begins so; a row that cannot be read stays, to be reported."""
    if isinstance(row, ValueError):
        return True
    if missing := begins.keys() - row.keys():
        raise StudyError(f"{where}: where: no column '{min(missing)}'; found {', '.join(row)}")
    return all(str(row[column]).startswith(begin) for column, begin in begins.items())


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _file(where: str, path: Path, separator: str = ",") -> list[Row]:
    """The rows of one file, read as its suffix says."""
    try:
        match _kind(path):
            case ".tsv":
                return _table(_lines(path), "\t")
            case ".csv":
                return _table(_lines(path), separator)
            case ".jsonl":
                return [_row(line) for line in _lines(path) if line.strip()]
            case ".json":
                return _document(path)
            case ".parquet":
                return _parquet(path)
            case ".auto":
                return _derivations(_lines(path))
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None
    except (OSError, EOFError, ValueError) as error:
        raise StudyError(f"{where}: cannot read {path}: {_short(error)}") from None
    expected = f"expected one of {', '.join(_KINDS)}"
    raise StudyError(f"{where}: {path} ends in '{path.suffix}'; {expected}")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _lines(path: Path) -> list[str]:
    """A text file's lines with their ends; only those of an ordinary line break count as such."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(file)  # spreadsheets begin UTF-8 with a mark, which goes
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#x}"
        raise StudyError(f"{path}: found {wrong}, expected text in UTF-8") from None


def _table(lines: list[str], separator: str) -> list[Row]:
    """Rows under a header; blank lines do not count."""
    quoted = separator != "\t" or _is_quoted(lines)
    table = _fields(lines, separator, quoted)
    names = table[0] if table else []
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the header has '{name}' twice; expected each column once")
    wanted = f"expected {len(names)}: {', '.join(names)}"
    return [
        dict(zip(names, fields, strict=True))
        if len(fields) == len(names)
        else ValueError(f"{len(fields)} columns; {wanted}")
        for fields in table[1:]
    ]


def _fields(lines: list[str], separator: str, quoted: bool) -> list[list[str]]:
    """The fields of every line that is not blank; ``quoted`` as RFC 4180 says, else as written."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    if not quoted:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    try:
        return [fields for fields in reader if fields]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None


def _is_quoted(lines: list[str]) -> bool:
    """Whether a spreadsheet wrote these tab-separated lines: it quotes, where a text only begins
    with a quotation mark.

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


def _row(line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        return ValueError(f"no JSON: {error}")
    return row if isinstance(row, dict) else ValueError(f"{line[:60]!r}; expected a JSON object")


def _document(path: Path) -> list[Row]:
    """A list of objects, alone or as ``data``; SQuAD's articles; or lines of JSON after all."""
    text = _lines(path)
    try:
        content = json.loads("".join(text))
    except ValueError:
        if text and isinstance(_row(text[0]), dict):
            return [_row(line) for line in text if line.strip()]
        raise
    rows = content
    if isinstance(content, dict):
        rows = content["data"] if isinstance(content.get("data"), list) else [content]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected a list of objects, or SQuAD's layout")
    if not rows or "paragraphs" not in rows[0]:
        return rows
    try:
        passages = [passage for article in rows for passage in article["paragraphs"]]
        if any("sentence_breaks" in passage for passage in passages):
            return _sentences(path.stem, passages)
        return [{**question, "context": p["context"]} for p in passages for question in p["qas"]]
    except (LookupError, TypeError):
        raise ValueError("expected SQuAD's paragraphs, each with a context and qas") from None


def _sentences(name: str, passages: list[dict]) -> list[Row]:
    """Questions and candidate sentences, paragraphs behind, of SQuAD's layout with sentence breaks.

    A question whose answer begins in no sentence is left out.
    """
    out: list[Row] = []
    for number, passage in enumerate(passages, start=1):
        context = passage["context"]
        for at, (low, high) in enumerate(passage.get("sentence_breaks", [])):
            asked = [q for q in passage["qas"] if low <= q["answers"][0]["answer_start"] < high]
            ids, text = [q["id"] for q in asked], [context[low:high], context]
            for q in asked:
                question = {"id": q["id"], "text": q["question"], "answers": [q["id"]]}
                out.append({"kind": "question", "passage": number, **question})
            sentence = {"id": f"{name}_{number}_{at}", "text": text, "answers": ids}
            out.append({"kind": "sentence", "passage": number, **sentence})
    return out


def _derivations(lines: Iterable[str]) -> list[Row]:
    """Words and supertags as CCGbank's AUTO files hold them: a line of ids, a line of brackets."""
    out: list[Row] = []
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


def _parquet(path: Path) -> list[Row]:
    import datasets  # here, since it takes a second to import
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        table = pq.read_table(file)
    return _named(table.to_pylist(), datasets.Features.from_arrow_schema(table.schema))


def _named(rows: list[Row], features: dict | None) -> list[Row]:
    """Rows with the names of labels that ``datasets`` stores as numbers (ClassLabel)."""
    for column, feature in (features or {}).items():
        names: list[str] = getattr(getattr(feature, "feature", feature), "names", None) or []
        for row in rows if names else ():
            if isinstance(row, dict) and column in row:
                row[column] = _name(row[column], names)
    return rows


def _name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_name(one, names) for one in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value  # no label, or already a name


def _hub(where: str, source: Source, split: str, code: str) -> tuple[list[Row], list[Path]]:
    """Rows of a hub data set, from the mirror if there is one, and the mirror's files."""
    import datasets  # here, since it takes a second to import

    datasets.disable_progress_bars()
    assert source.hub
    wanted: dict[str, Any] = {"name": source.config and source.config.format(language=code)}
    mirror = os.environ.get(MIRROR)
    folder = Path(mirror or "").expanduser() / source.hub
    if mirror and not folder.is_dir():
        expected = f"a copy of hub data set {source.hub}"
        raise StudyError(f"{where}: no such mirror folder {folder}; expected {expected}")
    if mirror and "[" in str(folder):
        raise StudyError(f"{where}: {MIRROR}: found [ in {folder}, expected a name without it")
    try:
        if mirror:
            return _mirror(where, folder, wanted, split)
        rows = datasets.load_dataset(source.hub, split=split, revision=source.revision, **wanted)
        return _named(rows.to_list(), rows.features), []
    except StudyError:
        raise
    except Exception as error:  # the loaders of datasets raise anything; the user needs one line
        config = f", config {wanted['name']}" if wanted["name"] else ""
        shown = f"{folder if mirror else source.hub}{config}, split {split}"
        reason = _short(error.__cause__ or error)
        raise StudyError(f"{where}: cannot read {shown}: {reason}") from error


def _mirror(where: str, folder: Path, wanted: dict, split: str) -> tuple[list[Row], list[Path]]:
    import datasets

    # The library's cache does not notice that a local file has changed: work beside it.
    with tempfile.TemporaryDirectory() as scratch:
        builder = datasets.load_dataset_builder(str(folder), cache_dir=scratch, **wanted)
        names = {part.partition("[")[0] for part in split.split("+")}
        held = {name: [Path(f) for f in files] for name, files in builder.config.data_files.items()}
        if missing := names - held.keys():
            raise ValueError(f"no split '{min(missing)}'; found {', '.join(held)}")
        card = folder / "README.md"
        files = [file for name in sorted(names) for file in held[name]]
        files = [*files, card] if card.is_file() else files
        if not all(_kind(file) in _KINDS for name in names for file in held[name]):  # an archive
            rows = datasets.load_dataset(
                str(folder), split=split, cache_dir=scratch, keep_in_memory=True, **wanted
            )
            return _named(rows.to_list(), rows.features), files
    separator = getattr(builder.config, "sep", ",")
    rows = {name: [r for f in held[name] for r in _file(where, f, separator)] for name in names}
    counts = {name: len(some) for name, some in rows.items()}
    chosen: list[Row] = []
    for part in datasets.ReadInstruction.from_spec(split).to_absolute(counts):
        chosen += rows[part.splitname][part.from_ : part.to]
    return _named(chosen, builder.info.features), files
