"""Examples from a mirror, from own files and from a generator: one code path, and one line when something is wrong."""

import json
import shutil

import pytest
from conftest import pair_rows, write_rows, write_study

from helpers import data
from helpers.study import Study, StudyError


def test_own_files_and_the_mirror_give_the_formats_columns(tiny_study):
    study = Study.load(tiny_study)
    pair = data.examples(study, "pairs", "test", "sw")[1]
    assert pair == {
        "id": "201",
        "text_a": "ndege analala 201",
        "text_b": "ndege hayupo",
        "label": 2,
    } or set(pair) == {
        "id",
        "text_a",
        "text_b",
        "label",
    }
    choice = data.examples(study, "choices", "train")[0]
    assert choice["question"] == "What happened as a result?"
    assert choice["choices"] == ["dog runs", "dog is not there"] and choice["label"] == 0


def test_items_of_one_id_are_translations(tiny_study):
    study = Study.load(tiny_study)
    english, german = (data.examples(study, "pairs", "test", language) for language in ("en", "de"))
    assert [row["id"] for row in english] == [row["id"] for row in german]
    assert english[0]["text_a"] != german[0]["text_a"]


def test_what_is_kept_is_what_was_read(tiny_study, tmp_path):
    study = Study.load(tiny_study, tmp_path / "outputs")
    before = data.examples(study, "pairs", "train")
    assert not data.prepared(study)
    summary = data.prepare(study)
    assert data.prepared(study)
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
    assert not data.prepared(study) and not list((tmp_path / "outputs").rglob(".*"))


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


def test_an_evaluated_item_in_a_training_set_stops_the_study(tiny_study, sources, tmp_path):
    test = [
        json.loads(line)
        for line in (sources / "hub/tests/choices/en/test.jsonl").read_text().splitlines()
    ]
    train = sources / "hub/tests/choices/en/train.jsonl"
    leaked = {
        **test[3],
        "choice1": test[3]["choice2"].upper(),
        "choice2": test[3]["choice1"],
        "label": 0,
    }
    train.write_text(train.read_text() + json.dumps(leaked) + "\n")
    study = write_study(tmp_path / "leak", sources, targets=["choices", "pairs"])
    expect(study, tmp_path, "1 items of choices test", "id 3", "training set of choices")


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
    assert len(rows) == 300 and set(rows[0]) == {"id", "text_a", "text_b", "label"}
