"""Task formats. Each module is all that knows a format: columns -> features, head, loss, decoding of predictions.

A format module offers

``normalise(task, row, index)``     a source's row as an example with the format's own columns
``check(task, example)``            what is wrong with an example, in a few words, or None
``texts(example)``                  every text in it, as it will be cut into pieces
``features(task, examples, tokenizer, max_length)``
                                    dicts with ``input_ids`` (a list of sequences) and ``labels``: one label of the
                                    example, or a list of labels for every sequence
``head(task)``                      (``"sequence"``, ``"token"`` or ``"vector"``, number of outputs)
``loss(logits, labels)``            the training loss
``decode(task, examples, features, logits)``
                                    one row per example: label, prediction, probabilities, credit, out_of, and what
                                    else the format records; logits are padded, as long as a batch's longest sequence
``constant(task, examples)``        (credit, out of) of the best answer that looks at nothing
``counts(task, examples)``          how many examples, or words, carry each label

A score is always 100 x sum(credit) / sum(out_of). Metrics are imported where they are used: ``evaluate`` takes five
seconds to import, which checking a study need not wait for.
"""

from collections.abc import Iterable
from types import ModuleType

from helpers.study import StudyError, Task
from helpers.tasks import multiple_choice, retrieval, sentence_pair, span_extraction, tagging

_FORMATS = {
    "sentence_pair": sentence_pair,
    "multiple_choice": multiple_choice,
    "span_extraction": span_extraction,
    "tagging": tagging,
    "retrieval": retrieval,
}


def of(task: Task) -> ModuleType:
    """The module of a task's format."""
    return _FORMATS[task.format]


def normalise(
    task: Task, rows: Iterable[dict], where: str, skipped: list[str] | None = None
) -> list[dict]:
    """Rows of a source as the format's examples, each checked.

    A bad row is an error; with a list ``skipped`` it is left out, and what is wrong with it is added there.
    Rows whose label is one of ``task.skip_labels`` are left out by declaration.

    Raises
    ------
    StudyError
        A column is missing, a row is bad, or there is none; names ``where``, the row and what was expected.
    """
    out = []
    for index, row in enumerate(rows):
        if not out and isinstance(row, dict):
            for column in _columns(task):
                if column.split(".")[0] not in row:
                    raise StudyError(
                        f"{where}: no column '{column}'; found {', '.join(map(str, row))}"
                    )
        try:
            if isinstance(row, ValueError):
                raise row
            row = row | {column: _inside(row, column) for column in _columns(task) if "." in column}
            if task.skip_labels and row[task.columns["label"]] in task.skip_labels:
                continue
            example = of(task).normalise(task, row, index)
            wrong = of(task).check(task, example)
        except (KeyError, TypeError, ValueError) as error:
            wrong = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        if wrong is None:
            out.append(example)
        elif skipped is None:
            raise StudyError(f"{where}: row {index}: {wrong}")
        else:
            skipped.append(f"row {index}: {wrong}")
    if not out:
        raise StudyError(
            f"{where}: found no rows"
            + (f" that are good; the first: {skipped[0]}" if skipped else "")
        )
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
    """How many examples, or words, carry each label."""
    return of(task).counts(task, examples)


def majority(task: Task, examples: list[dict]) -> float:
    """The score, in points, of the best constant answer: what a collapsed model reaches."""
    credit, out_of = of(task).constant(task, examples)
    return 100 * credit / out_of if out_of else 0.0


def score(credits, out_of) -> float:
    return 100 * sum(credits) / (sum(out_of) or 1)


def _columns(task: Task) -> list[str]:
    return [
        c for value in task.columns.values() for c in ([value] if isinstance(value, str) else value)
    ]


def _inside(row: dict, column: str):
    """The value at a path such as ``choices.text``."""
    value = row
    for part in column.split("."):
        value = value[part]
    return value
