"""A check on real question answering: XQuAD, trained on in English, evaluated in 12 languages.

    HUB_MIRROR=/path/to/hub python benchmarks/xquad.py [--out outputs/xquad]

XQuAD has no training set; its 240 paragraphs are 48 articles of five. The first 32 articles train,
the next 2 select, and 6 more are evaluated: F1 says whether the span format, its windows and its
decoding work on real texts. It is no study of transfer and no number to compare with published
ones, whose models train on 87,599 questions of SQuAD.
"""

import argparse
import json
from pathlib import Path

import yaml

from helpers import data
from helpers.batch import run
from helpers.study.catalogue import load

ARTICLES = {"train": range(32), "validation": range(32, 34), "test": range(34, 40)}
PARAGRAPHS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/xquad"))
    given = parser.parse_args()
    folder = given.out / "input"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = load(Path("params/tasks.yaml"))
    for language in tasks["xquad"].languages:
        write(folder, language, data.read(tasks["xquad"], "validation", language))
    (folder / "tasks.yaml").write_text(
        yaml.safe_dump({"tasks": {"xquad_articles": entry(tasks["xquad"].languages)}})
    )
    (folder / "xquad.yaml").write_text(yaml.safe_dump(study(folder)))
    return run.main([str(folder / "xquad.yaml"), "--outputs", str(given.out)])


def write(folder: Path, language: str, rows: list[dict]) -> None:
    """A language's questions as files of three splits, cut between articles."""
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    for split, articles in ARTICLES.items():
        chosen = [row for row in rows if contexts.index(row["context"]) // PARAGRAPHS in articles]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (folder / f"{language}.{split}.jsonl").write_text(text, encoding="utf-8")


def entry(languages: list[str]) -> dict:
    """The catalogue entry of those files."""
    return {
        "format": "span_extraction",
        "files": "{language}.{split}.jsonl",
        "splits": {split: split for split in ARTICLES},
        "columns": {"id": "id", "context": "context", "question": "question", "answers": "answers"},
        "metric": "f1",
        "languages": languages,
        "train_on": ["xquad_articles"],
        "licence": "CC BY-SA 4.0",
        "citation": "Artetxe et al. 2020, On the Cross-lingual Transferability of Monolingual "
        "Representations",
    }


def study(folder: Path) -> dict:
    """One run: 12 layers, no intermediate task."""
    encoder = {
        "encoder": "demo/encoder",
        "title": "12 layers of multilingual-e5-small (stand-in for XLM-R large)",
        "pooling": "mean",
    }
    return {
        "name": "xquad-articles",
        "description": "XQuAD's articles, some to train on and others to be evaluated on",
        "data_dir": str(folder.resolve()),
        "sizes": {"large": encoder},
        "intermediate": ["none"],
        "targets": ["xquad_articles"],
        "seeds": [1],
        "phases": {
            "target": {
                "epochs": 2,
                "batch_size": 8,
                "learning_rate": 1.0e-4,
                "max_length": 256,
                "evaluations": 2,
                "train_embeddings": False,
            }
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
