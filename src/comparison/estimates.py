"""Scores, gains and scale effects of a study, with intervals and tests (docs/statistics.md).

Tables in, tables out; no model is touched. `predictions` has a row per run, language and item
(size, intermediate, target, seed, language, id, credit, out_of); `runs` one per finished run (size,
intermediate, target, seed, metric, collapsed, ...). A score is 100 * sum(credit) / sum(out_of), in
points.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from helpers.comparison import arrays, contrasts, resampling
from helpers.comparison.arrays import Estimand, ItemScores
from helpers.comparison.contrasts import ALL, TESTED, Contrast, aligned
from helpers.comparison.samples import Sample, mean_over_targets
from helpers.study import ENGLISH, RUN, ZERO_SHOT, StudyError

ANALYSES = ("all runs", "without collapsed")
_NAMES = ["quantity", "size", "intermediate", "target", "language"]
_ENDS = ["estimate", "low", "high", "low_90", "high_90", "p"]
_NUMBERS = [*_ENDS, "p_corrected", "comparisons", "seeds", "n"]


def results(predictions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Scores of every run and language, and "zero-shot": the mean of the languages but English.

    Columns: size, intermediate, target, language, seed, metric, score (points), n (items),
    collapsed.
    """
    _check(predictions, runs)
    sums = predictions.groupby([*RUN, "language"], observed=True).agg(
        credit=("credit", "sum"), out_of=("out_of", "sum"), n=("id", "size")
    )
    table = sums.assign(score=100 * sums["credit"] / sums["out_of"]).reset_index()
    others = table[table["language"] != ENGLISH].groupby(RUN)
    mean = others.agg(score=("score", "mean"), n=("n", "sum")).reset_index()
    both = pd.concat([table, mean.assign(language=ZERO_SHOT)])
    both = both.merge(runs[[*RUN, "metric", "collapsed"]], on=RUN)
    both["order"] = both["language"] == ZERO_SHOT
    both = both.sort_values([*RUN, "order", "language"], ignore_index=True)
    return both[[*RUN[:3], "language", "seed", "metric", "score", "n", "collapsed"]]


def effects(
    predictions: pd.DataFrame,
    runs: pd.DataFrame,
    resamples: int = 10_000,
    seed: int = 0,
    planned: Iterable[tuple[str, str, str, int]] = (),
    parameters: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Every score, transfer gap and gain, and what size does to gains, with intervals and p-values.

    Columns: quantity, size, intermediate, target, language, estimate, low, high (95 %, points),
    low_90, high_90, p, p_corrected, comparisons, seeds, n, analysis. Intermediate and target may be
    "all", a mean over every one of the study where it has two or more. A row that lacks a run it
    needs has nan and seeds 0: no mean is formed over what happens to be there.

    The order of sizes is that of `planned`, which adds runs that have not even begun, then that of
    `runs`. A scale effect is the gain at a size minus that at the one before it (and the last minus
    the first). With the `parameters` of three sizes or more, without embeddings, there is the slope
    of gains over doublings, and the bend: the slope between the last two sizes minus that between
    the first two. Where some runs collapsed, everything is there twice: analysis "all runs",
    without the runs that repeat a collapsed one (`runs` column repeats: the seed that is repeated),
    and "without collapsed", where they stand in.

    Raises
    ------
    StudyError
        A table that lacks a column or has a run twice, or runs of one target on different items.
    """
    _check(predictions, runs)
    grid = pd.concat([pd.DataFrame([tuple(run) for run in planned], columns=RUN), runs[RUN]])
    tables = []
    for analysis in ANALYSES if runs["collapsed"].any() else ANALYSES[:1]:
        kept, predicted = _of(analysis, runs, predictions)
        rng = np.random.default_rng(seed)
        rows = _analyse(predicted, kept, grid, contrasts.of(grid, parameters), resamples, rng)
        tables.append(_corrected(rows).assign(analysis=analysis))
    return pd.concat(tables, ignore_index=True)


def _of(analysis: str, runs: pd.DataFrame, predictions: pd.DataFrame) -> list[pd.DataFrame]:
    """Runs and predictions of an analysis; a repetition takes the seed of the run it replaces."""
    repeats = runs["repeats"] if "repeats" in runs else pd.Series(np.nan, runs.index)
    kept = repeats.isna() if analysis == ANALYSES[0] else ~runs["collapsed"].astype(bool)
    if repeats.isna().all():
        return [runs[kept], predictions]
    runs = runs.assign(counts_as=repeats.fillna(runs["seed"]).astype(int))[kept]
    predictions = predictions.merge(runs[[*RUN, "counts_as"]], on=RUN)
    return [
        table.drop(columns="seed").rename(columns={"counts_as": "seed"})
        for table in (runs, predictions)
    ]


def _analyse(predictions, runs, grid, asked, resamples: int, rng) -> pd.DataFrame:
    targets = list(grid["target"].unique())
    rows, samples, swapped = [], [], []
    for target in targets:
        here = runs[runs["target"] == target]
        if here.empty:
            rows += [_row(target, contrast) for contrast in asked]
            continue
        scores = arrays.arrange(target, predictions[predictions["target"] == target], here)
        drawn = resampling.resample(scores, resamples, rng)
        samples.append({name: drawn.of(weights) for name, weights in scores.estimands.items()})
        swapped.append(resampling.swap(scores, _tested(scores, asked), resamples, rng))
        rows += _rows(target, asked, samples[-1], swapped[-1], rng)
    if len(targets) > 1 and len(samples) < len(targets):
        rows += [_row(ALL, contrast) for contrast in asked]
    elif len(targets) > 1:
        mean = _over_shared(mean_over_targets, samples)
        rows += _rows(ALL, asked, mean, _over_shared(partial(np.mean, axis=0), swapped), rng)
    return pd.DataFrame(rows, columns=[*_NAMES, *_NUMBERS])


def _over_shared(mean: Callable, tables: list[dict]) -> dict:
    """The mean of what every table has."""
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return {key: mean([table[key] for table in tables]) for key in shared}


def _tested(scores: ItemScores, contrasts: list[Contrast]) -> dict:
    """What `resampling.swap` swaps, by the names of contrast and estimand."""
    return {
        (contrast[:3], estimand): (estimand, aligned(contrast, scores.conditions))
        for contrast in contrasts
        for estimand in scores.estimands
        if contrast.quantity in TESTED
        and estimand[0] == "score"
        and contrast.weights.keys() <= set(scores.conditions)
    }


def _rows(target: str, contrasts, samples: dict[Estimand, Sample], flips, rng) -> list[dict]:
    rows = []
    for contrast in contrasts:
        kind = "gap" if contrast.quantity == "transfer_gap" else "score"
        for estimand, sample in samples.items():
            if estimand[0] != kind:
                continue
            row = _row(target, contrast, estimand[1]) | {"n": sample.items}
            if contrast.weights.keys() <= set(sample.conditions):
                weights = aligned(contrast, sample.conditions)
                swapped = flips.get((contrast[:3], estimand))
                row |= sample.contrast(weights, rng, swapped)
                if contrast.quantity == "score":
                    row |= {end: np.clip(row[end], 0, 100) for end in _ENDS[1:5]}
                row["seeds"] = int(sample.seeds[weights != 0].min())
            rows.append(row)
    return rows


def _row(target: str, contrast: Contrast, language: str = ZERO_SHOT) -> dict:
    """A row's names, as yet without an estimate."""
    return dict(zip(_NAMES, (*contrast[:3], target, language), strict=True), seeds=0, n=0)


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Benjamini-Hochberg within a family: a quantity's tests, averages and single languages apart.

    The headline is a family of its own: one number, named before the study ran.
    """
    from scipy.stats import false_discovery_control  # here, for its import takes half a second

    family = rows["quantity"] + np.where(rows["language"] == ZERO_SHOT, " averages", " languages")
    family[headline(rows)] = "headline"
    for _, index in rows[rows["p"].notna()].groupby(family).groups.items():
        rows.loc[index, "p_corrected"] = false_discovery_control(rows.loc[index, "p"])
        rows.loc[index, "comparisons"] = len(index)
    return rows.fillna({"comparisons": 0}).astype({"comparisons": int})


def headline(effects: pd.DataFrame) -> pd.Series:
    """The row that answers the study's question, as a mask.

    On the zero-shot score, over all intermediate tasks and targets: the slope where there is one,
    else the scale effect of the last size against the first, or the gain of a single size.
    """
    rows = (effects["quantity"] == "slope") & (effects["language"] == ZERO_SHOT)
    if not rows.any():
        sizes = effects.loc[effects["quantity"] == "gain", "size"].unique()
        quantity, ends = "scale_effect", f"{sizes[-1]} - {sizes[0]}" if len(sizes) else ""
        if len(sizes) == 1:
            quantity, ends = "gain", sizes[0]
        rows = (effects["quantity"] == quantity) & (effects["language"] == ZERO_SHOT)
        rows &= effects["size"] == ends
    for column in ("intermediate", "target"):
        rows &= (effects[column] == ALL) | (effects.loc[rows, column].nunique() == 1)
    return rows


def _check(predictions: pd.DataFrame, runs: pd.DataFrame) -> None:
    needed = {
        "predictions": ["language", "id", "credit", "out_of"],
        "runs": ["metric", "collapsed"],
    }
    for (name, columns), table in zip(needed.items(), (predictions, runs), strict=True):
        columns = [*RUN, *columns]
        lacking = ", ".join(column for column in columns if column not in table)
        if lacking:
            expected = ", ".join(columns)
            raise StudyError(f"{name}: found no column {lacking}; expected {expected}")
    for size, intermediate, target, seed in runs.loc[runs.duplicated(RUN), RUN].to_numpy():
        name = f"{size}/{intermediate}/{target}/seed-{seed}"
        raise StudyError(f"runs: {name} is there twice; expected once")
