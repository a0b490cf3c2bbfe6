"""A condition: what one notebook trains, with all that its steps need, as one explicit record.

Notebook 1 makes the condition (size), notebook 2 (size, intermediate), notebook 3 (size,
intermediate, target). The core is handed a condition and never asks the study.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.study.catalogue import StudyError, Task, unknown
from helpers.study.files import read_json
from helpers.study.params import Hyperparameters, Mixture, Size

AGAIN = 1_000_000
"""What is added to a seed to repeat its collapsed training: no study has seeds as large."""
REPETITION = "retry"
"""In a collapsed run's folder: the results of its repetition under another seed."""
MODEL = "model.safetensors"
"""The trained weights, beside a run's results, if the study keeps models."""


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


@dataclass(frozen=True)
class Condition:
    """An encoder, or what becomes of it after an intermediate task, or then on a target."""

    study: str
    """The params file, for messages."""
    size: str
    encoder: Size
    intermediate: str
    target: str | None
    seeds: list[int]
    hyperparameters: Hyperparameters
    stages: list[Stage]
    """What is trained on, in order; none for retrieval without training."""
    evaluated: Task | None
    languages: list[str]
    """What it is evaluated in."""
    candidates: list[Task]
    """Retrieval only: catalogue entries whose texts are searched."""
    trained_in: list[str]
    """Languages of its training data; the zero-shot mean leaves them out."""
    settings: dict
    """All that the results depend on, as plain data; run.json repeats them."""
    folder: Path
    """Where the results of its seeds go."""
    home: Path
    """The size's pretrained encoder."""
    before: "Condition | None"
    """The condition that this one starts from; None: the pretrained encoder."""
    data: Path
    """The study's examples."""
    data_dir: Path | None
    """What own text files of a mixture are relative to."""
    precision: str
    checkpoint_minutes: float
    retry_collapsed: bool
    keep_models: bool

    @property
    def title(self) -> str:
        """The condition in a few words, for charts and messages."""
        if self.target is None:
            return f"{self.intermediate}, {self.size}"
        return f"{self.target} after {self.intermediate}, {self.size}"

    def seed_folder(self, seed: int) -> Path:
        """Where the results of a run lie."""
        return self.folder / f"seed-{seed}"

    def encoder_folder(self, seed: int) -> Path:
        """The encoder that an intermediate training left."""
        return self.seed_folder(seed) / "encoder"

    def is_finished(self, folder: Path) -> bool:
        """Whether ``folder`` holds whole results that were made under the present settings."""
        record = read_json(folder / "run.json")
        if record.get("settings") != self.settings or not (folder / "scores.json").is_file():
            return False
        return not self.keeps_model or (folder / MODEL).is_file()

    def is_complete(self, seed: int) -> bool:
        """Whether a run is finished, and its repetition too where it collapsed."""
        folder = self.seed_folder(seed)
        return self.is_finished(folder) and not self._to_repeat(folder)

    @property
    def keeps_model(self) -> bool:
        """Whether the model of a run is kept; retrieval may train none."""
        return self.keep_models and self.target is not None and bool(self.stages)

    def chosen(self, seeds: int | list[int] | None) -> list[int]:
        """The seeds that a notebook's parameter names: all of the condition where it is None.

        Raises
        ------
        StudyError
            The study has no such seed.
        """
        if seeds is None:
            return self.seeds
        chosen = [seeds] if isinstance(seeds, int) else list(seeds)
        for seed in chosen:
            if seed not in self.seeds:
                raise StudyError(f"{self.study}: {unknown('seed', seed, self.seeds)}")
        return chosen

    def attempts(
        self, seeds: int | list[int] | None = None, again: bool = False
    ) -> Iterator[Attempt]:
        """The trainings to do, one after the other. Finished ones are skipped unless ``again``.

        A training that turns out to have collapsed is followed by its repetition, if the study
        says so (``retry_collapsed``).
        """
        for seed in self.chosen(seeds):
            folder = self.seed_folder(seed)
            start = self.before.encoder_folder(seed) if self.before else None
            if self.is_complete(seed) and not again:
                print(f"seed {seed} is finished (again = True trains it again)")
                continue
            if again or not self.is_finished(folder):
                yield Attempt(seed, folder, start)
            if self._to_repeat(folder):
                repeated = folder / REPETITION if self.target else folder
                yield Attempt(seed + AGAIN, repeated, start, repeats=seed)

    def _to_repeat(self, folder: Path) -> bool:
        """Whether a run collapsed and its repetition is still to do.

        The repetition of an intermediate training takes the place of the first, whose selection
        scores.json keeps; that of a target run lies beside it.
        """
        scores = read_json(folder / "scores.json")
        if not self.retry_collapsed or not scores.get("selection", {}).get("collapsed"):
            return False
        if self.target is None:
            return "repeats" not in scores
        return not self.is_finished(folder / REPETITION)
