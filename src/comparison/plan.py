"""What a study planned: its sizes, tasks and runs; of `study.json`, or of anybody's tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

RUN = ["size", "intermediate", "target", "seed"]
NONE = "none"
"""The baseline: no intermediate task."""
ALL = "all"
"""In the place of a task: the mean over all of them."""
ZERO_SHOT = "zero-shot"
"""In the place of a language: the mean of those that the target was not trained in."""


class ComparisonError(ValueError):
    """Tables or a folder that cannot be compared; the message is the one line a user needs."""

    def _render_traceback_(self) -> list[str]:
        return [f"ComparisonError: {self}"]  # all that a notebook shows, without the calls between


@dataclass(frozen=True)
class Size:
    """One encoder. `parameters` do not count embeddings; `layers` is set where it was cut.

    `fertility` are mean tokens of a text, by target and language.
    """

    title: str
    encoder: str = ""
    layers: int | None = None
    parameters: float | None = None
    fertility: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One target task. Without `languages`, those are evaluated that predictions have.

    `same_data` are intermediate tasks whose English training data is the target's own or a part.
    """

    languages: tuple[str, ...] = ()
    trained_in: tuple[str, ...] = ("en",)
    variant_of: str | None = None
    train_examples: Mapping[str, int | None] | None = None  # by size
    same_data: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("languages", "trained_in", "same_data"):
            if isinstance(value := getattr(self, name), str):
                raise ComparisonError(f"{name}: found {value!r}; expected a tuple of names")


@dataclass(frozen=True)
class Plan:
    """A study as the comparison sees it; sizes from the smallest to the largest.

    `controls` are intermediate conditions that are no tasks: a placebo with the task whose texts it
    has, or None for the target trained longer.
    """

    sizes: dict[str, Size]
    intermediate: list[str]
    targets: dict[str, Target]
    runs: list[tuple[str, str, str, int]]
    name: str = "study"
    description: str = ""
    margin: float = 1.0
    controls: dict[str, str | None] = field(default_factory=dict)
    same_data_in_headline: bool = False
    recipes: list[dict] = field(default_factory=list)
    sweep: list[dict] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        runs: pd.DataFrame,
        parameters: Mapping[str, float] | None = None,
        trained_in: tuple[str, ...] = ("en",),
    ) -> "Plan":
        """The plan of a table of runs, in the order of its rows: what is there was planned.

        `parameters` without embeddings order the sizes and give the slope; `trained_in` are the
        languages of training.
        """
        known, names = parameters or {}, list(runs["size"].unique())
        for name in names if known else ():
            if isinstance(count := known.get(name), str | None) or not 0 < count < float("inf"):
                raise ComparisonError(f"parameters: {name}: found {count!r}; expected a number > 0")
        names.sort(key=lambda name: known.get(name, 0))
        trained_in = (trained_in,) if isinstance(trained_in, str) else tuple(trained_in)
        sizes = {name: Size(name, parameters=known.get(name)) for name in names}
        targets = {name: Target(trained_in=trained_in) for name in runs["target"].unique()}
        rows = list(runs[RUN].itertuples(index=False, name=None))
        return cls(sizes, list(runs["intermediate"].unique()), targets, rows)

    @property
    def tasks(self) -> list[str]:
        """Intermediate tasks: neither the baseline nor a control."""
        return [name for name in self.intermediate if name not in (NONE, *self.controls)]

    @property
    def gained(self) -> list[str]:
        """What has a gain: the mean of all tasks if there are several, and the tasks."""
        return [ALL, *self.tasks] if len(self.tasks) > 1 else self.tasks

    @property
    def compared(self) -> list[str]:
        """What is compared with none: what has a gain, then the controls."""
        return [*self.gained, *self.controls]

    def transfer(self, target: str) -> list[str]:
        """The tasks that means at a target are formed of: not those that are its own data."""
        same = () if self.same_data_in_headline else self.targets[target].same_data
        return [task for task in self.tasks if task not in same]

    @property
    def same_data(self) -> list[str]:
        """The cells whose intermediate task is the target's own data, in words."""
        pairs = [(task, name) for name, target in self.targets.items() for task in target.same_data]
        return [f"{task} before {name}" for task, name in pairs if task in self.tasks]

    def asks(self, intermediate: str, target: str) -> bool:
        """Whether a run of these two is planned."""
        return any(run[1:3] == (intermediate, target) for run in self.runs)

    @property
    def judged(self) -> list[str]:
        """Targets, and before them their mean if there are several."""
        return [ALL, *self.targets] if len(self.targets) > 1 else list(self.targets)

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of the sizes whose number is known."""
        return {name: size.parameters for name, size in self.sizes.items() if size.parameters}
