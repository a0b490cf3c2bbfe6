"""Data sets as their pages on the hub lay them out: files, columns and label encodings.

A layout below is what the data set's card or file listing showed when its entry was written.
"""

import json
from pathlib import Path

import pytest
import yaml

from helpers import data
from helpers.study import catalogue

TASKS = catalogue.load(Path(__file__).parents[1] / "params/tasks.yaml")
SQUAD = {
    "id": "q1",
    "title": "t",
    "context": "Die Katze schläft.",
    "question": "Wer schläft?",
    "answers": {"answer_start": [4], "text": ["Katze"]},
}


def write(folder: Path, config: str, split: str, file: str, rows: list[dict]) -> None:
    """One configuration and split of a data set: its file, as its suffix says, and the card."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).to_parquet(path)
    files = [{"split": split, "path": file}]
    card = yaml.safe_dump({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "language", "split", "config", "file", "row", "expected"),
    [
        (
            *("mlqa", "de", "test", "MLQA.de.de", "MLQA.de.de/test-00000-of-00001.parquet"),
            SQUAD,
            {"question": "Wer schläft?", "answers": {"text": ["Katze"], "answer_start": [4]}},
        ),
    ],
)
def test_a_source_is_read_in_the_layout_of_its_page(
    tmp_path, monkeypatch, task, language, split, config, file, row, expected
):
    entry = TASKS[task]
    write(tmp_path / entry.source(language).hub, config, entry.splits[split], file, [row])
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    [example] = data.read(entry, split, language)
    assert {key: example[key] for key in expected} == expected
