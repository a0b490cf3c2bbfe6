"""A study: one params file, validated once. It lists the runs and knows where every output lies."""

from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from helpers.study import catalogue, rules
from helpers.study.catalogue import NONE, Name, Strict, StudyError, Task, unknown, validate
from helpers.study.files import read_json
from helpers.study.params import (
    Hyperparameters,
    Mixture,
    Needs,
    Override,
    Phase,
    Size,
    Target,
    Values,
)

RUN = ["size", "intermediate", "target", "seed"]
"""What names a run: the columns of every table of runs."""
REPETITION = "retry"
"""Beside a collapsed run's results: those of its repetition under the next seed."""
MODEL = "model.safetensors"
"""Beside a run's results where the study keeps models: the weights that were trained."""


class Run(NamedTuple):
    """One fine-tuning on a target, after an intermediate task."""

    size: str
    intermediate: str
    target: str
    seed: int


def project(path: str | Path) -> Path:
    """The nearest folder, from here upwards, that ``path`` is relative to; here without one."""
    above = [Path(*[".."] * steps) for steps in range(len(Path.cwd().parts))]
    return next((folder for folder in above if (folder / path).exists()), Path())


class Study(Strict):
    """One params file.

    ``keep_models`` keeps the trained layers and the head of every run. ``workspace`` is a folder in
    the study's own where a person's notebooks write, apart from the batch.
    """

    name: Name
    description: str
    catalogue: str = "tasks.yaml"
    data_dir: str | None = None
    sizes: Annotated[dict[Name, Size], Field(min_length=1)]
    intermediate: Annotated[list[Name], Field(min_length=1)]
    mixtures: dict[Name, Mixture] = {}
    targets: Annotated[list[Target], Field(min_length=1)]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    phases: dict[Phase, Values]
    overrides: list[Override] = []
    trim: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    check_sizes: bool = True
    on_bad_row: Literal["error", "skip"] = "error"
    retry_collapsed: bool = False
    keep_models: bool = False
    checkpoint_minutes: NonNegativeFloat = 15.0
    cluster: dict[Literal["encoder", "intermediate", "target"], Needs] = {}
    path: Path
    outputs: Path
    tasks: dict[Name, Task]
    workspace: Path = Path()

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
        for key in raw.keys() & {"path", "outputs", "tasks", "workspace"}:
            raise StudyError(f"{path}: {key}: unknown key")
        raw |= {"path": path, "outputs": root / outputs, "tasks": {}}
        study = validate(cls, raw, path)
        tasks = catalogue.load(path.parent / study.catalogue)
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
        return validate(Hyperparameters, values, self.path, f"phases.{phase}")

    def runs(self) -> list[Run]:
        """Every (size, intermediate, target, seed) of the study."""
        targets = [target.task for target in self.targets]
        names = product(self.sizes, self.intermediate, targets, self.seeds)
        return [Run(*run) for run in names]

    def needed(self) -> list[tuple[str, str, str]]:
        """Every (task, split, language) that the study reads, each once."""
        trained = {name for i in self.intermediate if i != NONE for name in self.components(i)}
        trained |= {name for target in self.targets for name in self.train_on(target.task)}
        needed: list[tuple[str, str, str]] = []
        for name in sorted(trained):
            needed += product([name], ["train"], self.tasks[name].trained_in)
            needed += product([name], ["validation"], self.tasks[name].selected_in)
        for target in self.targets:
            entry = self.tasks[target.task]
            splits = [split for split in (entry.threshold, entry.evaluate) if split]
            for language in self.languages(entry.name):
                needed += product([entry.name], splits, [language])
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
        record = read_json((own.parent if trained else own) / "run.json")
        current = record.get("parameters") == self.settings(size, *trained)
        return own if new or (own != batch and current) else batch

    def needs(self, phase: str) -> Needs:
        """What a notebook of ``phase`` asks of a cluster; for the encoder no GPU, if not said."""
        return self.cluster.get(phase) or Needs(gpus=int(phase != "encoder"))

    def run_folder(self, run: Run) -> Path:
        """Where a run's predictions.parquet, scores.json, run.json and notebook.ipynb lie."""
        names = run.size, run.intermediate, run.target, f"seed-{run.seed}"
        return self.folder.joinpath(self.workspace, *names)

    def keeps_model(self, target: str) -> bool:
        """Whether the model of a run on ``target`` is kept; retrieval trains none."""
        return self.keep_models and self.tasks[target].format != "retrieval"

    def results(self) -> list[Path]:
        """The file of every phase of every run that appears last: those missing are still to do."""
        paths = [self.encoder_folder(size) / "run.json" for size in self.sizes]
        for run in self.runs():
            if run.intermediate != NONE:
                encoder = self.encoder_folder(run.size, run.intermediate, run.seed)
                paths.append(encoder.with_name("scores.json"))
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
        encoder = self.sizes[size].model_dump(mode="json", exclude={"title"})
        settings: dict = {"encoder": encoder, "trim": self.trim}
        if self.precision != "auto":  # what auto has measured is kept with the study
            settings["precision"] = self.precision
        if intermediate not in (None, NONE):
            names = self.components(intermediate)
            training = self._training_settings("intermediate", size, intermediate, names)
            if mixture := self.mixtures.get(intermediate):
                own = {name: self.hyperparameters("intermediate", size, name) for name in names}
                training["mixture"] = mixture.model_dump(mode="json")
                training["max_lengths"] = {name: h.max_length for name, h in own.items()}
            settings["intermediate"] = training
        if target is not None:
            training = self._training_settings("target", size, target, self.train_on(target))
            training["languages"] = self.languages(target)
            training["evaluated"] = self._task_settings(target)
            settings["target"] = training
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
