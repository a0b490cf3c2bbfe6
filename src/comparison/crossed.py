"""Where the noise of a score comes from: items, seeds, and the draw of training data."""

from itertools import chain, combinations

import numpy as np
import pandas as pd

from comparison import items
from comparison.plan import RUN
from comparison.reading import CROSSED

SOURCES = ["items", "intermediate seed", "target seed", "draw of the data"]
TRAININGS, BY_ITEM = "interactions of the trainings", "items by training"


def variance_table(
    predictions: pd.DataFrame, trained_in: tuple[str, ...] = ("en",)
) -> pd.DataFrame:
    """What the variance of a single run's zero-shot score is made of, per crossed condition.

    `predictions` are those of `read_crossed`: every intermediate seed with every target seed and
    draw. Method of moments on the balanced crossed design: all factors count as random, the mean
    squares of factors and interactions are equated with their expectations, and an estimate below
    zero becomes zero (Searle, Casella and McCulloch 1992, Variance Components, chapters 4 and 5).
    Scores that are ratios are linearised. Two or three seeds tell a variance badly.

    Columns: size, intermediate, target, source, variance (points squared), sd (points), share (%).
    A condition that lacks a run has no row, nor has a factor with a single level.
    """
    rows = []
    for names, table in predictions.groupby(RUN[:3], sort=False):
        cells = pd.MultiIndex.from_product([sorted(table[name].unique()) for name in CROSSED])
        run = cells.get_indexer(pd.MultiIndex.from_frame(table[CROSSED]))
        if len(set(run)) == len(cells):
            table = table.assign(seed=run)
            scores = items.arrange(names[2], table, table[RUN].drop_duplicates())
            weights = scores.mean_of(set(scores.languages) - {*trained_in})
            by_item = scores.by_unit(weights)[np.unique(scores.unit[weights[scores.language] > 0])]
            by_item = len(by_item) * by_item + weights @ scores.run_scores  # their mean: the score
            parts = _components(by_item.reshape(-1, *cells.levshape))
            for source, value in parts.items():
                share = 100 * value / sum(parts.values())
                rows.append((*names, source, value, value**0.5, share))
    return pd.DataFrame(rows, columns=[*RUN[:3], "source", "variance", "sd", "share"])


def _components(values: np.ndarray) -> dict[str, float]:
    """Variances of a single run's score by source; `values` are [items, factors of CROSSED]."""
    sizes = {i: count for i, count in enumerate(values.shape) if count > 1}
    sets = list(chain(*(combinations(sizes, k) for k in range(len(sizes) + 1))))
    effects: dict[tuple, np.ndarray] = {}
    squares = {}
    for one in sets:  # what a set of factors adds to its parts
        mean = values.mean(axis=tuple({*range(values.ndim)} - {*one}), keepdims=True)
        effects[one] = mean - sum(effects[part] for part in effects if {*part} < {*one})
        cell = values.size / np.prod([sizes[i] for i in one])
        degrees = np.prod([sizes[i] - 1 for i in one])
        squares[one] = cell * (effects[one] ** 2).sum() / degrees
    parts = dict.fromkeys([*(SOURCES[i] for i in sizes), TRAININGS, BY_ITEM], 0.0)
    for one in sets[1:]:
        signed = [(-1) ** (len(s) - len(one)) * squares[s] for s in sets if {*one} <= {*s}]
        value = max(0.0, sum(signed)) * np.prod([sizes[i] for i in one]) / values.size
        interaction = BY_ITEM if 0 in one else TRAININGS
        source = SOURCES[one[0]] if len(one) == 1 else interaction
        parts[source] += float(value) / (sizes[0] if 0 in one else 1)
    return parts
