"""The tables that answer the study's question."""

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_study

from helpers.comparison import estimates
from helpers.evaluation import is_collapsed
from helpers.study import StudyError

LANGUAGES = ("en", "de", "sw")
ONE_TARGET = {"nli": LANGUAGES}


@pytest.fixture(scope="module")
def study():
    return simulated_study(items=60)


@pytest.fixture(scope="module")
def effects(study):
    return estimates.effects(*study, resamples=300)


def cell(effects, quantity, **where) -> pd.Series:
    rows = effects[effects["quantity"] == quantity]
    for column, value in {"language": "zero-shot", "analysis": "all runs", **where}.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_run_at_the_majority_class_has_collapsed_and_a_better_one_has_not():
    assert is_collapsed(33.3, 2490, majority=33.3)
    assert is_collapsed(20.0, 100, majority=50.0)
    assert not is_collapsed(80.0, 100, majority=50.0)


def test_the_same_score_is_within_sampling_error_of_the_majority_on_few_items_only():
    assert is_collapsed(55.0, 100, majority=50.0)
    assert not is_collapsed(55.0, 1000, majority=50.0)


def test_results_are_each_runs_scores_and_the_mean_of_the_languages_other_than_english(study):
    predictions, runs = study
    results = estimates.results(predictions, runs)
    run = (results[estimates.RUN] == ["large", "qa", "copa", 2]).all(axis=1)
    scores = results[run].set_index("language")["score"]
    own = predictions[(predictions[estimates.RUN] == ["large", "qa", "copa", 2]).all(axis=1)]
    assert scores["et"] == pytest.approx(100 * own[own["language"] == "et"]["credit"].mean())
    assert scores["zero-shot"] == pytest.approx(scores[["et", "sw", "vi"]].mean())
    assert results[run].set_index("language")["n"].to_dict() == {
        "en": 60,
        "et": 60,
        "sw": 60,
        "vi": 60,
        "zero-shot": 180,
    }
    assert len(results) == len(runs) * 5


def test_a_score_is_the_ratio_of_its_sums():
    predictions, runs = simulated_study(ONE_TARGET, items=40)
    predictions["out_of"] = np.resize([1.0, 3.0, 6.0], len(predictions))
    predictions["credit"] *= predictions["out_of"]
    results = estimates.results(predictions, runs).set_index([*estimates.RUN, "language"])
    effects = estimates.effects(predictions, runs, resamples=50)
    german = (
        predictions[predictions["language"] == "de"]
        .groupby(estimates.RUN)[["credit", "out_of"]]
        .sum()
    )
    expected = 100 * german["credit"] / german["out_of"]
    assert results.xs("de", level="language")["score"].to_numpy() == pytest.approx(
        expected.to_numpy()
    )
    score = cell(effects, "score", size="base", intermediate="qa", target="nli", language="de")[
        "estimate"
    ]
    assert score == pytest.approx(expected["base", "qa", "nli"].mean())


def test_effects_are_the_differences_that_their_names_say(study, effects):
    mean = (
        estimates.results(*study)
        .groupby(["size", "intermediate", "target", "language"])["score"]
        .mean()
    )
    at = dict(target="copa", intermediate="qa")
    gains = {
        size: mean[size, "qa", "copa", "zero-shot"] - mean[size, "none", "copa", "zero-shot"]
        for size in ("base", "large")
    }
    assert cell(effects, "gain", size="base", **at)["estimate"] == pytest.approx(
        gains["base"], abs=1e-3
    )
    scale = cell(effects, "scale_effect", **at)
    assert scale["size"] == "large - base"
    assert scale["estimate"] == pytest.approx(gains["large"] - gains["base"], abs=1e-3)
    gap = mean["large", "qa", "copa", "en"] - mean["large", "qa", "copa", "zero-shot"]
    assert cell(effects, "transfer_gap", size="large", **at)["estimate"] == pytest.approx(
        gap, abs=1e-3
    )
    room = 100 - mean["large", "none", "copa", "zero-shot"]
    reduction = cell(effects, "error_reduction", size="large", **at)["estimate"]
    assert reduction == pytest.approx(100 * gains["large"] / room, abs=1e-3)


def test_all_is_the_mean_over_targets_and_over_intermediate_tasks(effects):
    rows = effects[(effects["quantity"] == "scale_effect") & (effects["language"] == "zero-shot")]
    estimate = rows.set_index(["intermediate", "target"])["estimate"]
    single = estimate[["nli", "qa"]].drop("all", level="target")
    assert estimate["all", "all"] == pytest.approx(single.mean())
    assert estimate["qa", "all"] == pytest.approx(single["qa"].mean())


def test_only_languages_of_every_target_have_a_mean_over_targets(effects):
    languages = effects[(effects["target"] == "all") & (effects["quantity"] == "gain")]["language"]
    assert set(languages) == {"en", "sw", "zero-shot"}


def test_intervals_hold_their_estimate_and_shrink_with_items_and_seeds():
    def width(**change):
        effects = estimates.effects(
            *simulated_study(ONE_TARGET, ("none", "qa"), **change), resamples=400
        )
        row = cell(effects, "gain", size="large", intermediate="qa", target="nli")
        assert row["low"] < row["estimate"] < row["high"]
        return row["high"] - row["low"]

    assert width(items=800, seed_sd=0.5) < 0.7 * width(items=100, seed_sd=0.5)
    assert width(items=800, seed_sd=3.0, seeds=8) < 0.6 * width(items=800, seed_sd=3.0, seeds=2)


def test_a_large_difference_is_found_and_its_p_value_corrected_among_its_family():
    predictions, runs = simulated_study(gain={"base": 0.0, "large": 12.0}, items=400)
    effects = estimates.effects(predictions, runs, resamples=1000)
    headline = effects[estimates.headline(effects)]
    assert len(headline) == 1
    assert headline["p"].item() < 0.01 and headline["low"].item() > 0
    assert headline["comparisons"].item() == 1
    averages = effects[
        (effects["quantity"] == "scale_effect") & (effects["language"] == "zero-shot")
    ]
    averages = averages[~estimates.headline(averages)]
    assert set(averages["comparisons"]) == {len(averages)} == {8}
    assert (averages["p_corrected"] >= averages["p"]).all()
    assert effects[effects["quantity"] == "score"]["p"].isna().all()


def test_the_same_call_gives_the_same_table(study, effects):
    pd.testing.assert_frame_equal(effects, estimates.effects(*study, resamples=300))
    shuffled = study[0].sample(frac=1, random_state=0)
    again = estimates.effects(shuffled, study[1], resamples=300)
    assert again["estimate"].to_numpy() == pytest.approx(
        effects["estimate"].to_numpy(), nan_ok=True, abs=1e-3
    )


def test_a_missing_condition_leaves_a_gap_in_every_mean_it_belongs_to(study):
    predictions, runs = study
    left = runs[
        ~((runs["size"] == "large") & (runs["intermediate"] == "qa") & (runs["target"] == "copa"))
    ]
    effects = estimates.effects(predictions, left, resamples=100)
    for where in (dict(target="copa"), dict(target="all")):
        for task in ("qa", "all"):
            row = cell(effects, "scale_effect", intermediate=task, **where)
            assert (
                np.isnan(row[["estimate", "low", "high", "p"]].astype(float)).all()
                and row["seeds"] == 0
            )
        assert np.isfinite(cell(effects, "scale_effect", intermediate="nli", **where)["estimate"])
    assert np.isfinite(cell(effects, "scale_effect", intermediate="all", target="nli")["estimate"])


def test_a_planned_target_that_has_not_begun_leaves_a_gap_too():
    predictions, runs = simulated_study(ONE_TARGET, items=40)
    planned = [*runs[estimates.RUN].itertuples(index=False, name=None), ("base", "none", "copa", 1)]
    effects = estimates.effects(predictions, runs, resamples=50, planned=planned)
    assert np.isnan(cell(effects, "scale_effect", intermediate="all", target="all")["estimate"])
    assert estimates.missing(planned, runs).to_numpy().tolist() == [["base", "none", "copa", 1]]


def test_a_study_without_a_finished_run_is_a_table_of_gaps():
    predictions, runs = (table[:0] for table in simulated_study(ONE_TARGET, items=20))
    planned = [(size, task, "nli", 1) for size in ("base", "large") for task in ("none", "qa")]
    assert estimates.results(predictions, runs).empty
    effects = estimates.effects(predictions, runs, planned=planned)
    assert np.isnan(cell(effects, "scale_effect", intermediate="qa", target="nli")["estimate"])
    assert effects["estimate"].isna().all() and estimates.headline(effects).sum() == 1


def test_fewer_seeds_are_counted(study):
    predictions, runs = study
    left = runs[~((runs[estimates.RUN] == ["base", "nli", "copa", 3]).all(axis=1))]
    effects = estimates.effects(predictions, left, resamples=50)
    assert cell(effects, "gain", size="base", intermediate="nli", target="copa")["seeds"] == 2
    assert cell(effects, "gain", size="base", intermediate="qa", target="copa")["seeds"] == 3
    assert cell(effects, "gain", size="base", intermediate="nli", target="all")["seeds"] == 2


def test_collapsed_runs_are_shown_with_and_without_and_never_dropped_in_silence():
    predictions, runs = simulated_study(ONE_TARGET, items=100, collapsed=1)
    effects = estimates.effects(predictions, runs, resamples=100)
    assert set(effects["analysis"]) == set(estimates.ANALYSES)
    at = dict(size="large", intermediate="qa", target="nli")
    with_all, without = (cell(effects, "score", analysis=a, **at) for a in estimates.ANALYSES)
    assert with_all["estimate"] < without["estimate"] - 5
    assert (with_all["seeds"], without["seeds"]) == (3, 2)
    assert estimates.results(predictions, runs)["collapsed"].sum() == len(LANGUAGES) + 1


def test_without_collapsed_runs_there_is_one_analysis(effects):
    assert set(effects["analysis"]) == {"all runs"}


def test_a_study_of_one_size_has_gains_and_no_scale_effect():
    effects = estimates.effects(
        *simulated_study(ONE_TARGET, sizes=("base",), items=40), resamples=50
    )
    assert "gain" in set(effects["quantity"]) and "scale_effect" not in set(effects["quantity"])
    assert not estimates.headline(effects).any()


def test_tables_that_do_not_fit_are_refused(study):
    predictions, runs = study
    with pytest.raises(StudyError, match="predictions: found no column out_of"):
        estimates.effects(predictions.drop(columns="out_of"), runs)
    with pytest.raises(StudyError, match="base/none/nli/seed-1 is there twice"):
        estimates.results(predictions, pd.concat([runs, runs[:1]]))
    one = (predictions[estimates.RUN] == ["base", "none", "nli", 1]).all(axis=1)
    with pytest.raises(StudyError, match="base/none/nli/seed-1"):
        estimates.effects(predictions[~one], runs, resamples=50)


def test_a_repetition_stands_in_for_its_collapsed_run_and_only_there():
    predictions, runs = simulated_study(ONE_TARGET, items=100, collapsed=1)
    down = runs[runs["collapsed"]].iloc[0]
    again = down.copy()
    again["seed"], again["collapsed"] = 99, False
    better = (predictions[estimates.RUN] == ["large", "qa", "nli", 1]).all(axis=1)
    both = pd.concat(
        [runs.assign(repeats=np.nan), pd.DataFrame([again]).assign(repeats=down["seed"])]
    )
    stacked = pd.concat([predictions, predictions[better].assign(seed=99)])
    at = dict(size="large", intermediate="qa", target="nli")
    plain = estimates.effects(predictions, runs, resamples=100)
    repeated = estimates.effects(stacked, both, resamples=100)
    with_all, without = (cell(repeated, "score", analysis=a, **at) for a in estimates.ANALYSES)
    assert (with_all["seeds"], without["seeds"]) == (3, 3)
    assert (
        with_all["estimate"]
        == cell(plain, "score", analysis=estimates.ANALYSES[0], **at)["estimate"]
    )
    assert without["estimate"] > with_all["estimate"] + 5
