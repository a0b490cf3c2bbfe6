"""The resampling behind `helpers.transfer`: items by bootstrap and permutation, seeds by their pooled variance.

`scipy.stats.bootstrap` and `permutation_test` resample one level and call a statistic per resample. Here two levels
are crossed (every seed sees every item), scores may be ratios of sums, and a study has thousands of statistics over
the same items. So the item level is a matrix of resampling weights (or signs) times all runs' credits at once.
docs/statistics.md describes the method.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helpers.study import ENGLISH, StudyError

ZERO_SHOT = "zero-shot"
ASSUMED_SEED_SD = 2.0
"""Points between seeds, assumed where no condition of a size has two seeds: wide on purpose (docs/statistics.md)."""
CHUNK = 500
"""Resamples at a time, to bound memory."""


@dataclass(frozen=True)
class Block:
    """Languages of one target that share items, so that these are resampled together."""

    at: np.ndarray
    """Their indices among the target's languages [l]."""
    credit: np.ndarray
    """[items, l, runs], float32; 0 where a language lacks an item."""
    out_of: np.ndarray
    """Like credit, or [items, l, 1] where all runs have the same."""


@dataclass(frozen=True)
class Cells:
    """One target's runs as arrays; a condition is a (size, intermediate)."""

    languages: list[str]
    conditions: list[tuple[str, str]]
    runs: pd.DataFrame
    """One row per run: condition (index), seed."""
    blocks: list[Block]

    def views(self) -> dict[tuple[str, str], np.ndarray]:
        """What is looked at, as weights over languages: ("score" or "gap", language or "zero-shot")."""
        one = dict(zip(self.languages, np.eye(len(self.languages)), strict=True))
        others = [language for language in self.languages if language != ENGLISH]
        if others:
            one[ZERO_SHOT] = np.mean([one[language] for language in others], axis=0)
        views = {("score", language): weights for language, weights in one.items()}
        if ENGLISH in one:
            views |= {("gap", language): one[ENGLISH] - w for language, w in one.items() if language != ENGLISH}
        return views


def cells(target: str, predictions: pd.DataFrame, runs: pd.DataFrame) -> Cells:
    """Arrange one target's predictions.

    Raises
    ------
    StudyError
        A run whose items are not those of the target's first run: the comparison is paired.
    """
    key = ["size", "intermediate", "seed"]
    runs = runs[key].sort_values(key).reset_index(drop=True)
    run = pd.MultiIndex.from_frame(runs).get_indexer(pd.MultiIndex.from_frame(predictions[key]))
    predictions, run = predictions[run >= 0], run[run >= 0]
    language, languages = pd.factorize(predictions["language"], sort=True)
    item, ids = pd.factorize(predictions["id"])
    shape = (len(ids), len(languages), len(runs))
    flat = np.ravel_multi_index((item, language, run), shape)
    times = np.bincount(flat, minlength=np.prod(shape)).reshape(shape)
    wrong = ((times != times[:, :, :1]) | (times > 1)).any(0)
    for k, j in np.argwhere(wrong.T):
        size, intermediate, seed = runs.loc[k, key]
        raise StudyError(
            f"predictions of {size}/{intermediate}/{target}/seed-{seed}: language {languages[j]}: found "
            f"{times[:, j, k].sum()} items; expected the target's {(times[:, j, 0] > 0).sum()}, each once"
        )
    credit, out_of = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    credit.ravel()[flat] = predictions["credit"]
    out_of.ravel()[flat] = predictions["out_of"]
    if (out_of == out_of[:, :, :1]).all():
        out_of = out_of[:, :, :1]
    conditions = list(dict.fromkeys(zip(runs["size"], runs["intermediate"], strict=True)))
    runs["condition"] = [conditions.index(c) for c in zip(runs["size"], runs["intermediate"], strict=True)]
    return Cells(list(languages), conditions, runs[["condition", "seed"]], _blocks(times[:, :, 0], credit, out_of))


def _blocks(present: np.ndarray, credit: np.ndarray, out_of: np.ndarray) -> list[Block]:
    if present.all():
        return [Block(np.arange(present.shape[1]), credit, out_of)]
    item, language = np.nonzero(present)
    ends = (item, len(present) + language)
    graph = coo_array((np.ones(len(item)), ends), shape=(sum(present.shape),) * 2)
    component = connected_components(graph, directed=False)[1]
    of_item, of_language = component[: len(present)], component[len(present) :]
    return [
        Block(at, *(table[of_item == c][:, at] for table in (credit, out_of)))
        for c in np.unique(of_language)
        for at in [np.nonzero(of_language == c)[0]]
    ]


@dataclass(frozen=True)
class Sample:
    """What a target (or the mean over targets) says of every condition and view, in points.

    Arrays of variances are per condition and view; `draws` are deviations of the seed mean under resampled items.
    """

    conditions: list[tuple[str, str]]
    scores: dict[tuple[str, str], np.ndarray]
    """view -> mean over seeds [conditions]."""
    draws: dict[tuple[str, str], np.ndarray]
    """view -> [resamples, conditions], float32."""
    seed_variance: dict[tuple[str, str], np.ndarray]
    """view -> variance between single runs, pooled within a size [conditions]."""
    residual: dict[tuple[str, str], np.ndarray]
    """view -> the part of a single run's variance that is item by seed [conditions]."""
    freedom: np.ndarray
    """Degrees of freedom of the pooled variance; infinite where it is assumed [conditions]."""
    seeds: np.ndarray
    items: dict[tuple[str, str], int]
    run_scores: pd.DataFrame = field(repr=False)
    """Rows (condition, seed), columns views."""

    def contrast(self, view: tuple[str, str], weights: np.ndarray, rng, flips: np.ndarray | None = None):
        """Estimate, 95 % interval and p-value of a weighted sum over conditions.

        `flips` [resamples] is the sum under swapped labels of items (`swap`); without it the p-value is nan.
        Items and seeds are crossed: the item draws contain the item-by-seed part that the variance between runs
        already has, so they are shrunk by it. The seed part is Student's t with Satterthwaite's degrees of freedom.
        """
        estimate = float(weights @ self.scores[view])
        draws = self.draws[view] @ weights.astype(np.float32)
        total = draws.var()
        double = float(weights**2 @ (self.residual[view] / self.seeds))
        shrink = np.sqrt(max(0.0, 1 - double / total)) if total > 0 else 0.0
        noise = self._seed_noise(view, weights, len(draws), rng)
        low, high = estimate + np.quantile(shrink * draws + noise, [0.025, 0.975])
        p = np.nan
        if flips is not None:  # the tolerance counts ties of float32 sums as ties
            beyond = np.abs(shrink * flips + noise) >= abs(estimate) - 1e-4
            p = (1 + beyond.sum()) / (1 + len(flips))
        return estimate, float(low), float(high), float(p)

    def _seed_noise(self, view, weights, resamples, rng) -> np.ndarray:
        parts = weights**2 * self.seed_variance[view] / self.seeds
        sizes = np.array([size for size, _ in self.conditions])
        by_size = np.array([parts[sizes == size].sum() for size in dict.fromkeys(sizes)])
        freedom = np.array([self.freedom[sizes == size][0] for size in dict.fromkeys(sizes)])
        if by_size.sum() == 0:
            return np.zeros(resamples)
        inverse = (by_size**2 / freedom).sum() / by_size.sum() ** 2
        z = rng.standard_normal(resamples) if inverse == 0 else rng.standard_t(1 / inverse, resamples)
        return np.sqrt(by_size.sum()) * z


def sample(cells: Cells, resamples: int, rng: np.random.Generator) -> Sample:
    """Resample one target's items with replacement, `resamples` times, the same for all conditions."""
    condition = cells.runs["condition"].to_numpy()
    seeds = np.bincount(condition)
    mean = np.equal.outer(condition, np.arange(len(seeds))) / seeds  # [runs, conditions]
    views = cells.views()
    shape = (len(cells.languages), len(condition))
    runs, draws = np.empty(shape), np.empty((resamples, shape[0], len(seeds)), np.float32)
    for block in cells.blocks:
        runs[block.at] = 100 * block.credit.sum(0, dtype=float) / block.out_of.sum(0, dtype=float)
        draws[:, block.at] = _resampled(block, mean.astype(np.float32), resamples, rng)
    draws -= (runs @ mean).astype(np.float32)
    run_scores = pd.DataFrame({view: weights @ runs for view, weights in views.items()})
    run_scores.index = pd.MultiIndex.from_frame(cells.runs)
    variance, freedom = _pooled(run_scores, cells.conditions)
    return Sample(
        conditions=cells.conditions,
        scores={view: weights @ runs @ mean for view, weights in views.items()},
        draws={view: np.tensordot(draws, w.astype(np.float32), (1, 0)) for view, w in views.items()},
        seed_variance=variance,
        residual=_residual(cells, runs, mean, seeds),
        freedom=freedom,
        seeds=seeds,
        items={view: _count(cells, weights) for view, weights in views.items()},
        run_scores=run_scores,
    )


def _resampled(block: Block, mean: np.ndarray, resamples: int, rng) -> np.ndarray:
    """Seed means of the scores under multinomial item weights [resamples, l, conditions]."""
    items, languages, _ = block.credit.shape
    same = block.out_of.shape[2] == 1
    credit = block.credit @ mean if same else block.credit  # a mean of ratios is not a ratio of means
    out = np.empty((resamples, languages, mean.shape[1]), np.float32)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(0, items, (rows, items)) + items * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float32)
        credits, out_ofs = (
            (weights @ table.reshape(items, -1)).reshape(rows, languages, -1) for table in (credit, block.out_of)
        )
        with np.errstate(invalid="ignore"):
            scores = 100 * credits / out_ofs
        out[start : start + rows] = scores if same else scores @ mean
    return out


def _influence(cells: Cells, block: Block, runs: np.ndarray) -> np.ndarray:
    """What each item adds to its run's deviation: their mean over the block's items is 0 [items, l, runs], points."""
    scale = block.out_of.mean(0, dtype=float)
    return ((100 * block.credit - runs[block.at] * block.out_of) / scale).astype(np.float32)


def _residual(cells: Cells, runs: np.ndarray, mean: np.ndarray, seeds: np.ndarray) -> dict:
    """Item-by-seed variance of one run's score, pooled within a size like the variance between runs."""
    sizes = np.array([size for size, _ in cells.conditions])
    residual = {}
    influences = [_influence(cells, block, runs) for block in cells.blocks]
    for view, weights in cells.views().items():
        squares = np.zeros(len(seeds))
        for block, influence in zip(cells.blocks, influences, strict=True):
            own = weights[block.at].astype(np.float32)
            if own.any():
                u = np.tensordot(influence, own, (1, 0))  # [items, runs]
                within = (u**2).sum(0) @ (mean > 0) - ((u @ mean) ** 2).sum(0) * seeds
                squares += within / len(u) / max(1, len(u) - 1)
        for size in dict.fromkeys(sizes):
            of = sizes == size
            squares[of] = squares[of].sum() / max(1, (seeds[of] - 1).sum())
        residual[view] = squares
    return residual


def _pooled(run_scores: pd.DataFrame, conditions: list[tuple[str, str]]) -> tuple[dict, np.ndarray]:
    """Variance between the runs of a condition, pooled over the conditions of a size, and its degrees of freedom."""
    within = run_scores - run_scores.groupby(level=0).transform("mean")
    condition = within.index.get_level_values(0)
    sizes = np.array([size for size, _ in conditions])
    variance = {view: np.full(len(conditions), ASSUMED_SEED_SD**2) for view in run_scores}
    freedom = np.full(len(conditions), np.inf)
    for size in dict.fromkeys(sizes):
        of = sizes[condition] == size
        degrees = of.sum() - len(set(condition[of]))
        if degrees:
            freedom[sizes == size] = degrees
            for view, squares in (within[of] ** 2).sum().items():
                variance[view][sizes == size] = squares / degrees
    return variance, freedom


def _count(cells: Cells, weights: np.ndarray) -> int:
    used = [block.out_of[:, weights[block.at] != 0].any((1, 2)).sum() for block in cells.blocks]
    return int(sum(used))


def swap(cells: Cells, sample: Sample, contrasts: list, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Contrasts [(view, weights over conditions)] under random swaps of their two sides [resamples, contrasts].

    An item's swap holds for all its languages and seeds. For ratio scores the contrast is linearised.
    """
    condition = cells.runs["condition"].to_numpy()
    mean = np.equal.outer(condition, np.arange(len(sample.seeds))) / sample.seeds
    views = cells.views()
    runs = np.array([sample.run_scores[("score", language)] for language in cells.languages])
    out = np.zeros((resamples, len(contrasts)), np.float32)
    for block in cells.blocks:
        items = len(block.credit)
        influence = _influence(cells, block, runs) @ mean.astype(np.float32)
        here = (block.out_of[:, :, :1] > 0) / (block.out_of[:, :, :1] > 0).mean(0)
        raw = (influence + here * (runs[block.at] @ mean)).astype(np.float32)
        by_view = {view: np.tensordot(raw, views[view][block.at], (1, 0)) for view in {v for v, _ in contrasts}}
        difference = np.stack([by_view[view] @ weights for view, weights in contrasts], axis=1).astype(np.float32)
        for start in range(0, resamples, CHUNK):
            rows = min(CHUNK, resamples - start)
            bits = np.unpackbits(np.frombuffer(rng.bytes(-(-rows * items // 8)), np.uint8), count=rows * items)
            signs = bits.reshape(rows, items).astype(np.float32) * 2 - 1
            out[start : start + rows] += signs @ difference / items
    return out


def mean_over_targets(samples: list[Sample]) -> Sample:
    """The unweighted mean of independent targets, over the conditions and views that every one of them has.

    Seeds keep their pairing: the variance is that of runs averaged over targets at the same seed, because the
    targets of a seed share their intermediate encoder. Without such replicates, targets count as wholly dependent.
    """
    conditions = [c for c in samples[0].conditions if all(c in s.conditions for s in samples)]
    views = [v for v in samples[0].scores if all(v in s.scores for s in samples)]
    at = [[s.conditions.index(c) for c in conditions] for s in samples]

    def mean(name):
        tables = [getattr(s, name) for s in samples]
        return {
            v: np.mean([table[v][..., index] for table, index in zip(tables, at, strict=True)], axis=0) for v in views
        }

    together = [
        s.run_scores.loc[s.run_scores.index.get_level_values(0).isin(index), views].rename(
            index=dict(zip(index, range(len(index)), strict=True)), level=0
        )
        for s, index in zip(samples, at, strict=True)
    ]
    run_scores = (sum(together[1:], together[0]) / len(samples)).dropna()
    variance, freedom = _pooled(run_scores, conditions)
    bound = {
        v: np.mean([np.sqrt(s.seed_variance[v][i]) for s, i in zip(samples, at, strict=True)], axis=0) ** 2
        for v in views
    }
    lowest = np.min([s.freedom[i] for s, i in zip(samples, at, strict=True)], axis=0)
    assumed = np.isinf(freedom)
    for v in views:
        variance[v] = np.where(assumed, bound[v], variance[v])
    residual = mean("residual")
    return Sample(
        conditions=conditions,
        scores=mean("scores"),
        draws=mean("draws"),
        seed_variance=variance,
        residual={v: residual[v] / len(samples) for v in views},
        freedom=np.where(assumed, lowest, freedom),
        seeds=np.min([s.seeds[i] for s, i in zip(samples, at, strict=True)], axis=0),
        items={v: sum(s.items[v] for s in samples) for v in views},
        run_scores=run_scores,
    )
