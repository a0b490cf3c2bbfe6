"""How sure scores are: the variance of their items, the variance between seeds, and intervals.

All in closed form; docs/statistics.md works an example and gives the reasons.
"""

from dataclasses import dataclass, replace
from itertools import chain, compress

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from comparison.contrasts import Condition
from comparison.items import ItemScores
from comparison.plan import NONE

ASSUMED_SEED_SD = 3.0
"""Points between seeds, assumed where no condition of a pool has two seeds: wide on purpose."""
_CERTAIN = 1e8
"""Degrees of freedom that stand for infinitely many."""
_LEAST_P = 1e-12


@dataclass(frozen=True)
class Sample:
    """What one target, or the mean over targets, says of one estimand, in points.

    The seed variance is that of single runs' scores, pooled over the intermediate tasks of a size;
    those `apart`, the baseline and controls, have their own. `residual` is the part of it that is
    item by seed. Its degrees of freedom are infinite where it is assumed.
    """

    conditions: list[Condition]
    scores: np.ndarray  # means over seeds [conditions]
    item_parts: np.ndarray  # covariance of the scores, by target [targets, c, c]
    item_freedom: np.ndarray  # [targets]
    seed_variance: np.ndarray  # [conditions]
    residual: np.ndarray  # [conditions]
    freedom: np.ndarray  # [conditions]
    seeds: np.ndarray  # how many [conditions]
    items: int
    runs: list[tuple[str, str, int]]  # (size, intermediate, seed)
    run_scores: np.ndarray  # [runs]
    apart: tuple[str, ...]

    def sums(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Weighted sums over conditions: estimate, low, high (95 %), low_90, high_90, p, seeds.

        `weights` are those of the conditions [sums, conditions].
        """
        parts = np.einsum("ki,bij,kj->kb", weights, self.item_parts, weights)
        items, item_freedom = welch(parts, self.item_freedom)
        # Items and seeds are crossed, so the variance of items has the item-by-seed part that the
        # variance between runs has too (Owen 2007, Annals of Applied Statistics 1).
        items = np.maximum(items - weights**2 @ (self.residual / self.seeds), 0)
        parts = weights**2 * self.seed_variance / self.seeds
        groups = pools(self.conditions, self.apart)
        by_pool = np.stack([parts[:, pool].sum(1) for pool in groups], axis=1)
        freedom = np.array([self.freedom[pool].min() for pool in groups])
        seeds, seed_freedom = welch(by_pool, freedom)
        spread, estimate = (items, item_freedom, seeds, seed_freedom), weights @ self.scores
        half, half_90 = half_width(0.05, *spread), half_width(0.10, *spread)
        return {
            "estimate": estimate,
            "low": estimate - half,
            "high": estimate + half,
            "low_90": estimate - half_90,
            "high_90": estimate + half_90,
            "p": _touching(np.abs(estimate), *spread),
            "seeds": np.where(weights != 0, self.seeds, self.seeds.max()).min(1),
        }

    def scaled(self, scores: np.ndarray, run_scores: np.ndarray, slope: np.ndarray) -> "Sample":
        """The sample on another scale, by the delta method [conditions], [runs], [conditions]."""
        return replace(
            self,
            scores=scores,
            run_scores=run_scores,
            item_parts=self.item_parts * np.outer(slope, slope),
            seed_variance=self.seed_variance * slope**2,
            residual=self.residual * slope**2,
        )


def half_width(p, items, item_freedom, seeds, seed_freedom) -> np.ndarray:
    """Of the interval that misses with probability p: both half widths in quadrature."""
    of_items = items * stdtrit(item_freedom, 1 - p / 2) ** 2
    return np.sqrt(of_items + seeds * stdtrit(seed_freedom, 1 - p / 2) ** 2)


def _touching(distance: np.ndarray, *spread: np.ndarray) -> np.ndarray:
    """The p at which the half width is a distance from zero, at least 1e-12."""

    def beyond(log_p, distance, *spread):
        return half_width(np.exp(log_p), *spread) - distance

    bracket = np.full_like(distance, np.log(_LEAST_P)), np.zeros_like(distance)
    from scipy.optimize import elementwise  # here: a quarter of a second that charts do not need

    root = elementwise.find_root(beyond, bracket, args=(distance, *spread)).x
    far = half_width(_LEAST_P, *spread) <= distance
    return np.where(distance == 0, 1.0, np.where(far, _LEAST_P, np.exp(root)))


def welch(parts: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of variances [sums, parts] and its degrees of freedom.

    By Welch and Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2).
    """
    total = parts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = ((parts / total[:, None]) ** 2 / freedom).sum(1)
        degrees = np.where((total > 0) & (inverse > 0), 1 / inverse, _CERTAIN)
    return total, np.minimum(degrees, _CERTAIN)


def sample(scores: ItemScores, weights: np.ndarray) -> Sample:
    """What one target says of a weighted sum over its languages [languages]."""
    mean, by_unit = scores.mean, scores.by_unit(weights)
    seeds = (mean > 0).sum(0)
    at_condition = by_unit @ mean
    residual = ((by_unit**2).sum(0) @ mean - (at_condition**2).sum(0)) * seeds
    for pool in pools(scores.conditions, scores.apart):
        residual[pool] = residual[pool].sum() / max(1, (seeds[pool] - 1).sum())
    run_scores = weights @ scores.run_scores
    variance, freedom = between_runs(run_scores, scores.runs, scores.conditions, scores.apart)
    used = weights[scores.language] != 0
    return Sample(
        conditions=scores.conditions,
        scores=run_scores @ mean,
        item_parts=(at_condition.T @ at_condition)[None],
        item_freedom=np.array([scores.freedom(weights)]),
        seed_variance=variance,
        residual=residual,
        freedom=freedom,
        seeds=seeds,
        items=int(pd.Series(scores.items[used]).groupby(scores.unit[used]).max().sum()),
        runs=scores.runs,
        run_scores=run_scores,
        apart=scores.apart,
    )


def mean_over_targets(
    samples: list[Sample], shares: list[dict[str, float]] | None = None
) -> Sample:
    """The unweighted mean of targets, over the conditions that all of them have.

    Targets have independent items. Their seeds are paired: runs of a seed share their intermediate
    encoder, so the seed variance is that of runs averaged over targets. Without such replicates,
    targets count as wholly dependent. `shares` say what an intermediate condition counts at each
    target (`contrasts.shares`), if not 1; runs that count 0 may be missing.
    """
    shares = shares or [{} for _ in samples]
    if len(samples) == 1 and not shares[0]:
        return samples[0]
    count, apart = len(samples), samples[0].apart
    conditions, at = _shared([s.conditions for s in samples], shares)
    runs, run_at = _shared([s.runs for s in samples], shares)
    share = np.array([[each.get(task, 1.0) for _, task in conditions] for each in shares])
    by_run = np.array([s.run_scores[r] for s, r in zip(samples, run_at, strict=True)])
    variance, freedom = np.zeros((2, len(conditions)))
    for pattern in np.unique(share, axis=1).T:  # the noise of conditions that count alike
        like = (pattern == share.T).all(1)
        known = ((np.array(run_at) >= 0).T | (pattern == 0)).all(1)
        mean = np.mean(pattern[:, None] * by_run, axis=0)[known]
        between = between_runs(mean, list(compress(runs, known)), conditions, apart)
        variance[like], freedom[like] = between[0][like], between[1][like]
    aligned = list(zip(samples, at, share, strict=True))
    alone = np.isinf(freedom)
    spread = np.mean([f * np.sqrt(s.seed_variance[c]) for s, c, f in aligned], axis=0)
    parts = [s.item_parts[:, c][:, :, c] * np.outer(f, f) for s, c, f in aligned]
    return Sample(
        conditions=conditions,
        scores=np.mean([f * s.scores[c] for s, c, f in aligned], axis=0),
        item_parts=np.concatenate(parts) / count**2,
        item_freedom=np.concatenate([s.item_freedom for s in samples]),
        seed_variance=np.where(alone, spread**2, variance),
        residual=np.sum([f**2 * s.residual[c] for s, c, f in aligned], axis=0) / count**2,
        freedom=np.where(alone, np.min([s.freedom[c] for s, c, _ in aligned], axis=0), freedom),
        seeds=np.min([np.where(f, s.seeds[c], _CERTAIN) for s, c, f in aligned], axis=0),
        items=sum(s.items for s in samples),
        runs=runs,
        run_scores=by_run.mean(0),
        apart=apart,
    )


def _shared(lists: list[list], shares: list[dict]) -> tuple[list, list[list[int]]]:
    """What all lists have, and where; -1 in a list that lacks what counts nothing there."""
    places = [{each: place for place, each in enumerate(one)} for one in lists]
    pairs = list(zip(places, shares, strict=True))
    shared = [
        each
        for each in dict.fromkeys(chain(*lists))
        if all(each in one or share.get(each[1]) == 0 for one, share in pairs)
    ]
    return shared, [[one.get(each, -1) for each in shared] for one in places]


def between_runs(
    run_scores: np.ndarray, runs: list, conditions: list[Condition], apart=(NONE,)
) -> tuple[np.ndarray, np.ndarray]:
    """Variance between the runs of a condition, by `pools`, and its degrees of freedom."""
    variance = np.full(len(conditions), ASSUMED_SEED_SD**2)
    freedom = np.full(len(conditions), np.inf)
    place = {condition: i for i, condition in enumerate(conditions)}
    condition = np.array([place[run[:2]] for run in runs], int)
    seeds = np.bincount(condition, minlength=len(conditions))
    means = np.bincount(condition, run_scores, len(conditions)) / np.maximum(seeds, 1)
    squares = np.bincount(condition, (run_scores - means[condition]) ** 2, len(conditions))
    for pool in pools(conditions, apart):
        degrees = np.maximum(seeds[pool] - 1, 0).sum()
        if degrees:
            variance[pool], freedom[pool] = squares[pool].sum() / degrees, degrees
    return variance, freedom


def pools(conditions: list[Condition], apart: tuple[str, ...]) -> list[np.ndarray]:
    """Conditions whose seed variance is estimated together, as masks.

    A size's intermediate tasks; each of those apart alone: intermediate training steadies
    fine-tuning, which a placebo or no such training need not do.
    """
    kinds = [(size, task if task in apart else "") for size, task in conditions]
    return [np.array([kind == one for kind in kinds]) for one in dict.fromkeys(kinds)]
