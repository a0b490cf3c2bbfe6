"""Data sets as their pages on the hub lay them out: files, columns and label encodings.

A layout below is what the data set's card or file listing showed when its entry was written.
"""

import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from conftest import write_rows

from helpers import data, formats
from helpers.study import StudyError, catalogue

TASKS = catalogue.load(Path(__file__).parents[1] / "params/tasks.yaml")
SQUAD = {"id": "q1", "title": "t", "context": "Die Katze schläft.", "question": "Wer schläft?"}
GOLD = {"answers": {"answer_start": [4], "text": ["Katze"]}}
CHOICES = [f"impendulo {i}" for i in range(1, 5)]
PASSAGE = {"flores_passage": "Inja igijima.", "question": "Ubani?", "correct_answer_num": "3"}
PASSAGE |= {"link": "https://en.wikibooks.org/x", "question_number": 2, "ds": "2023-05-03"}
PASSAGE |= {f"mc_answer{i}": f"impendulo {i}" for i in range(1, 5)}


def write(folder: Path, config: str, split: str, file: str, row: dict) -> None:
    """One configuration and split of a data set: its file, as its suffix says, and the card."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        line = json.dumps(row, ensure_ascii=False).encode()
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(path.name.removesuffix(".tar.gz"))
            member.size = len(line)
            archive.addfile(member, io.BytesIO(line))
    elif path.suffix == ".parquet":
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_list([row]).to_parquet(path)
    else:
        write_rows(path, [row])
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
    write(tmp_path / entry.source(language).hub, config, named, file, row)
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    [example] = data.read(entry, split, language).examples
    assert {key: example[key] for key in expected} == expected


def test_a_part_of_a_mirrors_split_is_read(tmp_path, monkeypatch):
    write(tmp_path / "google/xquad", "xquad.en", "validation", "v.jsonl", SQUAD | GOLD)
    lines = [json.dumps(SQUAD | GOLD | {"id": str(i)}) for i in range(878)]
    (tmp_path / "google/xquad/v.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    cell = data.read(TASKS["xquad_en"], "validation", "en")
    assert [row["id"] for row in cell.examples] == ["876", "877"]
    assert {file.name for file in cell.files} == {"v.jsonl", "README.md"}


def test_a_single_text_is_one_sequence_and_a_pair_is_two_texts(tokenizer):
    single = {"id": "1", "text_a": "dog sleeps", "label": 0}
    shape = formats.of(TASKS["sib200"])
    features = shape.features(TASKS["sib200"], [single], tokenizer, 16)
    features += shape.features(TASKS["sib200"], [{**single, "text_b": "cat"}], tokenizer, 16)
    [one], [two] = (feature["input_ids"] for feature in features)
    assert one.tolist() == tokenizer("dog sleeps")["input_ids"]
    assert two.tolist() == tokenizer("dog sleeps", "cat")["input_ids"]
    again = {**single, "text_a": "DOG  sleeps"}
    assert formats.key(TASKS["sib200"], single) == formats.key(TASKS["sib200"], again)


def test_a_file_that_is_the_users_own_says_where_to_get_it(tmp_path):
    with pytest.raises(StudyError, match=r"taxi1500: no such file .*arb\.train\.tsv; .*/Taxi1500"):
        data.read(TASKS["taxi1500"], "train", "ar", tmp_path)
    with pytest.raises(StudyError, match=r"ccg: files: .*data_dir, which .*: LDC2005T13"):
        data.read(TASKS["ccg"], "train", "en")


def test_a_language_that_the_source_does_not_have_is_one_line(tmp_path, monkeypatch):
    row = {"premise": "a", "hypothesis": "b", "label": "neutral"}
    write(tmp_path / "nala-cub/americas_nli", "aym", "test", "aym/test.parquet", row)
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    with pytest.raises(StudyError, match=r"config quy, split test: .*quy.*aym") as error:
        data.read(TASKS["americas_nli"], "test", "qu")
    assert "\n" not in str(error.value)


def test_translated_data_without_its_language_is_one_line(tmp_path):
    entry = {**TASKS["sib200"].model_dump(exclude_defaults=True), "hub": None, "config": None}
    entry |= {"files": "all.tsv", "where": {"lang": "{language}"}}
    (tmp_path / "all.tsv").write_text("index_id\tcategory\ttext\n1\ttravel\tx\n")
    task = catalogue.Task.model_validate(entry)
    with pytest.raises(StudyError, match=r"where: no column 'lang'; found index_id, category, t"):
        data.read(task, "train", "yo", tmp_path)
    with pytest.raises(ValueError, match=r"several languages, but no \{language\} in"):
        catalogue.Task.model_validate({**entry, "where": {}})


def test_every_target_of_the_studies_on_xtreme_r_has_a_row_in_the_docs():
    root = Path(__file__).parents[1]
    page = (root / "docs/tasks.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    for path in sorted((root / "params").glob("xtreme-r*.yaml")):
        for target in yaml.safe_load(path.read_text(encoding="utf-8"))["targets"]:
            assert target in rows, f"{path.name}: {target} has no row in docs/tasks.md"
