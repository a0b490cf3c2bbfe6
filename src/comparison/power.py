"""What a study can detect, before it runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from comparison import contrasts
from comparison.contrasts import TESTED, Contrast
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan
from comparison.variance import ASSUMED_SEED_SD

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
    items
        Test items of one language, by target.
    parallel
        Whether a target's languages are translations of the same items; False where not said.
    results
        `comparison.results` of earlier runs, for the noise between seeds and the items.
    """
    if results is None:
        results = pd.DataFrame(columns=[*RUN, "language", "score", "n"])
    spread = _seed_sd(results)
    at_condition = _item_variance(plan, items or {}, parallel or {}, results)
    over = ALL if len(plan.tasks) > 1 else "".join(plan.tasks)
    return {
        f"{contrast.quantity} {contrast.size}": _effect(contrast, seeds, spread, at_condition)
        for contrast in contrasts.of(plan)
        if contrast.quantity in TESTED and contrast.intermediate == over
    }


def _effect(contrast: Contrast, seeds: Mapping[str, int], spread, at_condition: float) -> float:
    """The interval's half width and what power asks for beyond it."""
    items = sum(weight**2 for weight in contrast.weights.values()) * at_condition
    pools: dict[tuple, list[float]] = {}
    for (size, task), weight in contrast.weights.items():
        kind = "none" if task == NONE else "others"
        sd = spread[kind] if seeds[kind] > 1 else ASSUMED_SEED_SD
        pools.setdefault((size, kind), []).append(weight**2 * sd**2 / seeds[kind])
    variance = sum(sum(parts) for parts in pools.values())
    uncertain = sum(
        sum(parts) ** 2 / (len(parts) * (seeds[kind] - 1))
        for (_, kind), parts in pools.items()
        if seeds[kind] > 1  # the spread of one seed is assumed, not estimated
    )
    freedom = variance**2 / max(uncertain, 1e-9)
    return float(
        sum(
            np.hypot(ndtri(level) * np.sqrt(items), stdtrit(freedom, level) * np.sqrt(variance))
            for level in (0.975, POWER)
        )
    )


def _item_variance(plan: Plan, items, parallel, results: pd.DataFrame) -> float:
    """Variance that items add to one condition's zero-shot mean over targets, in points squared."""
    parts = []
    for name, target in plan.targets.items():
        languages = [code for code in target.languages if code not in target.trained_in]
        seen = results[(results["target"] == name) & results["language"].isin(languages)]
        count = seen["n"].mean() if len(seen) else items.get(name, ITEMS)
        spoken = max(1, len(languages))
        correlation = SHARED if parallel.get(name) else 0.0
        shared = (1 + (spoken - 1) * correlation) / spoken
        parts.append(100**2 * DISAGREEMENT / 2 / count * shared)
    return sum(parts) / len(parts) ** 2


def _seed_sd(results: pd.DataFrame) -> dict[str, float]:
    """Points between seeds of the zero-shot score: as earlier results have it, else assumed."""
    scores = results[results["language"] == ZERO_SHOT]
    mean = scores.groupby([*RUN[:2], "seed"])["score"].mean().reset_index()
    spread, baseline = dict(SEED_SD), mean["intermediate"] == NONE
    for kind, rows in (("none", mean[baseline]), ("others", mean[~baseline])):
        variance = rows.groupby(RUN[:2])["score"].var().mean()
        if pd.notna(variance):
            spread[kind] = float(np.sqrt(variance))
    return spread
