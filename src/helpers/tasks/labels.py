"""Labels as every classification format reads, checks, scores and decodes them."""

from collections import Counter

import numpy as np
import torch
from torch.nn import functional

from helpers.study import Task

IGNORED = -100
"""In place of a label, where a loss is to leave out what carries it."""


def identity(task: Task, row: dict, index: int) -> str:
    """A row's id: its column's value, or else its number."""
    return str(row[task.columns["id"]]) if "id" in task.columns else str(index)


def read(task: Task, value) -> int:
    """A source's label as its index in ``task.labels``; raises ValueError naming what was expected."""
    values = task.label_values or task.labels
    if value in values:
        return values.index(value)
    number = (
        int(value) if isinstance(value, str) and value.isdigit() else value
    )  # text files hold numbers as text
    if task.label_values is None and isinstance(number, int) and 0 <= number < len(task.labels):
        return number
    if task.unseen_label and isinstance(value, str):
        return len(task.labels) - 1
    raise ValueError(f"label {value!r}; expected one of {', '.join(map(repr, values))}")


def check(task: Task, example: dict) -> str | None:
    """What is wrong with an example's label, or None."""
    if not 0 <= example["label"] < len(task.labels):
        return f"label {example['label']}; expected 0 to {len(task.labels) - 1}"
    return None


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    """How many examples carry each label."""
    found = Counter(example["label"] for example in examples)
    return {label: found.get(i, 0) for i, label in enumerate(task.labels)}


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """(credit, out of) of always naming the most frequent label."""
    return float(max(counts(task, examples).values())), float(len(examples))


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy in nats; logits (examples, classes), labels (examples), ``IGNORED`` where there is none."""
    return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


def decode(task: Task, examples: list[dict], logits: list[np.ndarray]) -> list[dict]:
    """Rows of predictions.parquet from one vector of class logits per example."""
    from helpers.tasks.metrics import Accuracy

    scores = np.stack(logits).astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    chosen = probabilities.argmax(axis=1)
    credits = Accuracy.credits(chosen, [e["label"] for e in examples])
    return [
        {
            "label": task.labels[example["label"]],
            "prediction": task.labels[choice],
            "probabilities": row.tolist(),
            "credit": credit,
            "out_of": 1.0,
        }
        for example, choice, row, credit in zip(
            examples, chosen, probabilities, credits, strict=True
        )
    ]
