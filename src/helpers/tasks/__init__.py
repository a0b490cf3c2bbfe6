"""Task formats. Each module is all that knows a format: columns -> features, head, loss, decoding.

A format module offers

``normalise(task, row)``        an example with the format's own columns, checked; ``row`` is a
                                source's row under the names of ``task.columns``, with an ``id``;
                                raises ValueError with what is wrong in a few words
``texts(example)``              every text in it, as it will be cut into tokens
``features(task, examples, tokenizer, max_length)``
                                dicts with ``input_ids`` (a list of sequences) and ``labels``: one
                                label of the example, or a list of labels for every sequence
``head(task)``                  (``"sequence"``, ``"token"`` or ``"vector"``, number of outputs)
``loss(logits, labels)``        the training loss
``decode(task, examples, features, logits)``
                                one row per example (:func:`helpers.tasks.labels.row`), and what
                                else the format records; logits are padded, as long as a batch's
                                longest sequence
``constant(task, examples)``    (credit, out of) of the best answer that looks at nothing
``counts(task, examples)``      how many examples, or words, carry each label
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import reduce
from importlib import import_module
from operator import getitem
from types import ModuleType

from helpers.study import StudyError, Task

__all__ = ["key", "label_counts", "majority", "normalise", "of", "score"]


def of(task: Task) -> ModuleType:
    """The module of a task's format, which has the format's name."""
    return import_module(f"helpers.tasks.{task.format}")


def normalise(
    task: Task, rows: Iterable[dict | ValueError], where: str, skipped: list[str] | None = None
) -> list[dict]:
    """Rows of a source as the format's examples, each checked.

    A bad row is an error; with a list ``skipped`` it is left out, and what is wrong is added there.
    Rows whose label is one of ``task.skip_labels`` are left out by declaration, and so is a copy of
    another row, id and all. A column ``tag`` is kept beside what the format has: the benchmark's
    own kinds of items.

    Raises
    ------
    StudyError
        A column is missing, a row is bad, or there is none; names ``where``, the row and the cause.
    """
    shape, bad = of(task), [] if skipped is None else skipped
    out: dict[str, dict] = {}
    for index, row in enumerate(rows):
        try:
            fields = _fields(task, row, index)
            if not task.skip_labels or fields["label"] not in task.skip_labels:
                example = shape.normalise(task, fields) | _group(task, row) | _tag(fields)
                if out.setdefault(example["id"], example) != example:
                    raise ValueError(f"id {example['id']} is another row's; expected it once")
        except KeyError as error:
            assert isinstance(row, dict)
            bad.append(f"row {index}: no column {error}; found {', '.join(map(str, row))}")
        except (TypeError, ValueError) as error:
            bad.append(f"row {index}: {error}")
        if bad and skipped is None:
            raise StudyError(f"{where}: {bad[0]}")
    if not out:
        first = f" that are good; the first: {bad[0]}" if bad else ""
        raise StudyError(f"{where}: found no rows{first}")
    return list(out.values())


def key(task: Task, example: dict) -> tuple:
    """What makes two examples the same item, whatever its id, letter case or order of choices."""
    return tuple(sorted(" ".join(text.lower().split()) for text in of(task).texts(example)))


def label_counts(task: Task, examples: list[dict]) -> dict[str, int]:
    """How many examples, or words, carry each label."""
    return of(task).counts(task, examples)


def majority(task: Task, examples: list[dict]) -> float:
    """The score, in points, of the best constant answer: what a collapsed model reaches."""
    credit, out_of = of(task).constant(task, examples)
    return score([credit], [out_of])


def score(credits: Sequence[float], out_of: Sequence[float]) -> float:
    """100 x the sum of credits / the sum of what they are out of; 0 where that is 0."""
    from helpers.tasks.metrics import SCORE  # here: evaluate takes seconds to import

    return SCORE.compute(predictions=credits, references=out_of)["score"]


def _fields(task: Task, row: dict | ValueError, index: int) -> dict:
    """A row under the format's names; where the task names no columns, it has them already."""
    if isinstance(row, ValueError):
        raise row  # what could not be read at all
    fields: dict = {"id": index}
    for name, column in (task.columns or {name: name for name in row}).items():
        fields[name] = _value(row, column)
    fields["id"] = str(fields["id"])
    return fields


def _tag(fields: dict) -> dict:
    """The benchmark's own kind of item, if a column says it."""
    return {"tag": str(fields["tag"])} if "tag" in fields else {}


def _group(task: Task, row) -> dict:
    """What says which items belong together: a digest, for only equality matters."""
    if not task.group:
        return {}
    text = str(_value(row, task.group)).encode()
    return {"group": hashlib.blake2b(text, digest_size=8).hexdigest()}


def _value(row: dict, path: str | list[str]):
    """A column's value, or several columns'; ``a.b`` is b inside a."""
    if isinstance(path, list):
        return [_value(row, one) for one in path]
    return row[path] if path in row else reduce(getitem, path.split("."), row)
