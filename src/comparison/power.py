"""What a study can detect, before it runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from comparison import contrasts, variance
from comparison.contrasts import CHANGES
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan

SEED_SD = {"none": 2.0, "others": 1.0}
"""Points between seeds of a zero-shot score, assumed where the study has no earlier results."""
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
    results: pd.DataFrame | None = None,
) -> dict[str, float]:
    """The smallest true effects (points) found with 80 % power at p < 0.05.

    Of gains, scale effects, slope and bend ("gain base", ...) of the mean over tasks and targets on
    the zero-shot score. Quantiles of Student's t are those of the interval (Cohen 1988, chapter 2).

    `seeds` says how many "none" has and the "others"; `items` and `parallel`, by target, the test
    items of a language and whether languages are translations of the same; `results` of earlier
    runs give the noise between seeds.
    """
    spread = _assumed_sd(plan) if results is None else _seed_sd(plan, results)
    noise = {pool: sd**2 / seeds[pool[1]] for pool, sd in spread.items()}
    noise |= {pool: variance.ASSUMED_SEED_SD**2 for pool in noise if seeds[pool[1]] == 1}
    at_condition = _item_variance(plan, items or {}, parallel or {})
    over, effects = ALL if len(plan.tasks) > 1 else "".join(plan.tasks), {}
    for contrast in contrasts.of(plan):
        if contrast.quantity not in CHANGES or contrast.intermediate != over:
            continue
        pools: dict[tuple, list[float]] = {}
        for (size, task), weight in contrast.weights.items():
            pools.setdefault((size, "none" if task == NONE else "others"), []).append(weight**2)
        parts = [sum(squares) * noise[pool] for pool, squares in pools.items()]
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


def _assumed_sd(plan: Plan) -> dict[tuple[str, str], float]:
    """Points between seeds of the mean over targets, by size and kind, as if targets varied
    together: the mean of what is known for a target or else assumed."""
    spread = {}
    for name, size in plan.sizes.items():
        is_base = BASE_SIZE[0] <= (size.parameters or 0) <= BASE_SIZE[1]
        known = KNOWN_SEED_SD if is_base else {}
        for kind, assumed in SEED_SD.items():
            spread[name, kind] = float(np.mean([known.get(t, assumed) for t in plan.targets]))
    return spread


def _seed_sd(plan: Plan, results: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The same as earlier results have it, else assumed."""
    scores = results[results["language"] == ZERO_SHOT]
    mean = scores.groupby([*RUN[:2], "seed"])["score"].mean().reset_index()
    kinds = np.where(mean["intermediate"] == NONE, "none", "others")
    between = mean.groupby([kinds, *RUN[:2]])["score"].var().groupby(level=0).mean().dropna()
    measured = {kind: float(np.sqrt(value)) for kind, value in between.items()}
    return {pool: measured.get(pool[1], sd) for pool, sd in _assumed_sd(plan).items()}
