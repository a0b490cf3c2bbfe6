"""What a study asks: gains, and what size does to them, as weighted sums over conditions."""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from comparison.plan import ALL, NONE, Plan

Condition = tuple[str, str]
"""(size, intermediate)."""
DOUBLING = "per doubling"
"""In the place of a size: what a doubling of the parameters without embeddings changes."""
GAPS = {"gain": "gap_change", "scale_effect": "gap_scale_effect", "slope": "gap_slope"}
"""What is made of gains, and the same of the transfer gap: gap with a task minus gap without."""
CONTROLLED = ("gain_over_placebo", "gain_over_longer")
CHANGES = ("gain", "scale_effect", "slope", "bend")
TESTED = (*CHANGES, *GAPS.values(), *CONTROLLED)


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
    changes = _changes(list(plan.sizes), plan.parameters)
    members = {name: [name] for name in [*plan.tasks, *plan.controls]} | {ALL: plan.tasks}
    for (quantity, name, over), group in product(changes, plan.compared):
        weights = _against(NONE, over, members[group])
        contrasts.append(Contrast(quantity, name, group, weights))
        if quantity in GAPS:
            contrasts.append(Contrast(GAPS[quantity], name, group, weights))
    for control, task in plan.controls.items():
        quantity = "gain_over_placebo" if task else "gain_over_longer"
        groups = [task] * (task in plan.tasks) if task else plan.gained
        for group, size in product(groups, plan.sizes):
            weights = _against(control, {size: 1.0}, members[group])
            contrasts.append(Contrast(quantity, size, group, weights))
    return contrasts


def _against(baseline: str, sizes: dict[str, float], tasks: list[str]) -> dict[Condition, float]:
    """Weights of the mean gain of some tasks over a baseline, weighted by size."""
    weights = {(size, task): w / len(tasks) for size, w in sizes.items() for task in tasks}
    return weights | {(size, baseline): -weight for size, weight in sizes.items()}


def shares(contrast: Contrast, plan: Plan, targets: list[str]) -> dict[str, dict[str, float]]:
    """The targets that a contrast is formed of, and what tasks count there if that is not 1.

    In a mean over tasks, one that is the target's own data counts 0 and the others make up for it.
    A mean over targets leaves out those where nothing but such tasks or no control is left. That of
    a control's own gain needs all targets.
    """
    if contrast.quantity in ("score", "transfer_gap"):
        return {target: {} for target in targets}
    names, found = {task for _, task in contrast.weights}, {}
    tasks = [name for name in plan.tasks if name in names]
    for target in targets:
        left = [task for task in tasks if task in plan.transfer(target)]
        if len(targets) == len(tasks) == 1:
            left = tasks
        asked = all(plan.asks(name, target) for name in names.intersection(plan.controls))
        if (left or not tasks) and (asked or len(targets) == 1):
            counts = {task: len(tasks) / len(left) * (task in left) for task in tasks}
            found[target] = {} if left == tasks else counts
    if not tasks and len(found) < len(targets):  # a control's mean would be of other targets
        return {}
    return found


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


def headline(plan: Plan) -> Contrast | None:
    """The contrast that answers the study's question, over all intermediate tasks.

    The slope where there is one, else the scale effect of the last size against the first, else
    the gain of the only size. None for a study without a gain that is transfer.
    """
    over_all = [c for c in of(plan) if c.intermediate in plan.gained[:1]]
    for quantity in ("slope", "scale_effect", "gain"):
        named = [c for c in over_all if c.quantity == quantity]
        if named and any(plan.transfer(target) for target in plan.targets):
            return named[-1]
    return None
