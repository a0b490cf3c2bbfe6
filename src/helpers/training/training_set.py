"""What one training draws from and is scored by: a task's features, its loss, and its English validation data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from helpers import data, tasks
from helpers.encoders.model import collate, collate_labels, micro_batches, predict, training_items
from helpers.study import Hyperparameters, Task


@dataclass
class TrainingSet:
    """Everything that differs between a training on one task and a training on several.

    Attributes
    ----------
    items, lengths
        What the trainer draws ``batch_size`` of at a time, and the pieces of each, by which batches are grouped; no
        lengths mean that the items are in order already.
    split, collate, loss
        What the trainer drew to the parts that go through the model one by one; a part to tensors; (model, tensors) to
        a loss, the mean over the part's labels.
    validate
        The score, in points, of a model on validation data.
    selection
        What is said of the selection, without its score.
    examples
        Training examples of an epoch.
    pieces, sequences
        Mean pieces and sequences of an example.
    """

    name: str
    items: Sequence
    lengths: list[int] | None
    batch_size: int
    split: Callable[[list], list[list]]
    collate: Callable[[list], dict]
    loss: Callable[[nn.Module, dict], torch.Tensor]
    validate: Callable[[nn.Module], float]
    selection: dict
    examples: int
    pieces: float
    sequences: float


def of_task(
    task: Task,
    train: list[dict],
    validation: list[dict],
    tokenizer: PreTrainedTokenizerFast,
    settings: Hyperparameters,
    keep: Path | None = None,
) -> TrainingSet:
    """The material of one task; ``keep`` is a folder for texts cut into pieces."""
    shape, pad = tasks.of(task), tokenizer.pad_token_id
    items, held_out = (
        data.tokenise(task, rows, tokenizer, settings.max_length, keep)
        for rows in (train, validation)
    )
    items = training_items(items)
    return TrainingSet(
        name=task.name,
        items=items,
        lengths=[item["length"] for item in items],
        batch_size=settings.batch_size,
        split=micro_batches,
        collate=lambda batch: {**collate(batch, pad), "labels": collate_labels(batch)},
        loss=lambda model, batch: shape.loss(
            model(batch["input_ids"], batch["attention_mask"]), batch["labels"]
        ),
        validate=lambda model: score(task, validation, held_out, predict(model, held_out, pad)),
        selection=selection(task, validation),
        examples=len(items),
        pieces=sum(len(ids) for item in items for ids in item["input_ids"]) / len(items),
        sequences=sum(len(item["input_ids"]) for item in items) / len(items),
    )


def score(
    task: Task, examples: list[dict], features: list[dict], logits: list[np.ndarray]
) -> float:
    """100 x credit / out of, over the examples."""
    rows = tasks.of(task).decode(task, examples, features, logits)
    return 100 * sum(row["credit"] for row in rows) / (sum(row["out_of"] for row in rows) or 1)


def selection(task: Task, validation: list[dict]) -> dict:
    """Which data a task's weights are selected on, and what the best constant answer scores there."""
    return {
        "task": task.name,
        "split": "validation",
        "language": "en" if "en" in task.languages else ", ".join(task.selected_in),
        "n": len(validation),
        "majority": tasks.majority(task, validation),
    }
