"""What a study asks: gains, and what size does to them, as weighted sums over conditions."""

from collections.abc import Mapping
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.comparison.arrays import Condition
from helpers.study import NONE

ALL = "all"
"""The mean over all targets, or over all intermediate tasks."""
DOUBLING = "per doubling"
"""In the place of a size: what a doubling of the parameters without embeddings changes."""
TESTED = ("gain", "scale_effect", "slope", "bend")


class Contrast(NamedTuple):
    """A quantity of a study as a weighted sum over conditions."""

    quantity: str
    size: str
    intermediate: str
    weights: dict[Condition, float]


def of(grid: pd.DataFrame, parameters: Mapping[str, float] | None = None) -> list[Contrast]:
    """Every quantity of a study whose runs are the rows of `grid` (size, intermediate)."""
    sizes, tasks = (list(grid[column].unique()) for column in ("size", "intermediate"))
    found = []
    for quantity in ("score", "transfer_gap"):
        found += [Contrast(quantity, *of, {of: 1.0}) for of in product(sizes, tasks)]
    if NONE in tasks:
        for a, b in pairwise(sizes):
            found.append(Contrast("step", f"{b} - {a}", NONE, {(b, NONE): 1.0, (a, NONE): -1.0}))
    tasks = [task for task in tasks if task != NONE]
    groups = {task: [task] for task in tasks} | ({ALL: tasks} if len(tasks) > 1 else {})
    changes = _changes(sizes, parameters)
    for (quantity, name, over), (group, members) in product(changes, groups.items()):
        weights: dict[Condition, float] = {}
        for size, weight in over.items():
            weights |= {(size, task): weight / len(members) for task in members}
            weights[size, NONE] = -weight
        found.append(Contrast(quantity, name, group, weights))
    return found


def _changes(
    sizes: list[str], parameters: Mapping[str, float] | None
) -> list[tuple[str, str, dict[str, float]]]:
    """Gains and what is made of them: quantity, name of the sizes, their weights."""
    changes = [("gain", size, {size: 1.0}) for size in sizes]
    pairs = list(pairwise(sizes)) + ([(sizes[0], sizes[-1])] if len(sizes) > 2 else [])
    changes += [("scale_effect", f"{b} - {a}", {b: 1.0, a: -1.0}) for a, b in pairs]
    known = {size: parameters[size] for size in sizes if parameters and size in parameters}
    if len(sizes) < 3 or len(known) < len(sizes) or len(set(known.values())) < 2:
        return changes
    doublings = {size: float(np.log2(known[size])) for size in sizes}
    slope = _slope(doublings)
    changes.append(("slope", DOUBLING, slope))
    first, last = ({size: doublings[size] for size in ends} for ends in (sizes[:2], sizes[-2:]))
    if len(set(first.values())) == len(set(last.values())) == 2:
        bend = dict.fromkeys(sizes, 0.0) | _slope(last)
        for size, weight in _slope(first).items():
            bend[size] -= weight
        changes.append(("bend", DOUBLING, bend))
    return changes


def _slope(x: dict[str, float]) -> dict[str, float]:
    """Weights whose sum over values at ``x`` is the slope of the least-squares line."""
    centred = np.array(list(x.values())) - np.mean(list(x.values()))
    return dict(zip(x, centred / (centred**2).sum(), strict=True))


def aligned(contrast: Contrast, conditions: list[Condition]) -> np.ndarray:
    """A contrast's weights in the order of ``conditions``."""
    return np.array([contrast.weights.get(condition, 0.0) for condition in conditions])


def headline(asked: list[Contrast]) -> Contrast | None:
    """The contrast that answers the study's question, over all intermediate tasks."""
    over = {contrast.intermediate for contrast in asked if contrast.quantity == "gain"}
    own = [contrast for contrast in asked if contrast.intermediate == ALL or len(over) == 1]
    found = [c for quantity in ("scale_effect", "slope") for c in own if c.quantity == quantity]
    return found[-1] if found else None
