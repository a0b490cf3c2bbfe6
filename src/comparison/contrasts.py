"""What a study asks: gains, and what size does to them, as weighted sums over conditions."""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from comparison.plan import ALL, NONE, Plan

Condition = tuple[str, str]
"""(size, intermediate)."""
DOUBLING = "per doubling"
"""In the place of a size: what a doubling of the parameters without embeddings changes."""
TESTED = ("gain", "scale_effect", "slope", "bend")


class Contrast(NamedTuple):
    """A quantity of a study as a weighted sum over conditions."""

    quantity: str
    size: str
    intermediate: str
    weights: dict[Condition, float]


def of(plan: Plan) -> list[Contrast]:
    """Every quantity that a study asks for."""
    contrasts = []
    for quantity, size, task in product(("score", "transfer_gap"), plan.sizes, plan.intermediate):
        contrasts.append(Contrast(quantity, size, task, {(size, task): 1.0}))
    if NONE not in plan.intermediate:
        return contrasts
    for a, b in pairwise(plan.sizes):
        contrasts.append(Contrast("step", f"{b} - {a}", NONE, {(b, NONE): 1.0, (a, NONE): -1.0}))
    changes = _changes(list(plan.sizes), plan.parameters)
    for (quantity, name, over), group in product(changes, plan.gained):
        members = plan.tasks if group == ALL else [group]
        contrasts.append(Contrast(quantity, name, group, over_tasks(over, members)))
    return contrasts


def over_tasks(sizes: dict[str, float], tasks: list[str]) -> dict[Condition, float]:
    """Weights of the mean gain of some tasks, weighted by size."""
    weights: dict[Condition, float] = {}
    for size, weight in sizes.items():
        for task in tasks:
            weights[size, task] = weight / len(tasks)
        weights[size, NONE] = -weight
    return weights


def _changes(sizes: list[str], parameters: dict[str, float]) -> list[tuple[str, str, dict]]:
    """Gains and what is made of them: quantity, name of the sizes, their weights."""
    changes = [("gain", size, {size: 1.0}) for size in sizes]
    pairs = list(pairwise(sizes))
    if len(sizes) > 2:
        pairs.append((sizes[0], sizes[-1]))
    changes += [("scale_effect", f"{b} - {a}", {b: 1.0, a: -1.0}) for a, b in pairs]
    if len(sizes) < 3 or len(set(parameters.values())) < len(sizes):
        return changes
    doublings = {size: float(np.log2(parameters[size])) for size in sizes}
    first = _slope({size: doublings[size] for size in sizes[:2]})
    last = _slope({size: doublings[size] for size in sizes[-2:]})
    bend = {size: last.get(size, 0.0) - first.get(size, 0.0) for size in sizes}
    return [*changes, ("slope", DOUBLING, _slope(doublings)), ("bend", DOUBLING, bend)]


def _slope(x: dict[str, float]) -> dict[str, float]:
    """Weights whose sum over values at ``x`` is the slope of the least-squares line."""
    centred = np.array(list(x.values())) - np.mean(list(x.values()))
    return dict(zip(x, centred / (centred**2).sum(), strict=True))


def aligned(contrasts: list[Contrast], conditions: list[Condition]) -> np.ndarray:
    """The contrasts' weights in the order of ``conditions`` [contrasts, conditions]."""
    rows = [[c.weights.get(condition, 0.0) for condition in conditions] for c in contrasts]
    return np.array(rows, float).reshape(len(contrasts), len(conditions))


def headline(contrasts: list) -> Contrast | None:
    """The contrast that answers the study's question, over all intermediate tasks.

    The slope where there is one, else the scale effect of the last size against the first, else
    the gain of the only size. None for a study without a gain.
    """
    tasks = {contrast.intermediate for contrast in contrasts if contrast.quantity == "gain"}
    over_all = [c for c in contrasts if c.intermediate == ALL or len(tasks) == 1]
    for quantity in ("slope", "scale_effect", "gain"):
        named = [c for c in over_all if c.quantity == quantity]
        if named:
            return named[-1]
    return None
