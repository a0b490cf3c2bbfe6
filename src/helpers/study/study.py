"""A study: one params file, validated once. It lists the runs and knows where every output lies."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from helpers.study import catalogue, prepared, rules, settings, sweeps
from helpers.study.catalogue import NONE, Name, Strict, StudyError, Task, unknown, validate
from helpers.study.files import project, read_json
from helpers.study.params import (
    Hyperparameters,
    Mixture,
    Needs,
    Notebook,
    Override,
    Phase,
    Run,
    Seeds,
    Size,
    Sweep,
    Target,
    Values,
)

RUN = ["size", "intermediate", "target", "seed"]
"""What names a run: the columns of every table of runs."""
REPETITION = "retry"
"""Beside a collapsed run's results: those of its repetition under the next seed."""
MODEL = "model.safetensors"
"""Beside a run's results where the study keeps models: the weights that were trained."""


class Study(Strict):
    """One params file; ``workspace`` is where in its folder a person's notebooks write."""

    name: Name
    description: str
    catalogue: str = "tasks.yaml"
    data_dir: str | None = None
    sizes: Annotated[dict[Name, Size], Field(min_length=1)]
    intermediate: Annotated[list[Name], Field(min_length=1)]
    mixtures: dict[Name, Mixture] = {}
    variants: dict[Name, Name] = {}
    targets: Annotated[list[Target], Field(min_length=1)]
    seeds: Seeds | dict[Literal["none", "others"], Seeds]
    phases: dict[Phase, Values]
    overrides: list[Override] = []
    sweep: Annotated[Sweep, Field(default=None)]
    trim: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    margin: PositiveFloat = 1.0
    check_sizes: bool = True
    on_bad_row: Literal["error", "skip"] = "error"
    on_leak: Literal["error", "drop"] = "error"
    retry_collapsed: bool = False
    keep_models: bool = False
    checkpoint_minutes: NonNegativeFloat = 15.0
    cluster: dict[Notebook, Needs] = {}
    path: Path
    outputs: Path
    tasks: dict[Name, Task]
    workspace: Path = Path()
    rate: PositiveFloat | None = None
    """The learning rate that the sweep tries; see :meth:`at`."""

    @classmethod
    def load(cls, path: str | Path, outputs: str | Path = "outputs") -> "Study":
        """Read and check a study file and the catalogue that it names.

        Raises
        ------
        StudyError
            One line: the file, the key, what was found and what was expected.
        """
        root = project(path)  # JupyterLab runs notebooks in their folder, batches in the project's
        path = root / path
        raw = catalogue.read_yaml(path)
        for key in raw.keys() & {"path", "outputs", "tasks", "rate", "workspace"}:
            raise StudyError(f"{path}: {key}: unknown key")
        raw |= {"path": path, "outputs": root / outputs, "tasks": {}}
        study = validate(cls, raw, path)
        tasks = catalogue.load(path.parent / study.catalogue)
        for wrong in rules.variants(study.variants, tasks):
            raise StudyError(f"{path}: {wrong}")
        for name, origin in study.variants.items():
            tasks[name] = tasks[origin].model_copy(update={"name": name})
        # Masked language modelling predicts the whole vocabulary, so none of it can be trimmed.
        mixtures = [study.mixtures[i] for i in study.intermediate if i in study.mixtures]
        trim = study.trim and not any(mixture.mlm for mixture in mixtures)
        study = study.model_copy(update={"tasks": tasks, "trim": trim})
        rules.check(study)
        return study

    @property
    def folder(self) -> Path:
        """Where everything that the study makes lies."""
        return self.outputs / self.name

    def target(self, name: str) -> Target:
        """The study's use of the target task ``name``."""
        targets = {target.task: target for target in self.targets}
        if name not in targets:
            raise StudyError(f"{self.path}: {unknown('target', name, targets)}")
        return targets[name]

    def train_on(self, target: str) -> list[str]:
        """English tasks that are trained on, in order, before ``target`` is evaluated."""
        return self.target(target).train_on or self.tasks[target].train_on

    def languages(self, target: str) -> list[str]:
        """Languages that ``target`` is evaluated in."""
        return self.target(target).languages or self.tasks[target].languages

    def components(self, intermediate: str) -> list[str]:
        """Tasks that an intermediate training draws from: a mixture's, or the task itself."""
        mixture = self.mixtures.get(intermediate)
        return mixture.tasks if mixture else [intermediate]

    def hyperparameters(self, phase: Phase, size: str, task: str) -> Hyperparameters:
        """The phase's hyperparameters after the overrides that fit."""
        values = dict(self.phases.get(phase, {}))
        asked = {"size": size, "phase": phase, "task": task}
        for override in self.overrides:
            if all(getattr(override, key) in (None, value) for key, value in asked.items()):
                if {"steps", "epochs"} & override.set.keys():  # one duration replaces the other
                    values = {k: v for k, v in values.items() if k not in ("steps", "epochs")}
                values |= override.set
        if self.sizes[size].tuning == "lora":
            values["train_embeddings"] = False
        if self.sweep:
            values["learning_rate"] = self.rate or sweeps.chosen(self, size)
        return validate(Hyperparameters, values, self.path, f"phases.{phase}")

    def dropped(self, names: Iterable[str]) -> dict[str, int]:
        """Items left out of these tasks' training data because a target evaluates them."""
        splits = prepared.summary(self).get("splits", {})
        found = {cell: split["dropped"] for cell, split in splits.items() if "dropped" in split}
        return {cell: count for cell, count in found.items() if cell.split("/")[0] in names}

    def runs(self) -> list[Run]:
        """Every (size, intermediate, target, seed) of the study."""
        targets = [target.task for target in self.targets]
        return [
            Run(size, intermediate, target, seed)
            for size, intermediate, target in product(self.sizes, self.intermediate, targets)
            for seed in self.seeds_of(intermediate)
        ]

    def seeds_of(self, intermediate: str) -> list[int]:
        """The seeds of the runs after an intermediate task; the baseline may have more of them."""
        if isinstance(self.seeds, list):
            return self.seeds
        return self.seeds["none" if intermediate == NONE else "others"]

    def trainings(self) -> list[tuple[Phase, str]]:
        """Phase and task of every training of a size: what hyperparameters are asked for."""
        trained: list[tuple[Phase, str]] = [
            ("intermediate", i) for i in self.intermediate if i != NONE
        ]
        return trained + [("target", t.task) for t in self.targets if self.train_on(t.task)]

    def readings(self) -> list[tuple[Phase, str]]:
        """Phase and task of all that reads texts: trainings, and targets that may do without."""
        return [*self.trainings(), *(("target", target.task) for target in self.targets)]

    def at(self, rate: float) -> "Study":
        """The study as the sweep tries it: with this learning rate, its runs in other folders."""
        return self.model_copy(update={"rate": rate})

    def needed(self) -> list[tuple[str, str, str]]:
        """Every (task, split, language) that the study reads, each once."""
        trained = {name for i in self.intermediate if i != NONE for name in self.components(i)}
        trained |= {name for target in self.targets for name in self.train_on(target.task)}
        needed: list[tuple[str, str, str]] = []
        for name in sorted(trained):
            needed += product([name], ["train"], self.tasks[name].trained_in)
            needed += product([name], ["validation"], self.tasks[name].selected_in)
        for mixture in (self.mixtures[i] for i in self.intermediate if i in self.mixtures):
            needed += mixture.texts(self.tasks)
        for target in self.targets:
            entry = self.tasks[target.task]
            splits = [split for split in (entry.threshold, entry.evaluate) if split]
            for language in self.languages(entry.name):
                needed += product([entry.name], splits, [language])
            for pool in (self.tasks[name] for name in entry.candidates):
                needed += product([pool.name], [pool.evaluate], pool.languages)
        return list(dict.fromkeys(needed))

    def texts(self) -> list[str]:
        """Names of everything that the study reads: what an encoder's vocabulary must cover."""
        return ["/".join(names) for names in self.needed()]

    def encoder_folder(
        self, size: str, intermediate: str = NONE, seed: int | None = None, new: bool = False
    ) -> Path:
        """The folder of a pretrained encoder, or of one after an intermediate task.

        A person's notebook reads its own if that was made under the present settings, else the
        batch's; a ``new`` one is its own.
        """
        trained = [intermediate] if intermediate != NONE else []
        names = [size, *trained, *(f"seed-{seed}" for _ in trained), "encoder"]
        own, batch = self.folder.joinpath(self.workspace, *names), self.folder.joinpath(*names)
        if new or own == batch:
            return own
        record = read_json((own.parent if trained else own) / "run.json")
        current = record.get("parameters") == self.settings(size, *trained)
        return own if current else batch

    def needs(self, phase: Notebook) -> Needs:
        """What a notebook of ``phase`` asks of a cluster; for the encoder no GPU, if not said."""
        return self.cluster.get(phase) or Needs(gpus=int(phase != "encoder"))

    def run_folder(self, run: Run) -> Path:
        """Where a run's predictions.parquet, scores.json, run.json and notebook.ipynb lie."""
        within = f"sweep/{self.rate}" if self.rate else run.intermediate
        names = run.size, within, run.target, f"seed-{run.seed}"
        return self.folder.joinpath(self.workspace, *names)

    def keeps_model(self, target: str) -> bool:
        """Whether the model of a run on ``target`` is kept; retrieval may train none."""
        return self.keep_models and bool(self.train_on(target))

    def results(self) -> list[Path]:
        """The file of every phase of every run that appears last: those missing are still to do."""
        paths = [self.encoder_folder(size) / "run.json" for size in self.sizes]
        paths += [tried.run_folder(run) / "scores.json" for tried, run in sweeps.trials(self)]
        for run in self.runs():
            if run.intermediate != NONE:
                encoder = self.encoder_folder(run.size, run.intermediate, run.seed)
                paths.append(encoder.with_name("scores.json"))
            paths.append(self.run_folder(run) / "scores.json")
        return list(dict.fromkeys(paths))

    def next_seed(self, seed: int) -> int:
        """The seed under which a collapsed run is repeated: one that the study has not used."""
        return seed + max(run.seed for run in self.runs()) + 1

    def settings(
        self, size: str, intermediate: str | None = None, target: str | None = None
    ) -> dict:
        """Everything that the result of a phase depends on, as plain data.

        Two equal settings mean that a result may be kept; a result is never shown under others.
        """
        return settings.of(self, size, intermediate, target)
