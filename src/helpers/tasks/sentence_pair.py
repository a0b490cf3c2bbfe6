"""Classify a pair of texts: natural language inference, paraphrase."""

import torch

from helpers.study import Task
from helpers.tasks import labels


def normalise(task: Task, row: dict, index: int) -> dict:
    return {
        "id": labels.identity(task, row, index),
        "text_a": row[task.columns["text_a"]],
        "text_b": row[task.columns["text_b"]],
        "label": labels.read(task, row[task.columns["label"]]),
    }


def check(task: Task, example: dict) -> str | None:
    for name in ("text_a", "text_b"):
        if not isinstance(example[name], str) or not example[name].strip():
            return f"{name} is {example[name]!r}; expected a text"
    return labels.check(task, example)


def texts(example: dict) -> list[str]:
    return [example["text_a"], example["text_b"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    pieces = tokenizer(
        [e["text_a"] for e in examples],
        [e["text_b"] for e in examples],
        truncation="longest_first",
        max_length=max_length,
    )
    return [
        {"input_ids": [ids], "labels": e["label"]}
        for ids, e in zip(pieces["input_ids"], examples, strict=True)
    ]


def head(task: Task) -> tuple[str, int]:
    return "sequence", len(task.labels)


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return labels.cross_entropy(logits, targets)


constant, counts = labels.constant, labels.counts


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    return labels.decode(task, examples, [row[0] for row in logits])
