"""Classify a pair of texts: natural language inference, paraphrase."""

from helpers.study import Task
from helpers.tasks import labels
from helpers.tasks.texts import text

constant, counts = labels.constant, labels.counts
loss, decode = labels.loss, labels.decode


def normalise(task: Task, row: dict) -> dict:
    pair = {name: text(name, row[name]) for name in ("text_a", "text_b")}
    return {"id": row["id"], **pair, "label": labels.read(task, row["label"])}


def texts(example: dict) -> list[str]:
    return [example["text_a"], example["text_b"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    pairs = [e["text_a"] for e in examples], [e["text_b"] for e in examples]
    cut = tokenizer(*pairs, truncation="longest_first", max_length=max_length)["input_ids"]
    return [
        {"input_ids": [ids], "labels": example["label"]}
        for ids, example in zip(cut, examples, strict=True)
    ]


def head(task: Task) -> tuple[str, int]:
    return "sequence", len(task.labels)
