"""What is known of scores: their means, resamples of their items, the variance between seeds."""

from dataclasses import dataclass

import numpy as np

from helpers.comparison.arrays import Condition
from helpers.study import NONE

ASSUMED_SEED_SD = 3.0
"""Points between seeds, assumed where no condition of a pool has two seeds: wide on purpose."""


@dataclass(frozen=True)
class Sample:
    """What one target, or the mean over targets, says of one estimand, in points.

    `draws` are deviations of the scores when items are resampled. The seed variance is that of
    single runs' scores, pooled over the intermediate tasks of a size; the baseline has its own.
    `residual` is the part of it that is item by seed. Its degrees of freedom are infinite where it
    is assumed.
    """

    conditions: list[Condition]
    scores: np.ndarray  # means over seeds [conditions]
    draws: np.ndarray  # [resamples, conditions], float32
    seed_variance: np.ndarray  # [conditions]
    residual: np.ndarray  # [conditions]
    freedom: np.ndarray  # [conditions]
    seeds: np.ndarray  # how many [conditions]
    items: int
    runs: list[tuple[str, str, int]]  # (size, intermediate, seed)
    run_scores: np.ndarray  # [runs]

    def contrast(self, weights: np.ndarray, rng, flips: np.ndarray | None = None) -> dict:
        """A weighted sum over conditions: estimate, low, high (95 %), low_90, high_90, p.

        Parameters
        ----------
        weights
            Of the conditions [conditions].
        flips
            The sum under swapped labels of items, from `swap` [resamples]; without it p is nan.
        """
        estimate = float(weights @ self.scores)
        shrink, noise = self._shrink(weights), self._seed_noise(weights, rng)
        draws = estimate + shrink * (self.draws @ weights.astype(np.float32)) + noise
        ends = np.quantile(draws, [0.025, 0.975, 0.05, 0.95])
        found = dict(zip(("low", "high", "low_90", "high_90"), ends, strict=True))
        if flips is None:
            return {"estimate": estimate, **found, "p": np.nan}
        # Sums of equal float32 terms count as ties.
        beyond = np.abs(shrink * flips + noise) >= abs(estimate) - 1e-4
        return {"estimate": estimate, **found, "p": (1 + beyond.sum()) / (1 + len(flips))}

    def together(self, rng) -> np.ndarray:
        """The scores of all conditions under one resample of items and seeds [resamples, c]."""
        one = np.eye(len(self.conditions))
        noise = np.stack([self._seed_noise(weights, rng) for weights in one], axis=1)
        return self.scores + self.draws * [self._shrink(weights) for weights in one] + noise

    def _shrink(self, weights: np.ndarray) -> float:
        """What the item draws are multiplied by.

        Items and seeds are crossed, so the item draws contain the item-by-seed part that the
        variance between runs has too.
        """
        total = (self.draws @ weights.astype(np.float32)).var()
        double = weights**2 @ (self.residual / self.seeds)
        return np.sqrt(max(0.0, 1 - double / total)) if total > 0 else 0.0

    def _seed_noise(self, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Student's t noise that seeds add to a weighted sum over conditions [resamples].

        Degrees of freedom by Welch and Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2).
        """
        resamples, parts = len(self.draws), weights**2 * self.seed_variance / self.seeds
        by_pool = [(parts[of].sum(), self.freedom[of][0]) for of in pools(self.conditions)]
        total = sum(part for part, _ in by_pool)
        if total == 0:
            return np.zeros(resamples)
        inverse = sum((part / total) ** 2 / freedom for part, freedom in by_pool)
        z = rng.standard_t(1 / inverse, resamples) if inverse else rng.standard_normal(resamples)
        return np.sqrt(total) * z


def mean_over_targets(samples: list[Sample]) -> Sample:
    """The unweighted mean of targets, over the conditions that all of them have.

    Targets have independent items. Their seeds are paired: runs of a seed share their intermediate
    encoder, so the seed variance is that of runs averaged over targets. Without such replicates,
    targets count as wholly dependent.
    """
    conditions, at = _shared([s.conditions for s in samples])
    runs, own = _shared([s.runs for s in samples])

    def over(how, name: str) -> np.ndarray:
        return how([getattr(s, name)[..., c] for s, c in zip(samples, at, strict=True)], axis=0)

    run_scores = np.mean([s.run_scores[r] for s, r in zip(samples, own, strict=True)], axis=0)
    variance, freedom = pooled(run_scores, runs, conditions)
    spread = [np.sqrt(s.seed_variance[c]) for s, c in zip(samples, at, strict=True)]
    alone = np.isinf(freedom)
    return Sample(
        conditions=conditions,
        scores=over(np.mean, "scores"),
        draws=over(np.mean, "draws"),
        seed_variance=np.where(alone, np.mean(spread, axis=0) ** 2, variance),
        residual=over(np.mean, "residual") / len(samples),
        freedom=np.where(alone, over(np.min, "freedom"), freedom),
        seeds=over(np.min, "seeds"),
        items=sum(s.items for s in samples),
        runs=runs,
        run_scores=run_scores,
    )


def _shared(lists: list[list]) -> tuple[list, list[list[int]]]:
    """What all lists have, in the first one's order, and where each list has it."""
    places = [{each: place for place, each in enumerate(own)} for own in lists]
    shared = [each for each in lists[0] if all(each in own for own in places)]
    return shared, [[own[each] for each in shared] for own in places]


def pooled(run_scores: np.ndarray, runs: list, conditions: list[Condition]) -> tuple:
    """Variance between the runs of a condition, by `pools`, and its degrees of freedom."""
    variance = np.full(len(conditions), ASSUMED_SEED_SD**2)
    freedom = np.full(len(conditions), np.inf)
    place = {condition: i for i, condition in enumerate(conditions)}
    condition = np.array([place[run[:2]] for run in runs], int)
    seeds = np.bincount(condition, minlength=len(conditions))
    means = np.bincount(condition, run_scores, len(conditions)) / np.maximum(seeds, 1)
    squares = np.bincount(condition, (run_scores - means[condition]) ** 2, len(conditions))
    for of in pools(conditions):
        degrees = np.maximum(seeds[of] - 1, 0).sum()
        if degrees:
            variance[of], freedom[of] = sum(squares[of]) / degrees, degrees
    return variance, freedom


def pools(conditions: list[Condition]) -> list[np.ndarray]:
    """Conditions whose seed variance is estimated together, as masks.

    A size's intermediate tasks; its baseline alone, for intermediate training steadies fine-tuning.
    """
    pools = [(size, task == NONE) for size, task in conditions]
    return [np.array([own == pool for own in pools]) for pool in dict.fromkeys(pools)]
