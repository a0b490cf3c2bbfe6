"""What one training draws from and is scored by: features, a loss, English validation data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from helpers import data, tasks
from helpers.encoders.batches import collate, collate_labels, micro_batches, training_items
from helpers.encoders.model import EncoderModel, predict
from helpers.study import Hyperparameters, Study, Task


@dataclass
class TrainingSet:
    """Everything that differs between a training on one task and a training on several.

    Attributes
    ----------
    items, lengths
        What the trainer draws ``batch_size`` of at a time, and the tokens of each, by which batches
        are grouped; no lengths mean that the items are in order already.
    split, collate, loss
        What the trainer drew to micro-batches; a micro-batch to tensors; (model, tensors) to a
        loss, the mean over the micro-batch's labels.
    validate
        The score, in points, of a model on validation data.
    selection
        What is said of the selection, without its score.
    examples
        Training examples of an epoch.
    tokens, sequences
        Mean tokens and sequences of an example.
    """

    name: str
    items: Sequence
    lengths: list[int] | None
    batch_size: int
    split: Callable[[list], list]
    collate: Callable[..., dict]
    loss: Callable[[Any, dict], torch.Tensor]
    validate: Callable[[Any], float]
    selection: dict
    examples: int
    tokens: float
    sequences: float


def of_task(
    task: Task,
    train: list[dict],
    validation: list[dict],
    tokenizer: PreTrainedTokenizerFast,
    settings: Hyperparameters,
    cache: Path | None = None,
) -> TrainingSet:
    """The training set of one task; ``cache`` is a folder for tokenised texts."""
    module, pad = tasks.of(task), tokenizer.pad_token_id
    held_out = Validation(task, validation, tokenizer, settings.max_length, cache)
    features = data.tokenise(task, train, tokenizer, settings.max_length, cache)
    items = training_items(features)
    tokens, sequences = means(items)
    return TrainingSet(
        name=task.name,
        items=items,
        lengths=[item["length"] for item in items],
        batch_size=settings.batch_size,
        split=micro_batches if module.head(task)[0] != "vector" else lambda drawn: [drawn],
        collate=lambda batch: {**collate(batch, pad), "labels": collate_labels(batch)},
        loss=lambda model, batch: module.loss(
            model(batch["input_ids"], batch["attention_mask"]), batch["labels"]
        ),
        validate=held_out.score,
        selection=held_out.selection,
        examples=len(items),
        tokens=tokens,
        sequences=sequences,
    )


def drawn(study: Study, name: str, settings: Hyperparameters, seed: int) -> list[dict]:
    """The training examples of a task that a training with ``seed`` sees."""
    return data.sample(data.trained_on(study, name, "train"), settings.train_examples, seed)


def held_out(study: Study, name: str, settings: Hyperparameters) -> list[dict]:
    """The validation examples of a task, the same for every seed."""
    return data.sample(data.trained_on(study, name, "validation"), settings.validation_examples, 0)


def means(items: Sequence[dict]) -> tuple[float, float]:
    """Mean tokens and mean sequences of a training item."""
    tokens = sum(len(ids) for item in items for ids in item["input_ids"])
    return tokens / len(items), sum(len(item["input_ids"]) for item in items) / len(items)


class Validation:
    """The validation data of one task, as a model is scored on it.

    Attributes
    ----------
    selection
        Which data it is, and what the best constant answer scores there.
    """

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
        self.selection: dict[str, Any] = {
            "task": task.name,
            "split": "validation",
            "language": "en" if "en" in task.languages else ", ".join(task.selected_in),
            "n": len(rows),
            "majority": tasks.majority(task, rows),
        }

    def score(self, model: EncoderModel) -> float:
        """The model's score on the data, in points."""
        logits = predict(model, self.features, self.pad)
        rows = tasks.of(self.task).decode(self.task, self.rows, self.features, logits)
        return tasks.score([row["credit"] for row in rows], [row["out_of"] for row in rows])
