"""Resampling: items by bootstrap and permutation, seeds by their pooled variance.

`scipy.stats.bootstrap` and `permutation_test` resample one level and call a statistic per resample.
Here two levels are crossed (every seed sees every item), scores may be ratios of sums, and a study
has thousands of statistics over the same items. So the item level is a matrix of resampling weights
(or signs) times all runs' credits at once. docs/statistics.md describes the method.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helpers.comparison.arrays import Block, Condition, Estimand, ItemScores

ASSUMED_SEED_SD = 2.0
"""Points between seeds, assumed where no condition of a size has two seeds: wide on purpose."""
CHUNK = 500
"""Resamples at a time, to bound memory."""


@dataclass(frozen=True)
class Sample:
    """What one target, or the mean over targets, says of one estimand, in points.

    `draws` are deviations of the scores when items are resampled. The seed variance is that of
    single runs' scores, pooled over the conditions of a size; `residual` is the part of it that is
    item by seed. Its degrees of freedom are infinite where it is assumed.
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

    def contrast(self, weights: np.ndarray, rng, flips: np.ndarray | None = None) -> tuple:
        """(estimate, low, high, p) of a weighted sum over conditions; the interval has 95 %.

        Items and seeds are crossed, so the item draws contain the item-by-seed part that the
        variance between runs has too: they are shrunk by it.

        Parameters
        ----------
        weights
            Of the conditions [conditions].
        flips
            The sum under swapped labels of items, from `swap` [resamples]; without it p is nan.
        """
        estimate = float(weights @ self.scores)
        draws = self.draws @ weights.astype(np.float32)
        total, double = draws.var(), weights**2 @ (self.residual / self.seeds)
        shrink = np.sqrt(max(0.0, 1 - double / total)) if total > 0 else 0.0
        noise = self._seed_noise(weights, rng)
        low, high = estimate + np.quantile(shrink * draws + noise, [0.025, 0.975])
        if flips is None:
            return estimate, low, high, np.nan
        # Sums of equal float32 terms count as ties.
        beyond = np.abs(shrink * flips + noise) >= abs(estimate) - 1e-4
        return estimate, low, high, (1 + beyond.sum()) / (1 + len(flips))

    def _seed_noise(self, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Student's t noise that seeds add to a weighted sum over conditions [resamples].

        Degrees of freedom by Welch and Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2).
        """
        resamples, parts = len(self.draws), weights**2 * self.seed_variance / self.seeds
        by_size = [(parts[of].sum(), self.freedom[of][0]) for of in _sizes(self.conditions)]
        total = sum(part for part, _ in by_size)
        if total == 0:
            return np.zeros(resamples)
        inverse = sum((part / total) ** 2 / freedom for part, freedom in by_size)
        z = rng.standard_t(1 / inverse, resamples) if inverse else rng.standard_normal(resamples)
        return np.sqrt(total) * z


def sample(scores: ItemScores, resamples: int, rng: np.random.Generator) -> dict[Estimand, Sample]:
    """Resample one target's items with replacement, the same for all conditions and seeds."""
    run_scores = np.empty((len(scores.languages), len(scores.runs)))
    draws = np.empty((resamples, len(scores.languages), len(scores.conditions)), np.float32)
    for block in scores.blocks:
        run_scores[block.at] = block.run_scores
        draws[:, block.at] = _resampled(block, scores.mean, resamples, rng)
    draws -= (run_scores @ scores.mean).astype(np.float32)
    run_scores = np.array(list(scores.estimands.values())) @ run_scores
    means = run_scores @ scores.mean
    samples = {}
    for e, (estimand, weights) in enumerate(scores.estimands.items()):
        variance, freedom = _pooled(run_scores[e], scores.runs, scores.conditions)
        used = [block.out_of[:, weights[block.at] != 0].any((1, 2)) for block in scores.blocks]
        samples[estimand] = Sample(
            conditions=scores.conditions,
            scores=means[e],
            draws=np.tensordot(draws, weights.astype(np.float32), (1, 0)),
            seed_variance=variance,
            residual=_residual(scores, weights),
            freedom=freedom,
            seeds=scores.seeds,
            items=sum(int(items.sum()) for items in used),
            runs=scores.runs,
            run_scores=run_scores[e],
        )
    return samples


def _sizes(conditions: list[Condition]) -> list[np.ndarray]:
    """Which conditions each size has, as masks."""
    sizes = np.array([size for size, _ in conditions])
    return [sizes == size for size in dict.fromkeys(sizes)]


def _chunks(resamples: int) -> Iterator[slice]:
    for start in range(0, resamples, CHUNK):
        yield slice(start, min(start + CHUNK, resamples))


def _resampled(block: Block, mean: np.ndarray, resamples: int, rng) -> np.ndarray:
    """Seed means of the scores under multinomial item weights [resamples, l, conditions]."""
    items, languages, _ = block.credit.shape
    same = block.out_of.shape[2] == 1
    # Where out_of differs, seeds are averaged last: a mean of ratios is not a ratio of means.
    tables = [block.credit @ mean if same else block.credit, block.out_of]
    out = np.empty((resamples, languages, mean.shape[1]), np.float32)
    for chunk in _chunks(resamples):
        rows = chunk.stop - chunk.start
        drawn = rng.integers(0, items, (rows, items)) + items * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * items).astype(np.float32)
        sums = [weights.reshape(rows, items) @ table.reshape(items, -1) for table in tables]
        credit, out_of = (table.reshape(rows, languages, -1) for table in sums)
        out[chunk] = 100 * credit / out_of if same else 100 * credit / out_of @ mean
    return out


def _residual(scores: ItemScores, weights: np.ndarray) -> np.ndarray:
    """Item-by-seed variance of a single run's score, pooled like the seed variance [conditions]."""
    mean, seeds = scores.mean, scores.seeds
    squares = np.zeros(len(seeds))
    for block in scores.blocks:
        if weights[block.at].any():
            u = np.tensordot(block.influence, weights[block.at].astype(np.float32), (1, 0))
            within = (u**2).sum(0) @ mean - ((u @ mean) ** 2).sum(0)
            squares += within * seeds / len(u) / max(1, len(u) - 1)
    for of in _sizes(scores.conditions):
        squares[of] = sum(squares[of]) / max(1, (seeds[of] - 1).sum())
    return squares


def _pooled(run_scores: np.ndarray, runs: list, conditions: list[Condition]) -> tuple:
    """Variance between the runs of a condition, pooled over a size, and its degrees of freedom."""
    variance = np.full(len(conditions), ASSUMED_SEED_SD**2)
    freedom = np.full(len(conditions), np.inf)
    condition = np.array([conditions.index(run[:2]) for run in runs], int)
    seeds = np.bincount(condition, minlength=len(conditions))
    means = np.bincount(condition, run_scores, len(conditions)) / np.maximum(seeds, 1)
    squares = np.bincount(condition, (run_scores - means[condition]) ** 2, len(conditions))
    for of in _sizes(conditions):
        degrees = np.maximum(seeds[of] - 1, 0).sum()
        if degrees:
            variance[of], freedom[of] = sum(squares[of]) / degrees, degrees
    return variance, freedom


def swap(scores: ItemScores, contrasts: dict, resamples: int, rng) -> dict:
    """Contrasts {name: (estimand, weights [conditions])} under swapped labels [resamples].

    An item's two sides (with and without the intermediate task; or the gain of large and of base)
    are swapped at random, in all its languages and seeds together. For ratio scores the contrast is
    linearised.
    """
    if not contrasts:
        return {}
    out = np.zeros((resamples, len(contrasts)), np.float32)
    for block in scores.blocks:
        items = len(block.credit)
        here = block.out_of[:, :, :1] > 0
        level = here / here.mean(0) * (block.run_scores @ scores.mean)
        raw = block.influence @ scores.mean + level.astype(np.float32)
        weights = {estimand: w[block.at] for estimand, w in scores.estimands.items()}
        sums = {e: np.tensordot(raw, w, (1, 0)) for e, w in weights.items() if w.any()}
        own = [k for k, (estimand, _) in enumerate(contrasts.values()) if estimand in sums]
        columns = [sums[estimand] @ w for estimand, w in contrasts.values() if estimand in sums]
        sides = np.stack(columns, axis=1).astype(np.float32) / items
        for chunk in _chunks(resamples):
            count = (chunk.stop - chunk.start) * items
            bits = np.frombuffer(rng.bytes(-(-count // 8)), np.uint8)
            signs = np.unpackbits(bits, count=count).reshape(-1, items).astype(np.float32) * 2 - 1
            out[chunk, own] += signs @ sides
    return dict(zip(contrasts, out.T, strict=True))


def mean_over_targets(samples: list[Sample]) -> Sample:
    """The unweighted mean of targets, over the conditions that all of them have.

    Targets have independent items. Their seeds are paired: runs of a seed share their intermediate
    encoder, so the seed variance is that of runs averaged over targets. Without such replicates,
    targets count as wholly dependent.
    """
    first, *others = samples
    conditions = [c for c in first.conditions if all(c in s.conditions for s in others)]
    runs = [run for run in first.runs if all(run in s.runs for s in others)]
    at = [[s.conditions.index(c) for c in conditions] for s in samples]

    def over(how, name: str) -> np.ndarray:
        return how([getattr(s, name)[..., c] for s, c in zip(samples, at, strict=True)], axis=0)

    own = [[s.runs.index(run) for run in runs] for s in samples]
    run_scores = np.mean([s.run_scores[r] for s, r in zip(samples, own, strict=True)], axis=0)
    variance, freedom = _pooled(run_scores, runs, conditions)
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
