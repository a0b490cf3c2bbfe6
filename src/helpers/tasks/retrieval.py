"""Find texts by vectors: translations with no training for it (Tatoeba, BUCC), answers and entities
(LAReQA, Mewsli-X).

A text's vector is the pooled state of one layer. Accuracy: the nearest neighbour by cosine is the
translation. Mining F1: pairs are mined by margin and kept above a threshold that is chosen on the
development part (XTREME, Hu et al. 2020). A sentence whose other side is empty has no translation
there. mAP@20: every source is a query for one of its ``answers``, and all targets are searched,
whatever their language (XTREME-R, Ruder et al. 2021).
"""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from helpers.study import Task
from helpers.tasks import labels
from helpers.tasks.mining import best_threshold, mine, nearest, neighbours

if TYPE_CHECKING:
    import torch

DEPTH = 20
"""Ranks that count."""
SCALE = 100.0
"""What cosines are multiplied by in training."""


def normalise(task: Task, row: dict) -> dict:
    pair = {name: row.get(name, "") for name in ("source", "target")}
    pair = {name: " ".join(x) if isinstance(x, list) else x for name, x in pair.items()}
    for name, text in pair.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is {text!r}; expected a text")
    given = [bool(text.strip()) for text in pair.values()]
    if not (all(given) if task.metric == "accuracy" else any(given)):
        raise ValueError(f"source {pair['source']!r}, target {pair['target']!r}; expected texts")
    if task.metric == "map_20":
        pair["answers"] = np.atleast_1d(row["answers"]).astype(str).tolist()
    return {"id": row["id"], **pair}


def texts(example: dict) -> list[str]:
    return [text for text in (example["source"], example["target"]) if text]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    sides = [e.get("prefix", "") + e[side] for e in examples for side in ("source", "target")]
    cut = tokenizer(sides, truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": cut[i : i + 2], "labels": 0} for i in range(0, len(cut), 2)]


def head(task: Task) -> tuple[str, int]:
    return "vector", 0


def loss(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Cross entropy in nats of every source's own target among all of the batch."""
    import torch
    from torch.nn import functional

    source, target = functional.normalize(logits.float(), dim=1).unflatten(0, (-1, 2)).unbind(1)
    own = torch.arange(len(source), device=logits.device)
    return functional.cross_entropy(SCALE * source @ target.T, own)


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    if task.metric == "map_20":
        return _ranked(examples, logits)
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
    if task.metric == "map_20":
        return {side: sum(bool(e[side]) for e in examples) for side in ("source", "target")}
    return {"pair": len(_translated(examples))}


def _translated(examples: list[dict]) -> set[int]:
    return {i for i, example in enumerate(examples) if example["source"] and example["target"]}


def _unit(vectors: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(vectors)
    return stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)


def _ranked(examples: list[dict], vectors: list[np.ndarray]) -> list[dict]:
    """Average precision of every source's first targets; the best is 1, however many are right."""
    asked, pool = ([i for i, e in enumerate(examples) if e[s]] for s in ("source", "target"))
    right = Counter(key for i in pool for key in examples[i]["answers"])
    sides = _unit([vectors[i][0] for i in asked]), _unit([vectors[i][1] for i in pool])
    rows = [labels.row("", "", [], 0.0, 0.0) for _ in examples]
    for i, near, cosines in zip(asked, *neighbours(*sides, DEPTH), strict=True):
        key, found = [*examples[i]["answers"], ""][0], [examples[pool[at]] for at in near]
        hits = np.array([key in one["answers"] for one in found])
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        credit = float(precision[hits].sum()) / max(1, min(right[key], DEPTH))
        rows[i] = labels.row(key, " ".join(one["id"] for one in found), cosines.tolist(), credit)
    return rows


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
