"""What the headline depends on: the same question asked in other ways (docs/statistics.md)."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit
from statsmodels.stats.meta_analysis import combine_effects

from comparison import contrasts, items, variance
from comparison.contrasts import Contrast, aligned
from comparison.estimates import ANALYSES, analysed, checked
from comparison.items import ItemScores
from comparison.plan import NONE, RUN, Plan
from comparison.variance import Sample, mean_over_targets

COLUMNS = ["check", "detail", "estimate", "low", "high", "unit"]
_INSIDE = 0.1
"""Points from 0 and 100 at which a score is held, for its logit to be finite."""


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
    targets = {
        name: _Target(items.arrange(name, rows, runs[runs["target"] == name]), plan, name)
        for name, rows in predictions.groupby("target", sort=False)
    }
    languages = sorted({code for target in targets.values() for code in target.languages})
    if not all(target.languages for target in targets.values()):
        return pd.DataFrame(columns=COLUMNS)
    means = [_mean({name: target}, languages) for name, target in targets.items()]
    logits = mean_over_targets([_on_logits(mean) for mean in means])
    rows = [_row("logit scale", "", headline, logits, "log odds")]
    rows += _leave_out(headline, targets, languages, plan)
    rows += _as_a_sample(headline, targets, languages)
    return pd.DataFrame(rows, columns=COLUMNS)


class _Target:
    """One target's scores, of which zero-shot means over some languages are wanted."""

    def __init__(self, scores: ItemScores, plan: Plan, name: str) -> None:
        trained = plan.targets[name].trained_in
        self.scores = scores
        self.languages = [code for code in scores.languages if code not in trained]

    def weights(self, languages: Collection[str]) -> np.ndarray:
        """What makes the mean score of those of some languages that it has [languages]."""
        used = np.isin(self.scores.languages, [c for c in self.languages if c in languages])
        return used / max(1, used.sum())


def _mean(targets: dict[str, _Target], languages: Collection[str]) -> Sample:
    """The mean over the targets that have some of these languages."""
    weights = [(target.scores, target.weights(languages)) for target in targets.values()]
    return mean_over_targets([variance.sample(scores, w) for scores, w in weights if w.any()])


def _row(check: str, detail: str, contrast: Contrast, sample: Sample, unit="points") -> tuple:
    sums = sample.sums(aligned([contrast], sample.conditions))
    return check, detail, *(float(sums[end][0]) for end in ("estimate", "low", "high")), unit


def _on_logits(sample: Sample) -> Sample:
    """A sample of scores as one of their log odds, by the delta method."""

    def logit(points: np.ndarray) -> np.ndarray:
        inside = np.clip(points, _INSIDE, 100 - _INSIDE)
        return np.log(inside / (100 - inside))

    inside = np.clip(sample.scores, _INSIDE, 100 - _INSIDE)
    slope = 100 / (inside * (100 - inside))
    return replace(
        sample,
        scores=logit(sample.scores),
        run_scores=logit(sample.run_scores),
        item_parts=sample.item_parts * np.outer(slope, slope),
        seed_variance=sample.seed_variance * slope**2,
        residual=sample.residual * slope**2,
    )


def _leave_out(headline: Contrast, targets: dict, languages: list[str], plan: Plan) -> list[tuple]:
    rows = []
    for target in targets if len(targets) > 1 else ():
        rest = {name: scores for name, scores in targets.items() if name != target}
        rows.append(_row("without target", target, headline, _mean(rest, languages)))
    for code in languages if len(languages) > 1 else ():
        rest = [other for other in languages if other != code]
        rows.append(_row("without language", code, headline, _mean(targets, rest)))
    baseline = {size: -weight for (size, task), weight in headline.weights.items() if task == NONE}
    for task in plan.tasks if len(plan.tasks) > 1 else ():
        rest = [name for name in plan.tasks if name != task]
        fewer = headline._replace(weights=contrasts.over_tasks(baseline, rest))
        rows.append(_row("without intermediate task", task, fewer, _mean(targets, languages)))
    return rows


def _as_a_sample(headline: Contrast, targets: dict, languages: list[str]) -> list[tuple]:
    """The headline with languages, or targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87), with
    Student's t. A language's own sampling error is that of its difference to the mean: seeds and
    items are shared.
    """
    whole = _row("", "", headline, _mean(targets, languages))
    apart = []
    for code in languages:
        having = [target for target in targets.values() if code in target.languages]
        weights = [target.weights([code]) - target.weights(languages) for target in having]
        samples = [variance.sample(t.scores, w) for t, w in zip(having, weights, strict=True)]
        apart.append(mean_over_targets(samples))
    by_language = [_mean(targets, [code]) for code in languages]
    by_target = [_mean({name: target}, languages) for name, target in targets.items()]
    rows = []
    kinds = (("languages", by_language, apart), ("targets", by_target, by_target))
    for name, samples, errors in kinds:
        count = len(samples)
        if count < 2:
            continue
        effects = np.array([_row("", "", headline, sample)[2] for sample in samples])
        variances = np.array([_variance(_row("", "", headline, error)) for error in errors])
        between = combine_effects(effects, np.maximum(variances, 1e-6), method_re="iterated").tau2
        half = stdtrit(count - 1, 0.975) * np.sqrt(_variance(whole) + between / count)
        ends = (effects.mean(), effects.mean() - half, effects.mean() + half)
        rows.append((f"{name} as a sample", f"{count} {name}", *ends, "points"))
    return rows


def _variance(row: tuple) -> float:
    """The variance of what has this 95 % interval, taken as normal."""
    return ((row[4] - row[3]) / (2 * ndtri(0.975))) ** 2
