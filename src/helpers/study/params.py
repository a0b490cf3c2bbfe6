"""What a params file says, part by part."""

import math
from typing import Annotated, Literal, NamedTuple

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from helpers.study.catalogue import Name, Strict, once

Phase = Literal["intermediate", "target"]
Notebook = Literal["encoder", "intermediate", "target"]
Share = Annotated[float, Field(ge=0, lt=1)]
Values = dict[str, float | int | bool | None]
"""Hyperparameters by name, before they are checked."""
PLACEBO = "placebo-"
"""The beginning of a placebo's name; the task whose texts it uses follows."""
LONGER = "longer"
"""The control that trains longer on the target, without an intermediate task."""


def task_of(intermediate: str) -> str:
    """The task whose texts an intermediate training uses: a placebo's, or the task itself."""
    return intermediate.removeprefix(PLACEBO)


@pydantic.BeforeValidator
def _placebo(given):
    is_placebo = isinstance(given, dict) and [*given] == ["placebo"]
    return f"{PLACEBO}{given['placebo']}" if is_placebo else given


Intermediate = Annotated[Name, _placebo]
"""A task, a mixture, or a control: ``longer``, or ``placebo: TASK``."""
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]
"""A collapsed training is repeated under a seed beyond these."""


class Seeds(Strict):
    """Seeds of the runs without intermediate task and of the others; one list means both."""

    none: Annotated[list[Seed], Field(min_length=1), once]
    others: Annotated[list[Seed], Field(min_length=1), once]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _one_list(cls, seeds):
        return {"none": seeds, "others": seeds} if isinstance(seeds, list) else seeds


class CrossedSeeds(Strict):
    """Seeds that are all combined: of the trainings, and of the draw of the target's examples."""

    intermediate: Annotated[list[Seed], Field(min_length=2), once]
    target: Annotated[list[Seed], Field(min_length=2), once]
    draw: Annotated[list[Seed], Field(min_length=1), once]


class Crossed(Strict):
    """One condition whose seeds are crossed, to tell where its noise comes from."""

    size: Name
    intermediate: Name
    target: Name
    seeds: CrossedSeeds


class Run(NamedTuple):
    """One fine-tuning on a target, after an intermediate task."""

    size: str
    intermediate: str
    target: str
    seed: int


class Lora(Strict):
    """Low-rank adapters, trained in place of an encoder's weights (Hu et al. 2022).

    ``targets`` are names of linear layers, or ends of names; without any, every linear layer of the
    encoder's layers gets an adapter. Scores as high as with full fine-tuning need that (Dettmers et
    al. 2023). An update is multiplied by ``alpha / rank``. ``dropout`` is added to the encoder's
    own.
    """

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    targets: list[str] = []


class Size(Strict):
    """A pretrained encoder, how a sentence is read off it, and how it is trained.

    With ``gradient_checkpointing`` a training step keeps only the states between layers and
    computes the others twice: less memory, more time, the same result.
    """

    encoder: str
    title: str
    layers: PositiveInt | None = None
    pooling: Literal["mean", "cls"]
    retrieval_layer: PositiveInt | None = None
    retrieval_prefix: str = ""
    tuning: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    gradient_checkpointing: bool = False

    @pydantic.model_validator(mode="after")
    def _adapters_are_asked_for(self):
        if "lora" in self.model_fields_set and self.tuning != "lora":
            raise ValueError("found the key lora, expected tuning: lora with it")
        return self


class Hyperparameters(Strict):
    """What one fine-tuning needs to know. Exactly one of ``steps`` and ``epochs`` is given.

    If ``learning_rate`` is missing, the study's sweep has yet to choose it. ``frozen_layers``
    counts from the lowest layer; the embeddings are frozen with them. ``compile`` (torch.compile)
    takes minutes to start, so it pays off only in long trainings on a GPU.
    """

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt = 1
    learning_rate: PositiveFloat | None
    warmup: Share = 0.1
    weight_decay: NonNegativeFloat = 0.01
    dropout: Share = 0.1
    max_length: Annotated[int, Field(ge=8)]
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


class Sweep(Strict):
    """Learning rates to try; ``sizes`` have their own. The study uses none of these ``seeds``."""

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=2), once]
    sizes: dict[Name, Annotated[list[PositiveFloat], Field(min_length=2), once]] = {}
    seeds: Annotated[list[Seed], Field(min_length=1), once]


class Override(Strict):
    """Hyperparameters that differ for a size, a phase or a task; later overrides win."""

    size: Name | None = None
    phase: Phase | None = None
    task: Name | None = None
    set: Values


class Target(Strict):
    """A target task as this study uses it; the catalogue says the rest."""

    task: Name
    train_on: list[Name] = []
    languages: Annotated[list[str], once] = []

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_name(cls, given):
        return {"task": given} if isinstance(given, str) else given


class PlainText(Strict):
    """Text for masked language modelling: a catalogue entry in some languages (all if none are
    given), or files relative to ``data_dir``, one example per line.
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

    tasks: Annotated[list[Name], Field(min_length=1), once]
    cap: PositiveInt = 131072
    temperature: Annotated[float, Field(ge=0.1)] = 1.0
    mlm: PlainText | None = None

    def shares(self, sizes: dict[str, int]) -> dict[str, float]:
        """Probability of each component: proportional to min(size, cap) ** (1 / temperature)."""
        weights = {k: min(size, self.cap) ** (1 / self.temperature) for k, size in sizes.items()}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}


class Needs(Strict):
    """What a notebook of a phase asks of a cluster; a retry asks for more memory and time."""

    gpus: NonNegativeInt = 1
    memory_gb: PositiveFloat = 16
    minutes: PositiveInt = 120
