"""Resampling: items by bootstrap and permutation, seeds by their variance.

`scipy.stats.bootstrap` and `permutation_test` resample one level and call a statistic per resample.
Here two levels are crossed (every seed sees every item), scores may be ratios of sums, and a study
has thousands of statistics over the same items. So the item level is a matrix of resampling weights
(or signs) times all runs' credits at once. docs/statistics.md describes the method.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from helpers.comparison.arrays import Block, ItemScores
from helpers.comparison.samples import Sample, pooled, pools

CHUNK = 500
"""Resamples at a time, to bound memory."""


@dataclass(frozen=True)
class Resampled:
    """One target's scores with all resamples of its items, by language."""

    scores: ItemScores
    run_scores: np.ndarray  # [languages, runs]
    draws: np.ndarray  # deviations of the means over seeds [resamples, languages, conditions]

    def of(self, weights: np.ndarray) -> Sample:
        """What it says of a weighted sum over languages [languages]."""
        scores, run_scores = self.scores, weights @ self.run_scores
        variance, freedom = pooled(run_scores, scores.runs, scores.conditions)
        own = [(block.items, weights[block.at] != 0) for block in scores.blocks]
        return Sample(
            conditions=scores.conditions,
            scores=run_scores @ scores.mean,
            draws=np.tensordot(self.draws, weights.astype(np.float32), (1, 0)),
            seed_variance=variance,
            residual=_residual(scores, weights),
            freedom=freedom,
            seeds=scores.seeds,
            items=sum(int(n[:, used].max(1).sum()) for n, used in own if used.any()),
            runs=scores.runs,
            run_scores=run_scores,
        )


def resample(scores: ItemScores, resamples: int, rng: np.random.Generator) -> Resampled:
    """Resample one target's units with replacement, the same for all conditions and seeds."""
    run_scores = np.empty((len(scores.languages), len(scores.runs)))
    draws = np.empty((resamples, len(scores.languages), len(scores.conditions)), np.float32)
    for block in scores.blocks:
        run_scores[block.at] = block.run_scores
        drawn = _resampled(block, scores.mean, resamples, rng) - block.run_scores @ scores.mean
        draws[:, block.at] = drawn * _widened(len(block.credit))
    return Resampled(scores, run_scores, draws)


def _widened(units: int) -> float:
    """What makes a percentile interval of few units as wide as Student's.

    Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69.
    """
    n = max(units, 2)
    return np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) / ndtri(0.975)


def _chunks(resamples: int) -> Iterator[slice]:
    for start in range(0, resamples, CHUNK):
        yield slice(start, min(start + CHUNK, resamples))


def _resampled(block: Block, mean: np.ndarray, resamples: int, rng) -> np.ndarray:
    """Seed means of the scores under multinomial unit weights [resamples, l, conditions]."""
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
        with np.errstate(invalid="ignore"):
            out[chunk] = 100 * credit / out_of if same else 100 * credit / out_of @ mean
    for own in np.moveaxis(out, 1, 0):  # a resample without any item of a language is drawn again
        there = np.isfinite(own).all(1)
        own[~there] = own[rng.choice(np.flatnonzero(there), (~there).sum())]
    return out


def _residual(scores: ItemScores, weights: np.ndarray) -> np.ndarray:
    """Unit-by-seed variance of a single run's score, pooled like the seed variance [conditions]."""
    mean, seeds = scores.mean, scores.seeds
    squares = np.zeros(len(seeds))
    for block in scores.blocks:
        if weights[block.at].any():
            u = np.tensordot(block.influence, weights[block.at].astype(np.float32), (1, 0))
            within = (u**2).sum(0) @ mean - ((u @ mean) ** 2).sum(0)
            squares += within * seeds / len(u) / max(1, len(u) - 1)
    for of in pools(scores.conditions):
        squares[of] = sum(squares[of]) / max(1, (seeds[of] - 1).sum())
    return squares


def swap(scores: ItemScores, contrasts: dict, resamples: int, rng) -> dict:
    """Contrasts {name: (estimand, weights [conditions])} under swapped labels [resamples].

    A unit's two sides (with and without the intermediate task; or the gains of two sizes) are
    swapped at random, in all its languages and seeds together. For ratio scores the contrast is
    linearised.
    """
    if not contrasts:
        return {}
    out = np.zeros((resamples, len(contrasts)), np.float32)
    for block in scores.blocks:
        items = len(block.credit)
        share = block.out_of.mean(2, keepdims=True)
        level = share / share.mean(0) * (block.run_scores @ scores.mean)
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
