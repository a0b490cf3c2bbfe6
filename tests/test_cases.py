"""Files as people bring them: each is read as it was meant, or refused in one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_task, refused

from helpers import data, formats
from helpers.study import Task, catalogue

ROW = {"id": 1, "a": "x", "b": "y", "question": "z?", "label": 0}
NLI = ["entailment", "neutral", "contradiction"]
UNKNOWN = (True, 3, -1, None, [])
HEADER = "id\ta\tb\tlabel"


def pair(file: str, **changes) -> Task:
    """A task of sentence pairs in one file."""
    entry = {"format": "sentence_pair", "files": file, "splits": {"train": "train"}, "labels": NLI}
    entry["columns"] = {"id": "id", "text_a": "a", "text_b": "b", "label": "label"}
    return make_task(**entry | changes)


def answers(file: str = "q.jsonl") -> Task:
    columns = {name: name for name in ("id", "context", "question", "answers")}
    return pair(file, format="span_extraction", metric="f1", columns=columns, labels=[])


def tags(file: str, **changes) -> Task:
    columns = {"id": "id", "tokens": "tokens", "labels": "tags"}
    return pair(file, format="tagging", labels=["O", "B-PER"], columns=columns, **changes)


def choices(**changes) -> Task:
    columns = {"id": "id", "context": "c", "question": "question", "label": "label"}
    columns["choices"] = ["x", "y"]
    entry = {"format": "multiple_choice", "labels": ["0", "1"], "columns": columns}
    return pair("c.jsonl", **entry | changes)


def read(folder, task: Task, content: str | bytes | list) -> list[dict]:
    path = folder / task.files
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.read(task, "train", "en", folder).examples


@pytest.mark.parametrize(
    ("file", "header", "written", "texts"),
    [
        # Tab-separated text that is not quoted: a quotation mark is one.
        ("t.tsv", HEADER, '1\t"x y\tb\t0\n2\ty"\tb\t0', ['"x y', 'y"']),
        ("t.tsv", HEADER, '1\t"Ja" sagte er\tb\t0', ['"Ja" sagte er']),
        ("t.tsv", HEADER, '1\t"Ja"\tb\t0', ['"Ja"']),
        # As pandas and spreadsheets write it.
        ("t.tsv", HEADER, '1\t"He said ""x"" twice"\tb\t0\n2\ty\tb\t0', ['He said "x" twice', "y"]),
        ("t.tsv", HEADER, '1\t"x\ty"\tb\t0', ["x\ty"]),
        ("t.tsv", f"\ufeff{HEADER}\r", "1\tx\tb\t0\r\n2\ty\tb\t0\r", ["x", "y"]),
        ("t.tsv", '"id"\t"a"\t"b"\t"label"', '"1"\t"x"\t"b"\t"0"', ["x"]),
        ("t.csv", "id,a,b,label", '1,"x, ""y""\nz",b,0\r\n\r\n2,y,b,0', ['x, "y"\nz', "y"]),
        # Words that other readers take for missing values, and a line separator in a text.
        ("t.tsv", HEADER, "1\tNone\tb\t0\n2\tNA\tb\t0\n3\tnan\tb\t0", ["None", "NA", "nan"]),
        ("t.tsv", HEADER, "1\tx\u2028y\tb\t0", ["x\u2028y"]),
    ],
)
def test_a_table_gives_its_texts_as_written(tmp_path, file, header, written, texts):
    rows = read(tmp_path / "data [1]", pair(file), f"{header}\n{written}\n")
    assert [row["text_a"] for row in rows] == texts


def test_a_csv_file_has_long_texts_and_rows_of_other_languages(tmp_path):
    task, long = pair("t.csv", where={"id": "{language}-"}, labels=["no", "yes"]), "word " * 30_000
    written = f'id,a,b,label\nde-1,x,y,0\nen-1,"a, ""b""",c,1\nen-2,{long},c,0\nen-3,x\n'
    (tmp_path / "t.csv").write_text(written, encoding="utf-8")
    cell = data.read(task, "train", "en", tmp_path, skip=True)
    assert [row["id"] for row in cell.examples] == ["en-1", "en-2"] and len(cell.skipped) == 1
    assert [row["text_a"] for row in cell.examples] == ['a, "b"', long]


def test_rows_of_a_whole_value_come_before_those_that_begin_with_it(tmp_path):
    task = pair("t.jsonl", where={"lang": "{language}"})
    rows = [{**ROW, "id": i, "lang": lang} for i, lang in enumerate(("en", "en-GB", "de"))]
    assert [row["id"] for row in read(tmp_path, task, rows)] == ["0"]


def test_json_gives_ids_dates_and_columns_as_written(tmp_path):
    rows = [{"id": 2**63 + i, "data": "2012-01-10", "b": "null", "label": 1} for i in (1, 2)]
    columns = {"id": "id", "text_a": "data", "text_b": "b", "label": "label"}
    first, second = read(tmp_path, pair("t.jsonl", columns=columns), rows)
    assert first["text_a"] == "2012-01-10" and first["text_b"] == "null"
    assert (first["id"], second["id"]) == (str(2**63 + 1), str(2**63 + 2))


GOLD = [{"text": "2012-01-10", "answer_start": 3}]


@pytest.mark.parametrize("gold", [GOLD, {"text": ["2012-01-10"], "answer_start": [3]}])
def test_answers_are_read_in_squads_layout_and_in_the_hubs(tmp_path, gold):
    question = {"id": "1", "question": "when?", "answers": gold}
    [flat] = read(tmp_path, answers(), [{**question, "context": "on 2012-01-10"}])
    articles = [{"title": "t", "paragraphs": [{"context": "on 2012-01-10", "qas": [question]}]}]
    [nested] = read(tmp_path, answers("q.json"), json.dumps({"version": "1", "data": articles}))
    assert flat == nested and flat["answers"]["text"] == ["2012-01-10"]


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        (["1", "0"], ["1", 1, 1.0, "0", 0], [0, 0, 0, 1, 1]),
        (["True", "False"], [True, "True", False], [0, 0, 1]),
        (["true", "false"], [False, "true"], [1, 0]),
        (NLI, ["neutral", 2, "0"], [1, 2, 0]),
    ],
)
def test_a_value_whose_text_is_a_label_is_that_label(tmp_path, labels, values, expected):
    rows = [{**ROW, "id": i, "label": value} for i, value in enumerate(values)]
    examples = read(tmp_path, pair("t.jsonl", labels=labels), rows)
    assert [example["label"] for example in examples] == expected


@pytest.mark.parametrize(("file", "kind"), [("t.tsv", str), ("t.jsonl", int)])
def test_values_and_skipped_labels_are_numbers_in_every_kind_of_file(tmp_path, file, kind):
    task = pair(file, label_values=[1, 2, 3], skip_labels=[-1])
    rows = [{"id": str(i), "a": "x", "b": "y", "label": kind(i)} for i in (3, -1, 1)]
    table = [HEADER, *("\t".join(row.values()) for row in rows if kind is str)]
    found = read(tmp_path, task, rows if kind is int else "\n".join(table))
    assert [row["label"] for row in found] == [2, 0]


def test_a_question_may_be_missing_and_is_then_no_word(tmp_path):
    row = {"id": 0, "c": "x", "x": "1", "y": "2", "label": 0}
    rows = [row, {**row, "id": 1, "question": "why?"}]
    found = read(tmp_path, choices(), rows)
    assert [row["question"] for row in found] == ["", "why?"]
    assert [formats.of(choices()).texts(row)[0] for row in found] == ["x", "x why?"]
    with refused("no column 'question'; found id, c, x, y, label"):
        read(tmp_path, choices(), rows[:1])


NAMES = ["contradiction", "entailment", "neutral"]


def classlabels(path, names: list[str], values: list[int]) -> None:
    import datasets as ds

    labels = [{"label": value, "ann": {"label": value}} for value in values]
    rows = [{"id": str(i), "a": "x", "b": "y", **label} for i, label in enumerate(labels)]
    columns = {**dict.fromkeys("ab", ds.Value("string")), "id": ds.Value("string")}
    columns |= {"label": (name := ds.ClassLabel(names=names)), "ann": {"label": name}}
    ds.disable_progress_bars()
    ds.Dataset.from_list(rows, ds.Features(columns)).to_parquet(path)


def test_a_files_own_names_of_its_labels_count(tmp_path):
    classlabels(tmp_path / "t.parquet", NAMES, [0, 1, 2, -1])  # -1: no label
    for column in ("label", "ann.label"):
        columns = {"text_a": "a", "text_b": "b", "label": column}
        task = pair("t.parquet", columns=columns, skip_labels=[-1])
        rows = data.read(task, "train", "en", tmp_path).examples
        assert [NLI[row["label"]] for row in rows] == NAMES
    classlabels(tmp_path / "t.parquet", ["no", "yes"], [0, 1])
    with refused("row 0: label 'no'; expected one of 'entailment'"):
        data.read(pair("t.parquet"), "train", "en", tmp_path)
    pq.write_table(pa.table([[0], [1]], ["label", "label"]), tmp_path / "t.parquet")
    with refused("t.parquet: found 'label' twice; expected each key once"):
        data.read(pair("t.parquet"), "train", "en", tmp_path)


def question(**changes) -> list[dict]:
    return [{**ROW, "context": "dog", "answers": {"text": ["dog"], "answer_start": [0]}, **changes}]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        (pair("t.csv"), "id,a,label,label\n", "the header has 'label' twice"),
        (pair("t.tsv.gz"), b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 9, "cannot read "),
        (pair("t.csv"), 'id,a\n1,"x" y\n', "line 2: ',' expected after"),
        (pair("t.tsv"), "id\ta\tb\tlabel\n1\tx\n", "row 0: 2 columns; expected 4: id, a, b, label"),
        (pair("t.tsv"), "id\ta\n1\tgr\xfcn\n".encode("latin-1"), "t.tsv: found byte 0xfc"),
        (pair("t.tsv"), "id\ta\tlabel\n1\tx\t0\n", "no column 'b'; found id, a, label"),
        (pair("t.jsonl"), '{"id": 1\n', "row 0: no JSON"),
        (pair("t.jsonl"), '{"label": 1, "label": 0}', "row 0: no JSON: found 'label' twice"),
        (pair("t.jsonl"), "[1, 2]\n", r"row 0: '[1, 2]\n'; expected a JSON object"),
        (pair("t.json"), '{"data": ["x"]}', "expected a list of objects, or SQuAD's layout"),
        (pair("t.json"), '[{"paragraphs": 1}]', "expected SQuAD's paragraphs"),
        (pair("t.txt"), "x", r"t.txt ends in '.txt'; expected one of .tsv, .csv"),
        (pair("t.jsonl"), [{**ROW, "id": None}], "id is None; expected a text or a number"),
        (pair("t.jsonl"), [ROW, {**ROW, "id": 2, "b": ""}], "row 1: text_b is ''; expected a text"),
        *[(pair("t.jsonl"), [{**ROW, "label": value}], "row 0: label ") for value in UNKNOWN],
        (pair("t.jsonl", labels=["2", "5"]), [ROW], "row 0: label 0; expected one of '2', '5'"),
        (pair("t.jsonl", group="g"), [{**ROW, "g": None}], "g is None; expected what related"),
        (tags("k.tsv"), "id\ttokens\ttags\n1\tx y\tO O\n", "tokens is 'x y'; expected a list"),
        (tags("k.jsonl"), [{"id": 1, "tokens": ["a"], "tags": []}], "row 0: 1 words and 0 labels"),
        (tags("k.jsonl"), [{"id": 1, "tokens": ["a"], "tags": ["X"]}], "label 'X'; expected one"),
        (answers(), question(answers="x"), "answers is 'x'; expected text"),
        (answers(), question(question=" "), "question is ' '; expected a text"),
        (answers(), question(answers={"text": [], "answer_start": []}), "no answer"),
        (answers(), question(answers={"text": [""], "answer_start": [0]}), "answer is ''"),
        (answers(), question(answers={"text": ["dog"], "answer_start": [1]}), "'dog' at 1; the"),
        (choices(), [{**ROW, "c": "x", "x": 1, "y": "2"}], "choice is 1; expected a text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, task, content, message):
    with refused(message):
        read(tmp_path, task, content)


def test_names_that_look_like_something_else_are_names(tmp_path):
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n  t:\n    format: sentence_pair\n    files: t.{language}.tsv\n    licence: own\n"
        "    citation: 2024\n    languages: [en, no]\n    codes: {no: nob}\n    labels: [1, 0]\n"
        "    parallel: false\n    columns: {text_a: yes, label: on}\n    sizes: {train: 010}\n"
    )
    task = catalogue.load(tmp_path / "tasks.yaml")["t"]
    assert task.languages == ["en", "no"] and task.codes == {"no": "nob"}
    assert task.labels == ["1", "0"] and task.columns == {"text_a": "yes", "label": "on"}
    assert task.parallel is False and task.citation == "2024" and task.sizes == {"train": 10}


def test_outputs_are_matched_with_labels_by_name():
    trained, evaluated = pair("t.tsv"), pair("t.tsv", labels=NAMES, name="other")
    formats.check_match(trained, evaluated)
    logits = [np.array([[1.0, 2.0, 3.0]])]
    [[row]] = formats.reorder(trained, evaluated, logits)
    assert dict(zip(NAMES, row, strict=True)) == dict(zip(NLI, logits[0][0], strict=True))
    assert formats.reorder(trained, trained, logits) is logits
    fewer, named = pair("t.tsv", labels=["yes", "no"]), pair("t.tsv", labels=[*NLI[:2], "x"])
    for other in (fewer, named, tags("k.tsv")):
        with refused("task t: trained on t: found"):
            formats.check_match(trained, other)
