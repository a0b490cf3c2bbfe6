"""A condition: what one notebook trains, and where its results lie.

Notebook 2 makes the condition (size, intermediate), notebook 3 (size, intermediate, target).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.study.catalogue import StudyError, Task, unknown
from helpers.study.files import read_json
from helpers.study.params import LONGER, Hyperparameters, Mixture, PlainText, Size

if TYPE_CHECKING:
    from helpers.study.study import Study

AGAIN = 1_000_000
"""What is added to a seed to repeat its collapsed training: no study has seeds as large."""
REPETITION = "retry"
"""In a collapsed run's folder: the results of its repetition under another seed."""
PREDICTIONS, MODEL = "predictions.parquet", "model.safetensors"
"""A run's answers and, if the study keeps models, its trained weights."""
SCORED = {"format", "labels", "unseen_label", "unanswerable", "answers", "pooling", "threshold"}
SCORED |= {"candidates", "layer", "evaluate", "parallel", "group", "metric"}
"""What of a catalogue entry a result depends on, beside its examples."""

Cell = tuple[Task, str, str]
"""Task, split and language."""


@dataclass(frozen=True)
class Stage:
    """One training: on a task, or on the tasks of a mixture at once."""

    name: str
    tasks: dict[str, Task]
    max_lengths: dict[str, int]
    """Tokens at which each task's texts are cut."""
    mixture: Mixture | None = None
    text: Task | None = None
    """The plain text that a mixture models beside its tasks."""
    shuffled: bool = False
    """A placebo: the labels of its training examples are shuffled."""

    @property
    def cells(self) -> list[Cell]:
        """What its tasks are trained and selected on, and its text for language modelling."""
        cells: list[Cell] = []
        for task in self.tasks.values():
            cells += product([task], ["train"], task.trained_in)
            cells += product([task], ["validation"], task.selected_in)
        if self.text and self.mlm:
            cells += product([self.text], ["train"], self.mlm.languages or self.text.languages)
        return cells

    @property
    def mlm(self) -> PlainText | None:
        """The text that it models beside its tasks."""
        return self.mixture.mlm if self.mixture else None

    def steps(self, values: Hyperparameters, summary: dict) -> int:
        """Optimiser steps on the examples that ``summary`` (data/summary.json) counts."""
        drawn: Counter[str] = Counter()
        for task, split, language in self.cells:
            if split == "train":
                drawn[task.name] += summary["cells"][f"{task.name}/{split}/{language}"]["rows"]
        if most := values.train_examples:
            for name in self.tasks:
                drawn[name] = min(drawn[name], most)
        for file in self.mlm.files if self.mlm else []:
            drawn[self.name] += summary["texts"][file]["lines"]
        if self.mixture:
            return values.total_steps(sum(min(n, self.mixture.cap) for n in drawn.values()))
        return values.total_steps(drawn.total())


@dataclass(frozen=True)
class Attempt:
    """One training of a condition: under a run's own seed, or the repetition of a collapsed one."""

    seed: int
    """Seed of this training: its head, its order and its draw of examples."""
    folder: Path
    """Where its results go."""
    start: Path | None
    """Folder of the encoder that an intermediate task left; None: the pretrained one."""
    repeats: int | None = None
    """The seed of the collapsed training that this one repeats."""
    draw: int | None = None
    """Seed of its draw of examples, where that is not ``seed``."""


@dataclass(frozen=True)
class Condition:
    """An encoder after an intermediate task (no ``target``), or after it and a target."""

    study: "Study"
    size: str
    intermediate: str
    target: str | None
    seeds: list[int]
    hyperparameters: Hyperparameters
    stages: list[Stage]
    """What is trained on, in order; none for retrieval without training."""
    evaluated: Task | None
    languages: list[str]
    """What it is evaluated in."""
    trained_in: list[str]
    """Languages of its training data; the zero-shot mean leaves them out."""
    folder: Path
    """Where the results of its seeds go."""
    home: Path
    """The size's pretrained encoder."""
    before: "Condition | None"
    """The condition that this one starts from; None: the pretrained encoder."""
    joins: bool
    """Whether its results join those of `make study`."""

    @property
    def encoder(self) -> Size:
        """The size's pretrained encoder, as the study describes it."""
        return self.study.sizes[self.size]

    @property
    def title(self) -> str:
        """The condition in a few words, for charts and messages."""
        if self.target is None:
            return f"{self.intermediate}, {self.size}"
        return f"{self.target} after {self.intermediate}, {self.size}"

    @property
    def trained_cells(self) -> list[Cell]:
        """What it is trained and selected on."""
        return [cell for stage in self.stages for cell in stage.cells]

    @property
    def evaluated_cells(self) -> list[Cell]:
        """What it is evaluated on; for retrieval also the candidates."""
        task, cells = self.evaluated, []
        if task is None or not self.languages:
            return []
        for language in self.languages:
            cells += [(task, split, language) for split in (task.threshold, task.evaluate) if split]
        for pool in (self.study.tasks[name] for name in task.candidates):
            cells += product([pool], [pool.evaluate], pool.languages)
        return cells

    @cached_property
    def settings(self) -> dict:
        """All that the results depend on, as plain data. If it changes, results are made again.

        Raises StudyError where the examples have not been read yet.
        """
        if self.before:
            settings = self.before.settings
        else:
            other = {"title", "tuning", "lora", "gradient_checkpointing"}
            encoder = self.encoder.model_dump(mode="json", exclude=other)
            settings = {"encoder": encoder, "trim": self.study.trim}
            if self.study.precision != "auto":  # what auto has measured is kept with the study
                settings["precision"] = self.study.precision
        if self.evaluated is None:
            return settings | {"intermediate": self._trained()}
        return settings | {
            "target": self._trained(),
            "evaluated": _scored(self.evaluated),
            "examples": digests(self.study, self.evaluated_cells),
            "languages": self.languages,
        }

    def steps(self, summary: dict | None = None) -> list[int]:
        """Optimiser steps of each stage; those that ``longer`` adds are shared in proportion."""
        summary = summary or read_json(self.study.data / "summary.json")
        own = [stage.steps(self.hyperparameters, summary) for stage in self.stages]
        if self.intermediate != LONGER:
            return own
        tasks = self.study.intermediate_tasks
        more = [sum(self.study.condition(self.size, task).steps(summary)) for task in tasks]
        factor = 1 + sum(more) / len(more) / sum(own)
        return [round(steps * factor) for steps in own]

    def _trained(self) -> dict:
        """The settings that its own training depends on."""
        tasks = [task for stage in self.stages for task in stage.tasks.values()]
        settings: dict[str, Any] = {
            "hyperparameters": self.hyperparameters.model_dump(mode="json"),
            "on": {task.name: _scored(task) for task in tasks},
        }
        for stage in self.stages:
            if stage.mixture:
                mixture = stage.mixture.model_dump(mode="json", exclude_defaults=True)
                texts = read_json(self.study.data / "summary.json").get("texts", {})
                files = stage.mlm.files if stage.mlm else []
                settings |= {"mixture": mixture, "max_lengths": stage.max_lengths}
                settings["files"] = {file: texts[file]["digest"] for file in files}
        if self.encoder.tuning == "lora":
            settings["lora"] = self.encoder.lora.model_dump(mode="json")
        settings["examples"] = digests(self.study, self.trained_cells)
        if any(stage.shuffled for stage in self.stages):
            settings["labels"] = "shuffled"
        if self.intermediate == LONGER:
            settings["steps"] = self.steps()
        if self.compares:
            settings["compare_selections"] = True
        return settings

    def seed_folder(self, seed: int) -> Path:
        """Where the results of a run lie."""
        return self.folder / f"seed-{seed}"

    def encoder_folder(self, seed: int) -> Path:
        """The encoder that an intermediate training left."""
        return self.seed_folder(seed) / "encoder"

    def start(self, seed: int) -> Path | None:
        """The encoder that a training starts from; None: the pretrained one."""
        return self.before.encoder_folder(seed) if self.before else None

    def is_finished(self, folder: Path) -> bool:
        """Whether ``folder`` holds complete results that were made with the present settings."""
        record = read_json(folder / "run.json")
        if record.get("settings") != self.settings or not read_json(folder / "scores.json"):
            return False
        if self.languages and not (folder / PREDICTIONS).is_file():
            return False
        return not self.keeps_model or (folder / MODEL).is_file()

    def is_complete(self, seed: int) -> bool:
        """Whether a run is finished and, if it or what it builds on collapsed, repeated."""
        folder, before = self.seed_folder(seed), self.before
        is_built_anew = before and before._to_repeat(before.seed_folder(seed))
        return self.is_finished(folder) and not self._to_repeat(folder) and not is_built_anew

    def is_whole(self) -> bool:
        """Whether nothing is left to train."""
        crossed = self.crossed_attempts().values()
        seeds = all(self.is_complete(seed) for seed in self.seeds)
        return seeds and all(self.is_finished(attempt.folder) for attempt in crossed)

    @property
    def compares(self) -> bool:
        """Whether a run is also evaluated with its last weights and with their average."""
        return self.study.compare_selections and bool(self.languages and self.stages)

    @property
    def keeps_model(self) -> bool:
        """Whether the model of a run is kept; retrieval may train none."""
        return self.study.keep_models and self.target is not None and bool(self.stages)

    def chosen(self, seeds: int | list[int] | None) -> list[int]:
        """The seeds that a notebook's parameter names, or all; an unknown one is a StudyError."""
        if seeds is None:
            return self.seeds
        if seeds == [] or not isinstance(seeds, int | list):
            wrong = f"found {seeds!r}, expected a number or a list (papermill -y 'seeds: [1]')"
            raise StudyError(f"{self.study.path}: seeds: {wrong}")
        chosen = [seeds] if isinstance(seeds, int) else seeds
        for seed in chosen:
            if seed not in self.seeds:
                raise StudyError(f"{self.study.path}: {unknown('seed', seed, self.seeds)}")
        return [int(seed) for seed in chosen]  # 1.0 and True are 1

    def attempts(
        self, seeds: int | list[int] | None = None, again: bool = False
    ) -> Iterator[Attempt]:
        """The trainings to do, one after the other. Finished ones are skipped unless ``again``.

        With ``retry_collapsed`` a collapsed training is followed by its repetition. Raises
        StudyError where one would start from an encoder that was made with other settings.
        """
        check_switch("again", again)
        for attempt in self._attempts(seeds, again):
            if self.before and attempt.start and not self.before.is_finished(attempt.start.parent):
                found = "found no results of the study's present settings"
                first = "run notebook 2_intermediate or `make study` first"
                raise StudyError(f"{attempt.start.parent}: {found}; {first}")
            yield attempt

    def _attempts(self, seeds: int | list[int] | None, again: bool) -> Iterator[Attempt]:
        asks_for_all = set(self.chosen(seeds)) == set(self.seeds)
        crossed = self.crossed_attempts().values() if asks_for_all else ()
        yield from (one for one in crossed if again or not self.is_finished(one.folder))
        for seed in self.chosen(seeds):
            folder, start = self.seed_folder(seed), self.start(seed)
            if self.is_complete(seed) and not again:
                print(f"seed {seed} is finished (again = True trains it again)")
                continue
            if again or not self.is_finished(folder):
                yield Attempt(seed, folder, start)
            if self._to_repeat(folder):
                repeated = folder / REPETITION if self.target else folder
                yield Attempt(seed + AGAIN, repeated, start, repeats=seed)

    def crossed_attempts(self) -> dict[tuple[int, int, int], Attempt]:
        """The trainings whose seeds are crossed, by intermediate seed, target seed and draw."""
        crossed = self.study.crossed if self.joins else None
        names = (self.size, self.intermediate, self.target)
        if not crossed or (crossed.size, crossed.intermediate, crossed.target) != names:
            return {}
        attempts, seeds = {}, crossed.seeds
        for before, seed, draw in product(seeds.intermediate, seeds.target, seeds.draw):
            folder = self.folder / f"crossed/intermediate-{before}-target-{seed}-draw-{draw}"
            attempts[before, seed, draw] = Attempt(seed, folder, self.start(before), draw=draw)
        return attempts

    def _to_repeat(self, folder: Path) -> bool:
        """Whether a run collapsed and its repetition is still to do.

        The repetition of an intermediate training replaces the first, but scores.json keeps the
        first one's selection. The repetition of a target run lies beside it.
        """
        scores = read_json(folder / "scores.json")
        if not self.study.retry_collapsed or not scores.get("selection", {}).get("collapsed"):
            return False
        if self.target is None:
            return "repeats" not in scores
        return not self.is_finished(folder / REPETITION)


def check_switch(name: str, value: bool) -> None:
    """Raise StudyError if a notebook's parameter is text: ``papermill -p`` reads True and False."""
    if not isinstance(value, bool):
        raise StudyError(f"{name}: found {value!r}, expected True or False")


def _scored(task: Task) -> dict:
    keys = SCORED - {"labels"} if task.unseen_label else SCORED  # its examples decide its labels
    return task.model_dump(mode="json", include=keys, exclude_defaults=True)


def digests(study: "Study", cells: Iterable[Cell]) -> dict[str, str]:
    """The digest of each cell's examples; a StudyError if they have not been read."""
    file = study.data / "summary.json"
    known = read_json(file).get("cells", {})
    names = [f"{task.name}/{split}/{language}" for task, split, language in cells]
    for name in names:
        if name not in known:
            first = f"run notebook 1_encoder or `make study STUDY={study.path}` first"
            raise StudyError(f"{file}: no {name}; expected all examples to be read: {first}")
    return {name: known[name]["digest"] for name in names}
