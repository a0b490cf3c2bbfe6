"""Data sets as their pages on the hub lay them out: files, columns and label encodings.

A layout below is what the data set's card or file listing showed when its entry was written.
"""

import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import make_task, refused, write_rows

from helpers import data, formats
from helpers.study import catalogue

TASKS = catalogue.load(Path(__file__).parents[1] / "params/tasks.yaml")
SQUAD = {"id": "q1", "title": "t", "context": "Die Katze schläft.", "question": "Wer schläft?"}
GOLD = {"answers": {"answer_start": [4], "text": ["Katze"]}}
CHOICES = [f"impendulo {i}" for i in range(1, 5)]
PASSAGE = {"flores_passage": "Inja igijima.", "question": "Ubani?", "correct_answer_num": "3"}
PASSAGE |= {"link": "https://en.wikibooks.org/x", "question_number": 2, "ds": "2023-05-03"}
PASSAGE |= {f"mc_answer{i}": f"impendulo {i}" for i in range(1, 5)}


def write(folder: Path, config: str, split: str, file: str, rows: list[dict]) -> None:
    """One configuration and split of a data set: its file, as its suffix says, and the card."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        write_rows(path.with_name(path.name.removesuffix(".tar.gz")), rows)
    if path.suffix == ".gz":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(path.with_name(path.name.removesuffix(".tar.gz")), "rows.jsonl")
    files = [{"split": split, "path": file}]
    card = yaml.safe_dump({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")


WORDS = {"tokens": ["Qusqu", "llaqta"], "ner_tags": [5, 6], "langs": ["qu"] * 2, "spans": []}
ARTICLE = {"id": "3", "url": "https://sw.wikipedia.org/wiki/x", "title": "x", "text": "Mbwa ni."}
LAYOUTS = {
    "wikiann qu test qu qu/test-00000-of-00001.parquet": (
        WORDS,
        {"tokens": ["Qusqu", "llaqta"], "labels": [5, 6]},
    ),
    "udpos_2_7 lt test lt lt/test.parquet": (
        {"tokens": ["Katė", "miega"], "pos_tags": ["NOUN", "VERB"]},
        {"tokens": ["Katė", "miega"], "labels": [7, 15]},
    ),
    "tatoeba_r az test aze-eng test/aze-eng.jsonl": (
        {"sentence1": "Pişik yatır.", "sentence2": "The cat sleeps."},
        {"source": "Pişik yatır.", "target": "The cat sleeps."},
    ),
    "mlqa de test MLQA.de.de MLQA.de.de/test-0.parquet": (SQUAD | GOLD, GOLD),
    "sib200 yo test yor_Latn data/yor_Latn/test.tsv": (
        {"index_id": 12, "category": "travel", "text": "Ilé wà."},
        {"id": "12", "text_a": "Ilé wà.", "label": 1},
    ),
    "belebele zu test zul_Latn data/zul_Latn.jsonl": (
        PASSAGE,
        {"choices": CHOICES, "label": 2, "question": "Ubani?"},
    ),
    "afrixnli tw test twi data/twi/test.tsv": (
        {"premise": "Ɔda.", "hypothesis": "Ɔyɛ.", "label": 2},
        {"text_a": "Ɔda.", "text_b": "Ɔyɛ.", "label": 2},
    ),
    "wikipedia sw train 20231101.sw 20231101.sw/train-00000-of-00001.parquet": (
        ARTICLE,
        {"id": "3", "text": "Mbwa ni."},
    ),
    "mewsli_x ro test ro wikinews_mentions/ro/test.jsonl": (
        {"mention": "la { Iași }", "entity_id": "Q46852"},
        {"id": "0", "source": "la { Iași }", "target": "", "answers": ["Q46852"]},
    ),
    "mewsli_x_entities en test candidate_entities candidate_entities.jsonl.tar.gz": (
        {"entity_id": "Q90", "description": "Paris. Ville."},
        {"id": "Q90", "source": "", "target": "Paris. Ville.", "answers": ["Q90"]},
    ),
}
"""Task, language, split, configuration and file: a row of it, and what the row is as an example."""


@pytest.mark.parametrize("place", LAYOUTS)
def test_a_source_is_read_in_the_layout_of_its_page(tmp_path, monkeypatch, place):
    task, language, split, config, file = place.split()
    entry, (row, expected) = TASKS[task], LAYOUTS[place]
    named = entry.splits[split].partition("[")[0]
    write(tmp_path / entry.source(language).hub, config, named, file, [row])
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    [example] = data.read(entry, split, language).examples
    assert {key: example[key] for key in expected} == expected


def test_a_part_of_a_mirrors_split_is_read(tmp_path, monkeypatch):
    rows = [SQUAD | GOLD | {"id": str(i)} for i in range(878)]
    write(tmp_path / "google/xquad", "xquad.en", "validation", "v.jsonl", rows)
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    cell = data.read(TASKS["xquad_en"], "validation", "en")
    assert [row["id"] for row in cell.examples] == ["876", "877"]
    assert {file.name for file in cell.files} == {"v.jsonl", "README.md"}
    write(tmp_path / "google/xquad", "xquad.en", "validation", "v-0-of-2.jsonl", rows)
    with refused("split validation[876:]: found 1 files of 2; expected all"):
        data.read(TASKS["xquad_en"], "validation", "en")


def test_a_single_text_is_one_sequence_and_a_pair_is_two_texts(tokenizer):
    task, row = TASKS["sib200"], {"id": "1", "text_a": "dog sleeps", "label": 0}
    long = {"text_a": "dog " * 9, "text_b": "cat " * 12}  # the longest is cut first
    for example in (row, row | {"text_b": "cat"}, row | long):
        texts = [example[name] for name in ("text_a", "text_b") if name in example]
        [feature] = formats.of(task).features(task, [example], tokenizer, 16)
        assert [ids.tolist() for ids in feature["input_ids"]] == [
            tokenizer(*texts, truncation=True, max_length=16)["input_ids"]
        ]


def test_a_file_that_is_the_users_own_says_where_to_get_it(tmp_path):
    with refused("taxi1500: no such file ", "arb.train.tsv; ", "/Taxi1500"):
        data.read(TASKS["taxi1500"], "train", "ar", tmp_path)
    with refused("ccg: files: ", "data_dir, which ", ": LDC2005T13"):
        data.read(TASKS["ccg"], "train", "en")


def test_a_language_that_the_source_does_not_have_is_one_line(tmp_path, monkeypatch):
    rows = [{"premise": "a", "hypothesis": "b", "label": "neutral"}]
    write(tmp_path / "nala-cub/americas_nli", "aym", "test", "aym/test.parquet", rows)
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    with refused("config quy, split test: ", "quy", "aym"):
        data.read(TASKS["americas_nli"], "test", "qu")


def test_translated_data_without_its_language_is_one_line(tmp_path):
    entry = {**TASKS["sib200"].model_dump(exclude_defaults=True), "hub": None, "config": None}
    entry |= {"files": "all.tsv", "where": {"lang": "{language}"}, "splits": {"train": "train"}}
    (tmp_path / "all.tsv").write_text("index_id\tcategory\ttext\n1\ttravel\tx\n")
    with refused("where: no column 'lang'; found index_id, category, t"):
        data.read(make_task(**entry), "train", "yo", tmp_path)
    with pytest.raises(ValueError, match=r"several languages, but no \{language\} in"):
        make_task(**{**entry, "where": {}})
