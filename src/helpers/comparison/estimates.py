"""What a study says about transfer: scores, gains, scale effects, with intervals and tests (docs/statistics.md).

Tables in, tables out; no model is touched. `predictions` has one row per run, language and item (size, intermediate,
target, seed, language, id, credit, out_of); `runs` one row per finished run (size, intermediate, target, seed,
metric, collapsed, ...). A score is 100 * sum(credit) / sum(out_of), in points.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from helpers.comparison import arrays, resampling
from helpers.comparison.resampling import Sample
from helpers.study import ENGLISH, NONE, RUN, ZERO_SHOT, StudyError

ALL = "all"
"""The mean over all targets, or over all intermediate tasks."""
SCALE = "large - base"
ANALYSES = ("all runs", "without collapsed")


def missing(planned: Iterable[tuple[str, str, str, int]], runs: pd.DataFrame) -> pd.DataFrame:
    """The planned (size, intermediate, target, seed) that `runs` lacks, in the plan's order."""
    there = set(runs[RUN].itertuples(index=False, name=None))
    return pd.DataFrame([run for run in map(tuple, planned) if run not in there], columns=RUN)


def results(predictions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Scores of every run and language, and "zero-shot": the mean over the languages other than English.

    Columns: size, intermediate, target, language, seed, metric, score (points), n (items), collapsed.
    """
    _check(predictions, runs)
    columns = [
        "size",
        "intermediate",
        "target",
        "language",
        "seed",
        "metric",
        "score",
        "n",
        "collapsed",
    ]
    sums = predictions.groupby([*RUN, "language"], sort=True, observed=True).agg(
        credit=("credit", "sum"), out_of=("out_of", "sum"), n=("id", "size")
    )
    table = sums.assign(score=100 * sums["credit"] / sums["out_of"]).reset_index()
    foreign = table[table["language"] != ENGLISH].groupby(RUN, sort=True)
    mean = (
        foreign.agg(score=("score", "mean"), n=("n", "sum"))
        .reset_index()
        .assign(language=ZERO_SHOT)
    )
    both = pd.concat([table, mean]).merge(runs[[*RUN, "metric", "collapsed"]], on=RUN)
    order = both["language"].eq(ZERO_SHOT).rename("order")
    return both.assign(order=order).sort_values([*RUN, "order", "language"], ignore_index=True)[
        columns
    ]


def effects(
    predictions: pd.DataFrame,
    runs: pd.DataFrame,
    resamples: int = 10_000,
    seed: int = 0,
    planned: Iterable[tuple[str, str, str, int]] = (),
) -> pd.DataFrame:
    """Every score, gain, scale effect, transfer gap and error reduction, with 95 % intervals and p-values.

    Columns: quantity, size, intermediate, target, language, estimate, low, high (points; error_reduction in % of
    the remaining error), p, p_corrected, comparisons, seeds, n, analysis. Intermediate and target may be "all", a
    mean over every one of the study where it has two or more. A row that lacks a run it needs has nan and seeds 0:
    no mean is formed over what happens to be there. `planned` adds runs that have not even begun.
    Where some runs collapsed, everything is there twice: analysis "all runs", without the runs that repeat a
    collapsed one (`runs` column repeats: the seed that is repeated), and "without collapsed", where they stand in.

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
        rows = _analyse(predicted, kept, grid, resamples, np.random.default_rng(seed))
        tables.append(_corrected(rows).assign(analysis=analysis))
    return pd.concat(tables, ignore_index=True)


def _of(
    analysis: str, runs: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and predictions of an analysis; a repetition takes the seed of the collapsed run that it replaces."""
    runs = runs.reset_index(drop=True)
    repeats = runs["repeats"] if "repeats" in runs else pd.Series(np.nan, index=runs.index)
    kept = runs[repeats.isna() if analysis == ANALYSES[0] else ~runs["collapsed"].astype(bool)]
    if repeats.isna().all():
        return kept, predictions
    seeds = repeats[kept.index].fillna(kept["seed"]).astype(int)
    renamed = predictions.merge(kept[RUN].assign(stands_in=seeds), on=RUN)
    return kept.assign(seed=seeds), renamed.assign(seed=renamed["stands_in"]).drop(
        columns="stands_in"
    )


class _Contrast(NamedTuple):
    quantity: str
    size: str
    intermediate: str
    weights: dict[tuple[str, str], float]
    """(size, intermediate) -> weight; for error_reduction those of the gain."""


TESTED = ("gain", "scale_effect")
_COLUMNS = ["quantity", "size", "intermediate", "target", "language", "estimate", "low", "high"]
_COLUMNS += ["p", "p_corrected", "comparisons", "seeds", "n"]


def _contrasts(grid: pd.DataFrame) -> list[_Contrast]:
    sizes, tasks = (list(dict.fromkeys(grid[c])) for c in ("size", "intermediate"))
    rows = [
        _Contrast(q, s, i, {(s, i): 1.0})
        for q in ("score", "transfer_gap")
        for s in sizes
        for i in tasks
    ]
    tasks = [i for i in tasks if i != NONE]
    groups = {i: [i] for i in tasks} | ({ALL: tasks} if len(tasks) > 1 else {})

    def gain(size, name, sign=1.0):
        return {(size, i): sign / len(groups[name]) for i in groups[name]} | {(size, NONE): -sign}

    for quantity in ("gain", "error_reduction"):
        rows += [_Contrast(quantity, s, i, gain(s, i)) for s in sizes for i in groups]
    if {"base", "large"} <= set(sizes):
        for quantity in ("scale_effect", "error_reduction"):
            rows += [
                _Contrast(quantity, SCALE, i, gain("large", i) | gain("base", i, -1.0))
                for i in groups
            ]
    return rows


def _analyse(predictions, runs, grid, resamples: int, rng) -> pd.DataFrame:
    contrasts = _contrasts(grid)
    targets = list(dict.fromkeys(grid["target"]))
    samples, swaps, rows = {}, {}, []
    for target in targets:
        here = runs[runs["target"] == target]
        if here.empty:
            rows += [_row(target, c, ZERO_SHOT) for c in contrasts]
            continue
        cells = arrays.cells(target, predictions[predictions["target"] == target], here)
        samples[target] = resampling.sample(cells, resamples, rng)
        tested = [
            (c, view)
            for c in contrasts
            for view in samples[target].views
            if c.quantity in TESTED
            and view[0] == "score"
            and set(c.weights) <= set(cells.conditions)
        ]
        columns = [(view, _aligned(c.weights, cells.conditions)) for c, view in tested]
        flips = (
            resampling.swap(cells, samples[target], columns, resamples, rng) if columns else None
        )
        swaps[target] = {(c[:3], view): flips[:, k] for k, (c, view) in enumerate(tested)}
        rows += _rows(target, samples[target], swaps[target], contrasts, rng)
    if len(targets) > 1 and len(samples) == len(targets):
        mean = resampling.mean_over_targets(list(samples.values()))
        shared = [key for key in swaps[targets[0]] if all(key in s for s in swaps.values())]
        flips = {key: np.mean([s[key] for s in swaps.values()], axis=0) for key in shared}
        rows += _rows(ALL, mean, flips, contrasts, rng)
    elif len(targets) > 1:
        rows += [_row(ALL, c, ZERO_SHOT) for c in contrasts]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _rows(target: str, sample: Sample, swaps: dict, contrasts: list[_Contrast], rng) -> list[dict]:
    rows = []
    for contrast in contrasts:
        for view, items in zip(sample.views, sample.items, strict=True):
            kind, language = view
            if (kind == "gap") != (contrast.quantity == "transfer_gap"):
                continue
            row = _row(target, contrast, language) | {"n": int(items)}
            if set(contrast.weights) <= set(sample.conditions):
                weights = _aligned(contrast.weights, sample.conditions)
                row["seeds"] = int(sample.seeds[weights != 0].min())
                shift = 0.0
                if contrast.quantity == "error_reduction":
                    estimate, weights = _error_reduction(contrast, sample, view)
                    shift = estimate - weights @ sample.scores[sample.views.index(view)]
                estimate, low, high, p = sample.contrast(
                    view, weights, rng, swaps.get((contrast[:3], view))
                )
                if contrast.quantity == "score":
                    low, high = np.clip([low, high], 0, 100)
                row |= {
                    "estimate": estimate + shift,
                    "low": low + shift,
                    "high": high + shift,
                    "p": p,
                }
            rows.append(row)
    return rows


def _row(target: str, contrast: _Contrast, language: str) -> dict:
    names = dict(zip(("quantity", "size", "intermediate"), contrast[:3], strict=True))
    return names | {"target": target, "language": language, "seeds": 0, "n": 0}


def _aligned(
    weights: dict[tuple[str, str], float], conditions: list[tuple[str, str]]
) -> np.ndarray:
    return np.array([weights.get(c, 0.0) for c in conditions])


def _error_reduction(contrast: _Contrast, sample: Sample, view) -> tuple[float, np.ndarray]:
    """100 * gain / (100 - baseline) per size, and its gradient by each condition's score (delta method)."""
    score = dict(zip(sample.conditions, sample.scores[sample.views.index(view)], strict=True))
    estimate, gradient = 0.0, dict.fromkeys(sample.conditions, 0.0)
    for size in {size for size, _ in contrast.weights}:
        weights = {c: w for c, w in contrast.weights.items() if c[0] == size}
        room = 100 - score[size, NONE]
        if room <= 0:
            return np.nan, np.zeros(len(gradient))
        gain = sum(w * score[c] for c, w in weights.items())
        estimate += 100 * gain / room
        for c, w in weights.items():
            gradient[c] += 100 * w / room
        gradient[size, NONE] += 100 * gain / room**2
    return estimate, np.array(list(gradient.values()))


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Benjamini-Hochberg within a family: the tests of one quantity, averages and single languages apart.

    The headline is a family of its own: one scale effect, named before the study ran (helpers.comparison.sentence).
    """
    family = rows["quantity"] + np.where(rows["language"] == ZERO_SHOT, " averages", " languages")
    family[headline(rows)] = "headline"
    for _, index in rows[rows["p"].notna()].groupby(family).groups.items():
        rows.loc[index, "p_corrected"] = false_discovery_control(rows.loc[index, "p"])
        rows.loc[index, "comparisons"] = len(index)
    return rows.fillna({"comparisons": 0}).astype({"comparisons": int})


def headline(effects: pd.DataFrame) -> pd.Series:
    """The row that answers the study's question: the zero-shot scale effect over all tasks and all targets."""
    rows = (effects["quantity"] == "scale_effect") & (effects["language"] == ZERO_SHOT)
    for column in ("intermediate", "target"):
        rows &= (effects[column] == ALL) | (effects.loc[rows, column].nunique() == 1)
    return rows


def _check(predictions: pd.DataFrame, runs: pd.DataFrame) -> None:
    for name, table, columns in (
        ("predictions", predictions, [*RUN, "language", "id", "credit", "out_of"]),
        ("runs", runs, [*RUN, "metric", "collapsed"]),
    ):
        lacking = [column for column in columns if column not in table]
        if lacking:
            raise StudyError(
                f"{name}: found no column {', '.join(lacking)}; expected {', '.join(columns)}"
            )
    twice = runs[runs.duplicated(RUN)]
    if len(twice):
        size, intermediate, target, seed = twice[RUN].iloc[0]
        raise StudyError(
            f"runs: {size}/{intermediate}/{target}/seed-{seed} is there twice; expected once"
        )
