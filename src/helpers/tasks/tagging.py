"""Tag every word of a sentence: named entities, parts of speech, supertags.

A word is cut into pieces; its first piece carries the label and gives the prediction. A sentence that does not fit is
read in parts, so that no word goes without a tag.
"""

from collections import Counter

import numpy as np
import torch

from helpers.study import Task
from helpers.tasks import labels
from helpers.tasks.labels import IGNORED


def normalise(task: Task, row: dict, index: int) -> dict:
    tokens, tags = list(row[task.columns["tokens"]]), list(row[task.columns["labels"]])
    if len(tokens) != len(tags):
        raise ValueError(
            f"{len(tokens)} words and {len(tags)} labels; expected as many labels as words"
        )
    return {
        "id": labels.identity(task, row, index),
        "tokens": tokens,
        "labels": [labels.read(task, tag) for tag in tags],
    }


def check(task: Task, example: dict) -> str | None:
    if not example["tokens"]:
        return "no words; expected a sentence"
    for word in example["tokens"]:
        if not isinstance(word, str) or not word:
            return f"word is {word!r}; expected a text"
    return next(
        (wrong for label in example["labels"] if (wrong := labels.check(task, {"label": label}))),
        None,
    )


def texts(example: dict) -> list[str]:
    return example["tokens"]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    before, after = _edges(tokenizer)
    room = max_length - len(before) - len(after)
    out = []
    for example in examples:
        words = tokenizer(example["tokens"], add_special_tokens=False)["input_ids"]
        parts = [([], [])]
        for pieces, label in zip(words, example["labels"], strict=True):
            pieces = (pieces or [tokenizer.unk_token_id])[:room]
            if len(parts[-1][0]) + len(pieces) > room:
                parts.append(([], []))
            parts[-1][0].extend(pieces)
            parts[-1][1].extend([label, *[IGNORED] * (len(pieces) - 1)])
        out.append(
            {
                "input_ids": [[*before, *pieces, *after] for pieces, _ in parts],
                "labels": [
                    [IGNORED] * len(before) + marks + [IGNORED] * len(after) for _, marks in parts
                ],
            }
        )
    return out


def head(task: Task) -> tuple[str, int]:
    return "token", len(task.labels)


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return labels.cross_entropy(logits.flatten(0, 1), targets.flatten())


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    rows = []
    for example, feature, scores in zip(examples, features, logits, strict=True):
        parts = zip(scores, map(np.array, feature["labels"]), strict=True)
        words = np.concatenate(
            [part[: len(marks)][marks != IGNORED] for part, marks in parts]
        ).astype(np.float64)
        probabilities = np.exp(words - words.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        chosen = [task.labels[i] for i in probabilities.argmax(axis=1)]
        gold = [task.labels[i] for i in example["labels"]]
        got, out_of = _credit(task, chosen, gold)
        rows.append(
            {
                "label": " ".join(gold),
                "prediction": " ".join(chosen),
                "probabilities": probabilities.max(axis=1).tolist(),
                "credit": got,
                "out_of": out_of,
            }
        )
    return rows


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """Giving every word the most frequent label."""
    most = max((n, label) for label, n in counts(task, examples).items())[1]
    gold = [[task.labels[i] for i in e["labels"]] for e in examples]
    credits = [_credit(task, [most] * len(tags), tags) for tags in gold]
    return sum(got for got, _ in credits), sum(out_of for _, out_of in credits)


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    found = Counter(label for example in examples for label in example["labels"])
    return {label: found.get(i, 0) for i, label in enumerate(task.labels)}


def _credit(task: Task, predicted: list[str], gold: list[str]) -> tuple[float, float]:
    if task.metric == "entity_f1":
        from helpers.tasks.entities import credit

        return credit(predicted, gold)
    return float(sum(p == g for p, g in zip(predicted, gold, strict=True))), float(len(gold))


def _edges(tokenizer) -> tuple[list[int], list[int]]:
    """Special pieces before and after a single text."""
    single = tokenizer("a")
    inside = [i for i, text in enumerate(single.sequence_ids(0)) if text is not None]
    return single["input_ids"][: inside[0]], single["input_ids"][inside[-1] + 1 :]
