"""What a study reads: checked by itself and against the rest, kept, and read again if changed."""

import json
import shutil
from pathlib import Path
from unicodedata import normalize

import pytest
import yaml
from conftest import KNOWN, LABELS, TASKS, change_task, pair_rows, refused, write_rows, write_study

from helpers import data
from helpers.study import Study


def read(study_file: Path, tmp_path: Path) -> tuple[Study, dict]:
    study = Study.load(study_file, tmp_path / "outputs")
    return study, data.prepare(study)["cells"]


def rows(study: Study, task: str, split: str, language: str = "en") -> list[dict]:
    return data.examples(study.data, study.tasks[task], split, language)


def expect(study_file: Path, tmp_path: Path, *parts: str) -> None:
    """The study is refused, and nothing is left of it."""
    with refused(*parts):
        read(study_file, tmp_path)
    assert not list((tmp_path / "outputs").rglob("summary.json"))
    assert not list((tmp_path / "outputs").rglob(".*"))


def change_study(study_file: Path, **changes) -> None:
    study_file.write_text(yaml.safe_dump(yaml.safe_load(study_file.read_text()) | changes))


def test_own_files_and_the_mirror_give_the_formats_columns(tiny_study, tmp_path):
    study, _ = read(tiny_study, tmp_path)
    texts = {"text_a": "ndege analala 201", "text_b": "ndege analala 201"}
    assert rows(study, "pairs", "test", "sw")[1] == {"id": "201", **texts, "label": 0}
    choice = rows(study, "choices", "train")[0]
    assert choice["question"] == "What happened as a result?"
    assert choice["choices"] == ["dog runs", "dog is not there"] and choice["label"] == 0
    table = data.evaluated(study.data, study.tasks["pairs"], ["en", "sw"])
    assert len(table) == 48 and table["label"].iloc[0] in LABELS


def test_a_study_that_has_been_prepared_needs_no_source(tiny_study, sources, tmp_path):
    study, cells = read(tiny_study, tmp_path)
    shutil.rmtree(sources / "files")
    assert data.prepare(study)["cells"] == cells
    assert len(rows(study, "pairs", "test", "de")) == 24
    shutil.rmtree(study.data)
    with refused("no such file ", "de.test.parquet; run notebook 1_encoder"):
        rows(study, "pairs", "test", "de")


def test_an_edited_file_or_another_mirror_is_read_again(tiny_study, sources, tmp_path, monkeypatch):
    study, before = read(tiny_study, tmp_path)
    names = (("choices",), ("none", "pairs"))
    settings = [study.condition("base", *some).settings for some in names]
    kept = study.data / "pairs/de.test.parquet"
    written = kept.stat().st_mtime_ns
    data.prepare(study)
    assert kept.stat().st_mtime_ns == written
    path = sources / "files/pairs/de.test.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("Pferd", "Wolf"), encoding="utf-8")
    after = read(tiny_study, tmp_path)[1]
    changed = [cell for cell in after if after[cell]["digest"] != before[cell]["digest"]]
    assert changed == ["pairs/test/de"]
    again = [study.condition("base", *some).settings for some in names]
    assert settings[0] == again[0] and settings[1] != again[1]  # of what reads it, and no other
    assert "Wolf" in rows(study, "pairs", "test", "de")[0]["text_a"]
    other = shutil.copytree(sources / "hub", tmp_path / "other")
    file = other / "tests/choices/en/train.jsonl"
    file.write_text(file.read_text().replace("dog", "wolf"))
    monkeypatch.setenv("HUB_MIRROR", str(other))
    read(tiny_study, tmp_path)
    assert rows(study, "choices", "train")[0]["choices"][0] == "wolf runs"


def test_a_missing_file_folder_configuration_or_column_is_named(tiny_study, sources, tmp_path):
    (sources / "files/pairs/sw.test.tsv").rename(tmp_path / "sw")
    expect(tiny_study, tmp_path, "pairs", "no such file", "sw.test.tsv")
    (tmp_path / "sw").rename(sources / "files/pairs/sw.test.tsv")
    (sources / "hub/tests/choices/en").rename(tmp_path / "en")
    expect(tiny_study, tmp_path, "choices", "config en")
    (sources / "hub/tests").rename(tmp_path / "tests")
    expect(tiny_study, tmp_path, "choices", "no such mirror folder", "tests/choices")


def test_a_text_file_of_a_mixture_is_read_before_anything_runs(tiny_study, sources, tmp_path):
    mixture = {"tasks": ["choices"], "mlm": {"files": ["text.txt"]}}
    change_study(tiny_study, mixtures={"mix": mixture}, intermediate=["none", "mix"])
    expect(tiny_study, tmp_path, "mixtures.mix.mlm.files: no such file", "text.txt")
    (sources / "files/text.txt").write_bytes("gr\xfcn".encode("latin-1"))
    expect(tiny_study, tmp_path, "text.txt: found byte 0xfc, expected text in UTF-8")
    (sources / "files/text.txt").write_text("grün\n\n blau \n", encoding="utf-8")
    study, _ = read(tiny_study, tmp_path)
    assert data.lines(sources / "files/text.txt") == ["grün", "blau"]
    before = study.condition("base", "mix").settings
    (sources / "files/text.txt").write_text("grün\n\n rot \n", encoding="utf-8")
    data.prepare(study)
    assert study.condition("base", "mix").settings != before


def test_labels_of_another_name_than_those_trained_on_stop_the_study(tiny_study, tmp_path):
    change_task(tiny_study, "trained", **TASKS["pairs"] | {"labels": LABELS[::-1]})
    change_task(tiny_study, "pairs", train_on=["trained"])
    read(tiny_study, tmp_path)
    change_task(tiny_study, "trained", labels=[*LABELS[:2], "other"])
    expect(tiny_study, tmp_path / "other", "task pairs: trained on trained: found labels entail")


@pytest.fixture
def leaking(sources):
    """Sources where English choices' item 3 is in training too, its choices swapped."""
    folder = sources / "hub/tests/choices/en"
    item = json.loads((folder / "test.jsonl").read_text().splitlines()[3])
    swapped = {"choice1": item["choice2"].upper(), "choice2": item["choice1"], "label": 0}
    with (folder / "train.jsonl").open("a") as train:
        train.write(json.dumps(item | swapped) + "\n")
    return sources


@pytest.mark.parametrize("name", ["choices", "again"])
def test_an_evaluated_item_in_a_training_set_stops_the_study(leaking, tmp_path, name):
    settings = {"targets": [name, "pairs"], "variants": {"again": "choices"}}
    study = write_study(tmp_path / "leak", leaking, **settings)
    said = f"1 items of {name} test in en"
    expect(study, tmp_path, said, "id 3", "training set of choices in en")


def test_a_training_set_of_another_language_is_searched_too(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, targets=["pairs"], intermediate=["none"])
    change_task(path, "pairs", trained_in=["de"])
    read(path, tmp_path / "before")
    test, train = (sources / f"files/pairs/de.{split}.tsv" for split in ("test", "train"))
    train.write_text(normalize("NFD", test.read_text(encoding="utf-8")), encoding="utf-8")
    expect(path, tmp_path, "24 items of pairs test in de", "training set of pairs in de")


def test_up_to_half_of_a_treebanks_sentences_may_recur_in_training(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, targets=["words"], intermediate=["none"])
    entry = {"format": "tagging", "files": "{split}.jsonl", "labels": ["X"], "train_on": ["words"]}
    change_task(path, "words", **KNOWN, **entry)

    def write(split, numbers):
        words = [{"tokens": [f"dog{i}"], "labels": ["X"]} for i in numbers]
        write_rows(sources / f"files/{split}.jsonl", words)

    write("validation", range(10, 14))
    write("test", range(4))
    write("train", range(2, 6))
    read(path, tmp_path / "half")
    write("train", range(1, 5))
    expect(path, tmp_path, "3 items of words test in en", "training set of words in en")


def test_an_evaluated_item_can_be_dropped_from_training(leaking, tmp_path):
    folder = leaking / "hub/tests/choices"
    train, german = folder / "en/train.jsonl", folder / "de/test.jsonl"
    train.write_text(train.read_text() + german.read_text())  # its items too, all twelve
    path = write_study(tmp_path / "leak", leaking, targets=["choices", "pairs"], on_leak="drop")
    study, cells = read(path, tmp_path)
    assert cells["choices/train/en"].items() >= {"dropped": 13, "rows": 12}.items()
    assert [row["id"] for row in rows(study, "choices", "train")] == [*map(str, range(12))]


def test_a_translated_items_english_original_counts_as_evaluated(leaking, tmp_path):
    path = write_study(tmp_path / "p", leaking, targets=[{"task": "choices", "languages": ["de"]}])
    read(path, tmp_path / "unseen")  # nothing says what German translates
    change_task(path, "choices", translates={"test": "choices/test"})
    expect(path, tmp_path, "1 items of choices/test (translated in choices)", "id 3")


def test_parallel_items_are_compared(tiny_study, sources, tmp_path):
    rows, path = pair_rows("sw", 200, 24), sources / "files/pairs/sw.test.tsv"
    write_rows(path, [{**rows[0], "label": "entailment"}, *rows[1:]])
    wrong = "id 200 has label 'contradiction' in en and 'ent"
    expect(tiny_study, tmp_path, wrong, "parallel: false")
    write_rows(path, [{**row, "pair": f"{row['pair']}.0"} for row in rows])
    expect(tiny_study, tmp_path, "found id '200.0' in sw; expected", "parallel: false")
    write_rows(path, [{**rows[0], "pair": "999"}, *rows[1:]])
    expect(tiny_study, tmp_path, "found id '999' in sw; expected", "parallel: false")
    shutil.copy(path.with_name("en.test.tsv"), path)
    expect(tiny_study, tmp_path, "same examples in pairs/test/en and pairs/test/sw; expected")
    write_rows(path.with_name("en.test.tsv"), pair_rows("en", 200, 23))
    write_rows(path, rows[1:])  # one may be missing where ids say which
    assert read(tiny_study, tmp_path / "fewer")[1]["pairs/test/sw"]["rows"] == 23
    no_ids = {name: name[-1] for name in ("text_a", "text_b")} | {"label": "label"}
    change_task(tiny_study, "pairs", columns=no_ids, skip_labels=["-"])
    expect(tiny_study, tmp_path, "24 rows in de and 23 in en, and no column of ids")
    write_rows(path.with_name("en.test.tsv"), pair_rows("en", 200, 24))
    write_rows(path, [{**rows[0], "label": "-"}, *rows[1:]])  # left out, but the rows agree
    assert read(tiny_study, tmp_path / "skipped")[1]["pairs/test/sw"]["rows"] == 23
    change_task(tiny_study, "pairs", parallel=False)
    study, _ = read(tiny_study, tmp_path)
    items = data.evaluated(study.data, study.tasks["pairs"], ["de", "sw"])
    assert items["id"].iloc[[0, -1]].tolist() == ["de/0", "sw/23"]  # each is an item of its own


def test_known_differences_of_published_data_are_not_compared(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, targets=["choices"], intermediate=["none"])
    file = sources / "hub/tests/choices/de/test.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"cause"', '"effect"'), "utf-8")
    expect(path, tmp_path, "id 0 has question 'What was the cause?' in en and 'What happened as a")
    change_task(path, "choices", known_differences={"question": ["de"]})
    read(path, tmp_path)


def test_a_changed_size_is_an_error_unless_the_study_says_so(tiny_study, tmp_path):
    change_task(tiny_study, "choices", sizes={"train": 13})
    expect(tiny_study, tmp_path, "choices", "found 12 rows, expected 13", "check_sizes")
    change_study(tiny_study, check_sizes=False)
    read(tiny_study, tmp_path)
    change_task(tiny_study, "pairs", group="label", where={"label": "neutral"})
    expect(tiny_study, tmp_path, "pairs/test/en: found one item or group; expected two or more")


def test_a_pooled_task_is_its_parts_one_after_the_other(tiny_study, tmp_path):
    about = {"format": "sentence_pair", "labels": LABELS, "licence": "", "citation": ""}
    change_task(tiny_study, "more", **TASKS["pairs"])
    change_task(tiny_study, "pooled", parts=["pairs", "more"], **about)
    change_study(tiny_study, intermediate=["none", "pooled"])
    study, _ = read(tiny_study, tmp_path)
    ids = [f"{name}/{i}" for name in ("pairs", "more") for i in range(24)]
    assert [row["id"] for row in rows(study, "pooled", "train")] == ids


def test_bad_rows_stop_the_study_or_are_counted_and_named(tiny_study, sources, tmp_path, capsys):
    with (sources / "files/pairs/en.train.tsv").open("a", encoding="utf-8") as file:
        file.write("24\tonly\n\n25\ta\tb\tperhaps\n")
    expect(tiny_study, tmp_path, "pairs", "en train", "row 24: 2 columns; expected 4")
    change_study(tiny_study, on_bad_row="skip")
    cell = read(tiny_study, tmp_path)[1]["pairs/train/en"]
    short, unknown = cell["skipped"]
    assert short == "row 24: 2 columns; expected 4: pair, a, b, label" and "row 25" in unknown
    assert cell["rows"] == 24
    assert f"en train: skipped 2 of 26 rows; {short}" in capsys.readouterr().out


def test_a_copy_of_a_row_counts_once_and_an_id_of_two_rows_is_said(tiny_study, sources, tmp_path):
    path = sources / "files/pairs/sw.test.tsv"
    text = path.read_text(encoding="utf-8")
    copy = text.splitlines()[3]
    path.write_text(f"{text}{copy}\n", encoding="utf-8")
    assert read(tiny_study, tmp_path)[1]["pairs/test/sw"]["rows"] == 24
    other = copy.rsplit("\t", 2)[0] + "\tparka\tneutral"
    path.write_text(f"{text}{other}\n", encoding="utf-8")
    expect(tiny_study, tmp_path, "sw test: row 24: id 202 is another row's; expected it once")
