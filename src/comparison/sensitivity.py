"""What the headline depends on: the same question asked in other ways (docs/statistics.md)."""

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
_DRAWS = 4_000


def sensitivity(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """The headline on the logit scale, without each target, language and task, and with languages
    and targets as a sample; and how surely the smallest size's best task is the largest's too.

    Columns: check, detail, estimate, low, high (95 %), unit. Empty where the study has no headline:
    no gain, or a run that it needs is missing. Runs that repeat a collapsed one are left out, as in
    the headline.
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
    if not languages:
        return pd.DataFrame(columns=COLUMNS)
    logits = mean_over_targets([_on_logits(target.sample()) for target in targets.values()])
    rows = [_row("logit scale", "", headline, logits, "log odds")]
    rows += _leave_out(headline, targets, languages, plan)
    rows += _random_effects(headline, targets, languages)
    rows += _best_task(list(plan.sizes), _mean(targets))
    return pd.DataFrame(rows, columns=COLUMNS)


class _Target:
    """One target's scores, of which zero-shot means over some languages are wanted."""

    def __init__(self, scores: ItemScores, plan: Plan, name: str) -> None:
        trained = plan.targets[name].trained_in
        self.scores = scores
        self.languages = [code for code in scores.languages if code not in trained]

    def weights(self, without: str = "", only: str = "") -> np.ndarray:
        """What makes the zero-shot score of the languages, or of some of them [languages]."""
        used = [code for code in self.languages if code != without and only in ("", code)]
        return np.isin(self.scores.languages, used) / max(1, len(used))

    def sample(self, **languages: str) -> Sample:
        return variance.sample(self.scores, self.weights(**languages))


def _mean(targets: dict[str, _Target], **languages: str) -> Sample:
    """The zero-shot score, mean over the targets that have such languages."""
    some = [target for target in targets.values() if target.weights(**languages).any()]
    return mean_over_targets([target.sample(**languages) for target in some])


def _row(check: str, detail: str, contrast: Contrast, sample: Sample, unit="points") -> tuple:
    sums = sample.sums(aligned([contrast], sample.conditions))
    return check, detail, *(float(sums[end][0]) for end in ("estimate", "low", "high")), unit


def _on_logits(sample: Sample) -> Sample:
    """A sample of scores as one of their log odds."""

    def logit(points: np.ndarray) -> np.ndarray:
        inside = np.clip(points, _INSIDE, 100 - _INSIDE)
        return np.log(inside / (100 - inside))

    inside = np.clip(sample.scores, _INSIDE, 100 - _INSIDE)
    slope = 100 / (inside * (100 - inside))
    return sample.rescaled(logit(sample.scores), logit(sample.run_scores), slope)


def _leave_out(headline: Contrast, targets: dict, languages: list[str], plan: Plan) -> list[tuple]:
    rows = []
    for target in targets if len(targets) > 1 else ():
        rest = {name: scores for name, scores in targets.items() if name != target}
        if any(scores.languages for scores in rest.values()):
            rows.append(_row("without target", target, headline, _mean(rest)))
    for code in languages if len(languages) > 1 else ():
        rows.append(_row("without language", code, headline, _mean(targets, without=code)))
    baseline = {size: -weight for (size, task), weight in headline.weights.items() if task == NONE}
    for task in plan.tasks if len(plan.tasks) > 1 else ():
        rest = [name for name in plan.tasks if name != task]
        fewer = headline._replace(weights=contrasts.over_tasks(baseline, rest))
        rows.append(_row("without intermediate task", task, fewer, _mean(targets)))
    return rows


def _random_effects(headline: Contrast, targets: dict, languages: list[str]) -> list[tuple]:
    """The headline with languages, or targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87), with
    Student's t. A language's own sampling error is that of its difference to the mean: seeds and
    items are shared.
    """
    *_, whole_low, whole_high, _ = _row("", "", headline, _mean(targets))
    one_each, apart = [], []
    for code in languages:
        having = [target for target in targets.values() if code in target.languages]
        one_each.append(mean_over_targets([target.sample(only=code) for target in having]))
        differences = [(t.scores, t.weights(only=code) - t.weights()) for t in having]
        apart.append(mean_over_targets([variance.sample(*each) for each in differences]))
    by_target = [target.sample() for target in targets.values() if target.languages]
    rows = []
    for name, samples, errors in (
        ("languages", one_each, apart),
        ("targets", by_target, by_target),
    ):
        count = len(samples)
        if count < 2:
            continue
        effects = np.array([_row("", "", headline, sample)[2] for sample in samples])
        low, high = np.array([_row("", "", headline, error)[3:5] for error in errors]).T
        variances = np.maximum(_variance(low, high), 1e-6)
        between = combine_effects(effects, variances, method_re="iterated").tau2
        half = stdtrit(count - 1, 0.975) * np.sqrt(
            _variance(whole_low, whole_high) + between / count
        )
        mean = effects.mean()
        rows.append(
            (f"{name} as a sample", f"{count} {name}", mean, mean - half, mean + half, "points")
        )
    return rows


def _variance(low, high):
    """The variance of what has this 95 % interval, taken as normal."""
    return ((high - low) / (2 * ndtri(0.975))) ** 2


def _best_task(sizes: list[str], sample: Sample) -> list[tuple]:
    """In how many draws from the scores' covariance is one task best at both ends?"""
    tasks = list(dict.fromkeys(task for _, task in sample.conditions if task != NONE))
    if len(sizes) < 2 or len(tasks) < 2:
        return []
    covariance = sample.item_parts.sum(0) + np.diag(sample.seed_variance / sample.seeds)
    draws = np.random.default_rng(0).multivariate_normal(
        sample.scores, covariance, _DRAWS, method="eigh"
    )
    at = {condition: column for condition, column in zip(sample.conditions, draws.T, strict=True)}
    small, large = (
        np.argmax([at[size, task] for task in tasks], axis=0) for size in (sizes[0], sizes[-1])
    )
    share = 100 * (small == large).mean()
    detail = f"{len(tasks)} tasks, {sizes[0]} and {sizes[-1]}"
    return [("same best task", detail, share, np.nan, np.nan, "% of draws")]
