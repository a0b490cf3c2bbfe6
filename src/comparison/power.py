"""What a study can detect, before it runs."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from comparison import contrasts, variance
from comparison.contrasts import CHANGES
from comparison.plan import NONE, Plan

SEED_SD = {"none": 2.0, "others": 1.0}
"""Points between seeds of a zero-shot score, assumed where nothing is known."""
KNOWN_SEED_SD = {"xnli": 0.4, "xquad": 0.6, "udpos": 0.5, "udpos_2_7": 0.5}
KNOWN_SEED_SD |= {"panx": 0.6, "wikiann": 0.6}
"""The same as measured, by target: five seeds each of XLM-R base, mBERT and DistilmBERT and, but
for xnli and udpos, XLM-V base, trained on all English data; the root of the mean variance. Large
encoders and XCOPA are not known. From the results in github.com/stefan-it/xlm-v-experiments at
13f86b4 and github.com/posos-tech/multilingual-alignment-and-transfer at e22994b (Bakos et al.
2025)."""
BASE_SIZE = (4e7, 1.2e8)
"""Parameters without embeddings of the encoders that those figures hold for."""
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
) -> dict[str, float]:
    """The smallest true effects (points) found with 80 % power at p < 0.05.

    Of gains, scale effects, slope and bend ("gain base", ...) of the mean over tasks and targets on
    the zero-shot score. Quantiles of Student's t are those of the interval (Cohen 1988, chapter 2).
    Targets are taken to vary together between seeds.

    `seeds` says how many "none" has and the "others"; `items` and `parallel`, by target, the test
    items of a language and whether languages are translations of the same.
    """
    at_condition, effects = _item_variance(plan, items or {}, parallel or {}), {}
    for quantity, name, over, weights in contrasts.of(plan):
        if quantity not in CHANGES or [over] != plan.gained[:1]:
            continue
        of_items, parts, freedom = 0.0, [], []
        for size, (kind, count) in product(plan.sizes, (("none", 1), ("others", len(plan.tasks)))):
            square = weights.get((size, NONE), 0.0) ** 2 / count
            of_items += square * at_condition
            parts.append(square * _seed_sd(plan, size, kind, seeds[kind]) ** 2 / seeds[kind])
            freedom.append(count * (seeds[kind] - 1) or np.inf)
        between, degrees = variance.welch(np.array([parts]), np.array(freedom))
        spreads = (of_items, np.inf, between[0], degrees[0])
        halves = [variance.half_width(p, *spreads) for p in (0.05, 2 * (1 - POWER))]
        effects[f"{quantity} {name}"] = float(sum(halves))
    return effects


def _item_variance(plan: Plan, items: Mapping[str, int], parallel: Mapping[str, bool]) -> float:
    """Variance that items add to one condition's zero-shot mean over targets, in points squared."""
    parts = []
    for name, target in plan.targets.items():
        languages = max(1, len(set(target.languages) - set(target.trained_in)))
        shared = 1 + (languages - 1) * SHARED * parallel.get(name, False)
        parts.append(100**2 * DISAGREEMENT / 2 / items.get(name, ITEMS) * shared / languages)
    return sum(parts) / len(parts) ** 2


def _seed_sd(plan: Plan, size: str, kind: str, seeds: int) -> float:
    """Points between seeds of the mean over targets; a single seed is judged as the interval is."""
    if seeds == 1:
        return variance.ASSUMED_SEED_SD
    is_base = BASE_SIZE[0] <= (plan.sizes[size].parameters or 0) <= BASE_SIZE[1]
    known = KNOWN_SEED_SD if is_base else {}
    return float(np.mean([known.get(target, SEED_SD[kind]) for target in plan.targets]))
