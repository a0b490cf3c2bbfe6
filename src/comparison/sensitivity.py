"""What the headline depends on: the same question asked in other ways (docs/statistics.md)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import logit, ndtri, stdtrit

from comparison import contrasts, variance
from comparison.checking import checked
from comparison.contrasts import aligned
from comparison.estimates import ANALYSES, analysed
from comparison.items import ItemScores
from comparison.plan import NONE, RUN, Plan
from comparison.variance import Sample, mean_over_targets

COLUMNS = ["check", "detail", "estimate", "low", "high", "unit"]
SELECTED = {"last": "selection: last weights", "average": "selection: average of the weights"}
SELECTED["oracle"] = "oracle, description only"
_INSIDE = (0.1, 99.9)
"""Points between which a score is held, for its logit and its headroom to be finite."""


def sensitivity(
    predictions: pd.DataFrame,
    runs: pd.DataFrame,
    plan: Plan | None = None,
    selections: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """The headline asked in other ways.

    On the logit scale and as a share of the headroom; with cells of the same data (or without, if
    the study counts them); without each target, language and task; with languages and targets as a
    sample; by predictions of other `selections` ("last", "average", "oracle"). The oracle looks at
    labels of the target languages, so it has no interval.

    Columns: check, detail, estimate, low, high (95 %), unit. Empty where the study has no headline:
    no gain, or a run that it needs is missing. Runs that repeat a collapsed one are left out.
    """
    runs, plan = checked(predictions, runs, plan)
    runs, targets = analysed(ANALYSES[0], predictions, runs, plan)
    there = set(runs[RUN[:3]].itertuples(index=False, name=None))
    headline = contrasts.headline(plan)
    needed = product(headline.weights if headline else [], plan.targets)
    is_whole = headline and all((*cell, target) in there for cell, target in needed)
    abroad = _abroad(plan, targets) if is_whole else {}
    if not (abroad and all(abroad.values())):
        return pd.DataFrame(columns=COLUMNS)
    codes = sorted(set.union(*(some for name, some in abroad.items() if plan.transfer(name))))
    rows = [("logit scale", "", *_ask(plan, targets, scale=_logits), "log odds")]
    rows += [("share of the headroom", "", *_ask(plan, targets, scale=_headroom), "%")]
    for check, detail, changed, kept in _changed(plan, codes):
        if contrasts.headline(changed):
            rows.append((check, detail, *_ask(changed, targets, kept), "points"))
    rows += _as_samples(plan, targets, codes)
    wanted = pd.MultiIndex.from_frame(runs[RUN])
    for name, table in (selections or {}).items():
        if wanted.isin(pd.MultiIndex.from_frame(table[RUN].drop_duplicates())).all():
            estimate, *ends = _ask(plan, analysed(ANALYSES[0], table, runs, plan)[1])
            ends = [np.nan, np.nan] if name == "oracle" else ends
            rows.append((SELECTED.get(name, f"selection: {name}"), "", estimate, *ends, "points"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _abroad(plan: Plan, targets: dict[str, ItemScores]) -> dict[str, set[str]]:
    """The languages that each target was not trained in."""
    return {n: {*targets[n].languages} - {*target.trained_in} for n, target in plan.targets.items()}


def _ask(plan: Plan, targets: dict, kept=None, scale=None, apart=False) -> list[float]:
    """The headline's estimate, low and high, of the zero-shot mean over the languages kept.

    All if none are named; `apart`, less the mean over all. `scale` changes a target's sample, by
    the tasks that count there.
    """
    headline, others, samples = contrasts.headline(plan), _abroad(plan, targets), []
    chosen = {name: codes & kept if kept else codes for name, codes in others.items()}
    having = [name for name in plan.targets if chosen[name] and plan.transfer(name)]
    shares = contrasts.shares(headline, plan, having)
    for name, share in shares.items():
        scores = targets[name]
        weights = scores.mean_of(chosen[name]) - apart * scores.mean_of(others[name])
        sample, tasks = variance.sample(scores, weights), [t for t in plan.tasks if share.get(t, 1)]
        samples.append(scale(sample, tasks) if scale else sample)
    sample = mean_over_targets(samples, list(shares.values()))
    sums = sample.sums(aligned([headline], sample.conditions))
    return [float(sums[end][0]) for end in ("estimate", "low", "high")]


def _logits(sample: Sample, _) -> Sample:
    scores, by_run = (np.clip(each, *_INSIDE) for each in (sample.scores, sample.run_scores))
    slope = 100 / (scores * (100 - scores))
    return sample.scaled(logit(scores / 100), logit(by_run / 100), slope)


def _headroom(sample: Sample, tasks: list[str]) -> Sample:
    """Gains in % of what the baseline leaves to 100, in the place of scores."""
    room = dict(zip(sample.conditions, 100 - np.clip(sample.scores, *_INSIDE), strict=True))
    slope, shares = {}, {}
    for size, task in room:
        baseline = room[size, NONE]
        after = np.mean([room[size, t] for t in tasks]) if task == NONE else baseline
        slope[size, task] = 100 * after / baseline**2
        shares[size, task] = 100 * (1 - room[size, task] / baseline)
    by_run = sample.run_scores * [slope[run[:2]] for run in sample.runs]
    return sample.scaled(np.array([*shares.values()]), by_run, np.array([*slope.values()]))


def _changed(plan: Plan, codes: list[str]) -> Iterator[tuple[str, str, Plan, set[str] | None]]:
    """(check, detail, the plan changed, the languages kept)."""
    counted = plan.same_data_in_headline
    if cells := plan.same_data:
        check = f"with{'out' if counted else ''} same-data cells"
        yield check, ", ".join(cells), replace(plan, same_data_in_headline=not counted), None
    for name in plan.targets if len(plan.targets) > 1 else ():
        rest = {other: target for other, target in plan.targets.items() if other != name}
        yield "without target", name, replace(plan, targets=rest), None
    for code in codes if len(codes) > 1 else ():
        yield "without language", code, plan, {*codes} - {code}
    for task in plan.tasks if len(plan.tasks) > 1 else ():
        rest = [name for name in plan.intermediate if name != task]
        yield "without intermediate task", task, replace(plan, intermediate=rest), None


def _as_samples(plan: Plan, targets: dict, codes: list[str]) -> list[tuple]:
    """Rows of the headline with languages, and with targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87), with
    Student's t. The sampling error of a language is that of its difference to the mean, for seeds
    and items are shared.
    """
    from statsmodels.stats.meta_analysis import combine_effects  # here: it is slow to import

    single = [replace(plan, targets={n: t}) for n, t in plan.targets.items() if plan.transfer(n)]
    by_target = [_ask(each, targets) for each in single]
    by_language = [_ask(plan, targets, {code}) for code in codes]
    apart = [_ask(plan, targets, {code}, apart=True) for code in codes]
    [whole], rows = _variances([_ask(plan, targets)]), []
    kinds = {"languages": (by_language, apart), "targets": (by_target, by_target)}
    for kind, (found, errors) in kinds.items():
        count, effects = len(found), np.array([estimate for estimate, *_ in found])
        if count > 1:
            least = np.maximum(_variances(errors), 1e-6)
            between = combine_effects(effects, least, method_re="iterated").tau2
            half = stdtrit(count - 1, 0.975) * np.sqrt(whole + between / count)
            ends = (effects.mean() - half, effects.mean() + half)
            rows.append((f"{kind} as a sample", f"{count} {kind}", effects.mean(), *ends, "points"))
    return rows


def _variances(found: list[list[float]]) -> np.ndarray:
    """The variances of what has these 95 % intervals, taken as normal."""
    _, low, high = np.array(found).T
    return ((high - low) / (2 * ndtri(0.975))) ** 2
