"""What the headline depends on: the same question asked in other ways (docs/statistics.md)."""

from collections.abc import Iterator
from dataclasses import replace

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
_INSIDE = (0.1, 99.9)
"""Points between which a score is held, for its logit to be finite."""
Target = tuple[ItemScores, set[str]]
"""A target's scores, and the languages that it was not trained in."""


def sensitivity(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """The headline on the logit scale, without each target, language and task, and with languages
    and targets as a sample.

    Columns: check, detail, estimate, low, high (95 %), unit. Empty where the study has no headline:
    no gain, or a run that it needs is missing. Runs that repeat a collapsed one are left out.
    """
    runs, plan = checked(predictions, runs, plan)
    headline = contrasts.headline(contrasts.of(plan))
    runs, predictions = analysed(ANALYSES[0], predictions, runs)
    there = set(runs[RUN[:3]].itertuples(index=False, name=None))
    if headline is None or {run[:3] for run in plan.runs} - there:
        return pd.DataFrame(columns=COLUMNS)
    targets = {}
    for name, rows in predictions.groupby("target", sort=False):
        scores = items.arrange(name, rows, runs[runs["target"] == name])
        targets[name] = scores, set(scores.languages) - {*plan.targets[name].trained_in}
    if not all(languages for _, languages in targets.values()):
        return pd.DataFrame(columns=COLUMNS)
    every = list(targets.values())
    languages = set.union(*(others for _, others in every))
    by_target = [_mean([target], languages) for target in every]
    by_language = [_mean(every, {code}) for code in sorted(languages)]
    whole, apart = mean_over_targets(by_target), [_apart(every, c) for c in sorted(languages)]
    logits = mean_over_targets([_on_logits(sample) for sample in by_target])
    rows = [("logit scale", "", *_interval(headline, logits), "log odds")]
    for check, detail, contrast, sample in _left_out(headline, targets, languages, plan):
        rows.append((check, detail, *_interval(contrast, sample), "points"))
    kinds = (("languages", by_language, apart), ("targets", by_target, by_target))
    for kind, samples, errors in kinds:
        if len(samples) > 1:
            ends = _as_a_sample(headline, whole, samples, errors)
            rows.append((f"{kind} as a sample", f"{len(samples)} {kind}", *ends, "points"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _mean(targets: list[Target], languages: set[str]) -> Sample:
    """The zero-shot mean over some languages, of the targets that have one of them."""
    having = [(scores, others & languages) for scores, others in targets if others & languages]
    return mean_over_targets([variance.sample(s, s.mean_of(codes)) for s, codes in having])


def _apart(targets: list[Target], code: str) -> Sample:
    """How a language differs from the zero-shot mean, over the targets that have it."""
    having = [(scores, others) for scores, others in targets if code in others]
    weights = [scores.mean_of({code}) - scores.mean_of(others) for scores, others in having]
    pairs = zip(having, weights, strict=True)
    return mean_over_targets([variance.sample(scores, w) for (scores, _), w in pairs])


def _interval(contrast: Contrast, sample: Sample) -> list[float]:
    """Estimate, low and high."""
    sums = sample.sums(aligned([contrast], sample.conditions))
    return [float(sums[end][0]) for end in ("estimate", "low", "high")]


def _on_logits(sample: Sample) -> Sample:
    """A sample of scores as one of their log odds, by the delta method."""
    scores = np.clip(sample.scores, *_INSIDE)
    slope = 100 / (scores * (100 - scores))
    return replace(
        sample,
        scores=logit(scores / 100),
        run_scores=logit(np.clip(sample.run_scores, *_INSIDE) / 100),
        item_parts=sample.item_parts * np.outer(slope, slope),
        seed_variance=sample.seed_variance * slope**2,
        residual=sample.residual * slope**2,
    )


def _left_out(headline: Contrast, targets: dict, languages: set[str], plan: Plan) -> Iterator:
    """(check, what is left out, contrast, sample), where something remains."""
    for name in targets if len(targets) > 1 else ():
        rest = [target for other, target in targets.items() if other != name]
        yield "without target", name, headline, _mean(rest, languages)
    every = list(targets.values())
    for code in sorted(languages) if len(languages) > 1 else ():
        yield "without language", code, headline, _mean(every, languages - {code})
    baseline = {size: -weight for (size, task), weight in headline.weights.items() if task == NONE}
    for task in plan.tasks if len(plan.tasks) > 1 else ():
        rest = [name for name in plan.tasks if name != task]
        fewer = headline._replace(weights=contrasts.over_tasks(baseline, rest))
        yield "without intermediate task", task, fewer, _mean(every, languages)


def _as_a_sample(headline: Contrast, whole: Sample, samples: list[Sample], errors: list[Sample]):
    """The headline with languages, or targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87), with
    Student's t. `errors` have the sampling error of each: a language's is that of its difference
    to the mean, for seeds and items are shared.
    """
    from statsmodels.stats.meta_analysis import combine_effects  # here: it is slow to import

    effects = np.array([_interval(headline, sample)[0] for sample in samples])
    variances = np.array([_variance(headline, sample) for sample in errors])
    between = combine_effects(effects, np.maximum(variances, 1e-6), method_re="iterated").tau2
    spread = _variance(headline, whole) + between / len(samples)
    half = stdtrit(len(samples) - 1, 0.975) * np.sqrt(spread)
    return effects.mean(), effects.mean() - half, effects.mean() + half


def _variance(contrast: Contrast, sample: Sample) -> float:
    """The variance of what has this 95 % interval, taken as normal."""
    _, low, high = _interval(contrast, sample)
    return ((high - low) / (2 * ndtri(0.975))) ** 2
