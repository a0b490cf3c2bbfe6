"""Labels as the formats read, count and decode them, and the rows of predictions."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from helpers.study import Task

if TYPE_CHECKING:  # reading rows should not wait for torch
    import torch

IGNORED = -100
"""In place of a label, where a loss is to leave out what carries it."""


def read(task: Task, value) -> int:
    """A source's label as its index in ``task.labels``; raises ValueError with what is expected."""
    values = task.label_values or task.labels
    if value in values:
        return values.index(value)
    # Text files hold numbers as text.
    number = int(value) if isinstance(value, str) and value.isdigit() else value
    if task.label_values is None and isinstance(number, int) and 0 <= number < len(task.labels):
        return number
    if task.unseen_label and isinstance(value, str):
        return len(task.labels) - 1
    raise ValueError(f"label {value!r}; expected one of {', '.join(map(repr, values))}")


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    """How many examples, or words, carry each label."""
    found = Counter(i for e in examples for i in e.get("labels") or [e["label"]])
    return {label: found[i] for i, label in enumerate(task.labels)}


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """(credit, out of) of always naming the most frequent label."""
    return float(max(counts(task, examples).values())), float(len(examples))


def loss(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Mean cross entropy in nats over all targets, however they are arranged, but ``IGNORED``.

    The logits of a target's classes lie next to each other: (..., classes), or (choices, 1).
    """
    from torch.nn import functional

    logits, targets = logits.reshape(targets.numel(), -1).float(), targets.flatten()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


def row(
    label: str, prediction: str, probabilities: list[float], credit: float, out_of: float = 1.0
) -> dict:
    """A row of predictions.parquet: the gold label, what was said, and its part of the score."""
    found = {"label": label, "prediction": prediction, "probabilities": probabilities}
    return found | {"credit": credit, "out_of": out_of}


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    """Rows of predictions.parquet from an example's class logits, (1, classes) or (choices, 1)."""
    scores = np.stack(logits).reshape(len(examples), -1)
    probabilities = softmax(scores.astype(np.float64), axis=1)
    rows = []
    for example, own in zip(examples, probabilities, strict=True):
        label, chosen = example["label"], int(own.argmax())
        names = task.labels[label], task.labels[chosen]
        rows.append(row(*names, own.tolist(), float(chosen == label)))
    return rows
