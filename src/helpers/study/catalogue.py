"""The task catalogue: every entry of ``params/tasks.yaml``, as data. A new task is a new entry."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
"""A name that may become a folder: no separators, no leading dot."""
Language = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""A language code, which becomes part of a file's name."""
Label = Annotated[str, BeforeValidator(str)]
"""A label as text: in YAML it may look like a number or a boolean."""
Split = Annotated[str, Field(pattern="^(train|validation|test)$")]
Format = Literal[
    "sentence_pair", "multiple_choice", "span_extraction", "tagging", "retrieval", "plain_text"
]

NONE = "none"
"""The baseline: no intermediate task."""
ENGLISH = "en"
_FORMATS = {
    "sentence_pair": (["accuracy"], ["text_a", "text_b", "label"]),
    "multiple_choice": (["accuracy"], ["context", "question", "choices", "label"]),
    "span_extraction": (["f1"], ["context", "question", "answers"]),
    "tagging": (["accuracy", "entity_f1"], ["tokens", "labels"]),
    "retrieval": (["accuracy", "mining_f1", "map_20"], ["source", "target", "answers"]),
    "plain_text": (["accuracy"], ["text"]),
}
"""The metrics of each format, and what it reads of a row beside its id and tag."""


@pydantic.AfterValidator
def once(names: list) -> list:
    """For a list's type: it names nothing twice."""
    if len(set(names)) != len(names):
        raise ValueError(f"{names} names something twice; expected each once")
    return names


class StudyError(ValueError):
    """A study, task or data file that cannot be used; the message is the one line a user needs."""

    def _render_traceback_(self) -> list[str]:
        return [f"StudyError: {self}"]  # all that a notebook shows, without the calls between


def reason(error: BaseException) -> str:
    """The message of a library's exception, as a part of one line."""
    return " ".join(str(error).split())[:300]


class Strict(BaseModel):
    """A model that forbids unknown keys and later changes; a name may look like a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


T = TypeVar("T", bound=BaseModel)


class _Loader(yaml.CSafeLoader):
    """YAML whose values stay as written, but ``true``, ``false`` and ``null``: ``no`` is Norwegian,
    and 010 is no 8. What is a number, the key's type says. No key stands twice.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in rules if tag.endswith(kept)]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
        for kept in [(":null", ":merge", *([":bool"] if first in "tTfF" else []))]
    }

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for at, (key, _) in enumerate(node.value):
            if key.value in names[:at]:
                found = f"line {key.start_mark.line + 1}: found '{key.value}' twice"
                raise StudyError(f"{found}; expected each key once")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, expected: str = "a params file") -> dict:
    """A YAML file's mapping; anything else is a :class:`StudyError` of one line."""
    try:
        raw = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (FileNotFoundError, IsADirectoryError):
        raise StudyError(f"{path}: no such file; expected {expected}") from None
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{path}: not YAML: {reason(error)}") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: found {type(raw).__name__}, expected a mapping of keys")
    return raw


def validate(model: type[T], raw: dict, path: Path, key: str = "") -> T:
    """``raw``, found under ``key``, as a ``model``; a :class:`StudyError` names the first fault."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
    wrong = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        wrong = f"unknown key; expected one of {known}" if len(first["loc"]) == 1 else "unknown key"
    elif first["type"] not in ("missing", "value_error"):
        wrong += f" (found {str(first['input'])[:80]!r})"
    place = (key, *_keys(raw, first["loc"]))
    where = ".".join(" ".join(str(part).split()) for part in place)
    raise StudyError(f"{path}: {where.lstrip('.')}: {wrong}")


def _keys(raw: Any, loc: tuple) -> Iterator[str | int]:
    """The keys that lead to an error, without the types that pydantic names among them."""
    for number, part in enumerate(loc, 1):
        if isinstance(raw, dict) and (part in raw or number == len(loc)):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        else:
            continue
        yield part


def unknown(kind: str, name: object, known: Iterable) -> str:
    """The message about a name that is not among the known ones."""
    return f"unknown {kind} '{name}'; expected one of {', '.join(sorted(map(str, known)))}"


class Source(Strict):
    """Where examples come from: a hub data set, or own files."""

    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    splits: dict[Split, str] = {}

    @model_validator(mode="after")
    def _findable(self):
        _check_braces("config", self.config, language="")
        _check_braces("files", self.files, language="", split="")
        is_one_file = bool(self.files) and "{split}" not in str(self.files)
        words = {*self.splits.values()}
        if len(words) < len(self.splits) or (is_one_file and len(words) > 1):
            raise ValueError(f"splits: {self.splits} have the same data; expected data for each")
        return self


def _check_braces(key: str, text: str | None, **known: str) -> None:
    try:
        str(text).format(**known)
    except (LookupError, ValueError, AttributeError):
        names = " and ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{key}: found '{text}', expected {names} alone in braces") from None


class Task(Source):
    """One entry of the catalogue; its examples are its own, or those of its ``parts`` together."""

    name: Name
    format: Format
    parts: Annotated[list[Name], once] = []
    where: dict[str, str] = {}
    columns: dict[str, str | list[str]] = {}
    labels: Annotated[list[Label], once] = []
    label_values: list[Label] | None = None
    skip_labels: list[Label] = []
    unseen_label: bool = False
    unanswerable: bool = False
    answers: Literal["squad", "mlqa"] = "squad"
    pooling: Literal["mean", "cls"] = "mean"
    threshold: Split | None = None
    candidates: Annotated[list[Name], once] = []
    layer: Annotated[int, Field(ge=1)] | None = None
    group: str | list[str] | None = None
    values: dict[Literal["question"], dict[str, str]] = {}
    languages: Annotated[list[Language], once] = [ENGLISH]
    codes: dict[str, str] = {}
    per_language: dict[str, Source] = {}
    train_on: list[Name] = []
    trained_in: Annotated[list[str], Field(min_length=1), once] = [ENGLISH]
    evaluate: Split = "test"
    parallel: bool = True
    known_differences: dict[Literal["label", "question"], list[Language]] = {}
    translates: dict[Split, str] = {}
    contains: list[Name] = []
    metric: Literal["accuracy", "f1", "entity_f1", "mining_f1", "map_20"] = "accuracy"
    licence: str
    citation: str
    obtain: str = ""
    sizes: dict[Split, int] = {}

    @model_validator(mode="after")
    def _consistent(self):
        if sum(map(bool, (self.hub, self.files, self.parts))) != 1:
            raise ValueError("expected exactly one of the keys hub, files and parts")
        for code, source in self.per_language.items():
            if bool(source.hub) == bool(source.files):
                raise ValueError(f"per_language.{code}: expected one of the keys hub and files")
        several = len({*self.languages} - {*self.per_language}) > 1 and (self.hub or self.files)
        if several and "{language}" not in f"{self.config} {self.files} {self.where}":
            raise ValueError("several languages, but no {language} in config, files or where")
        for column, begin in self.where.items():
            _check_braces(f"where.{column}", begin, language="")
        return self

    @model_validator(mode="after")
    def _in_known_languages(self):
        for key in ("trained_in", "per_language"):
            for code in getattr(self, key):
                if code not in (ENGLISH, *self.languages):
                    raise ValueError(f"{key}: {unknown('language', code, self.languages)}")
        for code in self.languages:
            is_english = re.split("[-_]", code)[0].lower() in ("en", "eng", "english")
            if is_english and ENGLISH not in self.languages:
                hint = f"(codes: {{{ENGLISH}: {code}}} if its source says so)"
                raise ValueError(f"languages: found '{code}', expected '{ENGLISH}' {hint}")
        return self

    @model_validator(mode="after")
    def _scorable(self):
        metrics, columns = _FORMATS[self.format]
        if self.metric not in metrics:
            raise ValueError(f"metric '{self.metric}' of format {self.format}; expected {metrics}")
        for name in self.columns:
            if name not in (known := ["id", "tag", *columns]):
                raise ValueError(f"columns: {unknown('name', name, known)}")
        if self.metric == "mining_f1" and self.threshold in (None, self.evaluate):
            expected = f"another split than '{self.evaluate}'"
            raise ValueError(f"threshold: found {self.threshold}, expected {expected}")
        has_targets = "target" in self.columns or not self.columns
        if self.metric == "map_20" and not (self.candidates or has_targets):
            raise ValueError("candidates: found none, expected entries whose texts are searched")
        return self

    @model_validator(mode="after")
    def _labelled(self):
        values, labels = len(self.label_values or self.labels), len(self.labels)
        if values != labels:
            raise ValueError(f"label_values has {values} entries, labels has {labels}")
        if self.skip_labels and self.format not in ("sentence_pair", "multiple_choice"):
            raise ValueError(f"skip_labels: not for {self.format}, which has no label per example")
        if self.unseen_label and (self.format != "tagging" or self.labels):
            raise ValueError("unseen_label: expected for tagging alone, and without the key labels")
        has_labels = {"label", "labels"} & {*_FORMATS[self.format][1]}
        if has_labels and not (labels or self.unseen_label):
            raise ValueError("labels: found none, expected the names of the labels")
        forms = [re.match("O$|[BIES]-.", label) for label in self.labels]
        for label in self.labels:
            if self.metric == "entity_f1" and any(forms) and not re.match(r"O$|[BIES]-\S+$", label):
                raise ValueError(f"labels: found '{label}', expected O, B-TYPE, I-TYPE, ... (IOB)")
        return self

    @property
    def selected_in(self) -> list[str]:
        """Languages of the validation data: English or, if the task has none, those trained in."""
        return [ENGLISH] if ENGLISH in self.languages else self.trained_in

    def source(self, language: str) -> Source:
        """Where this task's examples in ``language`` come from."""
        return self.per_language.get(language, self)


class Catalogue(dict[str, Task]):
    """Tasks by name; an unknown name is an error that lists the known ones."""

    def __missing__(self, name: str) -> Task:
        raise StudyError(unknown("task", name, self))


class _Entries(Strict):
    tasks: Annotated[dict[Name, dict], Field(min_length=1)]


def load(path: Path) -> Catalogue:
    """Read a catalogue; a StudyError if there is none, or if an entry does not fit `Task`."""
    tasks, expected = Catalogue(), "a catalogue of tasks, which the study's key catalogue names"
    for name, entry in validate(_Entries, read_yaml(path, expected), path).tasks.items():
        tasks[name] = validate(Task, {"name": name, **entry}, path, name)
    for task in tasks.values():
        for wrong in _references(task, tasks):
            raise StudyError(f"{path}: {task.name}.{wrong}")
    return tasks


def _references(task: Task, tasks: Catalogue) -> Iterator[str]:
    """What is wrong with the other tasks that an entry names."""
    for key in ("train_on", "parts", "candidates", "contains"):
        for other in getattr(task, key):
            if other not in tasks:
                yield f"{key}: {unknown('task', other, tasks)}"
    for origin in task.translates.values():
        name, _, split = origin.partition("/")
        if name not in tasks or split not in tasks[name].splits:
            yield f"translates: found '{origin}', expected a task and its split, such as copa/test"
    for pool in (tasks[name] for name in task.candidates):
        if pool.format != task.format:
            yield f"candidates: '{pool.name}' is {pool.format}; expected {task.format}"
    yield from _unlike_parts(task, tasks)


def _unlike_parts(task: Task, tasks: Catalogue) -> Iterator[str]:
    for part in (tasks[name] for name in task.parts):
        if (part.format, part.labels, part.parts) != (task.format, task.labels, []):
            yield f"parts: '{part.name}' differs in format or labels, or has parts too"
        first = tasks[task.parts[0]]
        if (part.columns.keys() ^ first.columns.keys()) - {"id", "tag"}:
            yield f"parts: '{part.name}' has other columns than '{first.name}'; expected the same"
