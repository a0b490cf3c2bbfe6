"""Scores, gains and scale effects of a study, with intervals and tests (docs/statistics.md).

`predictions` has a row per run, language and item (size, intermediate, target, seed, language, id,
credit, out_of, optional group); `runs` one per finished run (size, intermediate, target, seed,
optional metric, collapsed, repeats). A score is 100 * sum(credit) / sum(out_of), in points.
"""

from itertools import product

import numpy as np
import pandas as pd

from comparison import contrasts, items, variance
from comparison.checking import checked
from comparison.contrasts import CONTROLLED, GAPS, TESTED, Contrast, aligned
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan
from comparison.variance import mean_over_targets

ANALYSES = ("all runs", "without collapsed")
NAMES = ["quantity", "size", "intermediate", "target", "language"]
ENDS = ["estimate", "low", "high", "low_90", "high_90", "p"]
COLUMNS = [*NAMES, *ENDS, "p_corrected", "comparisons", "seeds", "n", "status", "note", "analysis"]
COMPLETE, CROSSED = "complete", "with a collapsed run"
FALLEN, UNFINISHED = "only collapsed runs", "not finished"
UNEVALUATED, UNASKED = "not evaluated", "not asked for"
OWN, SAME_DATA, CONTROL = "the same data only", "same data", "control"


def results(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """Scores of every run and language, and "zero-shot": the mean of those not trained in.

    Columns: size, intermediate, target, seed, language, score (points), n, metric, collapsed.
    """
    runs, plan = checked(predictions, runs, plan)
    by_language = predictions.groupby([*RUN, "language"], observed=True)
    table = by_language.agg(credit=("credit", "sum"), out_of=("out_of", "sum"), n=("id", "size"))
    score = (100 * table["credit"] / table["out_of"]).fillna(0.0)  # nothing was to be found
    table = table.assign(score=score).reset_index()
    others = table[~at_home(table, plan)].groupby(RUN, as_index=False)
    mean = others.agg(score=("score", "mean"), n=("n", "sum")).assign(language=ZERO_SHOT)
    both = pd.concat([table, mean])[[*RUN, "language", "score", "n"]]
    both = both.merge(runs[[*RUN, "metric", "collapsed"]], on=RUN)
    return both.sort_values([*RUN, "language"], ignore_index=True)


def at_home(table: pd.DataFrame, plan: Plan) -> np.ndarray:
    """Whether each row's target was trained in its language."""
    trained = [(name, code) for name, target in plan.targets.items() for code in target.trained_in]
    return pd.MultiIndex.from_frame(table[["target", "language"]]).isin(trained)


def effects(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """Every score, transfer gap and gain, and what size does to gains, with intervals and p-values.

    Columns are COLUMNS: low and high bound the 95 % interval, low_90 and high_90 the 90 % one, in
    points. Intermediate and target may be "all": the mean over targets of the means over each one's
    tasks, without those whose data is its own (unless the study counts them). `note` marks cells of
    the "same data" and each "control". Everything planned has its row; one that lacks a run or a
    language it needs has nan and seeds 0, and `status` says why: no mean is formed of the rest.
    Where some runs collapsed, everything is there twice: analysis "all runs", without the runs that
    repeat a collapsed one, and "without collapsed", where they stand in. Raises ComparisonError for
    tables that cannot be compared (`checking.checked`), or runs of one target on different items.
    """
    runs, plan = checked(predictions, runs, plan)
    seen = predictions.groupby("target")["language"].unique()
    languages = {n: sorted(t.languages or seen.get(n, ())) for n, t in plan.targets.items()}
    languages[ALL] = sorted(set.intersection(*map(set, languages.values())))  # what all have
    asked, tables = contrasts.of(plan), []
    for analysis in ANALYSES if runs["collapsed"].any() else ANALYSES[:1]:
        kept, targets = analysed(analysis, predictions, runs, plan)
        samples = {
            (name, *estimand): variance.sample(scores, weights)
            for name, scores in targets.items()
            for estimand, weights in scores.estimands(plan.targets[name].trained_in).items()
        }
        rows, states = [], _states(plan, runs, kept)
        for target in plan.judged:
            names = list(plan.targets) if target == ALL else [target]
            shares = [contrasts.shares(contrast, plan, names) for contrast in asked]
            pairs = list(zip(asked, shares, strict=True))
            table = pd.DataFrame([contrast[:3] for contrast in asked], columns=NAMES[:3])
            status = [_status(*pair, states, plan) for pair in pairs]
            table = table.assign(target=target, status=status)
            table = table.assign(note=[_note(*pair, plan) for pair in pairs])
            for language in [*languages[target], ZERO_SHOT]:
                rows.append(_rows(table.assign(language=language), pairs, language, samples))
        tables.append(_corrected(pd.concat(rows, ignore_index=True), plan))
        tables[-1]["analysis"] = analysis
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def analysed(
    analysis: str, predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan
) -> tuple[pd.DataFrame, dict[str, items.ItemScores]]:
    """The runs of an analysis, and what those of each target scored on every item.

    A repetition takes the seed of the run it replaces. Targets without a run are left out.
    """
    repeats = runs["repeats"]
    runs = runs.assign(counts_as=repeats.fillna(runs["seed"]).astype(runs["seed"].dtype))
    kept = runs[repeats.isna() if analysis == ANALYSES[0] else ~runs["collapsed"]]
    if repeats.notna().any():
        predictions = predictions.merge(kept[[*RUN, "counts_as"]], on=RUN)
        kept, predictions = (t.assign(seed=t["counts_as"]) for t in (kept, predictions))
    names = [name for name in plan.targets if name in set(kept["target"])]
    apart = (NONE, *plan.controls)
    return kept, {name: items.arrange(name, predictions, kept, apart) for name in names}


def _states(plan: Plan, runs: pd.DataFrame, kept: pd.DataFrame) -> dict[tuple, str]:
    states = {run[:3]: UNFINISHED for run in plan.runs}
    fallen = kept[kept["collapsed"]]
    for table, state in ((runs, FALLEN), (kept, COMPLETE), (fallen, CROSSED)):
        names = table[RUN[:3]].itertuples(index=False, name=None)
        states |= dict.fromkeys(names, state)
    return states


def _status(
    contrast: Contrast, shares: dict[str, dict], states: dict[tuple, str], plan: Plan
) -> str:
    """The worst of what a contrast needs."""
    pairs = product(contrast.weights, shares.items())
    needed = [(*cell, target) for cell, (target, share) in pairs if share.get(cell[1], 1)]
    worst_first = [UNASKED, UNFINISHED, FALLEN, CROSSED, COMPLETE]
    worst = min((states.get(name, UNASKED) for name in needed), key=worst_first.index, default=None)
    is_of_control = contrast.quantity in CONTROLLED or contrast.intermediate in plan.controls
    return worst or (UNASKED if is_of_control else OWN)


def _note(contrast: Contrast, shares: dict[str, dict], plan: Plan) -> str:
    """Whether a contrast is of a control, or a cell enters that is the target's own data."""
    if contrast.intermediate in plan.controls:
        return CONTROL
    tasks = {task for _, task in contrast.weights}
    same = [(t, task) for t in shares for task in tasks.intersection(plan.targets[t].same_data)]
    return SAME_DATA if any(shares[t].get(task, 1) for t, task in same) else ""


def _rows(table: pd.DataFrame, asked: list[tuple], language: str, samples: dict) -> pd.DataFrame:
    """All quantities of one target and language; `asked` are contrasts with their shares."""
    table = table.assign(seeds=0, n=0, **dict.fromkeys(ENDS, np.nan))
    is_gap = table["quantity"].isin(["transfer_gap", *GAPS.values()])
    is_finished, at_home = table["status"].isin([COMPLETE, CROSSED]), []
    alike = [is_gap, pd.Series([str(shares) for _, shares in asked])]
    for (gap, _), group in table.groupby(alike).groups.items():
        shares, known = asked[group[0]][1], [i for i in group if is_finished[i]]
        wanted = [(target, "gap" if gap else "score", language) for target in shares]
        is_evaluated = all(each in samples for each in wanted)
        if gap and language != ZERO_SHOT and not is_evaluated:
            at_home += [*group]  # no gap between a language and itself
        elif not is_evaluated:
            table.loc[known, "status"] = UNEVALUATED
        elif shares:
            sample = mean_over_targets([samples[each] for each in wanted], [*shares.values()])
            table.loc[group, "n"] = sample.items
            sums = sample.sums(aligned([asked[i][0] for i in known], sample.conditions))
            table.loc[known, [*ENDS, "seeds"]] = np.stack([sums[e] for e in [*ENDS, "seeds"]], 1)
    table.loc[~table["quantity"].isin(TESTED), "p"] = np.nan
    score = table["quantity"] == "score"
    table.loc[score, ENDS[1:5]] = table.loc[score, ENDS[1:5]].clip(0, 100)
    return table.drop(index=at_home).astype({"seeds": int})


def _corrected(rows: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Benjamini-Hochberg within a family: a quantity's tests, averages and single languages apart.

    Controls have families of their own. So has the headline: one number, named before the study.
    """
    from scipy.stats import false_discovery_control  # here: half a second that charts do not need

    family = rows["quantity"] + np.where(rows["language"] == ZERO_SHOT, " averages", " languages")
    family += np.where(rows["note"] == CONTROL, " of controls", "")
    family[headline(rows, plan)] = "headline"
    tests = rows["p"].dropna().groupby(family)
    counts = tests.transform("size").reindex(rows.index, fill_value=0)
    return rows.assign(p_corrected=tests.transform(false_discovery_control), comparisons=counts)


def headline(effects: pd.DataFrame, plan: Plan) -> pd.Series:
    """The row that answers the study's question, as a mask.

    On the zero-shot score, over all intermediate tasks and targets: the slope where there is one,
    else the scale effect of the last size against the first, or the gain of a single size.
    """
    row = contrasts.headline(plan)
    if row is None:
        return pd.Series(False, effects.index)
    names = [*row[:3], plan.judged[0], ZERO_SHOT]
    return (effects[NAMES] == names).all(axis=1)
