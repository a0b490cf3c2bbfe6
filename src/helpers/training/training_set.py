"""What one training draws from and is scored by: features, a loss, English validation data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from helpers import data, tasks
from helpers.encoders import batches
from helpers.encoders.batches import collate_labels, training_items
from helpers.encoders.model import EncoderModel, predict
from helpers.study import Hyperparameters, Task
from helpers.tasks.labels import IGNORED

MLM = "masked language modelling"
"""The component of a mixture that is no task."""


class Validation:
    """The validation data of one task, as a model is scored on it."""

    def __init__(
        self,
        task: Task,
        rows: list[dict],
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        cache: Path | None = None,
    ):
        self.task, self.rows, self.pad = task, rows, tokenizer.pad_token_id
        self.features = data.tokenise(task, rows, tokenizer, max_length, cache)

    def score(self, model: EncoderModel) -> float:
        """The model's score on the data, in points."""
        logits = predict(model, self.features, self.pad)
        rows = tasks.of(self.task).decode(self.task, self.rows, self.features, logits)
        return tasks.score([row["credit"] for row in rows], [row["out_of"] for row in rows])


@dataclass
class TrainingSet:
    """Training examples of a task or a mixture, and the validation data of each of its tasks.

    Attributes
    ----------
    items, lengths
        What the trainer draws ``batch_size`` of at a time, and the tokens of each, by which batches
        are grouped. A mixture's items are whole batches, in order, and have no lengths.
    held_out
        Validation data by component; a task is its own only one.
    examples
        Training examples of an epoch.
    tokens, sequences
        Mean tokens and sequences of an example.
    """

    name: str
    items: Sequence
    held_out: dict[str, Validation]
    pad: int
    examples: int
    tokens: float
    sequences: float
    lengths: list[int] | None = None
    batch_size: int = 1

    @property
    def selection(self) -> dict[str, Any]:
        """Which data models are selected on, and what the best constant answers score there."""
        sets = self.held_out.values()
        languages = dict.fromkeys(code for v in sets for code in v.task.selected_in)
        return {
            "task": self.name,
            "split": "validation",
            "language": ", ".join(languages),
            "n": sum(len(v.rows) for v in sets),
            "majority": float(np.mean([tasks.majority(v.task, v.rows) for v in sets])),
        }

    def collate(self, items: list[dict]) -> dict[str, torch.Tensor]:
        """Features and labels of one component as tensors."""
        return {**batches.collate(items, self.pad), "labels": collate_labels(items)}

    def micro_batches(self, drawn: list) -> list[dict]:
        """What the trainer drew as micro-batches, each with its component and share of labels."""
        component, items = self.name, drawn
        if self.lengths is None:
            component, items = drawn[0]["component"], drawn[0]["batch"]
        task = self.held_out[component].task if component in self.held_out else None
        whole = task and tasks.of(task).head(task)[0] == "vector"  # each is compared with all
        parts = [items] if whole else batches.micro_batches(items)
        found = [self.collate(part) for part in parts]
        counts = [int((part["labels"] != IGNORED).sum()) for part in found]
        return [
            {**part, "component": component, "share": count / sum(counts)}
            for part, count in zip(found, counts, strict=True)
            if count
        ]

    def loss(self, model: Any, batch: dict) -> torch.Tensor:
        """The loss of a micro-batch, the mean over its labels."""
        inputs, labels = (batch["input_ids"], batch["attention_mask"]), batch["labels"]
        model.component = batch.get("component", self.name)
        if model.component == MLM:
            chosen = labels != IGNORED
            return functional.cross_entropy(model(*inputs, chosen), labels[chosen])
        return tasks.of(self.held_out[model.component].task).loss(model(*inputs), labels)

    def validate(self, model: Any) -> float:
        """The mean of the tasks' scores: every task counts the same, whatever its size."""
        scores = []
        for component, validation in self.held_out.items():
            model.component = component
            scores.append(validation.score(model))
        return float(np.mean(scores))


def of_task(
    task: Task,
    train: list[dict],
    validation: list[dict],
    tokenizer: PreTrainedTokenizerFast,
    settings: Hyperparameters,
    cache: Path | None = None,
) -> TrainingSet:
    """The training set of one task; ``cache`` is a folder for tokenised texts."""
    held_out = Validation(task, validation, tokenizer, settings.max_length, cache)
    items = training_items(data.tokenise(task, train, tokenizer, settings.max_length, cache))
    return TrainingSet(
        name=task.name,
        items=items,
        lengths=[item["length"] for item in items],
        batch_size=settings.batch_size,
        held_out={task.name: held_out},
        pad=tokenizer.pad_token_id,
        examples=len(items),
        **means(items),
    )


def means(items: Sequence[dict]) -> dict[str, Any]:
    """Mean tokens and mean sequences of a training item."""
    lengths = [len(ids) for item in items for ids in item["input_ids"]]
    return {"tokens": sum(lengths) / len(items), "sequences": len(lengths) / len(items)}
