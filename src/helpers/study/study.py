"""A study: one params file, validated once. It lists the runs and knows where every output lies."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from IPython import get_ipython
from pydantic import Field, NonNegativeFloat, PositiveFloat

from helpers.study import catalogue, rules, sweeps
from helpers.study.catalogue import NONE, Name, Strict, StudyError, Task, unknown, validate
from helpers.study.condition import Condition, Stage
from helpers.study.files import project, read_json, write_json
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

LAYOUT = "0.3"
"""Version of the layout of the outputs; results of another one are refused."""
BY_HAND = "interactive"
"""Folder in a study's outputs for notebooks whose results do not join the batch's."""


class Study(Strict):
    """One params file."""

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

    @classmethod
    def load(cls, path: "str | Path | Study", outputs: str | Path = "outputs") -> "Study":
        """Read and check a study file and the catalogue that it names.

        The project's folder becomes the working folder: paths in params are relative to it, but
        JupyterLab runs a notebook in the notebook's folder.

        Raises
        ------
        StudyError
            One line: the file, the key, what was found and what was expected.
        """
        if isinstance(path, Study):  # a notebook's cell that is run again
            return path
        path = Path(path).expanduser()
        if not path.is_absolute():
            os.chdir(project(path))
        raw = catalogue.read_yaml(path)
        for key in raw.keys() & {"path", "outputs", "tasks"}:
            raise StudyError(f"{path}: {key}: unknown key")
        raw |= {"path": path, "outputs": Path(str(outputs)).expanduser(), "tasks": {}}
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

    @property
    def data(self) -> Path:
        """Where the study keeps the examples that it read."""
        return self.folder / "data"

    @property
    def files_folder(self) -> Path | None:
        """What own files are relative to: the key data_dir, or the environment's DATA_DIR."""
        folder = self.data_dir or os.environ.get("DATA_DIR")
        return Path(folder).expanduser() if folder else None

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

    def trained_in(self, target: str) -> list[str]:
        """Languages of a target's training data; English where it is scored without training."""
        codes = {code for name in self.train_on(target) for code in self.tasks[name].trained_in}
        return sorted(codes) or self.tasks[target].trained_in

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
            values["learning_rate"] = sweeps.chosen(self, size)
        return validate(Hyperparameters, values, self.path, f"phases.{phase}")

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

    def trainings(self, untrained: bool = False) -> list[tuple[Phase, str]]:
        """Phase and task of every training of a size; with ``untrained`` every target."""
        trained: list[tuple[Phase, str]] = []
        trained += [("intermediate", name) for name in self.intermediate if name != NONE]
        targets = [target.task for target in self.targets]
        return trained + [("target", name) for name in targets if untrained or self.train_on(name)]

    def needed(self) -> list[tuple[str, str, str]]:
        """Every (task, split, language) that the study reads, each once."""
        trained = {name for i in self.intermediate if i != NONE for name in self.components(i)}
        trained |= {name for target in self.targets for name in self.train_on(target.task)}
        cells = [cell for name in sorted(trained) for cell in self._trained_cells(name)]
        for mixture in (self.mixtures[i] for i in self.intermediate if i in self.mixtures):
            cells += mixture.texts(self.tasks)
        for target in self.targets:
            cells += self._evaluated_cells(target.task)
        return list(dict.fromkeys(cells))

    def _trained_cells(self, name: str) -> list[tuple[str, str, str]]:
        task = self.tasks[name]
        cells = [*product([name], ["train"], task.trained_in)]
        return [*cells, *product([name], ["validation"], task.selected_in)]

    def _evaluated_cells(self, name: str) -> list[tuple[str, str, str]]:
        task = self.tasks[name]
        splits = [split for split in (task.threshold, task.evaluate) if split]
        cells = [(name, split, code) for code in self.languages(name) for split in splits]
        for pool in (self.tasks[other] for other in task.candidates):
            cells += product([pool.name], [pool.evaluate], pool.languages)
        return cells

    def needs(self, phase: Notebook) -> Needs:
        """What a notebook of ``phase`` asks of a cluster. By default phase 1 needs no GPU."""
        return self.cluster.get(phase) or Needs(gpus=int(phase != "encoder"))

    def condition(
        self, size: str, intermediate: str = NONE, target: str | None = None, join: bool = True
    ) -> Condition:
        """What the notebook of phase 2 (no ``target``) or 3 trains.

        Parameters
        ----------
        join
            Whether its results take their place among the batch's. If not, they go to the folder
            ``interactive``. They start from an encoder there, or else from the batch's.

        Raises
        ------
        StudyError
            The study has no such size, task or target, or its data has not been read.
        """
        size = str(size)  # papermill reads the name 12 as a number
        targets = [entry.task for entry in self.targets]
        known = {"size": self.sizes, "intermediate task": self.intermediate, "target": targets}
        chosen = (size, intermediate, targets[0] if target is None else target)
        for (kind, names), name in zip(known.items(), chosen, strict=True):
            if name not in names:
                raise StudyError(f"{self.path}: {unknown(kind, name, names)}")
        if target is None and intermediate == NONE:
            raise StudyError(f"{self.path}: 'none' is no training; expected an intermediate task")
        before = None
        if target is not None and intermediate != NONE:
            before = self._made(self.condition(size, intermediate), join)
        names = [size, intermediate, *([target] if target else [])]
        phase: Phase = "target" if target else "intermediate"
        return self._condition(
            phase, size, intermediate, target, join, seeds=self.seeds_of(intermediate),
            before=before, folder=self._root(join).joinpath(*names),
        )  # fmt: skip

    def trial(self, size: str, target: str, rate: float, join: bool = True) -> Condition:
        """A training of the sweep: a target from the pretrained encoder, with this rate."""
        condition = self._condition(
            "target", size, NONE, target, join, seeds=self.sweep.seeds, before=None,
            folder=self._root(join) / size / "sweep" / f"{rate:g}" / target,
        )  # fmt: skip
        values = condition.hyperparameters.model_copy(update={"learning_rate": rate})
        settings = self._settings(size, NONE, target, values) | {"languages": []}
        changes: dict[str, Any] = {"hyperparameters": values, "settings": settings}
        changes |= {"evaluated": None, "languages": [], "keep_models": False}
        return Condition(**{**vars(condition), **changes, "retry_collapsed": False})

    def _condition(
        self,
        phase: Phase,
        size: str,
        intermediate: str,
        target: str | None,
        join: bool,
        **places: Any,
    ) -> Condition:
        name = target or intermediate
        values = self.hyperparameters(phase, size, name)
        used = self.train_on(target) if target else [intermediate]
        return Condition(
            study=str(self.path),
            size=size,
            encoder=self.sizes[size],
            intermediate=intermediate,
            target=target,
            hyperparameters=values,
            stages=[self._stage(size, task, values) for task in used],
            evaluated=self.labelled(target) if target else None,
            languages=self.languages(target) if target else [],
            candidates=[self.tasks[pool] for pool in self.tasks[name].candidates] if target else [],
            trained_in=self.trained_in(target) if target else [],
            settings=self._settings(size, intermediate, target, values),
            home=self._home(size, join),
            data=self.data,
            data_dir=self.files_folder,
            precision=self.precision,
            checkpoint_minutes=self.checkpoint_minutes,
            retry_collapsed=self.retry_collapsed,
            keep_models=self.keep_models,
            **places,
        )

    def _stage(self, size: str, name: str, values: Hyperparameters) -> Stage:
        mixture = self.mixtures.get(name)
        if mixture is None:
            return Stage(name, {name: self.labelled(name)}, {name: values.max_length})
        tasks = {task: self.labelled(task) for task in mixture.tasks}
        lengths = {t: self.hyperparameters("intermediate", size, t).max_length for t in tasks}
        text = self.tasks[mixture.mlm.task] if mixture.mlm and mixture.mlm.task else None
        return Stage(name, tasks, lengths, mixture, text)

    def labelled(self, name: str) -> Task:
        """A catalogue entry with its labels; ``unseen_label`` takes them from training data."""
        task = self.tasks[name]
        if not task.unseen_label:
            return task
        return task.model_copy(update={"labels": read_json(self.data / name / "labels.json") or []})

    def _root(self, join: bool) -> Path:
        return self.folder if join else self.folder / BY_HAND

    def _home(self, size: str, join: bool) -> Path:
        """The size's pretrained encoder: one made by hand, if it may be used, or the batch's."""
        by_hand = self.encoder_folder(size, join)
        if read_json(by_hand / "run.json").get("settings") == self.encoder_settings(size):
            return by_hand
        return self.encoder_folder(size)

    def _made(self, condition: Condition, join: bool) -> Condition:
        """A condition with the folder that its results are read from."""
        folder = self._root(join) / condition.size / condition.intermediate
        by_hand = Condition(**{**vars(condition), "folder": folder})
        if any(by_hand.is_finished(by_hand.seed_folder(seed)) for seed in by_hand.seeds):
            return by_hand
        return condition

    def encoder_folder(self, size: str, join: bool = True) -> Path:
        """The pretrained encoder of a size, as phase 1 prepared it.

        Raises :class:`StudyError` where the study has no such size.
        """
        if size not in self.sizes:
            raise StudyError(f"{self.path}: {unknown('size', size, self.sizes)}")
        return self._root(join) / size / "encoder"

    def conditions(self) -> list[Condition]:
        """Every condition of phases 2 and 3."""
        before = [self.condition(s, i) for s in self.sizes for i in self.intermediate if i != NONE]
        names = product(self.sizes, self.intermediate, [target.task for target in self.targets])
        return before + [self.condition(*triple) for triple in names]

    def encoder_settings(self, size: str) -> dict:
        """What the encoder of phase 1 depends on; the study's texts decide its vocabulary."""
        encoder = self.sizes[size].model_dump(mode="json", exclude={"title"})
        used = [
            self.hyperparameters(phase, size, task)
            for phase, task in self.trainings(untrained=True)
        ]
        frozen = min(values.frozen_layers for values in used)
        texts = self.digests(self.needed())
        return {"encoder": encoder, "trim": self.trim, "frozen_layers": frozen, "texts": texts}

    def _settings(
        self, size: str, intermediate: str, target: str | None, values: Hyperparameters
    ) -> dict:
        """All that a result depends on, as plain data. A result is kept while this is the same."""
        other = {"title", "tuning", "lora", "gradient_checkpointing"}
        encoder = self.sizes[size].model_dump(mode="json", exclude=other)
        settings: dict[str, Any] = {"encoder": encoder, "trim": self.trim}
        if self.precision != "auto":  # what auto has measured is kept with the study
            settings["precision"] = self.precision
        if intermediate != NONE:
            before = self.hyperparameters("intermediate", size, intermediate)
            settings["intermediate"] = self._trained(size, [intermediate], before)
        if target is not None:
            settings["target"] = self._trained(size, self.train_on(target), values)
            settings["evaluated"] = self._scored(target)
            settings["examples"] = self.digests(self._evaluated_cells(target))
            settings["languages"] = self.languages(target)
        return settings

    def _trained(self, size: str, names: list[str], values: Hyperparameters) -> dict:
        tasks = [task for name in names for task in self.components(name)]
        cells = [cell for task in tasks for cell in self._trained_cells(task)]
        trained: dict[str, Any] = {
            "hyperparameters": values.model_dump(mode="json"),
            "on": {task: self._scored(task) for task in tasks},
        }
        for name in names:
            if mixture := self.mixtures.get(name):
                trained["mixture"] = mixture.model_dump(mode="json", exclude_defaults=True)
                trained["max_lengths"] = self._stage(size, name, values).max_lengths
                cells += mixture.texts(self.tasks)
                texts = mixture.mlm.files if mixture.mlm else []
                read = read_json(self.data / "summary.json").get("texts", {})
                trained["files"] = {file: read[file]["digest"] for file in texts}
        if self.sizes[size].tuning == "lora":
            trained["lora"] = self.sizes[size].lora.model_dump(mode="json")
        return trained | {"examples": self.digests(cells)}

    def _scored(self, name: str) -> dict:
        """What of a catalogue entry matters beside its examples."""
        keys = {"format", "labels", "unseen_label", "unanswerable", "answers", "pooling"}
        keys |= {"threshold", "candidates", "layer", "evaluate", "parallel", "group", "metric"}
        return self.tasks[name].model_dump(mode="json", include=keys, exclude_defaults=True)

    def digests(self, cells: Iterable[tuple[str, str, str]]) -> dict[str, str]:
        """The digest of the examples of each (task, split, language), as they were read.

        Raises
        ------
        StudyError
            They have not been read yet.
        """
        known = read_json(self.data / "summary.json").get("cells", {})
        names = ["/".join(cell) for cell in cells]
        for name in names:
            if name not in known:
                wrong = f"{self.data / 'summary.json'}: no {name}; expected all examples to be read"
                first = f"run notebook 1_encoder or `make study STUDY={self.path}` first"
                raise StudyError(f"{wrong}: {first}")
        return {name: known[name]["digest"] for name in names}

    def record(self) -> dict:
        """The study as plain data: what the comparison reads (study.json)."""
        settings = {size: self.encoder_settings(size) for size in self.sizes}
        settings |= {_path(condition): condition.settings for condition in self.conditions()}
        kept = {"title", "encoder", "layers"}
        return {
            "layout": LAYOUT,
            "name": self.name,
            "description": self.description,
            "margin": self.margin,
            "params": str(self.path),
            "sizes": {n: s.model_dump(mode="json", include=kept) for n, s in self.sizes.items()},
            "intermediate": self.intermediate,
            "targets": {target.task: self._target_record(target.task) for target in self.targets},
            "runs": [run._asdict() for run in self.runs()],
            "settings": settings,
            "recipes": sweeps.recipes(self),
            "sweep": sweeps.choices(self),
        }

    def _target_record(self, name: str) -> dict:
        task, amounts = self.tasks[name], {}
        for size in self.sizes:
            amounts[size] = self.hyperparameters("target", size, name).train_examples
        return {
            "format": task.format,
            "metric": task.metric,
            "languages": self.languages(name),
            "trained_in": self.trained_in(name),
            "variant_of": self.variants.get(name),
            "train_examples": amounts if any(amounts.values()) else None,
            "labels": task.labels,
        }

    def check_layout(self) -> None:
        """Refuse outputs of another layout.

        Raises
        ------
        StudyError
            The study's folder was made by a version with another layout.
        """
        encoders = [read_json(file) for file in self.folder.glob("*/encoder/run.json")]
        is_old = any(record and "settings" not in record for record in encoders)
        if is_old or read_json(self.folder / "study.json").get("layout", LAYOUT) != LAYOUT:
            expected = f"expected layout {LAYOUT}; remove the folder or choose another --outputs"
            raise StudyError(f"{self.folder}: made by another version of this project; {expected}")

    def write_record(self) -> None:
        """Write study.json; outputs of another layout are refused."""
        self.check_layout()
        path = self.folder / "study.json"
        if read_json(path) != (record := self.record()):
            write_json(path, record)


def _path(condition: Condition) -> str:
    names = condition.size, condition.intermediate, condition.target
    return "/".join(name for name in names if name)


def is_interactive() -> bool:
    """Whether a person runs this notebook: the kernel's client would answer ``input()``."""
    return getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False)
