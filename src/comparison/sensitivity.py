"""What the headline hangs on: the same question asked in other ways (docs/statistics.md)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from helpers.comparison import arrays, contrasts, resampling
from helpers.comparison.contrasts import Contrast
from helpers.comparison.resampling import Resampled
from helpers.comparison.samples import Sample, mean_over_targets
from helpers.study import ENGLISH, NONE, RUN

COLUMNS = ["check", "of", "estimate", "low", "high", "unit"]
_INSIDE = 0.1
"""Points from 0 and 100 at which a score is held, for its logit to be finite."""


def sensitivity(
    predictions: pd.DataFrame,
    runs: pd.DataFrame,
    planned: Iterable[tuple] = (),
    parameters: Mapping[str, float] | None = None,
    resamples: int = 4_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The headline on the logit scale, without each target and language, with these as a sample,
    and whether small and large encoders agree on the best intermediate task.

    Columns: check, of, estimate, low, high (95 %), unit. Empty where the study has no headline:
    fewer than two sizes, or a run that it needs is missing. Runs that repeat a collapsed one are
    left out, as in the headline.
    """
    table = pd.DataFrame([tuple(run) for run in planned], columns=RUN)
    grid = pd.concat([table, runs[RUN]])
    headline = contrasts.headline(contrasts.of(grid, parameters))
    if "repeats" in runs:
        runs = runs[runs["repeats"].isna()]
    there = set(runs[RUN[:3]].itertuples(index=False, name=None))
    if headline is None or set(grid[RUN[:3]].itertuples(index=False, name=None)) - there:
        return pd.DataFrame(columns=COLUMNS)
    rng, targets = np.random.default_rng(seed), {}
    for target, own in predictions.groupby("target", sort=False):
        scores = arrays.arrange(target, own, runs[runs["target"] == target])
        targets[target] = resampling.resample(scores, resamples, rng)
    languages = {code for drawn in targets.values() for code in drawn.scores.languages}
    others = sorted(languages - {ENGLISH})
    if not others:
        return pd.DataFrame(columns=COLUMNS)
    logits = _mean(_on_logits(drawn.of(_weights(drawn))) for drawn in targets.values())
    rows = [_row("logit scale", "", headline, logits, rng, "log odds")]
    rows += _leave_out(headline, targets, others, rng)
    rows += _random_effects(headline, targets, others, rng)
    rows += _ranks(list(grid["size"].unique()), _zero_shot(targets), rng)
    return pd.DataFrame(rows, columns=COLUMNS)


def _weights(drawn: Resampled, without: str = "", only: str = "") -> np.ndarray:
    """What makes the zero-shot score of a target's languages, or of some of them [languages]."""
    used = [c not in (ENGLISH, without) and only in ("", c) for c in drawn.scores.languages]
    return np.array(used) / max(1, sum(used))


def _mean(samples: Iterable[Sample]) -> Sample:
    """The mean over targets."""
    first, *others = samples
    return mean_over_targets([first, *others]) if others else first


def _zero_shot(targets: dict[str, Resampled], **languages: str) -> Sample:
    """The zero-shot score, mean over the targets that have such languages."""
    weights = [(drawn, _weights(drawn, **languages)) for drawn in targets.values()]
    return _mean(drawn.of(w) for drawn, w in weights if w.any())


def _row(check: str, of: str, contrast: Contrast, sample: Sample, rng, unit="points") -> tuple:
    weights = contrasts.aligned(contrast, sample.conditions)
    found = sample.contrast(weights, rng)
    return check, of, found["estimate"], found["low"], found["high"], unit


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
        draws=sample.draws * slope,
        seed_variance=sample.seed_variance * slope**2,
        residual=sample.residual * slope**2,
        run_scores=logit(sample.run_scores),
    )


def _leave_out(headline: Contrast, targets: dict, languages: list[str], rng) -> list[tuple]:
    rows = []
    for target in targets if len(targets) > 1 else ():
        rest = {name: drawn for name, drawn in targets.items() if name != target}
        rows.append(_row("without target", target, headline, _zero_shot(rest), rng))
    for code in languages if len(languages) > 1 else ():
        sample = _zero_shot(targets, without=code)
        rows.append(_row("without language", code, headline, sample, rng))
    return rows


def _random_effects(headline: Contrast, targets: dict, languages: list[str], rng) -> list[tuple]:
    """The headline with languages, or targets, as a sample of those that there are.

    To its own uncertainty comes the variance between them over their number, estimated as by
    DerSimonian and Laird (1986, Controlled Clinical Trials 7), with Student's t. A language's own
    sampling error is that of its difference to the mean: seeds and items are shared.
    """
    from statsmodels.stats.meta_analysis import combine_effects  # here: its import takes 0.5 s

    *_, whole_low, whole_high, _ = _row("", "", headline, _zero_shot(targets), rng)
    have = {c: [d for d in targets.values() if c in d.scores.languages] for c in languages}
    own = [_mean(d.of(_weights(d, only=c)) for d in have[c]) for c in languages]
    apart = [_mean(d.of(_weights(d, only=c) - _weights(d)) for d in have[c]) for c in languages]
    each = [_zero_shot({name: drawn}) for name, drawn in targets.items()]
    rows = []
    for name, samples, errors in (("languages", own, apart), ("targets", each, each)):
        count = len(samples)
        if count < 2:
            continue
        effects = np.array([_row("", "", headline, sample, rng)[2] for sample in samples])
        _, _, _, low, high, _ = zip(*(_row("", "", headline, e, rng) for e in errors), strict=True)
        variances = _variance(np.array(low), np.array(high))
        between = combine_effects(effects, np.maximum(variances, 1e-6), method_re="iterated").tau2
        total = _variance(whole_low, whole_high) + between / count
        half = stdtrit(count - 1, 0.975) * np.sqrt(total)
        ends = (effects.mean(), effects.mean() - half, effects.mean() + half)
        rows.append((f"{name} as a sample", f"{count} {name}", *ends, "points"))
    return rows


def _variance(low, high):
    """The variance of what has this 95 % interval, taken as normal."""
    return ((high - low) / (2 * ndtri(0.975))) ** 2


def _ranks(sizes: list[str], sample: Sample, rng) -> list[tuple]:
    """Do the first and the last size agree on which intermediate tasks are good?

    Regret is what the last size would gain more after its own best task than after the one that is
    best at the first size.
    """
    from scipy.stats import pearsonr, rankdata  # here, for their import takes half a second

    tasks = list(dict.fromkeys(task for _, task in sample.conditions if task != NONE))
    if len(sizes) < 2 or len(tasks) < 3:
        return []
    scores = np.vstack([sample.scores, sample.together(rng)])
    at = {condition: scores[:, i] for i, condition in enumerate(sample.conditions)}
    small, large = (
        np.stack([at[size, task] - at[size, NONE] for task in tasks], 1)
        for size in (sizes[0], sizes[-1])
    )
    ranks = (rankdata(gains, axis=1) for gains in (small, large))
    agreement = pearsonr(*ranks, axis=1).statistic  # of ranks: Spearman's rho
    chosen = small[0].argmax()
    regret = large.max(1) - large[:, chosen]
    over = f"{len(tasks)} tasks, {sizes[0]} and {sizes[-1]}"
    same = 100 * (small[1:].argmax(1) == large[1:].argmax(1)).mean()
    return [
        ("rank agreement", over, *_with_ends(agreement), "Spearman's rho"),
        ("same best task", over, same, np.nan, np.nan, "% of resamples"),
        ("regret of choosing by the first size", tasks[chosen], *_with_ends(regret), "points"),
    ]


def _with_ends(values) -> tuple[float, float, float]:
    """The first value, which is the estimate, and the 95 % interval of the others."""
    return values[0], *np.quantile(values[1:], [0.025, 0.975])
