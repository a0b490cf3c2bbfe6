"""A study: one params file, validated once. It lists the runs and knows where every output lies. No torch."""

import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from helpers.study import catalogue, rules
from helpers.study.catalogue import NONE, Name, Strict, StudyError, Task, read_yaml, validate

Phase = Literal["intermediate", "target"]
RUN = ["size", "intermediate", "target", "seed"]
"""What names a run: the columns of every table of runs."""
REPETITION = "retry"
"""Beside a collapsed run's results: those of its repetition under the next seed."""


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

    ``frozen_layers`` counts from the lowest and takes the embeddings in. ``compile`` hands the model to torch.compile,
    which pays on long trainings on a GPU: it takes minutes to begin.
    """

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt = 1
    learning_rate: PositiveFloat
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_length: PositiveInt
    train_examples: PositiveInt | None = None
    validation_examples: PositiveInt | None = None
    evaluations: PositiveInt = 4
    train_embeddings: bool = True
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    compile: bool = False

    @model_validator(mode="after")
    def _one_duration(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("expected exactly one of the keys steps and epochs")
        return self

    def total_steps(self, examples: int) -> int:
        """Optimiser steps over a training set of ``examples``."""
        if self.steps:
            return self.steps
        per_epoch = math.ceil(examples / (self.batch_size * self.gradient_accumulation))
        return max(1, round(self.epochs * per_epoch))


class Override(Strict):
    """Hyperparameters that differ for a size, a phase or a task; later overrides win."""

    size: Name | None = None
    phase: Phase | None = None
    task: Name | None = None
    set: dict[str, float | int | bool | None]


class Target(Strict):
    """A target task as this study uses it; what is not given comes from the catalogue."""

    task: Name
    train_on: list[Name] = []
    languages: list[str] = []


class TextFiles(Strict):
    """Text for masked language modelling: files relative to ``data_dir``, an example a line."""

    files: Annotated[list[str], Field(min_length=1)]


class Mixture(Strict):
    """Intermediate training on several tasks at once, each drawn by its size up to ``cap`` examples."""

    tasks: Annotated[list[Name], Field(min_length=1)]
    cap: PositiveInt = 131072
    mlm: TextFiles | None = None


class Needs(Strict):
    """What a notebook of a phase asks of a cluster; a retry asks for more memory and time."""

    gpus: Annotated[int, Field(ge=0)] = 1
    memory_gb: PositiveFloat = 16
    minutes: PositiveInt = 120


class Run(NamedTuple):
    """One fine-tuning on a target, after an intermediate task."""

    size: str
    intermediate: str
    target: str
    seed: int


class Study(Strict):
    """One params file."""

    name: Name
    description: str
    catalogue: str = "tasks.yaml"
    data_dir: str | None = None
    sizes: Annotated[dict[Name, Size], Field(min_length=1)]
    intermediate: Annotated[list[Name], Field(min_length=1)]
    mixtures: dict[Name, Mixture] = {}
    targets: Annotated[list[Target], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    phases: dict[Phase, dict[str, float | int | bool | None]]
    overrides: list[Override] = []
    trim: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    check_sizes: bool = True
    on_bad_row: Literal["error", "skip"] = "error"
    retrieval: Name | None = None
    retry_collapsed: bool = False
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 15.0
    cluster: dict[Literal["encoder", "intermediate", "target"], Needs] = {}
    path: Path
    outputs: Path
    tasks: dict[Name, Task]

    @classmethod
    def load(cls, path: str | Path, outputs: str | Path = "outputs") -> "Study":
        """Read and check a study file and the catalogue that it names.

        Raises
        ------
        StudyError
            One line: the file, the key, what was found and what was expected.
        """
        path, root = Path(path), Path()
        if not path.exists() and not path.is_absolute() and (Path("..") / path).exists():
            root = Path(
                ".."
            )  # a notebook opened in JupyterLab works in notebooks/, batches in the project folder
        path = root / path
        raw = read_yaml(path)
        raw["targets"] = [{"task": t} if isinstance(t, str) else t for t in raw.get("targets", [])]
        tasks = catalogue.load(path.parent / raw.get("catalogue", "tasks.yaml"))
        for key in {"path", "outputs", "tasks"} & raw.keys():
            raise StudyError(f"{path}: {key}: unknown key")
        study = validate(cls, {**raw, "path": path, "outputs": root / outputs, "tasks": {}}, path)
        # Masked language modelling predicts the whole vocabulary, so none of it can be trimmed.
        whole = any(study.mixtures[i].mlm for i in study.intermediate if i in study.mixtures)
        study = study.model_copy(update={"tasks": tasks, "trim": study.trim and not whole})
        rules.check(study)
        return study

    @property
    def folder(self) -> Path:
        """Where everything that the study makes lies."""
        return self.outputs / self.name

    def target(self, name: str) -> Target:
        """The study's use of the target task ``name``."""
        for target in self.targets:
            if target.task == name:
                return target
        raise StudyError(
            f"{self.path}: no target '{name}'; expected one of {[t.task for t in self.targets]}"
        )

    def train_on(self, target: str) -> list[str]:
        """English tasks that are trained on, in order, before ``target`` is evaluated."""
        return self.target(target).train_on or self.tasks[target].train_on

    def languages(self, target: str) -> list[str]:
        """Languages that ``target`` is evaluated in."""
        return self.target(target).languages or self.tasks[target].languages

    def components(self, intermediate: str) -> list[str]:
        """Tasks that an intermediate training draws from: a mixture's, or the task itself."""
        return (
            self.mixtures[intermediate].tasks if intermediate in self.mixtures else [intermediate]
        )

    def hyperparameters(self, phase: Phase, size: str, task: str) -> Hyperparameters:
        """The phase's hyperparameters after the overrides that fit."""
        values = dict(self.phases.get(phase, {}))
        for o in self.overrides:
            if all(
                want in (None, have)
                for want, have in ((o.size, size), (o.phase, phase), (o.task, task))
            ):
                if {"steps", "epochs"} & o.set.keys():  # one duration replaces the other
                    values = {k: v for k, v in values.items() if k not in ("steps", "epochs")}
                values |= o.set
        return validate(Hyperparameters, values, self.path, f"phases.{phase}")

    def runs(self) -> list[Run]:
        """Every (size, intermediate, target, seed) of the study."""
        return [
            Run(size, i, t.task, seed)
            for size in self.sizes
            for i in self.intermediate
            for t in self.targets
            for seed in self.seeds
        ]

    def needed(self) -> list[tuple[str, str, str]]:
        """Every (task, split, language) that the study reads, each once."""
        trained = {name for i in self.intermediate if i != NONE for name in self.components(i)}
        trained |= {name for t in self.targets for name in self.train_on(t.task)}
        cells = []
        for name in sorted(trained):
            cells += [(name, "train", language) for language in self.tasks[name].trained_in]
            cells += [(name, "validation", language) for language in self.tasks[name].selected_in]
        for target in self.targets:
            entry = self.tasks[target.task]
            splits = [entry.threshold, entry.evaluate] if entry.threshold else [entry.evaluate]
            cells += [
                (target.task, split, language)
                for language in self.languages(target.task)
                for split in splits
            ]
        return list(dict.fromkeys(cells))

    def texts(self) -> list[str]:
        """Names of everything that the study reads: what an encoder's vocabulary must cover."""
        return ["/".join(cell) for cell in self.needed()]

    def encoder_folder(self, size: str, intermediate: str = NONE, seed: int | None = None) -> Path:
        """The folder of a pretrained encoder, or of one after an intermediate task."""
        if intermediate == NONE:
            return self.folder / size / "encoder"
        return self.folder / size / intermediate / f"seed-{seed}" / "encoder"

    def needs(self, phase: str) -> Needs:
        """What a notebook of ``phase`` asks of a cluster; the encoder's asks for no GPU unless the study says so."""
        return self.cluster.get(phase) or Needs(gpus=int(phase != "encoder"))

    def run_folder(self, run: Run) -> Path:
        """Where a run's predictions.parquet, scores.json, run.json and notebook.ipynb lie."""
        return self.folder / run.size / run.intermediate / run.target / f"seed-{run.seed}"

    def results(self) -> list[Path]:
        """The file of every phase of every run that appears last: what is missing among them is still to do."""
        paths = [self.encoder_folder(size) / "run.json" for size in self.sizes]
        for run in self.runs():
            if run.intermediate != NONE:
                paths.append(
                    self.encoder_folder(run.size, run.intermediate, run.seed).parent / "scores.json"
                )
            paths.append(self.run_folder(run) / "scores.json")
        return list(dict.fromkeys(paths))

    def next_seed(self, seed: int) -> int:
        """The seed under which a collapsed run is repeated: one that the study has not used."""
        return seed + max(self.seeds) + 1

    def settings(
        self, size: str, intermediate: str | None = None, target: str | None = None
    ) -> dict:
        """Everything that the result of a phase depends on, as plain data.

        Two equal settings mean that a result may be kept; a result is never shown under others.
        """
        settings = {
            "encoder": self.sizes[size].model_dump(mode="json", exclude={"title"}),
            "trim": self.trim,
        }
        if self.precision != "auto":  # what auto has measured is kept with the study
            settings["precision"] = self.precision
        if intermediate not in (None, NONE):
            names = self.components(intermediate)
            settings["intermediate"] = self._training_settings(
                "intermediate", size, intermediate, names
            )
            if intermediate in self.mixtures:
                settings["intermediate"]["mixture"] = self.mixtures[intermediate].model_dump(
                    mode="json"
                )
                lengths = {
                    name: self.hyperparameters("intermediate", size, name).max_length
                    for name in names
                }
                settings["intermediate"]["max_lengths"] = lengths
        if target is not None:
            settings["target"] = {
                **self._training_settings("target", size, target, self.train_on(target)),
                "languages": self.languages(target),
                "evaluated": self._task_settings(target),
            }
        return settings

    def _training_settings(self, phase: Phase, size: str, task: str, train_on: list[str]) -> dict:
        return {
            "hyperparameters": self.hyperparameters(phase, size, task).model_dump(mode="json"),
            "trained_on": {name: self._task_settings(name) for name in train_on},
        }

    def _task_settings(self, name: str) -> dict:
        prose = {"licence", "citation", "languages", "sizes", "train_on"}
        settings = self.tasks[name].model_dump(mode="json", exclude=prose, exclude_defaults=True)
        if self.tasks[name].parts:
            settings["parts"] = {part: self._task_settings(part) for part in self.tasks[name].parts}
        return settings
