"""Retrieval and mining of translations from unit vectors, as XTREME scores Tatoeba and BUCC."""

import numpy as np

NEIGHBOURS = 4
"""Neighbours that a margin is relative to."""
_ROWS = 1024


def nearest(queries: np.ndarray, searched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and cosine of each query's nearest vector; all unit vectors (sentences, hidden)."""
    index, cosine = neighbours(queries, searched, 1)
    return index[:, 0], cosine[:, 0]


def mine(source: np.ndarray, target: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (source, target, margin), best first, no sentence twice.

    The margin is the cosine over the mean cosine of both sentences' nearest neighbours (Artetxe and
    Schwenk 2019); the best candidates of both directions compete.
    """
    ahead, ahead_cosine = neighbours(source, target, NEIGHBOURS)
    back, back_cosine = neighbours(target, source, NEIGHBOURS)
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
    """The margin from which on pairs (margin, right) have the best F1, of ``gold`` to be found.

    It lies midway to the margin of the next pair below.
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

    A block of rows at a time: all cosines together would not fit.
    """
    count, found = min(count, len(target)), []
    for low in range(0, len(source), _ROWS):
        cosines = source[low : low + _ROWS] @ target.T
        top = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosines, top, axis=1), axis=1, kind="stable")
        index = np.take_along_axis(top, order, axis=1)
        found.append((index, np.take_along_axis(cosines, index, axis=1)))
    index, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return index, cosine.astype(np.float32)
