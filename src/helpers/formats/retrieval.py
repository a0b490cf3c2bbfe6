"""Find texts by vectors: translations with no training for it (Tatoeba, BUCC), answers and entities
(LAReQA, Mewsli-X).

A text's vector is the pooled state of one layer. Accuracy: every target (English) is looked up
among the sources, and the nearest by cosine is its translation. Mining F1: pairs are mined by
margin and kept above a threshold that is chosen on the development part (both as XTREME has them,
Hu et al. 2020). A sentence whose other side is empty has no translation there, and one that occurs
twice is in no pair. mAP@20: every source is a query for one of its ``answers``, and all targets are
searched, whatever their language (XTREME-R, Ruder et al. 2021).
"""

from collections import Counter, defaultdict

import numpy as np

from helpers.formats import labels
from helpers.formats.texts import features as cut
from helpers.study import Task

DEPTH = 20
"""Ranks that count."""
NEIGHBOURS = 4
"""Neighbours that a margin is relative to."""
SCALE = 100.0
"""The factor of cosines in training."""
_ROWS = 1024


def normalise(task: Task, row: dict) -> dict:
    pair = {name: row.get(name, "") for name in ("source", "target")}
    for name, text in pair.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is {text!r}; expected a text")
    filled = [bool(text.strip()) for text in pair.values()]
    if not (all(filled) if task.metric == "accuracy" else any(filled)):
        raise ValueError(f"source {pair['source']!r}, target {pair['target']!r}; expected texts")
    example: dict = {"id": row["id"], **pair}
    if task.metric == "map_20":
        keys = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
        example["answers"] = [labels.written(key) for key in keys]
        if "" in example["answers"] or (pair["source"] and not keys):
            raise ValueError(f"answers is {row['answers']!r}; expected keys (texts or numbers)")
    return example


def texts(example: dict) -> list[str]:
    return [text for text in (example["source"], example["target"]) if text]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    sides = []
    for example in examples:
        prefix = example.get("prefix", "")
        sides.append([(prefix + example["source"],), (prefix + example["target"],)])
    return cut(tokenizer, max_length, sides, [0] * len(examples))


def head(task: Task) -> tuple[str, int]:
    return "vector", 0


def loss(logits, targets):
    """Cross entropy in nats of every source's own target among all of the batch."""
    import torch
    from torch.nn import functional

    source, target = functional.normalize(logits.float(), dim=1).unflatten(0, (-1, 2)).unbind(1)
    itself = torch.arange(len(source), device=logits.device)
    return functional.cross_entropy(SCALE * source @ target.T, itself)


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    return 0.0, float(len(examples))


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
        some = [examples[at] for at in members]
        source, target = (unit([logits[at][side] for at in members]) for side in (0, 1))
        if task.metric == "accuracy":
            index, cosine = neighbours(target, source, 1)
            chosen = dict(enumerate(zip(index[:, 0], cosine[:, 0], strict=True)))
        else:
            pairs = _mined(some, source, target)
            if split != task.evaluate:
                scored = [(margin, s == t) for s, t, margin in pairs]
                thresholds[language] = best_threshold(scored, len(_translated(some)))
            chosen = {s: (t, margin) for s, t, margin in pairs if margin >= thresholds[language]}
        rows.update(zip(members, _rows(some, chosen, task.metric), strict=True))
    return [rows[at] for at in range(len(examples))]


def _rows(examples: list[dict], chosen: dict[int, tuple], metric: str) -> list[dict]:
    """F1: 2 x right pairs, out of pairs chosen + pairs to find; accuracy: half of both."""
    ids, gold, rows = [example["id"] for example in examples], _translated(examples), []
    weight = 1.0 if metric == "mining_f1" else 0.5
    for i, name in enumerate(ids):
        at, value = chosen.get(i, (None, 0.0))
        prediction, label = "" if at is None else ids[at], name if i in gold else ""
        credit, out_of = 2 * weight * (at == i), (at is not None) + (i in gold)
        rows.append(labels.row(label, prediction, [float(value)], credit, weight * out_of))
    return rows


def _translated(examples: list[dict]) -> set[int]:
    return {i for i, example in enumerate(examples) if example["source"] and example["target"]}


def unit(vectors: list[np.ndarray]) -> np.ndarray:
    """Vectors (texts, hidden) of length 1."""
    stacked = np.stack(vectors)
    return stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)


def _ranked(examples: list[dict], vectors: list[np.ndarray]) -> list[dict]:
    """Average precision of every source's first targets; the best is 1, however many are right."""
    asked, pool = ([i for i, e in enumerate(examples) if e[s]] for s in ("source", "target"))
    right = Counter(key for i in pool for key in examples[i]["answers"])
    sides = unit([vectors[i][0] for i in asked]), unit([vectors[i][1] for i in pool])
    rows = [labels.row("", "", [], 0.0, 0.0) for _ in examples]
    for i, near, cosines in zip(asked, *neighbours(*sides, DEPTH), strict=True):
        key, ranked = [*examples[i]["answers"], ""][0], [examples[pool[at]] for at in near]
        hits = np.array([key in one["answers"] for one in ranked])
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        credit = float(precision[hits].sum()) / max(1, min(right[key], DEPTH))
        names = " ".join(one["id"] for one in ranked)
        rows[i] = labels.row(key, names, cosines.tolist(), credit)
    return rows


def _mined(examples: list[dict], source: np.ndarray, target: np.ndarray) -> list[tuple]:
    """Pairs (source, target, margin) of the sentences that are not empty.

    Equal sentences are one while mining and in no pair afterwards, as in XTREME's
    utils_retrieve.py: nothing tells which of them is meant.
    """
    sides = []
    for name in ("source", "target"):
        places = defaultdict(list)
        for at, example in enumerate(examples):
            places[example[name].strip()].append(at)
        places.pop("", None)
        sides.append(list(places.values()))
    first = [[places[0] for places in side] for side in sides]
    pairs = mine(source[first[0]], target[first[1]])
    once = [(s, t, m) for s, t, m in pairs if len(sides[0][s]) == len(sides[1][t]) == 1]
    return [(first[0][s], first[1][t], margin) for s, t, margin in once]


def mine(source: np.ndarray, target: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (source, target, margin) of unit vectors (sentences, hidden), best first, none twice.

    The margin is the cosine over the mean cosine of both sentences' nearest neighbours (Artetxe and
    Schwenk 2019); the best candidates of both directions compete.
    """
    ahead, ahead_cosine = neighbours(source, target, NEIGHBOURS)
    back, back_cosine = neighbours(target, source, NEIGHBOURS)
    around_source, around_target = ahead_cosine.mean(axis=1), back_cosine.mean(axis=1)
    forward = ahead_cosine / ((around_source[:, None] + around_target[ahead]) / 2)
    backward = back_cosine / ((around_target[:, None] + around_source[back]) / 2)
    pairs = [(s, int(ahead[s, b]), float(forward[s, b])) for s, b in enumerate(forward.argmax(1))]
    pairs += [(int(back[t, b]), t, float(backward[t, b])) for t, b in enumerate(backward.argmax(1))]
    out, sources, targets = [], set(), set()
    for s, t, margin in sorted(pairs, key=lambda pair: -pair[2]):
        if s not in sources and t not in targets:
            sources.add(s)
            targets.add(t)
            out.append((s, t, margin))
    return out


def best_threshold(scored: list[tuple[float, bool]], gold: int) -> float:
    """The margin from which on pairs (margin, right) have the best F1, midway to that of the next
    pair below; ``gold`` pairs exist.
    """
    ranked = sorted(scored, key=lambda pair: -pair[0])
    best, threshold, right = 0.0, 0.0, 0
    for count, (margin, correct) in enumerate(ranked, start=1):
        right += correct
        f1 = 2 * right / (count + gold)
        if f1 > best:
            below = ranked[count][0] if count < len(ranked) else margin
            best, threshold = f1, (margin + below) / 2
    return threshold


def neighbours(source: np.ndarray, target: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and cosines (sentences, count) of the nearest targets, nearest first.

    Both sides are unit vectors (sentences, hidden). Works on blocks of rows, because all cosines
    together would not fit into memory.
    """
    count, blocks = min(count, len(target)), []
    for low in range(0, len(source), _ROWS):
        cosines = source[low : low + _ROWS] @ target.T
        top = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosines, top, axis=1), axis=1, kind="stable")
        index = np.take_along_axis(top, order, axis=1)
        blocks.append((index, np.take_along_axis(cosines, index, axis=1)))
    index, cosine = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return index, cosine.astype(np.float32)
