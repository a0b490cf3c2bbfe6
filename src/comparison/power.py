"""What a study can detect, before it runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from comparison import contrasts, variance
from comparison.contrasts import TESTED
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan

SEED_SD = {"none": 2.0, "others": 1.0}
"""Points between seeds of a zero-shot score, assumed where the study has no earlier results."""
DISAGREEMENT = 0.25
"""Share of items that two models of near scores do not both get right or wrong: assumed."""
SHARED = 0.3
"""Correlation over languages of what models differ in, for parallel items: assumed."""
ITEMS = 1_000
"""Assumed items of a language where nobody says."""
POWER = 0.8


def detectable(
    plan: Plan,
    seeds: Mapping[str, int],
    items: Mapping[str, int] | None = None,
    parallel: Mapping[str, bool] | None = None,
    results: pd.DataFrame | None = None,
) -> dict[str, float]:
    """The smallest true effects (points) found with 80 % power at p < 0.05.

    Of gains, scale effects, slope and bend ("gain base", ...) of the mean over tasks and targets on
    the zero-shot score. Quantiles of Student's t are those of the interval (Cohen 1988, chapter 2).

    Parameters
    ----------
    plan
        Sizes, tasks and targets with their languages.
    seeds
        How many "none" has, and the "others".
    items, parallel
        By target: test items of a language, and whether its languages are translations of the same.
    results
        `comparison.results` of earlier runs, for the noise between seeds.
    """
    spread = SEED_SD if results is None else _seed_sd(results)
    at_condition = _item_variance(plan, items or {}, parallel or {})
    over = ALL if len(plan.tasks) > 1 else "".join(plan.tasks)
    effects = {}
    for contrast in contrasts.of(plan):
        if contrast.quantity not in TESTED or contrast.intermediate != over:
            continue
        weights = pd.Series(contrast.weights) ** 2
        kinds = ["none" if task == NONE else "others" for _, task in weights.index]
        parts = weights * [_seed_variance(kind, seeds, spread) for kind in kinds]
        by_pool = parts.groupby([weights.index.get_level_values(0), kinds])
        runs = pd.Series([seeds[kind] - 1 for kind in kinds], weights.index)
        freedom = runs.groupby([weights.index.get_level_values(0), kinds]).sum()
        total, degrees = variance.welch(by_pool.sum().to_numpy()[None], _or_certain(freedom))
        effects[f"{contrast.quantity} {contrast.size}"] = sum(
            np.hypot(
                ndtri(level) * np.sqrt(weights.sum() * at_condition),
                stdtrit(degrees[0], level) * np.sqrt(total[0]),
            )
            for level in (0.975, POWER)
        )
    return {name: float(effect) for name, effect in effects.items()}


def _or_certain(freedom: pd.Series) -> np.ndarray:
    """Degrees of freedom; the spread of one seed is assumed, not estimated."""
    return np.where(freedom > 0, freedom, np.inf)


def _seed_variance(kind: str, seeds: Mapping[str, int], spread: Mapping[str, float]) -> float:
    """Variance of a condition's mean over its seeds."""
    sd = spread[kind] if seeds[kind] > 1 else variance.ASSUMED_SEED_SD
    return sd**2 / seeds[kind]


def _item_variance(plan: Plan, items: Mapping[str, int], parallel: Mapping[str, bool]) -> float:
    """Variance that items add to one condition's zero-shot mean over targets, in points squared."""
    parts = []
    for name, target in plan.targets.items():
        languages = max(1, len(set(target.languages) - set(target.trained_in)))
        shared = 1 + (languages - 1) * SHARED * parallel.get(name, False)
        parts.append(100**2 * DISAGREEMENT / 2 / items.get(name, ITEMS) * shared / languages)
    return sum(parts) / len(parts) ** 2


def _seed_sd(results: pd.DataFrame) -> dict[str, float]:
    """Points between seeds of the zero-shot score: as earlier results have it, else assumed."""
    scores = results[results["language"] == ZERO_SHOT]
    mean = scores.groupby([*RUN[:2], "seed"])["score"].mean().reset_index()
    kinds = np.where(mean["intermediate"] == NONE, "none", "others")
    between = mean.groupby([kinds, *RUN[:2]])["score"].var().groupby(level=0).mean().dropna()
    return SEED_SD | {kind: float(np.sqrt(value)) for kind, value in between.items()}
