"""Text without labels, which a mixture may model beside its tasks."""

from helpers.formats.texts import text
from helpers.study import Task

CHARACTERS = 4000
"""Characters of a text that are kept: more than a training reads of it."""


def normalise(task: Task, row: dict) -> dict:
    return {"id": row["id"], "text": text("text", row["text"])[:CHARACTERS]}


def texts(example: dict) -> list[str]:
    return [example["text"]]
