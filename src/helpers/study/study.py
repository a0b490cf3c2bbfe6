"""A study: one params file, validated once. It lists the runs and knows where every output lies."""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from helpers.study import catalogue, params, rules, sweeps
from helpers.study.catalogue import ENGLISH, NONE, Name, Strict, StudyError, Task, unknown, validate
from helpers.study.condition import Condition, Stage, check_switch, digests
from helpers.study.files import read_json, write_json
from helpers.study.params import LONGER, PLACEBO, Hyperparameters, Phase, Run, task_of

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
    sizes: Annotated[dict[Name, params.Size], Field(min_length=1)]
    intermediate: Annotated[list[params.Intermediate], Field(min_length=1), params.once]
    mixtures: dict[Name, params.Mixture] = {}
    variants: dict[Name, Name] = {}
    targets: Annotated[list[params.Target], Field(min_length=1)]
    seeds: params.Seeds
    phases: dict[Phase, params.Values]
    overrides: list[params.Override] = []
    sweep: Annotated[params.Sweep, Field(default=None)]
    trim: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    margin: PositiveFloat = 1.0
    check_sizes: bool = True
    on_bad_row: Literal["error", "skip"] = "error"
    on_leak: Literal["error", "drop"] = "error"
    retry_collapsed: bool = False
    same_data_in_headline: bool = False
    compare_selections: bool = False
    crossed: Annotated[params.Crossed, Field(default=None)]
    keep_models: bool = False
    checkpoint_minutes: NonNegativeFloat = 15.0
    cluster: dict[params.Notebook, params.Needs] = {}
    path: Path
    outputs: Path
    tasks: dict[Name, Task]

    @classmethod
    def load(cls, path: "str | Path | Study", outputs: str | Path = "outputs") -> "Study":
        """Read and check a study file and the catalogue that it names.

        The project's folder becomes the working folder: paths in params are relative to it, but
        JupyterLab runs a notebook in the notebook's folder. Whatever is wrong is a
        :class:`StudyError` of one line: the file, the key, what was found and what was expected.
        """
        if isinstance(path, Study):  # a notebook's cell that is run again
            return path
        path = Path(path).expanduser()
        if not path.is_absolute():
            here = [Path.cwd(), *Path.cwd().parents]  # the nearest one that has the file
            os.chdir(next((folder for folder in here if (folder / path).exists()), Path()))
        raw = catalogue.read_yaml(path)
        for key in raw.keys() & {"path", "outputs", "tasks"}:
            raise StudyError(f"{path}: {key}: unknown key")
        raw |= {"path": path, "outputs": Path(str(outputs)).expanduser(), "tasks": {}}
        study = validate(cls, raw, path)
        tasks = catalogue.load(path.parent / study.catalogue)
        for name, origin in study.variants.items():
            if name in tasks:
                raise StudyError(f"{path}: variants: '{name}' is a task's name; expected another")
            if origin not in tasks:
                raise StudyError(f"{path}: variants.{name}: {unknown('task', origin, tasks)}")
            tasks[name] = tasks[origin].model_copy(update={"name": name})
        # Masked language modelling predicts the whole vocabulary, so none of it can be trimmed.
        used = {task_of(name) for name in study.intermediate}
        trim = study.trim and not any(m.mlm for name, m in study.mixtures.items() if name in used)
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

    def target(self, name: str) -> params.Target:
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
        mixture = self.mixtures.get(task_of(intermediate))
        return mixture.tasks if mixture else [task_of(intermediate)]

    @property
    def intermediate_tasks(self) -> list[str]:
        """The intermediate tasks and mixtures, without the baseline and the controls."""
        return [i for i in self.intermediate if i not in (NONE, LONGER) and i == task_of(i)]

    def same_data(self, target: str) -> list[str]:
        """Intermediate tasks trained on some of a target's own data: their gain is no transfer."""
        own = {source for name in self.train_on(target) for source in self._sources(name)}
        return [
            intermediate
            for intermediate in self.intermediate_tasks
            if any(own & self._sources(name) for name in self.components(intermediate))
        ]

    def _sources(self, name: str) -> set[tuple]:
        """Where a task's training data comes from, and that of the tasks that it contains."""
        names = [name]
        for each in (self.tasks[one] for one in names):  # which grow here
            names += [one for one in (*each.parts, *each.contains) if one not in names]
        own = [self.tasks[one].source(ENGLISH) for one in names if not self.tasks[one].parts]
        return {(one.hub, one.config, one.files, one.splits.get("train")) for one in own}

    def hyperparameters(self, phase: Phase, size: str, task: str) -> Hyperparameters:
        """The phase's hyperparameters after the overrides that fit."""
        values = dict(self.phases.get(phase, {}))
        asked = {"size": size, "phase": phase, "task": task_of(task)}
        for override in self.overrides:
            if all(getattr(override, key) in (None, value) for key, value in asked.items()):
                if {"steps", "epochs"} & override.set.keys():  # steps and epochs replace each other
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
            if intermediate != LONGER or self.train_on(target)
            for seed in self.seeds_of(intermediate)
        ]

    def seeds_of(self, intermediate: str) -> list[int]:
        """The seeds of the runs after an intermediate task; the baseline may have more of them."""
        return self.seeds.none if intermediate == NONE else self.seeds.others

    def trainings(self, untrained: bool = False) -> list[tuple[Phase, str]]:
        """Phase and task of a size's trainings; with ``untrained`` also of targets without any."""
        trained: list[tuple[Phase, str]] = []
        trained += [("intermediate", i) for i in self.intermediate if i not in (NONE, LONGER)]
        targets = [target.task for target in self.targets]
        return trained + [("target", name) for name in targets if untrained or self.train_on(name)]

    def needed(self) -> list[tuple[str, str, str]]:
        """Every (task, split, language) that the study reads, each once."""
        cells = []
        for condition in self.conditions(next(iter(self.sizes))):  # all sizes read the same
            cells += condition.trained_cells + condition.evaluated_cells
        return list(dict.fromkeys((task.name, split, language) for task, split, language in cells))

    def needs(self, phase: params.Notebook) -> params.Needs:
        """What a notebook of ``phase`` asks of a cluster. By default phase 1 needs no GPU."""
        return self.cluster.get(phase) or params.Needs(gpus=int(phase != "encoder"))

    def conditions(self, *sizes: str) -> list[Condition]:
        """Every condition of phases 2 and 3, of these sizes or of all."""
        sizes = sizes or tuple(self.sizes)
        taught = [task for phase, task in self.trainings() if phase == "intermediate"]
        before = [self.condition(*pair) for pair in product(sizes, taught)]
        triples = dict.fromkeys(run[:3] for run in self.runs() if run.size in sizes)
        return before + [self.condition(*triple) for triple in triples]

    def condition(
        self, size: str, intermediate: str = NONE, target: str | None = None, join: bool = True
    ) -> Condition:
        """What the notebook of phase 2 (no ``target``) or 3 trains.

        With ``join`` its results join those of `make study`. Otherwise they go to the folder
        ``interactive``, and training starts from an encoder there or, if there is none, from that
        of `make study`. An unknown size, task or target is a :class:`StudyError`.
        """
        check_switch("join", join)
        size, intermediate = str(size), str(intermediate)  # papermill reads 12 as a number
        target = target and str(target)
        if intermediate not in (*self.intermediate, NONE):
            wrong = unknown("intermediate task", intermediate, self.intermediate)
            raise StudyError(f"{self.path}: {wrong}")
        if target is None and intermediate in (NONE, LONGER):
            wrong = f"'{intermediate}' is no training; expected an intermediate task"
            raise StudyError(f"{self.path}: {wrong}")
        if intermediate == LONGER and not self.train_on(str(target)):
            raise StudyError(f"{self.path}: {target} is not trained; 'longer' does not apply to it")
        home = self.encoder_folder(size)
        root = self.folder if join else self.folder / BY_HAND
        phase: Phase = "target" if target else "intermediate"
        before = None
        if target and intermediate not in (NONE, LONGER):
            before = self.condition(size, intermediate)
        if not join:
            by_hand = self.encoder_folder(size, join)
            if read_json(by_hand / "run.json").get("settings") == self.encoder_settings(size):
                home = by_hand
            if before:
                own = replace(before, folder=root / size / intermediate)
                if any(own.is_finished(own.seed_folder(seed)) for seed in own.seeds):
                    before = own
        values = self.hyperparameters(phase, size, target or intermediate)
        tasks = self.train_on(target) if target else [intermediate]
        return Condition(
            study=self,
            size=size,
            intermediate=intermediate,
            target=target,
            seeds=self.seeds_of(intermediate),
            hyperparameters=values,
            stages=[self._stage(size, task, values) for task in tasks],
            evaluated=self.labelled(target) if target else None,
            languages=self.languages(target) if target else [],
            trained_in=self.trained_in(target) if target else [],
            folder=root / size / intermediate / (target or ""),
            home=home,
            before=before,
            joins=join,
        )

    def _stage(self, size: str, intermediate: str, values: Hyperparameters) -> Stage:
        name = task_of(intermediate)
        mixture, shuffled = self.mixtures.get(name), name != intermediate
        tasks = {task: self.labelled(task) for task in self.components(name)}
        if mixture is None:
            return Stage(name, tasks, {name: values.max_length}, shuffled=shuffled)
        lengths = {t: self.hyperparameters("intermediate", size, t).max_length for t in tasks}
        text = self.tasks[mixture.mlm.task] if mixture.mlm and mixture.mlm.task else None
        return Stage(name, tasks, lengths, mixture, text, shuffled)

    def labelled(self, name: str) -> Task:
        """A catalogue entry with its labels; ``unseen_label`` takes them from training data."""
        task = self.tasks[name]
        if not task.unseen_label:
            return task
        return task.model_copy(update={"labels": read_json(self.labels_file(name)) or []})

    def labels_file(self, name: str) -> Path:
        """Where the labels of a task with ``unseen_label`` are kept."""
        return self.data / name / "labels.json"

    def encoder_folder(self, size: str, join: bool = True) -> Path:
        """The encoder that phase 1 prepared for a size; an unknown one is a :class:`StudyError`."""
        if size not in self.sizes:
            raise StudyError(f"{self.path}: {unknown('size', size, self.sizes)}")
        return (self.folder if join else self.folder / BY_HAND) / size / "encoder"

    def encoder_settings(self, size: str) -> dict:
        """What the encoder of phase 1 depends on; the study's texts decide its vocabulary."""
        used = [self.hyperparameters(phase, size, task) for phase, task in self.trainings(True)]
        cells = [(self.tasks[name], split, code) for name, split, code in self.needed()]
        return {
            "encoder": self.sizes[size].model_dump(mode="json", exclude={"title"}),
            "trim": self.trim,
            "frozen_layers": min(values.frozen_layers for values in used),
            "texts": digests(self, cells),
        }

    def record(self) -> dict:
        """The study as plain data: what the comparison reads (study.json)."""
        settings = {size: self.encoder_settings(size) for size in self.sizes}
        crossed = []
        for condition in self.conditions():
            place = condition.folder.relative_to(self.folder).as_posix()
            settings[place] = condition.settings
            for (before, seed, draw), attempt in condition.crossed_attempts().items():
                seeds = {"intermediate_seed": before, "target_seed": seed, "draw": draw}
                folder = {"folder": attempt.folder.relative_to(self.folder).as_posix()}
                crossed.append(self.crossed.model_dump(exclude={"seeds"}) | seeds | folder)
        own = {"name", "description", "margin", "intermediate"}
        own |= {"same_data_in_headline", "compare_selections"}
        kept = {"title", "encoder", "layers"}
        return self.model_dump(include=own) | {
            "layout": LAYOUT,
            "params": str(self.path),
            "sizes": {n: s.model_dump(mode="json", include=kept) for n, s in self.sizes.items()},
            "controls": self.controls,
            "targets": {target.task: self._target_record(target.task) for target in self.targets},
            "runs": [run._asdict() for run in self.runs()],
            "crossed": crossed,
            "settings": settings,
            "recipes": sweeps.recipes(self),
            "sweep": sweeps.choices(self),
        }

    def _target_record(self, name: str) -> dict:
        amounts = {s: self.hyperparameters("target", s, name).train_examples for s in self.sizes}
        return self.tasks[name].model_dump(include={"format", "metric", "labels"}) | {
            "languages": self.languages(name),
            "trained_in": self.trained_in(name),
            "variant_of": self.variants.get(name),
            "train_examples": amounts if any(amounts.values()) else None,
            "same_data": self.same_data(name),
        }

    @property
    def controls(self) -> dict[str, str | None]:
        """Every control, and the task that a placebo belongs to."""
        placebos = {i: task_of(i) for i in self.intermediate if i.startswith(PLACEBO)}
        return {**placebos, **{i: None for i in self.intermediate if i == LONGER}}

    def check_layout(self) -> None:
        """Refuse outputs of another layout with a :class:`StudyError`."""
        record = read_json(self.folder / "study.json")
        encoders = [read_json(file) for file in self.folder.glob("*/encoder/run.json")]
        is_old = any(encoder and "settings" not in encoder for encoder in encoders)  # of 0.2
        if is_old or (record and record.get("layout") != LAYOUT):
            expected = f"expected layout {LAYOUT}; remove the folder or give the study another name"
            raise StudyError(f"{self.folder}: made by another version of this project; {expected}")

    def write_record(self) -> None:
        """Write study.json, if it changed; outputs of another layout are refused."""
        self.check_layout()
        path = self.folder / "study.json"
        if read_json(path) != (record := self.record()):
            write_json(path, record)
