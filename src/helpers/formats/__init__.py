"""Task formats. All knowledge of a format is in its module: columns -> features, head, loss,
decoding.

A format module offers

``normalise(task, row)``        an example with the format's own columns, checked; ``row`` is a
                                source's row under the names of ``task.columns``, with an ``id``;
                                raises ValueError with what is wrong in a few words
``texts(example)``              every text in it, as it will be cut into tokens
``features(task, examples, tokenizer, max_length)``
                                dicts with ``input_ids`` (a list of sequences) and ``labels``: one
                                label of the example, or a list of labels for every sequence;
                                ``token_type_ids`` like ``input_ids``, where the tokenizer has them
``head(task)``                  (``"sequence"``, ``"token"`` or ``"vector"``, number of outputs)
``loss(logits, labels)``        the training loss
``decode(task, examples, features, logits)``
                                one row per example (:func:`helpers.formats.labels.row`), and what
                                else the format records; logits are padded, as long as a batch's
                                longest sequence
``constant(task, examples)``    (credit, out of) of the best answer that looks at nothing
"""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from helpers.formats.labels import check_match, reorder, written
from helpers.study import StudyError, Task

__all__ = ["check_match", "key", "majority", "normalise", "of", "reorder", "score", "shuffled"]
__all__ += ["value"]


def of(task: Task) -> ModuleType:
    """The module of a task's format, which has the format's name."""
    return import_module(f"helpers.formats.{task.format}")


def normalise(
    task: Task, rows: Sequence[dict | ValueError], where: str
) -> tuple[list[dict], list[str]]:
    """Rows of a source as the format's examples, each checked, and what is wrong with the others.

    Rows with a label of ``task.skip_labels`` are left out, and so are exact copies of other rows. A
    column ``tag`` is kept. Raises StudyError if the task's ``columns`` lack one that its format
    needs.
    """
    known = set().union(*(row for row in rows if isinstance(row, dict)))
    examples: dict[str, dict] = {}
    bad = []
    for index, row in enumerate(rows):
        try:
            if isinstance(row, ValueError):
                raise row  # what could not be read at all
            fields = _fields(task, row, index, known)
            if task.skip_labels and written(fields["label"]) in task.skip_labels:
                continue
            example = _example(task, row, fields)
            first = next(iter(examples.values()), example)
            if {*example, "tag"} != {*first, "tag"}:  # a source without named columns
                names = f"{', '.join(example)}; expected {', '.join(first)}"
                raise ValueError(f"columns {names}, as in the first row")
            if examples.setdefault(example["id"], example) != example:
                raise ValueError(f"id {example['id']} is another row's; expected it once")
        except ValueError as error:
            bad.append(f"row {index}: {error}")
        except KeyError as error:
            raise StudyError(f"{where}: columns: no {error}; {task.format} needs it") from None
    return list(examples.values()), bad


def _fields(task: Task, row: dict, index: int, known: set[str]) -> dict:
    """A row under the format's names; ``known`` are the columns of all rows (a row of JSON may lack
    some that are empty).
    """
    columns = task.columns or {name: name for name in row}  # without any: the format's names
    optional = ["tag", "question"] if task.format == "multiple_choice" else ["tag"]
    fields: dict = {"id": index}
    for name, column in columns.items():
        is_text = isinstance(column, str)
        if name not in optional or not is_text or column in row or column not in known:
            fields[name] = value(row, column)
    if fields["id"] in (None, "") or isinstance(fields["id"], dict):
        raise ValueError(f"id is {fields['id']!r}; expected a text or a number")
    return fields | {"id": str(fields["id"])}


def _example(task: Task, row: dict, fields: dict) -> dict:
    example = of(task).normalise(task, fields)
    if task.group:
        shared = value(row, task.group)
        if shared in (None, ""):
            raise ValueError(f"{task.group} is {shared!r}; expected what related items share")
        # A digest is enough: only equality matters.
        example["group"] = hashlib.blake2b(str(shared).encode(), digest_size=8).hexdigest()
    if fields.get("tag") is not None:
        example["tag"] = str(fields["tag"])
    json.dumps(example, ensure_ascii=False).encode()  # a ValueError for half an emoji
    return example


def value(row: dict, path: str | list[str]) -> Any:
    """A column's value, or several columns'; ``a.b`` is b inside a. ValueError without it."""
    if isinstance(path, list):
        return [value(row, one) for one in path]
    if path in row:
        return row[path]
    inner: Any = row
    for name in path.split("."):
        if not isinstance(inner, dict) or name not in inner:
            raise ValueError(f"no column '{path}'; found {', '.join(map(str, row))}")
        inner = inner[name]
    return inner


def shuffled(task: Task, examples: list[dict], seed: int) -> list[dict]:
    """A placebo's training examples: the same texts with shuffled labels.

    Labels are shuffled over examples, tags over all words, second texts of retrieval over pairs. An
    answer moves to the relative position of another example's answer.
    """
    order = np.random.default_rng([seed, len(examples)]).permutation(len(examples))
    others = [examples[i] for i in order]
    pairs = zip(examples, others, strict=True)
    if task.format == "retrieval":
        return [one | {"target": other["target"]} for one, other in pairs]
    if task.format == "span_extraction":
        return [one | {"answers": _moved(one, other)} for one, other in pairs]
    if task.format == "tagging":
        tags = [tag for one in examples for tag in one["labels"]]
        mixed = iter(np.random.default_rng([seed, len(tags)]).permutation(tags).tolist())
        return [one | {"labels": [next(mixed) for _ in one["labels"]]} for one in examples]
    return [one | {"label": other["label"]} for one, other in pairs]


def _moved(example: dict, other: dict) -> dict:
    """An answer as long as another example's, at the same relative position."""
    if not other["answers"]["text"]:
        return other["answers"]
    context, length = example["context"], len(other["answers"]["text"][0])
    part = other["answers"]["answer_start"][0] / len(other["context"])
    start = min(int(part * len(context)), max(0, len(context) - length))
    return {"text": [context[start : start + length]], "answer_start": [start]}


def key(task: Task, example: dict) -> str:
    """What makes two examples the same item, whatever its id, letter case or order of choices."""
    texts = sorted(" ".join(text.lower().split()) for text in of(task).texts(example))
    text = unicodedata.normalize("NFC", "\n".join(texts))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def majority(task: Task, examples: list[dict]) -> float:
    """The score, in points, of the best constant answer: what a collapsed model reaches."""
    credit, out_of = of(task).constant(task, examples)
    return score([credit], [out_of])


def score(credits: Sequence[float], out_of: Sequence[float]) -> float:
    """100 x the sum of credits / the sum of what they are out of; 0 where that is 0."""
    from helpers.formats.metrics import SCORE  # here: evaluate takes seconds to import

    return SCORE.compute(predictions=credits, references=out_of)["score"]
