"""Scores, gains and scale effects of a study, with intervals and tests (docs/statistics.md).

Tables in, tables out; no model is touched. `predictions` has a row per run, language and item
(size, intermediate, target, seed, language, id, credit, out_of, optional group); `runs` one per
finished run (size, intermediate, target, seed, optional metric, collapsed, repeats, ...). A score
is 100 * sum(credit) / sum(out_of), in points.
"""

from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from comparison import contrasts, items, variance
from comparison.contrasts import TESTED, Condition, Contrast, aligned
from comparison.items import Estimand
from comparison.plan import ALL, RUN, ZERO_SHOT, ComparisonError, Plan
from comparison.variance import Sample, mean_over_targets

ANALYSES = ("all runs", "without collapsed")
_NAMES = ["quantity", "size", "intermediate", "target", "language"]
_ENDS = ["estimate", "low", "high", "low_90", "high_90", "p"]
COLUMNS = [*_NAMES, *_ENDS, "p_corrected", "comparisons", "seeds", "n", "status", "analysis"]
COMPLETE, CROSSED = "complete", "with a collapsed run"
FALLEN, UNFINISHED = "only collapsed runs", "not finished"
UNEVALUATED, UNASKED = "not evaluated", "not asked for"


def results(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """Scores of every run and language, and "zero-shot": the mean of those not trained in.

    Columns: size, intermediate, target, language, seed, metric, score (points), n (items),
    collapsed.
    """
    runs, plan = checked(predictions, runs, plan)
    sums = predictions.groupby([*RUN, "language"], observed=True).agg(
        credit=("credit", "sum"), out_of=("out_of", "sum"), n=("id", "size")
    )
    table = sums.assign(score=100 * sums["credit"] / sums["out_of"]).reset_index()
    trained = {(name, code) for name, target in plan.targets.items() for code in target.trained_in}
    pairs = pd.MultiIndex.from_frame(table[["target", "language"]])
    others = table[~pairs.isin(trained)].groupby(RUN)
    mean = others.agg(score=("score", "mean"), n=("n", "sum")).reset_index()
    both = pd.concat([table, mean.assign(language=ZERO_SHOT)])
    both = both.merge(runs[[*RUN, "metric", "collapsed"]], on=RUN)
    both["order"] = both["language"] == ZERO_SHOT
    both = both.sort_values([*RUN, "order", "language"], ignore_index=True)
    return both[[*RUN[:3], "language", "seed", "metric", "score", "n", "collapsed"]]


def effects(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """Every score, transfer gap and gain, and what size does to gains, with intervals and p-values.

    Columns: quantity, size, intermediate, target, language, estimate, low, high (95 %, points),
    low_90, high_90, p, p_corrected, comparisons, seeds, n, status, analysis. Intermediate and target may be
    "all", a mean over every one of the study where it has two or more. Everything planned has its
    row. One that lacks a run or a language it needs has nan and seeds 0, and `status` says why: no
    mean is formed over what happens to be there.

    A scale effect is the gain at a size minus that at the one before it (and the last minus the
    first). With the parameters of three sizes or more there is the slope of gains over doublings,
    and the bend: the slope between the last two sizes minus that between the first two. Where some
    runs collapsed, everything is there twice: analysis "all runs", without the runs that repeat a
    collapsed one, and "without collapsed", where they stand in.

    Raises
    ------
    ComparisonError
        A table that lacks a column or has a run twice, or runs of one target on different items.
    """
    runs, plan = checked(predictions, runs, plan)
    asked, tables = contrasts.of(plan), []
    for analysis in ANALYSES if runs["collapsed"].any() else ANALYSES[:1]:
        kept, predicted = analysed(analysis, predictions, runs)
        samples = {name: _estimands(predicted, kept, plan, name) for name in plan.targets}
        places = {name: _languages(predictions, plan, name) for name in plan.targets}
        if len(plan.targets) > 1:
            samples[ALL] = _over_targets(list(samples.values()))
            places[ALL] = [
                c for c in list(places.values())[0] if all(c in p for p in places.values())
            ]
        state = _State(plan, runs, kept)
        rows = [
            _rows(asked, target, language, samples[target], state)
            for target in plan.judged
            for language in [*places[target], ZERO_SHOT]
        ]
        table = pd.concat([rows for rows in rows if len(rows)], ignore_index=True) if rows else None
        tables.append(_corrected(table).assign(analysis=analysis)[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def analysed(
    analysis: str, predictions: pd.DataFrame, runs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and predictions of an analysis; a repetition takes the seed of the run it replaces."""
    repeats = runs["repeats"]
    kept = repeats.isna() if analysis == ANALYSES[0] else ~runs["collapsed"]
    if repeats.isna().all():
        return runs[kept], predictions
    runs = runs.assign(counts_as=repeats.fillna(runs["seed"]).astype(int))[kept]
    predictions = predictions.merge(runs[[*RUN, "counts_as"]], on=RUN)
    renamed = [
        table.drop(columns="seed").rename(columns={"counts_as": "seed"})
        for table in (runs, predictions)
    ]
    return renamed[0], renamed[1]


def _estimands(predictions, runs, plan: Plan, target: str) -> dict[Estimand, Sample]:
    """What one target's finished runs say of every language; nothing without runs."""
    runs = runs[runs["target"] == target]
    if runs.empty:
        return {}
    scores = items.arrange(target, predictions[predictions["target"] == target], runs)
    estimands = scores.estimands(plan.targets[target].trained_in)
    return {name: variance.sample(scores, weights) for name, weights in estimands.items()}


def _over_targets(samples: list[dict[Estimand, Sample]]) -> dict[Estimand, Sample]:
    shared = [name for name in samples[0] if all(name in one for one in samples)]
    return {name: mean_over_targets([one[name] for one in samples]) for name in shared}


def _languages(predictions: pd.DataFrame, plan: Plan, target: str) -> list[str]:
    planned = plan.targets[target].languages
    seen = predictions.loc[predictions["target"] == target, "language"].unique()
    return sorted(planned or seen)


class _State:
    """Which conditions of a study were asked for, are there, and have collapsed runs."""

    def __init__(self, plan: Plan, runs: pd.DataFrame, kept: pd.DataFrame) -> None:
        def conditions(table: pd.DataFrame) -> set[tuple]:
            return set(table[RUN[:3]].itertuples(index=False, name=None))

        self.targets = list(plan.targets)
        self.asked = {run[:3] for run in plan.runs}
        self.begun, self.there = conditions(runs), conditions(kept)
        self.fallen = conditions(kept[kept["collapsed"]])

    def status(self, contrast: Contrast, target: str, evaluated: bool) -> str:
        """Why an estimate is missing, or what enters it."""
        targets = self.targets if target == ALL else [target]
        needed = {(*condition, name) for condition, name in product(contrast.weights, targets)}
        if needed - self.asked:
            return UNASKED
        if needed - self.begun:
            return UNFINISHED
        if needed - self.there:
            return FALLEN
        if not evaluated:
            return UNEVALUATED
        return CROSSED if needed & self.fallen else COMPLETE


def _rows(
    asked: list[Contrast],
    target: str,
    language: str,
    samples: dict[Estimand, Sample],
    state: _State,
) -> pd.DataFrame:
    """All quantities of one target and language."""
    tables = []
    for kind in ("score", "gap"):
        own = [c for c in asked if (c.quantity == "transfer_gap") == (kind == "gap")]
        sample = samples.get((kind, language))
        if sample is None and kind == "gap" and language != ZERO_SHOT:
            continue  # no gap between a language and itself
        names = [(*contrast[:3], target, language) for contrast in own]
        table = pd.DataFrame(names, columns=_NAMES)
        table["status"] = [state.status(c, target, not samples or sample is not None) for c in own]
        table[_ENDS], table["seeds"], table["n"] = np.nan, 0, 0
        conditions: set[Condition] = set(sample.conditions) if sample else set()
        known = np.array([contrast.weights.keys() <= conditions for contrast in own], bool)
        if sample is not None and known.any():
            weights = aligned(own, sample.conditions)[known]
            sums = sample.sums(weights)
            for name in _ENDS:
                table.loc[known, name] = sums[name]
            table.loc[known, "seeds"] = sums["seeds"].astype(int)
            table["n"] = sample.items
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    table.loc[~table["quantity"].isin(TESTED), "p"] = np.nan
    score = table["quantity"] == "score"
    table.loc[score, _ENDS[1:5]] = table.loc[score, _ENDS[1:5]].clip(0, 100)
    return table


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Benjamini-Hochberg within a family: a quantity's tests, averages and single languages apart.

    The headline is a family of its own: one number, named before the study ran.
    """
    family = rows["quantity"] + np.where(rows["language"] == ZERO_SHOT, " averages", " languages")
    family[headline(rows)] = "headline"
    rows = rows.assign(p_corrected=np.nan, comparisons=0)
    for _, index in rows[rows["p"].notna()].groupby(family).groups.items():
        rows.loc[index, "p_corrected"] = false_discovery_control(rows.loc[index, "p"])
        rows.loc[index, "comparisons"] = len(index)
    return rows


def headline(effects: pd.DataFrame) -> pd.Series:
    """The row that answers the study's question, as a mask.

    On the zero-shot score, over all intermediate tasks and targets: the slope where there is one,
    else the scale effect of the last size against the first, or the gain of a single size.
    """
    zero_shot = effects["language"] == ZERO_SHOT
    sizes = effects.loc[effects["quantity"] == "score", "size"].unique()
    if (effects["quantity"] == "slope").any():
        rows = zero_shot & (effects["quantity"] == "slope")
    elif len(sizes) > 1:
        ends = f"{sizes[-1]} - {sizes[0]}"
        rows = zero_shot & (effects["quantity"] == "scale_effect") & (effects["size"] == ends)
    else:
        rows = zero_shot & (effects["quantity"] == "gain")
    for column in ("intermediate", "target"):
        rows &= (effects[column] == ALL) | (effects.loc[rows, column].nunique() == 1)
    return rows


def checked(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None
) -> tuple[pd.DataFrame, Plan]:
    """Runs with every column that the comparison needs, and the plan, which may be made of them."""
    needed = {"predictions": [*RUN, "language", "id", "credit", "out_of"], "runs": RUN}
    for (name, columns), table in zip(needed.items(), (predictions, runs), strict=True):
        lacking = [column for column in columns if column not in table]
        if lacking:
            raise ComparisonError(
                f"{name}: found no column {', '.join(lacking)}; expected {', '.join(columns)}"
            )
    for size, intermediate, target, seed in runs.loc[runs.duplicated(RUN), RUN].to_numpy():
        run = f"{size}/{intermediate}/{target}/seed-{seed}"
        raise ComparisonError(f"runs: {run} is there twice; expected once")
    for name, missing in (("metric", "score"), ("collapsed", False), ("repeats", np.nan)):
        if name not in runs:
            runs = runs.assign(**{name: missing})
    runs = runs.assign(collapsed=runs["collapsed"].astype(bool))
    return runs, plan or Plan.of(runs[runs["repeats"].isna()])
