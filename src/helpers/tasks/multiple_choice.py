"""Choose one of several continuations or answers: COPA, Social IQa, Cosmos QA, HellaSwag.

Every choice is read as the pair (context + question, choice); one output per pair, softmax over an item's pairs.
"""

import torch

from helpers.study import Task
from helpers.tasks import labels


def normalise(task: Task, row: dict, index: int) -> dict:
    columns = task.columns["choices"]
    question = row[task.columns["question"]] if "question" in task.columns else ""
    wording = task.values.get("question", {})
    if wording and question not in wording:
        raise ValueError(f"question {question!r}; expected one of {', '.join(map(repr, wording))}")
    return {
        "id": labels.identity(task, row, index),
        "context": row[task.columns["context"]],
        "question": wording.get(question, question),
        "choices": [row[column] for column in columns]
        if isinstance(columns, list)
        else list(row[columns]),
        "label": labels.read(task, row[task.columns["label"]]),
    }


def check(task: Task, example: dict) -> str | None:
    for name, text in [
        ("context", example["context"]),
        *(("choice", choice) for choice in example["choices"]),
    ]:
        if not isinstance(text, str) or not text.strip():
            return f"{name} is {text!r}; expected a text"
    if len(example["choices"]) != len(task.labels):
        return f"{len(example['choices'])} choices; expected {len(task.labels)}"
    return labels.check(task, example)


def texts(example: dict) -> list[str]:
    return [_context(example), *example["choices"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    width = len(task.labels)
    pieces = tokenizer(
        [_context(e) for e in examples for _ in range(width)],
        [choice for e in examples for choice in e["choices"]],
        truncation="longest_first",
        max_length=max_length,
    )["input_ids"]
    return [
        {"input_ids": pieces[i * width : (i + 1) * width], "labels": example["label"]}
        for i, example in enumerate(examples)
    ]


def head(task: Task) -> tuple[str, int]:
    return "sequence", 1


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return labels.cross_entropy(logits.view(len(targets), -1), targets)


constant, counts = labels.constant, labels.counts


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    return labels.decode(task, examples, [rows[:, 0] for rows in logits])


def _context(example: dict) -> str:
    return f"{example['context']} {example['question']}".strip()
