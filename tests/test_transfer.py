"""The tables that answer the study's question."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.comparison import estimates
from intervals import CASES, rates
from simulated import simulated_study

from helpers import comparison
from helpers.evaluation import is_collapsed, with_collapse
from helpers.study import Study, StudyError

LANGUAGES = ("en", "de", "sw")
ONE_TARGET = {"nli": LANGUAGES}


@pytest.fixture(scope="module")
def study():
    return simulated_study(items=60)


@pytest.fixture(scope="module")
def effects(study):
    return estimates.effects(*study, resamples=300)


def row_of(effects, quantity, **where) -> pd.Series:
    rows = effects[effects["quantity"] == quantity]
    for column, value in {"language": "zero-shot", "analysis": "all runs", **where}.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_run_that_makes_less_than_a_tenth_of_a_constant_answers_errors_good_has_collapsed():
    assert is_collapsed(50.0, majority=50.0) and is_collapsed(54.9, majority=50.0)
    assert not is_collapsed(57.0, majority=50.0)  # whatever the number of items
    assert is_collapsed(39.0, majority=33.3) and not is_collapsed(41.0, majority=33.3)
    assert is_collapsed(2.0, majority=0.0) and not is_collapsed(20.0, majority=0.0)  # F1


def test_a_lucky_evaluation_among_several_does_not_hide_a_collapse():
    selection = {"score": 56.0, "last_score": 50.0, "n": 100, "majority": 50.0}
    assert with_collapse(selection)["collapsed"]
    assert not with_collapse(selection | {"last_score": 56.0})["collapsed"]
    assert not with_collapse(dict.fromkeys(selection) | {"n": 0})["collapsed"]  # retrieval


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
    score = row_of(effects, "score", size="base", intermediate="qa", target="nli", language="de")[
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
    assert row_of(effects, "gain", size="base", **at)["estimate"] == pytest.approx(
        gains["base"], abs=1e-3
    )
    scale = row_of(effects, "scale_effect", **at)
    assert scale["size"] == "large - base"
    assert scale["estimate"] == pytest.approx(gains["large"] - gains["base"], abs=1e-3)
    gap = mean["large", "qa", "copa", "en"] - mean["large", "qa", "copa", "zero-shot"]
    assert row_of(effects, "transfer_gap", size="large", **at)["estimate"] == pytest.approx(
        gap, abs=1e-3
    )


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
        row = row_of(effects, "gain", size="large", intermediate="qa", target="nli")
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
    averages = averages[~estimates.headline(effects)[averages.index]]
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
            row = row_of(effects, "scale_effect", intermediate=task, **where)
            assert (
                np.isnan(row[["estimate", "low", "high", "p"]].astype(float)).all()
                and row["seeds"] == 0
            )
        assert np.isfinite(row_of(effects, "scale_effect", intermediate="nli", **where)["estimate"])
    assert np.isfinite(
        row_of(effects, "scale_effect", intermediate="all", target="nli")["estimate"]
    )


def test_a_planned_target_that_has_not_begun_leaves_a_gap_too():
    predictions, runs = simulated_study(ONE_TARGET, items=40)
    planned = [*runs[estimates.RUN].itertuples(index=False, name=None), ("base", "none", "copa", 1)]
    effects = estimates.effects(predictions, runs, resamples=50, planned=planned)
    assert np.isnan(row_of(effects, "scale_effect", intermediate="all", target="all")["estimate"])


def test_a_study_without_a_finished_run_is_a_table_of_gaps():
    predictions, runs = (table[:0] for table in simulated_study(ONE_TARGET, items=20))
    planned = [(size, task, "nli", 1) for size in ("base", "large") for task in ("none", "qa")]
    assert estimates.results(predictions, runs).empty
    effects = estimates.effects(predictions, runs, planned=planned)
    assert np.isnan(row_of(effects, "scale_effect", intermediate="qa", target="nli")["estimate"])
    assert effects["estimate"].isna().all() and estimates.headline(effects).sum() == 1


def test_fewer_seeds_are_counted(study):
    predictions, runs = study
    left = runs[~((runs[estimates.RUN] == ["base", "nli", "copa", 3]).all(axis=1))]
    effects = estimates.effects(predictions, left, resamples=50)
    assert row_of(effects, "gain", size="base", intermediate="nli", target="copa")["seeds"] == 2
    assert row_of(effects, "gain", size="base", intermediate="qa", target="copa")["seeds"] == 3
    assert row_of(effects, "gain", size="base", intermediate="nli", target="all")["seeds"] == 2


def test_collapsed_runs_are_shown_with_and_without_and_never_dropped_in_silence():
    predictions, runs = simulated_study(ONE_TARGET, items=100, collapsed=1)
    effects = estimates.effects(predictions, runs, resamples=100)
    assert set(effects["analysis"]) == set(estimates.ANALYSES)
    at = dict(size="large", intermediate="qa", target="nli")
    with_all, without = (row_of(effects, "score", analysis=a, **at) for a in estimates.ANALYSES)
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
    assert set(effects[estimates.headline(effects)]["quantity"]) == {"gain"}


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
    with_all, without = (row_of(repeated, "score", analysis=a, **at) for a in estimates.ANALYSES)
    assert (with_all["seeds"], without["seeds"]) == (3, 3)
    assert (
        with_all["estimate"]
        == row_of(plain, "score", analysis=estimates.ANALYSES[0], **at)["estimate"]
    )
    assert without["estimate"] > with_all["estimate"] + 5


THREE = {"small": 1e6, "base": 2e6, "large": 8e6}


def three_sizes(gain: dict[str, float], **more):
    study = simulated_study(
        ONE_TARGET, ("none", "qa"), tuple(THREE), gain=gain, seed_sd=0.1, **more
    )
    return study, estimates.effects(*study, resamples=400, parameters=THREE)


def test_the_slope_is_points_of_gain_per_doubling_of_the_parameters():
    _, effects = three_sizes({"small": 0.0, "base": 4.0, "large": 12.0}, items=4000)
    slope = effects[estimates.headline(effects)]
    assert slope["quantity"].tolist() == ["slope"] and slope["size"].tolist() == ["per doubling"]
    gains = [row_of(effects, "gain", size=size)["estimate"] for size in THREE]
    expected = np.polyfit(np.log2(list(THREE.values())), gains, 1)[0]
    assert slope["estimate"].item() == pytest.approx(expected)
    assert slope["low"].item() < 4 < slope["high"].item() and slope["p"].item() < 0.05
    bend = row_of(effects, "bend")["estimate"]
    assert bend == pytest.approx((gains[2] - gains[1]) / 2 - (gains[1] - gains[0]))
    pairs = effects.loc[effects["quantity"] == "scale_effect", "size"].unique()
    assert list(pairs) == ["base - small", "large - base", "large - small"]


def test_without_parameters_the_headline_is_the_last_size_against_the_first():
    (predictions, runs), _ = three_sizes({}, items=40)
    effects = estimates.effects(predictions, runs, resamples=50, parameters={"small": 1e6})
    assert not effects["quantity"].isin(["slope", "bend"]).any()
    assert effects.loc[estimates.headline(effects), "size"].tolist() == ["large - small"]


def test_a_baseline_with_more_seeds_than_the_tasks_is_averaged_over_all_of_them():
    predictions, runs = simulated_study(ONE_TARGET, ("none", "qa"), seeds=5, items=60)
    few = (runs["intermediate"] == "none") | (runs["seed"] <= 3)
    effects = estimates.effects(predictions, runs[few], resamples=50)
    none = row_of(effects, "score", size="base", intermediate="none")
    assert (none["seeds"], row_of(effects, "gain", size="base")["seeds"]) == (5, 3)


def test_sensitivity_asks_the_headline_in_other_ways():
    predictions, runs = simulated_study(gain={"base": 0.0, "large": 10.0}, items=300, seed_sd=0.3)
    checks = comparison.sensitivity(predictions, runs, resamples=500)
    effects = estimates.effects(predictions, runs, resamples=500)
    headline = effects.loc[estimates.headline(effects), "estimate"].item()
    whole = checks.set_index(["check", "of"])["estimate"]
    without = whole["without target"]
    assert without.mean() == pytest.approx(headline) and list(without.index) == ["nli", "copa"]
    assert set(whole["without language"].index) == {"de", "et", "ja", "sw", "vi"}
    assert whole["targets as a sample"].item() == pytest.approx(headline)
    logits = checks.set_index("check").loc["logit scale"]
    assert logits["low"] > 0 and 0.2 < logits["estimate"] < 0.8  # 10 of about 65 points
    spread = (checks["high"] - checks["low"]).groupby(checks["check"]).mean()
    assert spread["targets as a sample"] > spread["without target"]
    left = runs[~((runs["size"] == "base") & (runs["intermediate"] == "qa"))]
    planned = runs[estimates.RUN].itertuples(index=False, name=None)
    assert comparison.sensitivity(predictions, left, planned).empty


def test_sizes_that_disagree_on_the_best_task_cost_what_the_smaller_one_would_choose():
    tasks = ("none", "a", "b", "c")
    predictions, runs = simulated_study(ONE_TARGET, tasks, items=2000, seed_sd=0.1, gain={})
    best = {("base", "a"): 0.1, ("large", "c"): 0.1}
    cells = pd.MultiIndex.from_frame(predictions[["size", "intermediate"]])
    lift = cells.map(best).fillna(0.0)
    rng = np.random.default_rng(0)
    predictions["credit"] = np.maximum(predictions["credit"], rng.random(len(lift)) < lift)
    checks = comparison.sensitivity(predictions, runs, resamples=500).set_index("check")
    regret = checks.loc["regret of choosing by the first size"]
    assert regret["of"] == "a" and 2 < regret["estimate"] < 6 and regret["low"] > 0
    assert checks.loc["rank agreement", "estimate"] < 1


def test_what_a_study_can_detect_shrinks_with_seeds_and_needs_the_baseline_most(tmp_path):
    study = Study.load("params/xtreme-r.yaml", tmp_path)
    earlier = pd.DataFrame(
        columns=["size", "intermediate", "target", "language", "seed", "score", "n"]
    )

    def found(none: int, others: int) -> float:
        seeds = {"none": none, "others": others}
        return comparison.detectable(study, seeds, earlier, {})["scale_effect large - base"]

    assert found(5, 5) < found(5, 3) < found(3, 3) < found(2, 2)
    assert found(3, 3) - found(5, 3) > 5 * (found(5, 3) - found(5, 5))


def test_the_detectable_effect_is_the_one_that_simulated_studies_find_four_times_in_five():
    case = replace(CASES["seed SD 1 everywhere"], seeds=(3, 3), items=120)
    study = SimpleNamespace(
        runs=lambda: [(s, t, "x", 1) for s in ("a", "b") for t in ("none", "t0", "t1", "t2")],
        targets=[SimpleNamespace(task="x")],
        tasks={"x": SimpleNamespace(evaluate="test", sizes={"test": 120}, parallel=True)},
        languages=lambda name: ["en", "de", "ja", "sw"],
    )
    # As the simulation has it: two conditions differ in 27 % of the items, by 0.5 over languages.
    earlier = pd.DataFrame(
        [(s, t, "x", "zero-shot", k, 60 + 0.82 * z, 360) for s in "ab" for t in ("none", "t0")
         for k, z in ((1, -1), (2, 0), (3, 1))],
        columns=["size", "intermediate", "target", "language", "seed", "score", "n"],
    )  # fmt: skip
    effect = comparison.detectable(study, {"none": 3, "others": 3}, earlier, {})[
        "scale_effect b - a"
    ]
    power = rates(replace(case, effect=effect), studies=200)["found"]
    assert 65 < power < 95, (effect, power)
    still = comparison.detectable(
        study, {"none": 3, "others": 3}, earlier.assign(score=50.0), {}
    )  # all seeds score alike, as where nothing was learned: items alone are left
    assert 1 < still["scale_effect b - a"] < effect


def test_a_larger_encoder_an_intermediate_task_and_a_seed_are_priced_beside_each_other():
    (predictions, runs), effects = three_sizes({"small": 0.0, "base": 8.0, "large": 8.0}, items=500)
    runs["train_flops"] = runs["size"].map({"small": 1e15, "base": 2e15, "large": 6e15})
    runs["train_flops"] += 3e15 * (runs["intermediate"] == "qa")
    study = SimpleNamespace(
        sizes=dict.fromkeys(THREE), variants={}, targets=[SimpleNamespace(task="nli")],
        runs=lambda: [tuple(run) for run in runs[estimates.RUN].to_numpy()],
        seeds_of=lambda kind: [1, 2, 3], languages=lambda name: LANGUAGES,
        tasks={"nli": SimpleNamespace(evaluate="test", sizes={"test": 500}, parallel=True)},
    )  # fmt: skip
    results = estimates.results(predictions, runs)
    bought = comparison.alternatives(study, runs, effects, results, THREE)
    at = bought.set_index(["at", "instead of none"])
    cost = at["petaFLOPs a run"]
    assert cost["small", "encoder base"] == 1 and cost["base", "encoder large"] == 4
    assert (cost.xs("intermediate task qa", level=1) == 3).all()
    step = at.loc[("small", "encoder base")]
    none = results[(results["intermediate"] == "none") & (results["language"] == "zero-shot")]
    means = none.groupby("size")["score"].mean()
    assert step["points"] == pytest.approx(means["base"] - means["small"])
    assert step["low"] < step["points"] < step["high"]
    assert at.loc[("base", "intermediate task qa"), "points"] == pytest.approx(
        row_of(effects, "gain", size="base")["estimate"]
    )
    assert at.loc[("large", "one more seed"), "what it buys"].startswith("gains of ")
    assert list(dict.fromkeys(bought["at"])) == list(THREE)


def test_more_examples_are_priced_where_a_study_has_a_target_under_several_names():
    targets = {"few": ("en", "de"), "many": ("en", "de")}
    predictions, runs = simulated_study(targets, ("none", "qa"), items=200)
    runs["train_flops"] = 1e15 + 3e15 * (runs["target"] == "many")
    effects = estimates.effects(predictions, runs, resamples=50)
    amounts = {"few": 100, "many": None}  # all that there are
    study = SimpleNamespace(
        sizes=dict.fromkeys(("base", "large")), variants=dict.fromkeys(targets, "nli"),
        targets=[SimpleNamespace(task=name) for name in targets],
        hyperparameters=lambda phase, size, task: SimpleNamespace(train_examples=amounts[task]),
        runs=lambda: [tuple(run) for run in runs[estimates.RUN].to_numpy()],
        seeds_of=lambda kind: [1, 2, 3], languages=lambda name: ("en", "de"),
        tasks=dict.fromkeys(targets, SimpleNamespace(evaluate="test", sizes={}, parallel=True)),
    )  # fmt: skip
    bought = comparison.alternatives(study, runs, effects, estimates.results(predictions, runs), {})
    row = bought.set_index(["at", "instead of none"]).loc[("large", "all examples, not 100")]
    few, many = (
        row_of(effects, "score", size="large", intermediate="none", target=name)["estimate"]
        for name in targets
    )
    assert row["petaFLOPs a run"] == 3 and row["points"] == pytest.approx(many - few)
