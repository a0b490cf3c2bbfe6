"""Whether a training learned more than the majority class."""

from scipy.stats import binomtest

COLLAPSE_ALPHA = 0.05


def is_collapsed(score: float, n: int, majority: float) -> bool:
    """Whether a run is no better than always naming the majority class, from English validation data alone.

    A one-sided exact binomial test of `score` (points, over `n` items) against `majority` (points) that does not
    reject at COLLAPSE_ALPHA. Scores that are no counts (F1) are rounded to the nearest count.
    """
    correct = round(score / 100 * n)
    return bool(
        binomtest(correct, n, majority / 100, alternative="greater").pvalue > COLLAPSE_ALPHA
    )
