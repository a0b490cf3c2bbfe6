"""What a study can detect, before it runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

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

    `seeds` says how many "none" has and the "others"; `items` and `parallel`, by target, the test
    items of a language and whether languages are translations of the same; `results` of earlier
    runs give the noise between seeds.
    """
    spread = SEED_SD if results is None else _seed_sd(results)
    noise = {kind: spread[kind] ** 2 / count for kind, count in seeds.items()}
    noise |= {kind: variance.ASSUMED_SEED_SD**2 for kind, count in seeds.items() if count == 1}
    at_condition = _item_variance(plan, items or {}, parallel or {})
    over, effects = ALL if len(plan.tasks) > 1 else "".join(plan.tasks), {}
    for contrast in contrasts.of(plan):
        if contrast.quantity not in TESTED or contrast.intermediate != over:
            continue
        pools: dict[tuple, list[float]] = {}
        for (size, task), weight in contrast.weights.items():
            pools.setdefault((size, "none" if task == NONE else "others"), []).append(weight**2)
        parts = [sum(squares) * noise[kind] for (_, kind), squares in pools.items()]
        freedom = [len(each) * (seeds[kind] - 1) or np.inf for (_, kind), each in pools.items()]
        between, degrees = variance.welch(np.array([parts]), np.array(freedom))
        of_items = at_condition * sum(weight**2 for weight in contrast.weights.values())
        spreads = (of_items, np.inf, between[0], degrees[0])
        halves = [variance.half_width(p, *spreads) for p in (0.05, 2 * (1 - POWER))]
        effects[f"{contrast.quantity} {contrast.size}"] = float(sum(halves))
    return effects


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
