"""The resampling behind `helpers.comparison`: items by bootstrap and permutation, seeds by their pooled variance.

`scipy.stats.bootstrap` and `permutation_test` resample one level and call a statistic per resample. Here two levels
are crossed (every seed sees every item), scores may be ratios of sums, and a study has thousands of statistics over
the same items. So the item level is a matrix of resampling weights (or signs) times all runs' credits at once.
docs/statistics.md describes the method.
"""

from dataclasses import dataclass

import numpy as np

from helpers.comparison.arrays import Block, Cells, View

ASSUMED_SEED_SD = 2.0
"""Points between seeds, assumed where no condition of a size has two seeds: wide on purpose (docs/statistics.md)."""
CHUNK = 500
"""Resamples at a time, to bound memory."""


@dataclass(frozen=True)
class Sample:
    """What one target, or the mean over targets, says of every view and condition, in points.

    A seed variance is that of single runs' scores, pooled over the conditions of a size; `residual` is the part of
    it that is item by seed.
    """

    conditions: list[tuple[str, str]]
    views: list[View]
    scores: np.ndarray
    """Means over seeds [views, conditions]."""
    draws: np.ndarray
    """Their deviations when items are resampled [views, resamples, conditions], float32."""
    seed_variance: np.ndarray
    """[views, conditions]."""
    residual: np.ndarray
    """[views, conditions]."""
    freedom: np.ndarray
    """Degrees of freedom of the seed variance; infinite where it is assumed [conditions]."""
    seeds: np.ndarray
    """How many [conditions]."""
    items: np.ndarray
    """How many [views]."""
    runs: np.ndarray
    """As in Cells."""
    run_scores: np.ndarray
    """[views, runs]."""

    def contrast(
        self,
        view: View,
        weights: np.ndarray,
        rng: np.random.Generator,
        flips: np.ndarray | None = None,
    ):
        """(estimate, low, high, p) of a weighted sum over conditions; the interval has 95 %.

        `flips` [resamples] is the sum under swapped labels of items (`swap`); without it p is nan.
        Items and seeds are crossed, so the item draws contain the item-by-seed part that the variance between runs
        has too: they are shrunk by it. The seed part is Student's t with Satterthwaite's degrees of freedom.
        """
        v = self.views.index(view)
        estimate = float(weights @ self.scores[v])
        draws = self.draws[v] @ weights.astype(np.float32)
        total, double = draws.var(), weights**2 @ (self.residual[v] / self.seeds)
        shrink = np.sqrt(max(0.0, 1 - double / total)) if total > 0 else 0.0
        noise = self._seed_noise(v, weights, len(draws), rng)
        low, high = estimate + np.quantile(shrink * draws + noise, [0.025, 0.975])
        if flips is None:
            return estimate, low, high, np.nan
        beyond = (
            np.abs(shrink * flips + noise) >= abs(estimate) - 1e-4
        )  # float32 sums of equal terms count as ties
        return estimate, low, high, (1 + beyond.sum()) / (1 + len(flips))

    def _seed_noise(self, v: int, weights: np.ndarray, resamples: int, rng) -> np.ndarray:
        parts = weights**2 * self.seed_variance[v] / self.seeds
        by_size = [parts[of].sum() for of in _sizes(self.conditions)]
        freedom = [self.freedom[of][0] for of in _sizes(self.conditions)]
        total = sum(by_size)
        if total == 0:
            return np.zeros(resamples)
        inverse = sum(
            (part / total) ** 2 / degrees for part, degrees in zip(by_size, freedom, strict=True)
        )
        z = rng.standard_t(1 / inverse, resamples) if inverse else rng.standard_normal(resamples)
        return np.sqrt(total) * z


def sample(cells: Cells, resamples: int, rng: np.random.Generator) -> Sample:
    """Resample one target's items with replacement, `resamples` times, the same for all conditions and seeds."""
    views = np.array(list(cells.views().values()))
    mean, seeds = _mean(cells)
    runs = np.empty((len(cells.languages), len(cells.runs)))
    draws = np.empty((resamples, len(cells.languages), len(seeds)), np.float32)
    for block in cells.blocks:
        runs[block.at] = 100 * block.credit.sum(0, dtype=float) / block.out_of.sum(0, dtype=float)
        draws[:, block.at] = _resampled(block, mean, resamples, rng)
    draws -= (runs @ mean).astype(np.float32)
    variance, freedom = _pooled(views @ runs, cells.runs[:, 0], cells.conditions)
    return Sample(
        conditions=cells.conditions,
        views=list(cells.views()),
        scores=views @ runs @ mean,
        draws=np.stack(
            [np.tensordot(draws, weights.astype(np.float32), (1, 0)) for weights in views]
        ),
        seed_variance=variance,
        residual=_residual(cells, runs, views),
        freedom=freedom,
        seeds=seeds,
        items=np.array([_count(cells, weights) for weights in views]),
        runs=cells.runs,
        run_scores=views @ runs,
    )


def _mean(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """What averages runs to conditions [runs, conditions], and the seeds of each condition."""
    seeds = np.bincount(cells.runs[:, 0])
    return np.equal.outer(cells.runs[:, 0], np.arange(len(seeds))) / seeds.astype(np.float32), seeds


def _sizes(conditions: list[tuple[str, str]]) -> list[np.ndarray]:
    """Which conditions each size has, as masks."""
    sizes = np.array([size for size, _ in conditions])
    return [sizes == size for size in dict.fromkeys(sizes)]


def _resampled(block: Block, mean: np.ndarray, resamples: int, rng) -> np.ndarray:
    """Seed means of the scores under multinomial item weights [resamples, l, conditions]."""
    items, languages, _ = block.credit.shape
    same = block.out_of.shape[2] == 1
    credit = (
        block.credit @ mean if same else block.credit
    )  # a mean of ratios is not a ratio of means
    out = np.empty((resamples, languages, mean.shape[1]), np.float32)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(0, items, (rows, items)) + items * np.arange(rows)[:, None]
        weights = (
            np.bincount(drawn.ravel(), minlength=rows * items)
            .reshape(rows, items)
            .astype(np.float32)
        )
        credits, out_ofs = (
            (weights @ table.reshape(items, -1)).reshape(rows, languages, -1)
            for table in (credit, block.out_of)
        )
        scores = 100 * credits / out_ofs
        out[start : start + rows] = scores if same else scores @ mean
    return out


def _influence(block: Block, runs: np.ndarray) -> np.ndarray:
    """What each item adds to its run's score, linearised: a mean of 0 over items [items, l, runs], points."""
    scale = block.out_of.mean(0, dtype=float).astype(np.float32)
    return (100 * block.credit - runs[block.at].astype(np.float32) * block.out_of) / scale


def _residual(cells: Cells, runs: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Item-by-seed variance of a single run's score, pooled like the seed variance [views, conditions]."""
    mean, seeds = _mean(cells)
    squares = np.zeros((len(views), len(seeds)))
    for block in cells.blocks:
        influence = _influence(block, runs)
        items = len(influence)
        for v, weights in enumerate(views[:, block.at].astype(np.float32)):
            if weights.any():
                u = np.tensordot(influence, weights, (1, 0))  # [items, runs]
                squares[v] += (
                    ((u**2).sum(0) @ mean - ((u @ mean) ** 2).sum(0))
                    * seeds
                    / items
                    / max(1, items - 1)
                )
    for of in _sizes(cells.conditions):
        squares[:, of] = squares[:, of].sum(1, keepdims=True) / max(1, (seeds[of] - 1).sum())
    return squares


def _pooled(
    run_scores: np.ndarray, condition: np.ndarray, conditions: list
) -> tuple[np.ndarray, np.ndarray]:
    """Variance between the runs of a condition, pooled over a size's conditions, and its degrees of freedom."""
    variance = np.full((len(run_scores), len(conditions)), ASSUMED_SEED_SD**2)
    freedom = np.full(len(conditions), np.inf)
    for of in _sizes(conditions):
        own = [run_scores[:, condition == c] for c in np.nonzero(of)[0]]
        degrees = sum(max(0, scores.shape[1] - 1) for scores in own)
        if degrees:
            squares = sum(((s - s.mean(1, keepdims=True)) ** 2).sum(1) for s in own if s.shape[1])
            variance[:, of], freedom[of] = (squares / degrees)[:, None], degrees
    return variance, freedom


def _count(cells: Cells, weights: np.ndarray) -> int:
    return int(
        sum(block.out_of[:, weights[block.at] != 0].any((1, 2)).sum() for block in cells.blocks)
    )


def swap(
    cells: Cells, sample: Sample, contrasts: list, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Contrasts [(view, weights over conditions)] when labels are swapped at random [resamples, contrasts].

    An item's two sides (with and without the intermediate task; or the gain of large and of base) are swapped in
    all its languages and seeds together. For ratio scores the contrast is linearised.
    """
    mean, _ = _mean(cells)
    views = cells.views()
    runs = np.array(
        [sample.run_scores[sample.views.index(("score", language))] for language in cells.languages]
    )
    out = np.zeros((resamples, len(contrasts)), np.float32)
    for block in cells.blocks:
        items = len(block.credit)
        here = block.out_of[:, :, :1] > 0
        raw = _influence(block, runs) @ mean + (
            here / here.mean(0) * (runs[block.at] @ mean)
        ).astype(np.float32)
        of_view = {
            view: np.tensordot(raw, w[block.at], (1, 0))
            for view, w in views.items()
            if w[block.at].any()
        }
        own = [k for k, (view, _) in enumerate(contrasts) if view in of_view]
        sides = (
            np.stack([of_view[contrasts[k][0]] @ contrasts[k][1] for k in own], axis=1).astype(
                np.float32
            )
            / items
        )
        for start in range(0, resamples, CHUNK):
            rows = min(CHUNK, resamples - start)
            bits = np.unpackbits(
                np.frombuffer(rng.bytes(-(-rows * items // 8)), np.uint8), count=rows * items
            )
            out[start : start + rows, own] += (
                bits.reshape(rows, items).astype(np.float32) * 2 - 1
            ) @ sides
    return out


def mean_over_targets(samples: list[Sample]) -> Sample:
    """The unweighted mean of targets, over the conditions and views that every one of them has.

    Targets have independent items. Their seeds are paired: runs of a seed share their intermediate encoder, so the
    seed variance is that of runs averaged over targets. Without such replicates, targets count as wholly dependent.
    """
    conditions = [c for c in samples[0].conditions if all(c in s.conditions for s in samples)]
    views = [v for v in samples[0].views if all(v in s.views for s in samples)]
    cut = [
        np.ix_([s.views.index(v) for v in views], [s.conditions.index(c) for c in conditions])
        for s in samples
    ]

    def each(name: str) -> np.ndarray:
        return np.array([getattr(s, name)[at] for s, at in zip(samples, cut, strict=True)])

    runs = [
        {(s.conditions[c], seed): s.run_scores[rows[:, 0], k] for k, (c, seed) in enumerate(s.runs)}
        for s, (rows, _) in zip(samples, cut, strict=True)
    ]
    shared = [r for r in runs[0] if r[0] in conditions and all(r in other for other in runs)]
    keys = np.array([(conditions.index(c), seed) for c, seed in shared], dtype=int).reshape(-1, 2)
    run_scores = (
        np.array([np.mean([r[key] for r in runs], axis=0) for key in shared])
        .reshape(-1, len(views))
        .T
    )
    variance, freedom = _pooled(run_scores, keys[:, 0], conditions)
    alone = np.isinf(freedom)
    variance[:, alone] = (np.sqrt(each("seed_variance")).mean(0) ** 2)[:, alone]
    columns = [at[1][0] for at in cut]
    freedom[alone] = np.min([s.freedom[c] for s, c in zip(samples, columns, strict=True)], axis=0)[
        alone
    ]
    draws = [s.draws[rows[:, 0]][:, :, c[0]] for s, (rows, c) in zip(samples, cut, strict=True)]
    return Sample(
        conditions=conditions,
        views=views,
        scores=each("scores").mean(0),
        draws=np.mean(draws, axis=0),
        seed_variance=variance,
        residual=each("residual").mean(0) / len(samples),
        freedom=freedom,
        seeds=np.min([s.seeds[c] for s, c in zip(samples, columns, strict=True)], axis=0),
        items=np.sum(
            [s.items[rows[:, 0]] for s, (rows, _) in zip(samples, cut, strict=True)], axis=0
        ),
        runs=keys,
        run_scores=run_scores,
    )
