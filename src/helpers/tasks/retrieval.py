"""Find translations by the encoder's own vectors, with no training for it: Tatoeba, BUCC.

A sentence's vector is the pooled state of one layer. Accuracy: the nearest neighbour by cosine is the translation.
Mining F1: pairs are mined by margin and kept above a threshold that is chosen on the development part (XTREME,
Hu et al. 2020). A sentence whose other side is empty has no translation there.
"""

from collections import defaultdict

import numpy as np
import torch

from helpers.study import Task
from helpers.tasks import labels


def normalise(task: Task, row: dict, index: int) -> dict:
    return {
        "id": labels.identity(task, row, index),
        "source": row[task.columns["source"]],
        "target": row[task.columns["target"]],
    }


def check(task: Task, example: dict) -> str | None:
    for name in ("source", "target"):
        if not isinstance(example[name], str):
            return f"{name} is {example[name]!r}; expected a text"
    given = [bool(example[name].strip()) for name in ("source", "target")]
    if not all(given) and not (any(given) and task.metric == "mining_f1"):
        return f"source {example['source']!r}, target {example['target']!r}; expected texts"
    return None


def texts(example: dict) -> list[str]:
    return [text for text in (example["source"], example["target"]) if text]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    prefixed = [
        example.get("prefix", "") + example[side]
        for example in examples
        for side in ("source", "target")
    ]
    pieces = tokenizer(prefixed, truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": pieces[2 * i : 2 * i + 2], "labels": 0} for i in range(len(examples))]


def head(task: Task) -> tuple[str, int]:
    return "vector", 0


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    raise TypeError("retrieval is scored without training")


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    groups, rows = defaultdict(list), [{}] * len(examples)
    for at, example in enumerate(examples):
        groups[example.get("language"), example.get("split")].append(at)
    thresholds = {}
    for (language, split), members in sorted(
        groups.items(), key=lambda g: g[0][1] == task.evaluate
    ):  # development first
        score = _mined if task.metric == "mining_f1" else _nearest
        found = score(
            [examples[i] for i in members],
            [logits[i] for i in members],
            language,
            split,
            task,
            thresholds,
        )
        for at, row in zip(members, found, strict=True):
            rows[at] = row
    return rows


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    return 0.0, float(len(examples))


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    return {"pair": sum(bool(e["source"] and e["target"]) for e in examples)}


def _nearest(examples: list[dict], vectors: list[np.ndarray], *_) -> list[dict]:
    from helpers.tasks.mining import nearest

    source, target = (_unit(np.stack([pair[side] for pair in vectors])) for side in (0, 1))
    chosen, cosine = nearest(source, target)
    return [
        _row(examples[i]["id"], examples[at]["id"], value, float(at == i), 1.0)
        for i, (at, value) in enumerate(zip(chosen, cosine, strict=True))
    ]


def _mined(examples, vectors, language, split, task: Task, thresholds: dict) -> list[dict]:
    from helpers.tasks.mining import best_threshold, mine

    source, target = (
        [i for i, e in enumerate(examples) if e[side]] for side in ("source", "target")
    )
    pairs = mine(
        _unit(np.stack([vectors[i][0] for i in source])),
        _unit(np.stack([vectors[i][1] for i in target])),
    )
    pairs = [(source[s], target[t], margin) for s, t, margin in pairs]
    gold = {i for i, e in enumerate(examples) if e["source"] and e["target"]}
    if split != task.evaluate:
        thresholds[language] = best_threshold(
            [(margin, s == t and s in gold) for s, t, margin in pairs], len(gold)
        )
    kept = {s: (t, margin) for s, t, margin in pairs if margin >= thresholds.get(language, 0.0)}
    rows = []
    for i, example in enumerate(examples):
        mined, margin = kept.get(i, (None, 0.0))
        right = mined == i and i in gold
        out_of = float(mined is not None) + float(i in gold)
        label = example["id"] if i in gold else ""
        rows.append(
            _row(label, "" if mined is None else examples[mined]["id"], margin, 2.0 * right, out_of)
        )
    return rows


def _row(label: str, prediction: str, probability: float, credit: float, out_of: float) -> dict:
    return {
        "label": label,
        "prediction": prediction,
        "probabilities": [float(probability)],
        "credit": credit,
        "out_of": out_of,
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
