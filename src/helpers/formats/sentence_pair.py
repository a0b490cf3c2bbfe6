"""Classify a pair of texts or a single one: natural language inference, paraphrase, topics."""

from helpers.formats import labels
from helpers.formats.texts import features as cut
from helpers.formats.texts import text
from helpers.study import Task

constant, loss, decode = labels.constant, labels.loss, labels.decode


def normalise(task: Task, row: dict) -> dict:
    names = ["text_a", "text_b"] if "text_b" in row else ["text_a"]
    pair = {name: text(name, row[name]) for name in names}
    return {"id": row["id"], **pair, "label": labels.read(task, row["label"])}


def texts(example: dict) -> list[str]:
    return [example[name] for name in ("text_a", "text_b") if name in example]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    pairs = [[texts(example)] for example in examples]
    return cut(tokenizer, max_length, pairs, [example["label"] for example in examples])


def head(task: Task) -> tuple[str, int]:
    return "sequence", len(task.labels)
