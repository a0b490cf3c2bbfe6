"""What the headline depends on: the same question asked in other ways (docs/statistics.md)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import logit, ndtri, stdtrit

from comparison import contrasts, items, variance
from comparison.contrasts import Contrast, aligned
from comparison.estimates import ANALYSES, analysed, checked
from comparison.items import ItemScores
from comparison.plan import NONE, RUN, Plan
from comparison.variance import Sample, mean_over_targets

COLUMNS = ["check", "detail", "estimate", "low", "high", "unit"]
SELECTED = {"last": "selection: last weights", "average": "selection: average of the weights"}
ORACLE = "oracle, description only"
_INSIDE = (0.1, 99.9)
"""Points between which a score is held, for its logit and its headroom to be finite."""
Target = tuple[ItemScores, set[str]]
"""A target's scores, and the languages that it was not trained in."""


def sensitivity(
    predictions: pd.DataFrame,
    runs: pd.DataFrame,
    plan: Plan | None = None,
    selections: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """The headline asked in other ways.

    On the logit scale and as a share of the headroom; with the cells of the same data (or without
    them, where the study counts them); without each target, language and task; with languages and
    targets as a sample; by the predictions of other `selections` ("last", "average", "oracle").
    The oracle looks at labels of the target languages, so it has no interval.

    Columns: check, detail, estimate, low, high (95 %), unit. Empty where the study has no headline:
    no gain, or a run that it needs is missing. Runs that repeat a collapsed one are left out.
    """
    runs, plan = checked(predictions, runs, plan)
    runs, predictions = analysed(ANALYSES[0], predictions, runs)
    there = set(runs[RUN[:3]].itertuples(index=False, name=None))
    headline = contrasts.headline(plan)
    needed = product(headline.weights if headline else [], plan.targets)
    is_whole = headline and all((*cell, target) in there for cell, target in needed)
    targets = _arranged(predictions, runs, plan)
    others = [languages for _, languages in targets.values()]
    if not is_whole or not all(others):
        return pd.DataFrame(columns=COLUMNS)
    languages = set.union(*others)
    rows = [("logit scale", "", *_ask(plan, targets, languages, _logits), "log odds")]
    rows += [("share of the headroom", "", *_ask(plan, targets, languages, _headroom), "%")]
    for check, detail, changed, kept in _changed(plan, languages):
        if contrasts.headline(changed):
            rows.append((check, detail, *_ask(changed, targets, kept), "points"))
    rows += _as_samples(plan, targets, sorted(languages))
    for name, check in (SELECTED | {"oracle": ORACLE}).items():
        table = (selections or {}).get(name, predictions.head(0))
        if set(runs[RUN].itertuples(index=False)) <= set(
            table[RUN].drop_duplicates().itertuples(index=False)
        ):
            estimate, *ends = _ask(plan, _arranged(table, runs, plan), languages)
            ends = ends if name in SELECTED else [np.nan, np.nan]
            rows.append((check, "", estimate, *ends, "points"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _arranged(predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> dict[str, Target]:
    """The targets that have a run, by name."""
    targets = {}
    for name in [name for name in plan.targets if name in set(runs["target"])]:
        answers, own = (table[table["target"] == name] for table in (predictions, runs))
        scores = items.arrange(name, answers, own, (NONE, *plan.controls))
        targets[name] = scores, set(scores.languages) - {*plan.targets[name].trained_in}
    return targets


def _sample(
    plan: Plan, targets: dict[str, Target], languages: set[str], scale: Callable | None = None
) -> Sample:
    """The zero-shot mean over some languages, of the targets that have one and a task to count."""
    having = [n for n in plan.targets if targets[n][1] & languages and plan.transfer(n)]
    shares = contrasts.shares(contrasts.headline(plan), plan, having)
    samples = []
    for name, share in shares.items():
        scores, others = targets[name]
        sample = variance.sample(scores, scores.mean_of(others & languages))
        samples.append(scale(sample, share) if scale else sample)
    return mean_over_targets(samples, list(shares.values()))


def _ask(plan: Plan, targets: dict, languages: set[str], scale=None) -> list[float]:
    """The headline of a plan over some languages: estimate, low and high."""
    return _interval(contrasts.headline(plan), _sample(plan, targets, languages, scale))


def _interval(contrast: Contrast, sample: Sample) -> list[float]:
    """Estimate, low and high."""
    sums = sample.sums(aligned([contrast], sample.conditions))
    return [float(sums[end][0]) for end in ("estimate", "low", "high")]


def _logits(sample: Sample, _) -> Sample:
    """A sample of scores as one of their log odds."""
    scores, by_run = (np.clip(each, *_INSIDE) for each in (sample.scores, sample.run_scores))
    slope = 100 / (scores * (100 - scores))
    return sample.scaled(logit(scores / 100), logit(by_run / 100), slope)


def _headroom(sample: Sample, share: dict[str, float]) -> Sample:
    """A sample of scores as one of gains in % of what the baseline leaves to 100."""
    room = dict(zip(sample.conditions, 100 - np.clip(sample.scores, *_INSIDE), strict=True))
    slope, shares = {}, {}
    for size, task in room:
        baseline, tasks = room[size, NONE], [t for t in share if t != NONE and share[t]]
        after = np.mean([room[size, t] for t in tasks]) if task == NONE else baseline
        slope[size, task] = 100 * after / baseline**2
        shares[size, task] = 100 * (1 - room[size, task] / baseline)
    by_run = sample.run_scores * [slope[run[:2]] for run in sample.runs]
    return sample.scaled(np.array([*shares.values()]), by_run, np.array([*slope.values()]))


def _changed(plan: Plan, languages: set[str]) -> Iterator[tuple[str, str, Plan, set[str]]]:
    """(check, detail, the plan changed, the languages kept)."""
    cells = [f"{task} before {n}" for n, t in plan.targets.items() for task in t.same_data]
    if cells:
        counted = plan.same_data_in_headline
        check = f"with{'out' if counted else ''} same-data cells"
        yield check, ", ".join(cells), replace(plan, same_data_in_headline=not counted), languages
    for name in plan.targets if len(plan.targets) > 1 else ():
        rest = {other: target for other, target in plan.targets.items() if other != name}
        yield "without target", name, replace(plan, targets=rest), languages
    for code in sorted(languages) if len(languages) > 1 else ():
        yield "without language", code, plan, languages - {code}
    for task in plan.tasks if len(plan.tasks) > 1 else ():
        rest = [name for name in plan.intermediate if name != task]
        yield "without intermediate task", task, replace(plan, intermediate=rest), languages


def _as_samples(plan: Plan, targets: dict[str, Target], languages: list[str]) -> list[tuple]:
    """Rows of the headline with languages, and with targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87), with
    Student's t. The sampling error of a language is that of its difference to the mean, for seeds
    and items are shared.
    """
    from statsmodels.stats.meta_analysis import combine_effects  # here: it is slow to import

    headline, rows = contrasts.headline(plan), []
    single = [replace(plan, targets={n: t}) for n, t in plan.targets.items() if plan.transfer(n)]
    by_target = [_sample(each, targets, set(languages)) for each in single]
    by_language = [_sample(plan, targets, {code}) for code in languages]
    apart = [_apart(plan, targets, code) for code in languages]
    whole = _variance(headline, _sample(plan, targets, set(languages)))
    for kind, samples, errors in (
        ("languages", by_language, apart),
        ("targets", by_target, by_target),
    ):
        if len(samples) > 1:
            effects = np.array([_interval(headline, sample)[0] for sample in samples])
            errors = np.maximum([_variance(headline, sample) for sample in errors], 1e-6)
            between = combine_effects(effects, errors, method_re="iterated").tau2
            spread = np.sqrt(whole + between / len(samples))
            half, mean = stdtrit(len(samples) - 1, 0.975) * spread, effects.mean()
            check, detail = f"{kind} as a sample", f"{len(samples)} {kind}"
            rows.append((check, detail, mean, mean - half, mean + half, "points"))
    return rows


def _apart(plan: Plan, targets: dict[str, Target], code: str) -> Sample:
    """How a language differs from the zero-shot mean, over the targets that have it."""
    having = [targets[name] for name in plan.targets if code in targets[name][1]]
    weights = [scores.mean_of({code}) - scores.mean_of(others) for scores, others in having]
    pairs = zip(having, weights, strict=True)
    return mean_over_targets([variance.sample(scores, w) for (scores, _), w in pairs])


def _variance(contrast: Contrast, sample: Sample) -> float:
    """The variance of what has this 95 % interval, taken as normal."""
    _, low, high = _interval(contrast, sample)
    return ((high - low) / (2 * ndtri(0.975))) ** 2
