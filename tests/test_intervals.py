"""Intervals and p-values keep their promises, in small cases by hand and in simulated studies."""

from dataclasses import replace
from itertools import compress

import numpy as np
import pandas as pd
import pytest
from intervals import CASES, Case, draw_noise, draw_target, rates
from scipy import stats

from comparison import ComparisonError, Plan, effects, items, sensitivity, variance

CONDITIONS = [(size, task) for size in ("base", "large") for task in ("none", "nli", "qa")]
GAIN = np.array([[-1.0, 1, 0, 0, 0, 0]])


def table(credits: dict, out_of=1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and runs of {(intermediate, seed): {language: credits}}, at one size."""
    rows = [
        ("base", task, "t", seed, language, str(i), credit)
        for (task, seed), languages in credits.items()
        for language, answers in languages.items()
        for i, credit in enumerate(answers)
    ]
    columns = ["size", "intermediate", "target", "seed", "language", "id", "credit"]
    predictions = pd.DataFrame(rows, columns=columns).assign(out_of=out_of)
    return predictions, predictions[columns[:4]].drop_duplicates()


def gain_of(predictions, runs, language="de") -> pd.Series:
    rows = effects(predictions, runs)
    return rows[(rows["quantity"] == "gain") & (rows["language"] == language)].iloc[0]


def draw(seeds: int, items: int = 120, seed_sd: float = 1.0, random_seed: int = 0):
    """A target without effects, two sizes and two intermediate tasks."""
    rng = np.random.default_rng(random_seed)
    case = Case(tasks=2, seeds=(seeds, seeds), items=items, sd=(seed_sd, seed_sd))
    return draw_target(case, CONDITIONS, draw_noise(case, CONDITIONS, rng), rng)


def zero_shot(scores: items.ItemScores) -> variance.Sample:
    return variance.sample(scores, scores.estimands(("en",))["score", "zero-shot"])


@pytest.mark.parametrize("name", CASES)
def test_intervals_cover_the_truth_and_no_effect_is_seldom_found(name):
    """A fast part of `benchmarks/intervals.py`, whose table is docs/coverage.md."""
    shares = rates(CASES[name], studies=300)
    assert min(shares["headline"], shares["gain"]) >= 91.5, shares
    if not CASES[name].effect:
        assert max(shares["found"], shares["gain found"]) <= 8, shares


def test_where_runs_do_not_vary_the_gain_is_tested_as_by_the_paired_t_test():
    rng = np.random.default_rng(1)
    none, qa = rng.random((2, 60)) < [[0.5], [0.7]]
    both = {seed: (none * 1.0, qa * 1.0) for seed in (1, 2, 3)}
    credits = {("none", seed): {"de": pair[0]} for seed, pair in both.items()}
    credits |= {("qa", seed): {"de": pair[1]} for seed, pair in both.items()}
    row = gain_of(*table(credits))
    expected = stats.ttest_rel(100.0 * qa, 100.0 * none)
    assert row["estimate"] == pytest.approx(100 * (qa.mean() - none.mean()))
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-3)
    ends = expected.confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high), rel=1e-3)


def test_where_items_do_not_differ_the_gain_is_tested_as_by_welchs_t_test():
    """All items of a run earn the same part of a point, so only seeds are uncertain."""
    none, qa = [0.50, 0.53, 0.49, 0.52], [0.58, 0.56, 0.60]
    credits = {("none", seed): {"de": [share] * 50} for seed, share in enumerate(none)}
    credits |= {("qa", seed): {"de": [share] * 50} for seed, share in enumerate(qa)}
    row = gain_of(*table(credits))
    expected = stats.ttest_ind(100 * np.array(qa), 100 * np.array(none), equal_var=False)
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-3)
    ends = expected.confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high), rel=1e-3)


def test_a_gains_interval_as_a_share_of_the_headroom_is_the_baselines_by_the_delta_method():
    """100 (1 - 25 / (100 - x)) has the slope 100 * 25 / (100 - x)^2; here the baseline x varies."""
    credits = {("none", k): {"de": [x] * 50} for k, x in enumerate([0.50, 0.53, 0.49, 0.52])}
    credits |= {("qa", k): {"de": [0.75] * 50} for k in range(4)}
    row = sensitivity(*table(credits)).set_index("check").loc["share of the headroom"]
    gain = gain_of(*table(credits))
    expected = (gain["high"] - gain["low"]) * 100 * 25 / (100 - 51) ** 2
    assert row["high"] - row["low"] == pytest.approx(expected, rel=1e-3)


def test_languages_as_a_sample_add_their_variance_and_not_the_noise_that_they_share():
    gains, noise = {"de": 0.1, "fr": 0.2, "sw": 0.4}, [-0.05, 0.0, 0.05]
    credits = {("none", k): {code: [0.4] * 50 for code in gains} for k in range(3)}
    for k, shift in enumerate(noise):
        credits["qa", k] = {code: [0.4 + gain + shift] * 50 for code, gain in gains.items()}
    row = sensitivity(*table(credits)).set_index("check").loc["languages as a sample"]
    mean = gain_of(*table(credits), language="zero-shot")
    own = (mean["high"] - mean["low"]) / 2 / stats.norm.ppf(0.975)
    spread = np.hypot(own, np.std([10, 20, 40], ddof=1) / np.sqrt(3))
    assert row["high"] - row["estimate"] == pytest.approx(stats.t(2).ppf(0.975) * spread, rel=1e-3)


def test_half_widths_add_in_quadrature_and_p_is_where_the_interval_touches_zero():
    sample = zero_shot(draw(3))
    sums = sample.sums(GAIN)
    item = replace(sample, seed_variance=0 * sample.seed_variance).sums(GAIN)
    no_items = replace(sample, item_parts=0 * sample.item_parts)
    half = [(each["high"] - each["low"])[0] / 2 for each in (sums, item, no_items.sums(GAIN))]
    assert half[0] == pytest.approx(np.hypot(half[1], half[2]))
    for shift in np.linspace(-12, 12, 13):
        moved = replace(sample, scores=sample.scores + shift * GAIN[0]).sums(GAIN)
        assert (moved["p"][0] < 0.05) == (moved["low"][0] > 0 or moved["high"][0] < 0)
        assert (moved["p"][0] < 0.10) == (moved["low_90"][0] > 0 or moved["high_90"][0] < 0)


def test_the_item_by_seed_part_is_counted_once():
    """Noise of single answers is in the variance of items and in that between runs. Where there is
    nothing else, all of the first is subtracted."""
    rng = np.random.default_rng(0)
    credits = {
        (task, k): {"de": rng.random(400) < 0.5} for task in ("none", "qa") for k in range(9)
    }
    sample = zero_shot(items.arrange("t", *table(credits)))
    truth = 100**2 * 0.25 / 400 / 9
    assert sample.item_parts[0].diagonal() == pytest.approx([truth, truth], rel=0.2)
    assert sample.residual / sample.seeds == pytest.approx([truth, truth], rel=0.1)


def test_a_passage_is_one_unit_whatever_its_language_calls_it():
    """Five questions a passage that stand or fall together are one draw, not five."""
    rng = np.random.default_rng(0)
    answers = np.repeat(rng.random(20) < 0.5, 5)
    credits = {(t, 1): {"en": answers, "de": answers} for t in ("none", "qa")}
    predictions, runs = table(credits)
    passage = (predictions["id"].astype(int) // 5).astype(str)
    together = predictions.assign(group=predictions["language"] + passage)
    half = together.assign(group=together["group"].where(together["language"] == "de"))
    for grouped in (together, half):
        scores = items.arrange("t", grouped, runs)
        assert len(np.unique(scores.unit)) == 20 and set(scores.items) == {5}
        assert zero_shot(scores).items == 100
    alone, grouped = (zero_shot(items.arrange("t", each, runs)) for each in (predictions, together))
    assert grouped.scores == pytest.approx(alone.scores)
    ratio = grouped.item_parts[0, 0, 0] / alone.item_parts[0, 0, 0]
    assert ratio == pytest.approx(5 * 99 / 95)
    assert (grouped.item_freedom[0], alone.item_freedom[0]) == pytest.approx((19, 99))


def test_degrees_of_freedom_are_those_of_the_language_with_few_items():
    answers = np.random.default_rng(0).random((3, 200)) < 0.5
    credits = {("none", 1): {"en": answers[0], "de": answers[1], "sw": answers[2][:5]}}
    scores = items.arrange("t", *table(credits))
    assert scores.freedom(np.array([1.0, 0, 0])) == pytest.approx(199)
    assert scores.freedom(np.array([0, 0, 1.0])) == pytest.approx(4)
    assert 4 < scores.freedom(np.array([0.5, 0, 0.5])) < 6


def test_scores_that_are_ratios_vary_as_ratios():
    rng = np.random.default_rng(3)
    out_of = rng.integers(1, 9, 200).astype(float)
    credit = rng.binomial(out_of.astype(int), 0.6).astype(float)
    predictions, runs = table({("none", 1): {"de": credit}}, out_of)
    sample = zero_shot(items.arrange("t", predictions, runs))
    assert sample.scores == pytest.approx(100 * credit.sum() / out_of.sum())
    drawn = rng.integers(0, 200, (5000, 200))
    spread = (100 * credit[drawn].sum(1) / out_of[drawn].sum(1)).std()
    assert np.sqrt(sample.item_parts[0, 0, 0]) == pytest.approx(spread, rel=0.06)


def test_the_baseline_has_a_seed_variance_of_its_own():
    rng = np.random.default_rng(0)
    runs = [(*condition, seed) for condition in CONDITIONS for seed in range(3)]
    points = np.where([task == "none" for _, task, _ in runs], 5.0, 0.5) * rng.standard_normal(18)
    spread, freedom = variance.between_runs(points, runs, CONDITIONS)
    assert (spread[[0, 3]] > 4 * spread[[1, 4]]).all() and spread[1] == spread[2]
    assert freedom.tolist() == [2, 4, 4, 2, 4, 4]


def test_one_seed_never_means_no_seed_noise():
    once = zero_shot(draw(1)).sums(GAIN)
    assert once["seeds"] == 1
    width = (once["high"] - once["low"])[0]
    assert width > 2 * 1.9 * np.sqrt(2) * variance.ASSUMED_SEED_SD


def test_items_that_languages_share_are_drawn_together():
    rng = np.random.default_rng(0)
    easy = rng.random(300) < 0.6
    parallel = {("none", 1): {"de": easy, "sw": easy}}
    predictions, runs = table(parallel)
    names = predictions["language"] + predictions["id"]
    together = zero_shot(items.arrange("t", predictions, runs))
    apart = zero_shot(items.arrange("t", predictions.assign(id=names), runs))
    assert together.scores == pytest.approx(apart.scores)
    assert together.item_parts.sum() == pytest.approx(2 * apart.item_parts.sum())


def test_runs_on_other_items_are_refused():
    answers = {"de": [1.0] * 10}
    predictions, runs = table({(t, k): answers for t in ("none", "qa") for k in (1, 2)})
    last = (predictions["intermediate"] == "qa") & (predictions["seed"] == 2)
    without = predictions[~(last & (predictions["id"] == "3"))]
    with pytest.raises(ComparisonError, match="qa/t/seed-2, language de: found id '3' 0 times, in"):
        effects(without, runs)
    with pytest.raises(ComparisonError, match="each once"):
        effects(pd.concat([predictions, predictions[last]]), runs)


def test_targets_of_one_seed_share_their_noise_and_not_their_items():
    sample = zero_shot(draw(3, items=2000, seed_sd=3.0))
    mean = variance.mean_over_targets([sample, sample])
    assert mean.scores == pytest.approx(sample.scores)
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert mean.item_parts.sum(0) == pytest.approx(sample.item_parts[0] / 2)
    assert mean.residual == pytest.approx(sample.residual / 2)
    opposite = replace(sample, run_scores=100 - sample.run_scores)
    assert variance.mean_over_targets([sample, opposite]).seed_variance == pytest.approx(0)


def test_a_task_that_counts_nothing_leaves_the_others_interval_as_it_is():
    sample = zero_shot(draw(3))
    left = variance.mean_over_targets([sample], [{"nli": 0.0, "qa": 2.0}])
    mean = left.sums(np.array([[-1.0, 0.5, 0.5, 0, 0, 0]]))
    alone = sample.sums(np.array([[-1.0, 0, 1, 0, 0, 0]]))
    assert all(mean[end] == pytest.approx(alone[end]) for end in ("estimate", "low", "high", "p"))


def test_a_task_that_counts_nothing_at_a_target_may_lack_seeds_there():
    scores = draw(3)
    there = [task != "nli" or seed == scores.runs[0][2] for _, task, seed in scores.runs]
    runs = list(compress(scores.runs, there))
    lacking = zero_shot(replace(scores, runs=runs, credit=scores.credit[:, there]))
    sample, shares = zero_shot(scores), [{}, {"nli": 0.0, "qa": 2.0}]
    mean = variance.mean_over_targets([sample, lacking], shares)
    assert mean.seeds.tolist() == [3] * 6
    assert mean.seed_variance[1] == pytest.approx(sample.seed_variance[1] / 4)


def test_a_mean_over_targets_without_common_seeds_is_no_surer_than_one():
    sample = zero_shot(draw(2))
    later = replace(sample, runs=[(*condition, seed + 10) for *condition, seed in sample.runs])
    mean = variance.mean_over_targets([sample, later])
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert (mean.freedom == sample.freedom).all()
    mean = variance.mean_over_targets([sample, later], [{}, {"nli": 0.0, "qa": 2.0}])
    assert mean.seed_variance[2] == pytest.approx(1.5**2 * sample.seed_variance[2])


def test_a_language_of_training_is_no_part_of_the_zero_shot_score():
    answers = {"de": [1.0, 1, 1, 0], "sw": [1.0, 0, 0, 0], "en": [1.0] * 4}
    predictions, runs = table({(t, k): answers for t in ("none", "qa") for k in (1, 2)})
    plan = Plan.of(runs, trained_in=("en", "de"))
    rows = effects(predictions, runs, plan).query("intermediate == 'none' and language != 'en'")
    found = rows.set_index(["quantity", "language"])["estimate"]
    assert found["score", "zero-shot"] == 25 and found["transfer_gap", "zero-shot"] == 62.5
    assert ("transfer_gap", "de") not in found
