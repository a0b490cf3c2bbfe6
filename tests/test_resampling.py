"""The resampling core keeps its promises in simulated studies whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm, permutation_test

from helpers.comparison import arrays, resampling
from helpers.comparison.arrays import Block, ItemScores
from helpers.study import StudyError

CONDITIONS = [(size, task) for size in ("base", "large") for task in ("none", "nli", "qa")]
GAIN = np.array([-1.0, 1, 0, 0, 0, 0])
SCALE = np.array([1.0, -1, 0, -1, 1, 0])
LANGUAGES = ["en", "de", "sw"]


def draw_scores(
    rng,
    seeds: int,
    items: int = 120,
    effect: float = 0.0,
    seed_sd: float = 1.0,
    heterogeneity: float = 0.3,
):
    """A study of three languages. True scores 60 and 70, plus `effect` after nli at large; seed
    noise in points, half of its variance shared by languages, its SD log-normal over conditions.
    Items are parallel over languages and as difficult for all conditions (30 % of the variance;
    20 % item by language, 15 % item by condition)."""
    shape = (items, len(LANGUAGES), len(CONDITIONS), seeds)
    true = np.repeat([60.0, 70.0], 3)
    true[4] += effect
    sd = seed_sd * np.exp(heterogeneity * rng.standard_normal((len(CONDITIONS), 1)))
    noise = sd * np.sqrt(0.5) * (rng.standard_normal(shape[2:]) + rng.standard_normal(shape[1:]))
    latent = np.sqrt(0.35) * rng.standard_normal(shape, dtype=np.float32)
    for part, over in ((0.3, (items, 1, 1, 1)), (0.2, (*shape[:2], 1, 1)), (0.15, (*shape[:3], 1))):
        latent += np.sqrt(part) * rng.standard_normal(over, dtype=np.float32)
    correct = latent < norm.ppf((true[:, None] + noise) / 100)
    return scores_of(correct.reshape(items, len(LANGUAGES), -1).astype(np.float32), seeds)


def scores_of(credit: np.ndarray, seeds: int, out_of: np.ndarray | None = None) -> ItemScores:
    out_of = np.ones((*credit.shape[:2], 1), np.float32) if out_of is None else out_of
    runs = [(*condition, seed) for condition in CONDITIONS for seed in range(seeds)]
    languages = LANGUAGES[: credit.shape[1]]
    return ItemScores(languages, runs, [Block(np.arange(len(languages)), credit, out_of)])


def judge(scores: ItemScores, weights, rng, estimand=("score", "zero-shot"), resamples=300):
    sample = resampling.sample(scores, resamples, rng)[estimand]
    contrasts = {k: (estimand, w) for k, w in enumerate(weights)}
    flips = resampling.swap(scores, contrasts, resamples, rng)
    return [sample.contrast(w, rng, flips[k]) for k, w in enumerate(weights)]


@pytest.mark.parametrize(("seeds", "effect"), [(2, 0.0), (3, 0.0), (2, 4.0)])
def test_intervals_cover_the_truth_and_no_effect_is_seldom_found(seeds, effect):
    rng = np.random.default_rng(seeds)
    weights, truth = [GAIN, SCALE], np.array([0.0, effect])
    studies = [judge(draw_scores(rng, seeds, effect=effect), weights, rng) for _ in range(1000)]
    _, low, high, p = np.array(studies).transpose(2, 0, 1)
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert ((covered >= 0.93) & (covered <= 0.97)).all(), covered
    found = (p < 0.05).mean(0)[truth == 0]
    assert ((found >= 0.03) & (found <= 0.07)).all(), found


def deterministic(seeds: int, items: int = 60, languages: int = 1):
    """Runs that do not depend on the seed: only items are uncertain."""
    rng = np.random.default_rng(1)
    one = (
        rng.random((items, languages, len(CONDITIONS), 1))
        < np.linspace(0.5, 0.75, len(CONDITIONS))[:, None]
    ) * 1.0
    credit = np.repeat(one, seeds, axis=3).reshape(items, languages, -1).astype(np.float32)
    return one[..., 0], scores_of(credit, seeds)


def test_without_seed_noise_the_p_value_is_that_of_the_paired_permutation_test():
    one, scores = deterministic(seeds=3)
    (estimate, _, _, p), *_ = judge(
        scores, [GAIN], np.random.default_rng(0), ("score", "en"), 20_000
    )
    difference = one[:, 0] @ GAIN * 100
    expected = permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert estimate == pytest.approx(difference.mean())
    assert p == pytest.approx(expected.pvalue, abs=0.015)


def test_without_seed_noise_the_interval_is_the_paired_bootstrap():
    one, scores = deterministic(seeds=2)
    (_, low, high, _), *_ = judge(scores, [GAIN], np.random.default_rng(0), ("score", "en"), 20_000)
    difference = one[:, 0] @ GAIN * 100
    expected = bootstrap(
        (difference,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert (low, high) == pytest.approx(expected.confidence_interval, abs=0.7)


def test_one_seed_never_means_no_seed_noise():
    _, once = deterministic(seeds=1)
    _, twice = deterministic(seeds=2)
    widths = [
        judge(c, [GAIN], np.random.default_rng(0), ("score", "en"), 4000)[0] for c in (once, twice)
    ]
    (_, low, high, _), (_, low_twice, high_twice, _) = widths
    assert high - low > high_twice - low_twice
    assert high - low > 2 * 1.9 * np.sqrt(2) * resampling.ASSUMED_SEED_SD


def test_two_seeds_give_wider_intervals_than_five_of_the_same_spread():
    rng = np.random.default_rng(0)
    base = rng.random((400, 1, 1)) * np.ones((1, 1, len(CONDITIONS)))

    def width(seeds):
        shift = np.resize([-0.02, 0.02], seeds)
        credit = (base[..., None] < 0.6 + shift).reshape(400, 1, -1).astype(np.float32)
        _, low, high, _ = judge(
            scores_of(credit, seeds), [SCALE], np.random.default_rng(0), ("score", "en"), 4000
        )[0]
        return high - low

    assert width(2) > 1.5 * width(4)


def test_scores_that_are_ratios_are_resampled_as_ratios():
    rng = np.random.default_rng(3)
    out_of = rng.integers(1, 9, (80, 1, len(CONDITIONS))).astype(np.float32)
    credit = rng.binomial(out_of.astype(int), 0.6).astype(np.float32)
    samples = resampling.sample(scores_of(credit, 1, out_of), 5000, np.random.default_rng(0))
    sample = samples["score", "en"]
    assert sample.scores == pytest.approx(100 * credit[:, 0].sum(0) / out_of[:, 0].sum(0))
    expected = bootstrap(
        (credit[:, 0, 0], out_of[:, 0, 0]),
        lambda c, o, axis: 100 * c.sum(axis) / o.sum(axis),
        paired=True,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert sample.draws[:, 0].std() == pytest.approx(expected.standard_error, rel=0.06)


def table(ids_of: dict[str, list[str]], seeds=(1, 2)) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    difficulty = {i: rng.random() for ids in ids_of.values() for i in ids}
    runs = pd.DataFrame(
        [(size, task, seed) for size, task in CONDITIONS for seed in seeds],
        columns=["size", "intermediate", "seed"],
    )
    rows = [
        (*run, language, i, float(difficulty[i] < 0.6), 1.0)
        for run in runs.itertuples(index=False)
        for language, ids in ids_of.items()
        for i in ids
    ]
    columns = ["size", "intermediate", "seed", "language", "id", "credit", "out_of"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0), runs


def test_parallel_items_are_resampled_together_and_others_apart():
    ids = [str(i) for i in range(100)]
    together = arrays.arrange("t", *table({"en": ids, "de": ids, "sw": ids}))
    apart = arrays.arrange("t", *table({"en": ids, "de": ids, "sw": [f"sw{i}" for i in ids]}))
    assert [list(b.at) for b in together.blocks] == [[0, 1, 2]]
    assert sorted(list(b.at) for b in apart.blocks) == [[0, 1], [2]]
    spreads = []
    for scores in (together, apart):
        samples = resampling.sample(scores, 2000, np.random.default_rng(0))
        spreads.append(samples["score", "zero-shot"].draws.std())
    assert spreads[0] > 1.2 * spreads[1]


def test_runs_on_other_items_are_refused():
    ids = [str(i) for i in range(10)]
    predictions, runs = table({"en": ids, "de": ids})
    last = (
        (predictions["size"] == "large")
        & (predictions["intermediate"] == "qa")
        & (predictions["seed"] == 2)
    )
    without = predictions[~(last & (predictions["language"] == "de") & (predictions["id"] == "3"))]
    with pytest.raises(
        StudyError,
        match=r"large/qa/xnli/seed-2: language de: found 9 items; expected the target's 10",
    ):
        arrays.arrange("xnli", without, runs)
    with pytest.raises(StudyError, match="each once"):
        arrays.arrange("xnli", pd.concat([predictions, predictions[last]]), runs)


def zero_shot(scores: ItemScores, resamples: int, rng) -> resampling.Sample:
    return resampling.sample(scores, resamples, rng)["score", "zero-shot"]


def test_targets_of_one_seed_share_their_noise():
    """Of two targets that move together, the mean is surer of its items, not of its seeds."""
    rng = np.random.default_rng(0)
    sample = zero_shot(draw_scores(rng, 3, items=2000, seed_sd=3.0), 500, rng)
    mean = resampling.mean_over_targets([sample, sample])
    assert mean.scores == pytest.approx(sample.scores)
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert mean.residual == pytest.approx(sample.residual / 2)
    other = zero_shot(draw_scores(rng, 3, items=2000, seed_sd=3.0), 500, rng)
    assert resampling.mean_over_targets([sample, other]).draws.std() < 0.9 * sample.draws.std()


def test_a_mean_over_targets_without_common_seeds_is_no_surer_than_one():
    rng = np.random.default_rng(0)
    sample = zero_shot(draw_scores(rng, 2), 100, rng)
    later = replace(sample, runs=[(*condition, seed + 10) for *condition, seed in sample.runs])
    mean = resampling.mean_over_targets([sample, later])
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert (mean.freedom == sample.freedom).all()
