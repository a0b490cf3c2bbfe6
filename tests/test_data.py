"""Examples from a mirror, own files and a generator: one code path, one line when one is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import LABELS, pair_rows, write_rows, write_study

from helpers import comparison, data
from helpers.report import page
from helpers.study import Study, StudyError, Task, prepared


def test_reading_data_waits_for_neither_torch_nor_transformers(tiny_study, tmp_path):
    code = f"""
import sys
from helpers import data
from helpers.study import Study
data.prepare(Study.load({str(tiny_study)!r}, {str(tmp_path / "outputs")!r}))
print(*{{"datasets", "torch", "transformers"}} & sys.modules.keys())
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.stdout.split() == ["datasets"], outcome.stderr


def test_own_files_and_the_mirror_give_the_formats_columns(tiny_study):
    study = Study.load(tiny_study)
    pair = data.examples(study, "pairs", "test", "sw")[1]
    texts = {"text_a": "ndege analala 201", "text_b": "ndege analala 201"}
    assert pair == {"id": "201", **texts, "label": 0}
    choice = data.examples(study, "choices", "train")[0]
    assert choice["question"] == "What happened as a result?"
    assert choice["choices"] == ["dog runs", "dog is not there"] and choice["label"] == 0


def test_a_table_is_read_as_spreadsheets_save_it(tiny_study, sources):
    path = sources / "files/pairs/en.train.tsv"
    before = data.examples(Study.load(tiny_study), "pairs", "train")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert data.examples(Study.load(tiny_study), "pairs", "train") == before


def test_items_of_one_id_are_translations(tiny_study):
    study = Study.load(tiny_study)
    english, german = (data.examples(study, "pairs", "test", language) for language in ("en", "de"))
    assert [row["id"] for row in english] == [row["id"] for row in german]
    assert english[0]["text_a"] != german[0]["text_a"]


def test_what_is_kept_is_what_was_read(tiny_study, tmp_path):
    study = Study.load(tiny_study, tmp_path / "outputs")
    before = data.examples(study, "pairs", "train")
    assert not prepared.is_complete(study)
    summary = data.prepare(study)
    assert prepared.is_complete(study)
    assert data.examples(study, "pairs", "train") == before
    assert summary["splits"]["pairs/train/en"]["labels"] == {
        "entailment": 8,
        "neutral": 8,
        "contradiction": 8,
    }


def test_a_study_that_has_been_prepared_needs_no_source(tiny_study, sources, tmp_path):
    study = Study.load(tiny_study, tmp_path / "outputs")
    data.prepare(study)
    shutil.rmtree(sources / "files")
    assert len(data.examples(study, "pairs", "test", "de")) == 24


def test_samples_are_seeded(tiny_study):
    rows = data.examples(Study.load(tiny_study), "pairs", "train")
    assert data.sample(rows, 5, 1) == data.sample(rows, 5, 1) != data.sample(rows, 5, 2)
    assert data.sample(rows, None, 1) == data.sample(rows, 99, 1) == rows


def expect(study_file, tmp_path, *parts):
    study = Study.load(study_file, tmp_path / "outputs")
    with pytest.raises(StudyError) as error:
        data.prepare(study)
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert not prepared.is_complete(study) and not list((tmp_path / "outputs").rglob(".*"))


def test_a_missing_file_is_named(tiny_study, sources, tmp_path):
    (sources / "files/pairs/sw.test.tsv").unlink()
    expect(tiny_study, tmp_path, "pairs", "no such file", "sw.test.tsv")


def test_a_missing_mirror_folder_is_named(tiny_study, sources, tmp_path):
    shutil.rmtree(sources / "hub/tests")
    expect(tiny_study, tmp_path, "choices", "no such mirror folder", "tests/choices")


def test_an_unknown_configuration_or_split_of_the_source_is_named(tiny_study, sources, tmp_path):
    shutil.rmtree(sources / "hub/tests/choices/en")
    expect(tiny_study, tmp_path, "choices", "config en")


def test_a_missing_column_is_named(tiny_study, sources, tmp_path):
    rows = [{k: v for k, v in row.items() if k != "b"} for row in pair_rows("en", 0, 6)]
    write_rows(sources / "files/pairs/en.train.tsv", rows)
    expect(tiny_study, tmp_path, "pairs", "en train", "no column 'b'", "found pair, a, label")


def test_a_label_outside_the_declared_set_names_the_row(tiny_study, sources, tmp_path):
    rows = pair_rows("en", 0, 6)
    rows[4]["label"] = "maybe"
    write_rows(sources / "files/pairs/en.train.tsv", rows)
    expect(
        tiny_study,
        tmp_path,
        "en train",
        "row 4",
        "'maybe'",
        "'entailment', 'neutral', 'contradiction'",
    )


def test_an_empty_text_names_the_row(tiny_study, sources, tmp_path):
    rows = pair_rows("en", 0, 6)
    rows[2]["b"] = ""
    write_rows(sources / "files/pairs/en.validation.tsv", rows)
    expect(tiny_study, tmp_path, "en validation", "row 2", "text_b", "expected a text")


@pytest.fixture
def leaking(sources):
    """Sources where English choices' item 3 is in training too, its choices swapped."""
    path = sources / "hub/tests/choices/en/{}.jsonl"
    test = [json.loads(line) for line in Path(str(path).format("test")).read_text().splitlines()]
    train = Path(str(path).format("train"))
    swapped = {"choice1": test[3]["choice2"].upper(), "choice2": test[3]["choice1"], "label": 0}
    train.write_text(train.read_text() + json.dumps({**test[3], **swapped}) + "\n")
    return sources


@pytest.mark.parametrize("name", ["choices", "again"])
def test_an_evaluated_item_in_a_training_set_stops_the_study(leaking, tmp_path, name):
    settings = {"targets": [name, "pairs"], "variants": {"again": "choices"}}
    study = write_study(tmp_path / "leak", leaking, **settings)
    expect(study, tmp_path, f"1 items of {name} test", "id 3", "training set of choices")


def test_an_evaluated_item_can_be_dropped_from_training(leaking, tmp_path):
    path = write_study(tmp_path / "leak", leaking, targets=["choices", "pairs"], on_leak="drop")
    study = Study.load(path, tmp_path / "outputs")
    assert data.prepare(study)["splits"]["choices/train/en"]["dropped"] == 1
    rows = data.examples(study, "choices", "train")
    assert len(rows) == 12 and all(row["id"] != "12" for row in rows)
    assert study.dropped(["choices"]) == {"choices/train/en": 1} and not study.dropped(["pairs"])
    missing = comparison.missing_runs(study)
    shown = page.overview(study, missing.assign(collapsed=False), missing).data
    assert "Left out of choices/train/en: 1 items" in shown


def test_a_translated_items_english_original_counts_as_evaluated(leaking, tmp_path):
    path = write_study(tmp_path / "p", leaking, targets=[{"task": "choices", "languages": ["de"]}])
    data.prepare(Study.load(path, tmp_path / "unseen"))  # nothing says what German translates
    catalogue = yaml.safe_load((path.parent / "tasks.yaml").read_text())
    catalogue["tasks"]["choices"]["translates"] = {"test": "choices/test"}
    (path.parent / "tasks.yaml").write_text(yaml.safe_dump(catalogue))
    expect(path, tmp_path, "1 items of choices/test (translated in choices)", "id 3")


def test_what_is_dropped_decides_whether_a_training_may_be_kept(tiny_study, sources, tmp_path):
    def trained(**settings):
        path = write_study(tmp_path / "p", sources, intermediate=["none", "pairs"], **settings)
        return Study.load(path).settings("base", "pairs")

    few, more = ["choices"], ["choices", "pairs"]
    assert trained(targets=few) == trained(targets=more)
    assert trained(targets=few, on_leak="drop") != trained(targets=more, on_leak="drop")


def test_a_changed_size_is_an_error_unless_the_study_says_so(sources, tmp_path):
    path = write_study(tmp_path / "p", sources)
    catalogue = path.parent / "tasks.yaml"
    catalogue.write_text(
        catalogue.read_text().replace(
            "    labels:\n    - choice1", "    sizes: {train: 13}\n    labels:\n    - choice1"
        )
    )
    expect(path, tmp_path, "choices", "found 12 rows, expected 13", "check_sizes")
    data.prepare(Study.load(write_study_with_same_catalogue(path, sources), tmp_path / "more"))


def write_study_with_same_catalogue(path, sources):
    catalogue = (path.parent / "tasks.yaml").read_text()
    again = write_study(path.parent, sources, check_sizes=False)
    (path.parent / "tasks.yaml").write_text(catalogue)
    return again


def test_the_mini_benchmark_comes_through_the_same_door():
    study = Study.load("params/demo.yaml")
    rows = data.examples(study, "mini_xnli", "test", "zh")
    columns = {"id", "text_a", "text_b", "label", "tag", "group"}
    assert len(rows) == 300 and set(rows[0]) == columns


def with_task(study_file, name, **entry):
    """The study with one more entry in its catalogue, as an intermediate task."""
    catalogue = study_file.parent / "tasks.yaml"
    tasks = yaml.safe_load(catalogue.read_text())["tasks"]
    tasks[name] = {"licence": "", "citation": "", "format": "sentence_pair", **entry}
    catalogue.write_text(yaml.safe_dump({"tasks": tasks}))
    study = yaml.safe_load(study_file.read_text())
    study_file.write_text(yaml.safe_dump({**study, "intermediate": ["none", name]}))
    return study_file


def test_a_pooled_task_is_its_parts_one_after_the_other(tiny_study, tmp_path):
    pooled = with_task(tiny_study, "pooled", parts=["pairs", "pairs"], labels=LABELS)
    study = Study.load(pooled, tmp_path / "outputs")
    rows, alone = (data.examples(study, name, "train") for name in ("pooled", "pairs"))
    assert [row["id"] for row in rows] == [f"pairs/{row['id']}" for row in [*alone, *alone]]


def test_rows_that_the_study_skips_are_counted_and_named(tiny_study, sources, tmp_path, capsys):
    with (sources / "files/pairs/en.train.tsv").open("a", encoding="utf-8") as file:
        file.write("24\tonly\n\n25\ta\tb\tperhaps\n")
    study = yaml.safe_load(tiny_study.read_text())
    tiny_study.write_text(yaml.safe_dump({**study, "on_bad_row": "skip"}))
    summary = data.prepare(Study.load(tiny_study, tmp_path / "outputs"))
    short, unknown = summary["splits"]["pairs/train/en"]["skipped"]
    assert short == "row 24: 2 columns; expected 4: pair, a, b, label" and "row 25" in unknown
    assert summary["splits"]["pairs/train/en"]["rows"] == 24
    assert f"en train: skipped 2 of 26 rows; {short}" in capsys.readouterr().out


def test_a_row_that_occurs_twice_counts_once_and_an_id_of_two_rows_is_said(
    tiny_study, sources, tmp_path
):
    path = sources / "files/pairs/sw.test.tsv"
    text = path.read_text(encoding="utf-8")
    copy = text.splitlines()[3]
    path.write_text(f"{text}{copy}\n", encoding="utf-8")
    study = Study.load(tiny_study, tmp_path / "outputs")
    ids = [row["id"] for row in data.examples(study, "pairs", "test", "sw")]
    assert len(ids) == len(set(ids)) == len(text.splitlines()) - 1
    other = copy.rsplit("\t", 2)[0] + "\tparka\tneutral"
    path.write_text(f"{text}{other}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"sw test: row 24: id \d+ is another row's; expected it"):
        data.examples(study, "pairs", "test", "sw")


def test_a_csv_file_has_quoted_fields_long_texts_and_rows_of_other_languages(sources, tmp_path):
    long = "word " * 30_000
    task = Task(
        **{"name": "t", "format": "sentence_pair", "files": "t.csv", "licence": "", "citation": ""},
        **{"splits": {"train": "train"}, "where": {"id": "{language}-"}, "labels": ["no", "yes"]},
        columns={"id": "id", "text_a": "a", "text_b": "b", "label": "label"},
    )
    written = f'id,a,b,label\nde-1,x,y,0\nen-1,"a, ""b""",c,1\nen-2,{long},c,0\nen-3,x\n'
    (tmp_path / "t.csv").write_text(written, encoding="utf-8")
    skipped = []
    rows = data.read(task, "train", "en", tmp_path, skipped=skipped)
    assert [row["id"] for row in rows] == ["en-1", "en-2"] and rows[0]["text_a"] == 'a, "b"'
    assert rows[1]["text_a"] == long and len(skipped) == 1
