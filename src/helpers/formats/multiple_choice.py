"""Choose one of several continuations or answers: COPA, Social IQa, Cosmos QA, HellaSwag.

Every choice is read as the pair (context + question, choice); one output per pair, softmax over an
item's pairs.
"""

from helpers.formats import labels
from helpers.formats.texts import features as cut
from helpers.formats.texts import items, text
from helpers.study import Task

constant, loss, decode = labels.constant, labels.loss, labels.decode


def normalise(task: Task, row: dict) -> dict:
    question, wording = row.get("question") or "", task.values.get("question", {})
    if not isinstance(question, str):
        raise ValueError(f"question is {question!r}; expected a text or none")
    if wording and question not in wording:
        expected = ", ".join(map(repr, wording))
        raise ValueError(f"question {question!r}; expected one of {expected}")
    choices = items("choices", row["choices"])
    if len(choices) != len(task.labels):
        raise ValueError(f"{len(choices)} choices; expected {len(task.labels)}")
    return {
        "id": row["id"],
        "context": text("context", row["context"]),
        "question": wording.get(question, question),
        "choices": [text("choice", choice) for choice in choices],
        "label": labels.read(task, row["label"]),
    }


def texts(example: dict) -> list[str]:
    context = f"{example['context']} {example['question']}".strip()
    return [context, *example["choices"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    pairs = []
    for context, *choices in map(texts, examples):
        pairs.append([(context, choice) for choice in choices])
    return cut(tokenizer, max_length, pairs, [example["label"] for example in examples])


def head(task: Task) -> tuple[str, int]:
    return "sequence", 1
