"""Task formats. Each module is all that knows a format: columns -> features, head, loss, decoding of predictions.

A format module offers

``normalise(task, row, index)``     a source's row as an example with the format's own columns
``check(task, example)``            what is wrong with an example, in a few words, or None
``texts(example)``                  every text in it, as it will be cut into pieces
``features(task, examples, tokenizer, max_length)``
                                    dicts with ``input_ids`` (a list of sequences) and ``labels``
``head(task)``                      (``"sequence"`` or ``"token"``, number of outputs)
``loss(logits, labels)``            the training loss
``decode(task, examples, features, logits)``
                                    one row per example: label, prediction, probabilities, credit, out_of

A score is always 100 x sum(credit) / sum(out_of).
"""

from collections import Counter
from collections.abc import Iterable
from types import ModuleType

from helpers.catalogue import StudyError, Task
from helpers.formats import multiple_choice, sentence_pair

_FORMATS = {"sentence_pair": sentence_pair, "multiple_choice": multiple_choice}


def of(task: Task) -> ModuleType:
    """The module of a task's format."""
    return _FORMATS[task.format]


def normalise(task: Task, rows: Iterable[dict], where: str) -> list[dict]:
    """Rows of a source as the format's examples.

    Raises
    ------
    StudyError
        A column is missing or a value does not fit; names ``where``, the row and what was expected.
    """
    out = []
    for index, row in enumerate(rows):
        if index == 0:
            for column in _columns(task):
                if column not in row:
                    raise StudyError(f"{where}: no column '{column}'; found {', '.join(row)}")
        try:
            out.append(of(task).normalise(task, row, index))
        except (KeyError, TypeError, ValueError) as error:
            raise StudyError(f"{where}: row {index}: {error}") from None
    return out


def check(task: Task, examples: list[dict], where: str) -> None:
    """Raise a :class:`StudyError` for the first example that the format cannot use, or if there is none at all."""
    if not examples:
        raise StudyError(f"{where}: found no rows")
    for index, example in enumerate(examples):
        if wrong := of(task).check(task, example):
            raise StudyError(f"{where}: row {index}: {wrong}")


def key(task: Task, example: dict) -> tuple:
    """What makes two examples the same item, whatever its id, letter case or order of choices."""
    return tuple(sorted(" ".join(text.lower().split()) for text in of(task).texts(example)))


def label_counts(task: Task, examples: list[dict]) -> dict[str, int]:
    """How many examples carry each label."""
    counts = Counter(example["label"] for example in examples)
    return {label: counts.get(i, 0) for i, label in enumerate(task.labels)}


def _columns(task: Task) -> list[str]:
    return [c for value in task.columns.values() for c in ([value] if isinstance(value, str) else value)]
