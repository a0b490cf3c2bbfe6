"""What a params file says, part by part."""

import math
from typing import Annotated, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from helpers.study.catalogue import Name, Strict, Task

Phase = Literal["intermediate", "target"]
Notebook = Literal["encoder", "intermediate", "target"]
Share = Annotated[float, Field(ge=0, lt=1)]
Seeds = list[NonNegativeInt]
Values = dict[str, float | int | bool | None]
"""Hyperparameters by name, before they are checked."""


class Size(Strict):
    """A pretrained encoder and how a sentence is read off it."""

    encoder: str
    title: str
    layers: PositiveInt | None = None
    pooling: Literal["mean", "cls"]
    retrieval_layer: PositiveInt | None = None
    retrieval_prefix: str = ""


class Hyperparameters(Strict):
    """What one fine-tuning needs to know. Exactly one of ``steps`` and ``epochs`` is given.

    ``frozen_layers`` counts from the lowest and takes the embeddings in. ``compile`` hands the
    model to torch.compile, which pays on long trainings on a GPU: it takes minutes to begin.
    """

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt = 1
    learning_rate: PositiveFloat
    warmup: Share = 0.1
    weight_decay: NonNegativeFloat = 0.01
    dropout: Share = 0.1
    max_length: PositiveInt
    train_examples: PositiveInt | None = None
    validation_examples: PositiveInt | None = None
    evaluations: PositiveInt = 4
    train_embeddings: bool = True
    frozen_layers: NonNegativeInt = 0
    compile: bool = False

    @pydantic.model_validator(mode="after")
    def _one_duration(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("expected exactly one of the keys steps and epochs")
        return self

    def total_steps(self, examples: int) -> int:
        """Optimiser steps over a training set of ``examples``."""
        if self.steps:
            return self.steps
        assert self.epochs  # as checked: one of the two is given
        per_epoch = math.ceil(examples / (self.batch_size * self.gradient_accumulation))
        return max(1, round(self.epochs * per_epoch))


class Override(Strict):
    """Hyperparameters that differ for a size, a phase or a task; later overrides win."""

    size: Name | None = None
    phase: Phase | None = None
    task: Name | None = None
    set: Values


class Target(Strict):
    """A target task as this study uses it; what is not given comes from the catalogue."""

    task: Name
    train_on: list[Name] = []
    languages: list[str] = []

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_name(cls, given):
        return {"task": given} if isinstance(given, str) else given


class PlainText(Strict):
    """Text for masked language modelling: a catalogue entry of that format in some languages (all
    if none are given), or files relative to ``data_dir``, an example a line.
    """

    files: list[str] = []
    task: Name | None = None
    languages: list[str] = []

    @pydantic.model_validator(mode="after")
    def _one_source(self):
        if bool(self.files) == bool(self.task):
            raise ValueError("expected exactly one of the keys files and task")
        return self


class Mixture(Strict):
    """Intermediate training on several tasks at once."""

    tasks: Annotated[list[Name], Field(min_length=1)]
    cap: PositiveInt = 131072
    temperature: PositiveFloat = 1.0
    mlm: PlainText | None = None

    def shares(self, sizes: dict[str, int]) -> dict[str, float]:
        """Probability of each component: as min(size, cap) to the power of 1 / temperature."""
        weights = {k: min(size, self.cap) ** (1 / self.temperature) for k, size in sizes.items()}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def texts(self, tasks: dict[str, Task]) -> list[tuple[str, str, str]]:
        """(task, split, language) of its text; none where that is of own files."""
        if not self.mlm or not self.mlm.task:
            return []
        languages = self.mlm.languages or tasks[self.mlm.task].languages
        return [(self.mlm.task, "train", language) for language in languages]


class Needs(Strict):
    """What a notebook of a phase asks of a cluster; a retry asks for more memory and time."""

    gpus: NonNegativeInt = 1
    memory_gb: PositiveFloat = 16
    minutes: PositiveInt = 120
