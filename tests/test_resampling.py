"""The resampling core keeps its promises in simulated studies whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.comparison import arrays, resampling, samples
from helpers.comparison.arrays import Block, ItemScores
from intervals import CASES, Case, draw_noise, draw_target, rates
from scipy.stats import bootstrap, permutation_test

from helpers.study import StudyError

CONDITIONS = [(size, task) for size in ("base", "large") for task in ("none", "nli", "qa")]
GAIN = np.array([-1.0, 1, 0, 0, 0, 0])
SCALE = np.array([1.0, -1, 0, -1, 1, 0])
LANGUAGES = ["en", "de", "sw"]


def draw_scores(rng, seeds: int, items: int = 120, seed_sd: float = 1.0) -> ItemScores:
    """A target without effects, two sizes and two intermediate tasks."""
    case = Case(tasks=2, seeds=(seeds, seeds), items=items, sd=(seed_sd, seed_sd))
    return draw_target(case, CONDITIONS, draw_noise(case, CONDITIONS, rng), rng)


def scores_of(credit: np.ndarray, seeds: int, out_of: np.ndarray | None = None) -> ItemScores:
    out_of = np.ones((*credit.shape[:2], 1), np.float32) if out_of is None else out_of
    runs = [(*condition, seed) for condition in CONDITIONS for seed in range(seeds)]
    items = np.ones(credit.shape[:2])
    languages = LANGUAGES[: credit.shape[1]]
    return ItemScores(languages, runs, [Block(np.arange(len(languages)), credit, out_of, items)])


def judge(scores: ItemScores, weights, rng, estimand=("score", "zero-shot"), resamples=300):
    sample = resampling.resample(scores, resamples, rng).of(scores.estimands[estimand])
    contrasts = {k: (estimand, w) for k, w in enumerate(weights)}
    flips = resampling.swap(scores, contrasts, resamples, rng)
    found = [sample.contrast(w, rng, flips[k]) for k, w in enumerate(weights)]
    return [[one[name] for name in ("estimate", "low", "high", "p")] for one in found]


@pytest.mark.parametrize("name", CASES)
def test_intervals_cover_the_truth_and_no_effect_is_seldom_found(name):
    """A fast part of `benchmarks/intervals.py`, whose table is docs/coverage.md."""
    found = rates(CASES[name], studies=300)
    assert min(found["headline"], found["gain"]) >= 91.5, found
    if not CASES[name].effect:
        assert max(found["found"], found["gain found"]) <= 8, found


def test_a_passage_is_resampled_whole_whatever_its_language_calls_it():
    """Five questions a passage that stand or fall together are one item, not five."""
    ids = [str(i) for i in range(100)]
    predictions, runs = table({"en": ids, "de": ids})
    passage = (predictions["id"].astype(int) // 5).astype(str)
    together = predictions.assign(group=predictions["language"] + passage)
    half = together.assign(group=together["group"].where(together["language"] == "de"))
    for grouped in (together, half):
        (block,) = arrays.arrange("t", grouped, runs).blocks
        assert block.credit.shape[:2] == (20, 2) and (block.items == 5).all()
        sample = zero_shot(arrays.arrange("t", grouped, runs), 50, np.random.default_rng(0))
        assert sample.items == 100
    (alone,) = arrays.arrange("t", predictions, runs).blocks
    assert alone.run_scores == pytest.approx(block.run_scores)


def test_a_language_with_few_items_leaves_no_interval_empty():
    ids = [str(i) for i in range(50)]
    predictions, runs = table({"en": ids, "de": ids, "sw": ids[:2]})
    scores = arrays.arrange("t", predictions, runs)
    (block,) = scores.blocks
    assert block.items.sum(0).tolist() == [50, 50, 2]
    drawn = resampling.resample(scores, 500, np.random.default_rng(0))
    assert np.isfinite(drawn.draws).all()


def test_the_baseline_has_a_seed_variance_of_its_own():
    rng = np.random.default_rng(0)
    runs = [(*condition, seed) for condition in CONDITIONS for seed in range(3)]
    points = np.where([task == "none" for _, task, _ in runs], 5.0, 0.5) * rng.standard_normal(18)
    variance, freedom = samples.pooled(points, runs, CONDITIONS)
    assert (variance[[0, 3]] > 4 * variance[[1, 4]]).all() and variance[1] == variance[2]
    assert freedom.tolist() == [2, 4, 4, 2, 4, 4]


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
    assert high - low > 2 * 1.9 * np.sqrt(2) * samples.ASSUMED_SEED_SD


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
    drawn = resampling.resample(scores_of(credit, 1, out_of), 5000, np.random.default_rng(0))
    sample = drawn.of(np.array([1.0]))
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
        spreads.append(zero_shot(scores, 2000, np.random.default_rng(0)).draws.std())
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


def zero_shot(scores: ItemScores, resamples: int, rng) -> samples.Sample:
    drawn = resampling.resample(scores, resamples, rng)
    return drawn.of(scores.estimands["score", "zero-shot"])


def test_targets_of_one_seed_share_their_noise():
    """Of two targets that move together, the mean is surer of its items, not of its seeds."""
    rng = np.random.default_rng(0)
    sample = zero_shot(draw_scores(rng, 3, items=2000, seed_sd=3.0), 500, rng)
    mean = samples.mean_over_targets([sample, sample])
    assert mean.scores == pytest.approx(sample.scores)
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert mean.residual == pytest.approx(sample.residual / 2)
    other = zero_shot(draw_scores(rng, 3, items=2000, seed_sd=3.0), 500, rng)
    assert samples.mean_over_targets([sample, other]).draws.std() < 0.9 * sample.draws.std()


def test_a_mean_over_targets_without_common_seeds_is_no_surer_than_one():
    rng = np.random.default_rng(0)
    sample = zero_shot(draw_scores(rng, 2), 100, rng)
    later = replace(sample, runs=[(*condition, seed + 10) for *condition, seed in sample.runs])
    mean = samples.mean_over_targets([sample, later])
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert (mean.freedom == sample.freedom).all()
