"""Text without labels, which a mixture may model beside its tasks."""

from helpers.study import Task
from helpers.tasks.texts import text


def normalise(task: Task, row: dict) -> dict:
    return {"id": row["id"], "text": text("text", row["text"])}


def texts(example: dict) -> list[str]:
    return [example["text"]]


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    return {"text": len(examples)}
