"""Labels as the formats read, count, match and decode them, and the rows of predictions."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.special import softmax

from helpers.study import StudyError, Task

IGNORED = -100
"""Stands for a label that the loss leaves out."""


def read(task: Task, value: Any) -> int:
    """A source's label as its index in ``task.labels``, by one rule for every kind of file.

    A value whose text is a label is that label; this is the only rule for booleans. A whole number
    is an index if no label looks like a number. Anything else is a ValueError.
    """
    names, text = task.label_values or task.labels, written(value)
    for spelling in [text, text.lower()] if isinstance(value, bool) else [text]:
        if spelling in names:
            return names.index(spelling)
    numbers = [n for n in names if n.lstrip("+-").replace(".", "", 1).isdecimal()]
    is_index = task.label_values is None and not numbers
    if is_index and text.isdecimal() and int(text) < len(names):
        return int(text)
    if task.unseen_label and isinstance(value, str):
        return len(names) - 1
    raise ValueError(f"label {value!r}; expected one of {', '.join(map(repr, names))}")


def written(value: Any) -> str:
    """A label as a text file has it; empty for a value that cannot be a label."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) else ""


def check_match(trained: Task, evaluated: Task) -> None:
    """Raise StudyError unless a model trained on ``trained`` can be evaluated on ``evaluated``:
    formats and names of labels are equal, in any order (:func:`reorder`).
    """
    where = f"task {evaluated.name}: trained on {trained.name}"
    if trained.format != evaluated.format:
        raise StudyError(f"{where}: found format {trained.format}, expected {evaluated.format}")
    if evaluated.format not in ("sentence_pair", "tagging"):
        return  # outputs have no names
    if {*trained.labels} != {*evaluated.labels}:
        names = f"found labels {', '.join(trained.labels) or 'of its training data'}"
        expected = ", ".join(evaluated.labels) or "those of its own training data"
        raise StudyError(f"{where}: {names}; expected {expected}, in any order")
    if evaluated.unseen_label and evaluated.name != trained.name:
        raise StudyError(f"{where}: unseen_label: expected to be trained on its own training data")


def reorder(trained: Task, evaluated: Task, logits: list[np.ndarray]) -> list[np.ndarray]:
    """Logits of a head that was trained on ``trained``, in the order of ``evaluated``'s labels."""
    if evaluated.format not in ("sentence_pair", "tagging") or trained.labels == evaluated.labels:
        return logits
    order = [trained.labels.index(label) for label in evaluated.labels]
    return [scores[..., order] for scores in logits]


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """(credit, out of) of always naming the most frequent label."""
    return float(max(Counter(e["label"] for e in examples).values())), float(len(examples))


def loss(logits, targets):
    """Mean cross entropy in nats over all targets that are not ``IGNORED``, in any arrangement.

    The logits of a target's classes lie next to each other: (..., classes), or (choices, 1).
    """
    from torch.nn import functional  # here: reading rows should not wait for torch

    logits, targets = logits.reshape(targets.numel(), -1).float(), targets.flatten()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


def row(
    label: str, prediction: str, probabilities: list[float], credit: float, out_of: float = 1.0
) -> dict:
    """A row of predictions.parquet: the gold label, the predicted one, its part of the score."""
    names = {"label": label, "prediction": prediction, "probabilities": probabilities}
    return names | {"credit": credit, "out_of": out_of}


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    """Rows of predictions.parquet from an example's class logits, (1, classes) or (choices, 1)."""
    scores = np.stack(logits).reshape(len(examples), -1)
    probabilities = softmax(scores.astype(np.float64), axis=1)
    rows = []
    for example, shares in zip(examples, probabilities, strict=True):
        label, chosen = example["label"], int(shares.argmax())
        credit = float(chosen == label)
        rows.append(row(task.labels[label], task.labels[chosen], shares.tolist(), credit))
    return rows
