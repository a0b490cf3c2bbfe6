"""Find translations by the encoder's own vectors, with no training for it: Tatoeba, BUCC.

A sentence's vector is the pooled state of one layer. Accuracy: the nearest neighbour by cosine is
the translation. Mining F1: pairs are mined by margin and kept above a threshold that is chosen on
the development part (XTREME, Hu et al. 2020). A sentence whose other side is empty has no
translation there.
"""

from collections import defaultdict

import numpy as np
import torch

from helpers.study import Task
from helpers.tasks import labels
from helpers.tasks.mining import best_threshold, mine, nearest


def normalise(task: Task, row: dict) -> dict:
    pair = {name: row[name] for name in ("source", "target")}
    for name, text in pair.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is {text!r}; expected a text")
    given = [bool(text.strip()) for text in pair.values()]
    if not (any(given) if task.metric == "mining_f1" else all(given)):
        raise ValueError(f"source {row['source']!r}, target {row['target']!r}; expected texts")
    return {"id": row["id"], **pair}


def texts(example: dict) -> list[str]:
    return [text for text in (example["source"], example["target"]) if text]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    sides = [e.get("prefix", "") + e[side] for e in examples for side in ("source", "target")]
    cut = tokenizer(sides, truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": cut[i : i + 2], "labels": 0} for i in range(0, len(cut), 2)]


def head(task: Task) -> tuple[str, int]:
    return "vector", 0


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    raise TypeError("retrieval is scored without training")


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    groups: dict[tuple, list[int]] = defaultdict(list)
    for at, example in enumerate(examples):
        groups[example.get("language"), example.get("split")].append(at)
    rows: dict[int, dict] = {}
    thresholds: dict[str, float] = defaultdict(float)
    # The development part comes first: it gives the thresholds.
    for language, split in sorted(groups, key=lambda group: group[1] == task.evaluate):
        members = groups[language, split]
        own = [examples[at] for at in members]
        source, target = (_unit([logits[at][side] for at in members]) for side in (0, 1))
        if task.metric == "accuracy":
            found = dict(enumerate(zip(*nearest(source, target), strict=True)))
        else:
            pairs = _mined(own, source, target)
            if split != task.evaluate:
                gold = _translated(own)
                scored = [(margin, s == t and s in gold) for s, t, margin in pairs]
                thresholds[language] = best_threshold(scored, len(gold))
            found = {s: (t, margin) for s, t, margin in pairs if margin >= thresholds[language]}
        rows.update(zip(members, _rows(own, found, task.metric), strict=True))
    return [rows[at] for at in range(len(examples))]


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    return 0.0, float(len(examples))


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    return {"pair": len(_translated(examples))}


def _translated(examples: list[dict]) -> set[int]:
    return {i for i, example in enumerate(examples) if example["source"] and example["target"]}


def _unit(vectors: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(vectors)
    return stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)


def _mined(examples: list[dict], source: np.ndarray, target: np.ndarray) -> list[tuple]:
    """Pairs (source, target, margin) of the sentences that are not empty."""
    sources, targets = ([i for i, e in enumerate(examples) if e[s]] for s in ("source", "target"))
    pairs = mine(source[sources], target[targets])
    return [(sources[s], targets[t], margin) for s, t, margin in pairs]


def _rows(examples: list[dict], found: dict[int, tuple], metric: str) -> list[dict]:
    """F1: twice the right pairs, out of those found and those to find; accuracy: half of both."""
    ids, gold, rows = [example["id"] for example in examples], _translated(examples), []
    weight = 1.0 if metric == "mining_f1" else 0.5
    for i, name in enumerate(ids):
        at, value = found.get(i, (None, 0.0))
        said, label = "" if at is None else ids[at], name if i in gold else ""
        right, out_of = at == i and i in gold, (at is not None) + (i in gold)
        rows.append(labels.row(label, said, [float(value)], 2 * weight * right, weight * out_of))
    return rows
