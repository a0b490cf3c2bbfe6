"""Retrieval and mining of translations from unit vectors, as XTREME scores Tatoeba and BUCC."""

import datasets
import evaluate
import numpy as np

NEIGHBOURS = 4
"""Neighbours that a margin is relative to."""
_ROWS = 1024


def nearest(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and cosine of each source's nearest target; both are unit vectors (sentences, hidden)."""
    index, cosine = _neighbours(source, target, 1)
    return index[:, 0], cosine[:, 0]


def mine(source: np.ndarray, target: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (source, target, margin), best first, no sentence twice.

    The margin is the cosine over the mean cosine of both sentences' nearest neighbours (Artetxe and Schwenk 2019); the
    best candidates of both directions compete.
    """
    ahead, ahead_cosine = _neighbours(source, target, NEIGHBOURS)
    back, back_cosine = _neighbours(target, source, NEIGHBOURS)
    around_source, around_target = ahead_cosine.mean(axis=1), back_cosine.mean(axis=1)
    forward = ahead_cosine / ((around_source[:, None] + around_target[ahead]) / 2)
    backward = back_cosine / ((around_target[:, None] + around_source[back]) / 2)
    best, best_back = forward.argmax(axis=1), backward.argmax(axis=1)
    pairs = [(s, int(ahead[s, b]), float(forward[s, b])) for s, b in enumerate(best)]
    pairs += [(int(back[t, b]), t, float(backward[t, b])) for t, b in enumerate(best_back)]
    out, sources, targets = [], set(), set()
    for s, t, margin in sorted(pairs, key=lambda pair: -pair[2]):
        if s not in sources and t not in targets:
            sources.add(s)
            targets.add(t)
            out.append((s, t, margin))
    return out


def best_threshold(scored: list[tuple[float, bool]], gold: int) -> float:
    """The margin above which the mined pairs (margin, right) have the best F1; midway to the next pair below."""
    ranked = sorted(scored, key=lambda pair: -pair[0])
    best, threshold, right = 0.0, 0.0, 0
    for count, (margin, correct) in enumerate(ranked, start=1):
        right += correct
        f1 = 2 * right / (count + gold)
        if f1 > best:
            below = ranked[count][0] if count < len(ranked) else margin
            best, threshold = f1, (margin + below) / 2
    return threshold


def _neighbours(
    source: np.ndarray, target: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and cosines (sentences, count) of the nearest targets, nearest first; a block of rows at a time."""
    count = min(count, len(target))
    index = np.empty((len(source), count), dtype=np.int64)
    cosine = np.empty((len(source), count), dtype=np.float32)
    for low in range(0, len(source), _ROWS):
        block = source[low : low + _ROWS] @ target.T
        top = np.argpartition(-block, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(block, top, axis=1), axis=1, kind="stable")
        index[low : low + _ROWS] = np.take_along_axis(top, order, axis=1)
        cosine[low : low + _ROWS] = np.take_along_axis(block, index[low : low + _ROWS], axis=1)
    return index, cosine


class MiningF1(evaluate.Metric):
    """F1 of mined sentence pairs, in points, as BUCC 2018 defines it."""

    def _info(self):
        pair = datasets.Value("string")
        return evaluate.MetricInfo(
            description="F1 of mined sentence pairs.",
            citation="Zweigenbaum et al. 2018",
            inputs_description="predictions, references: lists of pairs, each one text",
            features=datasets.Features(
                {"predictions": datasets.List(pair), "references": datasets.List(pair)}
            ),
        )

    def _compute(self, predictions, references):
        right = sum(len(set(p) & set(r)) for p, r in zip(predictions, references, strict=True))
        total = sum(len(set(p)) + len(set(r)) for p, r in zip(predictions, references, strict=True))
        return {"mining_f1": 100 * 2 * right / total if total else 0.0}
