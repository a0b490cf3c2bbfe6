"""English examples as a training sees them: features, batches in order, and validation data.

All batches of a training are planned before it begins, with a random generator of their own. So a
training that was stopped goes on with the batch that would have come next.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from helpers import data, formats
from helpers.encoders.batches import length, training_items
from helpers.encoders.model import EncoderModel, predict
from helpers.formats.labels import IGNORED
from helpers.study import Condition, Stage, StudyError, Task

MLM = "masked language modelling"
"""The component of a mixture that is no task."""
MASKED = 0.15
"""Share of the tokens that masked language modelling asks for: 80 % of them are hidden, 10 %
replaced and 10 % left (Devlin et al. 2019)."""
_GROUP = 50
"""Batches whose examples are sorted by length together."""


class Validation:
    """The validation data of one task, on which a model is scored."""

    def __init__(self, task: Task, rows: list[dict], tokenizer, max_length: int):
        self.task, self.rows, self.pad = task, rows, tokenizer.pad_token_id
        self.features = formats.of(task).features(task, rows, tokenizer, max_length)

    def score(self, model: EncoderModel) -> float:
        """The model's score on the data, in points."""
        logits = predict(model, self.features, self.pad)
        rows = formats.of(self.task).decode(self.task, self.rows, self.features, logits)
        return formats.score([row["credit"] for row in rows], [row["out_of"] for row in rows])


@dataclass
class Examples:
    """A stage's batches in the order that its training takes them, and what scores it."""

    stage: Stage
    plan: list[tuple[str, np.ndarray]]
    """Component and item numbers of each batch: as many as steps, times the batches that a step
    accumulates."""
    items: dict[str, list[dict]]
    """The features of each component."""
    validation: dict[str, Validation]
    """By task; a mixture has several."""
    tokenizer: PreTrainedTokenizerFast
    seed: int
    steps: int
    """Optimiser steps."""

    def __len__(self):
        return len(self.plan)

    def __getitem__(self, index: int) -> dict:
        component, numbers = self.plan[index]
        batch = [self.items[component][number] for number in numbers]
        if component == MLM:  # the same tokens are hidden when a training resumes here
            generator = np.random.default_rng([self.seed, index])
            batch = [_mask(item, self.tokenizer, generator) for item in batch]
        return {"component": component, "batch": batch}

    @property
    def selection(self) -> dict[str, Any]:
        """Which data models are selected on, and what the best constant answers score there."""
        parts = list(self.validation.values())
        languages = dict.fromkeys(code for part in parts for code in part.task.selected_in)
        constant = [formats.majority(part.task, part.rows) for part in parts]
        return {
            "task": self.stage.name,
            "split": "validation",
            "language": ", ".join(languages),
            "n": sum(len(part.rows) for part in parts),
            "majority": float(np.mean(constant)),
        }

    def score(self, model: Any) -> float:
        """The mean of the tasks' scores: every task counts the same, whatever its size."""
        scores = []
        for name, validation in self.validation.items():
            model.head.component = name
            scores.append(validation.score(model))
        return float(np.mean(scores))


def english(
    condition: Condition, tokenizer: PreTrainedTokenizerFast, seed: int, draw: int | None = None
) -> list[Examples]:
    """The English examples of every stage of a condition, as a training with ``seed`` sees them.

    ``draw`` decides which examples are drawn; without it, ``seed`` does.

    Raises StudyError where a mixture's text file is missing, or the tokenizer has no mask for it.
    """
    draw = seed if draw is None else draw
    pairs = zip(condition.stages, condition.steps(), strict=True)
    return [_stage(condition, stage, steps, tokenizer, seed, draw) for stage, steps in pairs]


def _stage(
    condition: Condition, stage: Stage, steps: int, tokenizer, seed: int, draw: int
) -> Examples:
    """Each batch of a mixture comes from one task. Tasks are drawn in proportion to their sizes, up
    to a cap (Phang et al. 2020: 2^17); a temperature may flatten this.
    """
    values, mixture = condition.hyperparameters, stage.mixture
    rows, validation = {}, {}
    for name, task in stage.tasks.items():
        drawn = data.trained_on(condition.study.data, task, "train")
        rows[name] = data.sample(drawn, values.train_examples, draw)
        if stage.shuffled:
            rows[name] = formats.shuffled(task, rows[name], seed)
        held_out = data.trained_on(condition.study.data, task, "validation")
        held_out = data.sample(held_out, values.validation_examples, 0)  # the same for every seed
        validation[name] = Validation(task, held_out, tokenizer, stage.max_lengths[name])
    if stage.mlm:
        rows[MLM] = _texts(condition, stage, tokenizer)
    sizes = {component: len(some) for component, some in rows.items()}
    shares = mixture.shares(sizes) if mixture else {stage.name: 1.0}
    count = steps * values.gradient_accumulation
    generator = np.random.default_rng([seed, count])
    order = generator.choice(list(shares), size=count, p=list(shares.values()))
    items = {}
    for component, some in rows.items():
        used = max(1, int((order == component).sum())) * values.batch_size
        again = [draw, 1] if values.train_examples else draw  # a second draw needs other numbers
        some = data.sample(some, used, again)  # more would be tokenised and never seen
        if component == MLM:
            texts = [row["text"] for row in some]
            cut = tokenizer(texts, truncation=True, max_length=values.max_length)["input_ids"]
            items[MLM] = [{"input_ids": [ids], "labels": 0} for ids in cut]
        else:
            task, length = stage.tasks[component], stage.max_lengths[component]
            features = formats.of(task).features(task, some, tokenizer, length)
            items[component] = training_items(features)
    streams = {c: _stream(some, values.batch_size, generator) for c, some in items.items()}
    plan = [(str(component), next(streams[component])) for component in order]
    return Examples(stage, plan, items, validation, tokenizer, seed, steps)


def _texts(condition: Condition, stage: Stage, tokenizer) -> list[dict]:
    """The plain text that a mixture models."""
    if tokenizer.mask_token_id is None:
        wrong = "the tokenizer has no mask; expected one for masked language models"
        raise StudyError(f"{condition.study.path}: mixtures.{stage.name}.mlm: {wrong}")
    rows: list[dict] = []
    for cell in stage.cells:
        if cell[0] is stage.text:
            rows += data.examples(condition.study.data, *cell)
    for file in stage.mlm.files if stage.mlm else []:
        path = Path(condition.study.files_folder or "") / file
        rows += [{"text": line} for line in data.lines(path)]
    return rows


def _stream(items: list[dict], size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of item numbers: each epoch in a new order, like lengths together."""
    group = size * max(1, min(_GROUP, len(items) // (4 * size)))
    while True:
        order, batches = generator.permutation(len(items)), []
        for low in range(0, len(order), group):
            part = sorted(order[low : low + group], key=lambda number: -length(items[number]))
            batches += [np.array(part[at : at + size]) for at in range(0, len(part), size)]
        for at in generator.permutation(len(batches)):
            yield batches[at]


def _mask(item: dict, tokenizer, generator: np.random.Generator) -> dict:
    """A line with tokens hidden, and the hidden tokens as labels."""
    ids = np.array(item["input_ids"][0])
    free = ~np.isin(ids, tokenizer.all_special_ids)
    chosen = free & (generator.random(len(ids)) < MASKED)
    if free.any() and not chosen.any():
        chosen[generator.choice(np.flatnonzero(free))] = True
    labels, draw = np.where(chosen, ids, IGNORED), generator.random(len(ids))
    ids = np.where(chosen & (draw < 0.8), tokenizer.mask_token_id, ids)
    ids = np.where(chosen & (draw >= 0.9), generator.integers(len(tokenizer), size=len(ids)), ids)
    return {"input_ids": [ids], "labels": [labels.tolist()]}
