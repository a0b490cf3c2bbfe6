"""What a study can detect, before it runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from helpers.comparison import contrasts
from helpers.comparison.contrasts import ALL, TESTED, Contrast
from helpers.comparison.samples import ASSUMED_SEED_SD
from helpers.study import ENGLISH, NONE, RUN, ZERO_SHOT, Study

SEED_SD = {"none": 2.0, "others": 1.0}
"""Points between seeds of a zero-shot score, assumed where the study has no earlier results."""
DISAGREEMENT = 0.25
"""Share of items that two models of near scores do not both get right or wrong: assumed."""
SHARED = 0.3
"""Correlation over languages of what models differ in, for parallel items: assumed."""
ITEMS = 1_000
"""Assumed items of a language where neither catalogue nor earlier results say."""
POWER = 0.8


def detectable(
    study: Study, seeds: Mapping[str, int], results: pd.DataFrame, parameters: Mapping[str, float]
) -> dict[str, float]:
    """The smallest true gain and headline (points) found with 80 % power at p < 0.05.

    Of the mean over tasks and targets on the zero-shot score. ``seeds`` has the numbers of "none"
    and "others"; ``results`` is the study's earlier table, or empty. The standard error adds items
    (two conditions differ in ``DISAGREEMENT`` of them, parallel languages share ``SHARED`` of that)
    and seeds; both are multiplied by quantiles of Student's t (Cohen 1988, chapter 2).
    """
    grid = pd.DataFrame(study.runs(), columns=RUN)
    spread, found = _seed_sd(results), {}
    over = [task for task in grid["intermediate"].unique() if task != NONE]
    named = ALL if len(over) > 1 else over[0] if over else ""
    for contrast in contrasts.of(grid, parameters):
        if contrast.quantity in TESTED and contrast.intermediate == named:
            error, freedom = _error(contrast, study, seeds, spread, results)
            effect = error * (stdtrit(freedom, 0.975) + stdtrit(freedom, POWER))
            found[f"{contrast.quantity} {contrast.size}"] = float(effect)
    return found


def _error(contrast: Contrast, study, seeds, spread, results) -> tuple[float, float]:
    """Standard error of a contrast of zero-shot means over targets, and degrees of freedom."""
    squares = {c: weight**2 for c, weight in contrast.weights.items()}
    items = sum(squares.values()) * _item_variance(study, results)
    pools: dict[tuple, list[float]] = {}
    for (size, task), square in squares.items():
        kind = "none" if task == NONE else "others"
        sd = spread[kind] if seeds[kind] > 1 else ASSUMED_SEED_SD
        part = square * sd**2 / seeds[kind]
        pools.setdefault((size, kind), []).append(part)
    total = sum(map(sum, pools.values()))
    uncertain = sum(
        sum(parts) ** 2 / (len(parts) * (seeds[kind] - 1))
        for (_, kind), parts in pools.items()
        if seeds[kind] > 1  # the spread of one seed is assumed, not estimated
    )
    return float(np.sqrt(items + total)), (items + total) ** 2 / (uncertain or 1e-9)


def _item_variance(study: Study, results: pd.DataFrame) -> float:
    """Variance that items add to one condition's zero-shot mean over targets, in points squared."""
    parts, names = [], [target.task for target in study.targets]
    for name in names:
        entry, languages = study.tasks[name], [c for c in study.languages(name) if c != ENGLISH]
        seen = results[(results["target"] == name) & results["language"].isin(languages)]
        items = seen["n"].mean() if len(seen) else entry.sizes.get(entry.evaluate, ITEMS)
        count = max(1, len(languages))
        shared = (1 + (count - 1) * SHARED * entry.parallel) / count
        parts.append(100**2 * DISAGREEMENT / 2 / items * shared)
    return sum(parts) / len(parts) ** 2


def _seed_sd(results: pd.DataFrame) -> dict[str, float]:
    """Points between seeds of the zero-shot score: as earlier results have it, else assumed."""
    scores = results[results["language"] == ZERO_SHOT]
    mean = scores.groupby([*RUN[:2], "seed"])["score"].mean().reset_index()
    found = {}
    for kind, own in (
        ("none", mean["intermediate"] == NONE),
        ("others", mean["intermediate"] != NONE),
    ):
        variance = mean[own].groupby(RUN[:2])["score"].var().mean()
        found[kind] = SEED_SD[kind] if pd.isna(variance) else float(np.sqrt(variance))
    return found
