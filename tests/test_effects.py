"""The tables that answer the study's question."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated import TARGETS, simulated_study
from written import result, write, write_outputs

import comparison
from comparison import ComparisonError, Plan, Target

RUN = ["size", "intermediate", "target", "seed"]
ONE_TARGET = {"nli": ("en", "de", "sw")}


@pytest.fixture(scope="module")
def study():
    return simulated_study(items=60)


@pytest.fixture(scope="module")
def effects(study):
    return comparison.effects(*study)


def row_of(effects, quantity, **where) -> pd.Series:
    rows = effects[effects["quantity"] == quantity]
    for column, value in {"language": "zero-shot", "analysis": "all runs", **where}.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def without(study, query: str):
    return [table.query(f"not ({query})") for table in study]


def test_results_are_each_runs_scores_and_the_mean_of_the_languages_not_trained_in(study):
    results = comparison.results(*study)
    run = (results[RUN] == ["large", "qa", "copa", 2]).all(axis=1)
    scores = results[run].set_index("language")["score"]
    answers = study[0][(study[0][RUN] == ["large", "qa", "copa", 2]).all(axis=1)]
    assert scores["et"] == pytest.approx(100 * answers.query("language == 'et'")["credit"].mean())
    assert scores["zero-shot"] == pytest.approx(scores[["et", "sw", "vi"]].mean())
    assert results[run].set_index("language")["n"]["zero-shot"] == 180
    assert len(results) == len(study[1]) * 5


def test_effects_are_the_differences_that_their_names_say(study, effects):
    results = comparison.results(*study)
    mean = results.groupby([*RUN[:3], "language"])["score"].mean()
    for language in ("zero-shot", "de"):
        place = {"target": "nli", "language": language}
        score = mean.xs(("nli", language), level=("target", "language"))
        gains = [score[size, "qa"] - score[size, "none"] for size in ("base", "large")]
        gain = row_of(effects, "gain", size="large", intermediate="qa", **place)
        scale = row_of(effects, "scale_effect", size="large - base", intermediate="qa", **place)
        gap = row_of(effects, "transfer_gap", size="base", intermediate="qa", **place)
        assert gain["estimate"] == pytest.approx(gains[1])
        assert scale["estimate"] == pytest.approx(gains[1] - gains[0])
        lost = mean["base", "qa", "nli", "en"] - mean["base", "qa", "nli", language]
        assert gap["estimate"] == pytest.approx(lost)


def test_all_is_the_mean_over_targets_and_over_intermediate_tasks(effects):
    cells = [{"intermediate": task, "target": at} for task in ("nli", "qa") for at in TARGETS]
    each = [row_of(effects, "gain", size="base", **cell)["estimate"] for cell in cells]
    both = row_of(effects, "gain", size="base", intermediate="all", target="all")
    assert both["estimate"] == pytest.approx(np.mean(each))
    assert set(effects.query("target == 'all'")["language"]) == {"en", "sw", "zero-shot"}


def test_p_values_are_corrected_within_a_family_and_the_headline_stands_alone(effects):
    headline = row_of(effects, "scale_effect", intermediate="all", target="all")
    assert headline["comparisons"] == 1 and headline["p_corrected"] == headline["p"]
    averages = effects.query("quantity == 'gain' and language == 'zero-shot'")
    assert set(averages["comparisons"]) == {len(averages)}
    assert (averages["p_corrected"] >= averages["p"]).all()
    assert effects.query("quantity in ('score', 'transfer_gap')")["p"].isna().all()


def test_what_is_missing_says_why(study):
    predictions, runs = without(study, "size == 'large' and intermediate == 'qa'")
    plan = Plan.of(study[1].query("not (intermediate == 'nli' and target == 'copa')"))
    targets = {"nli": Target(languages=("en", "de", "ja", "sw"))}
    targets["copa"] = Target(languages=("et", "sw", "vi"))
    plan = Plan(plan.sizes, plan.intermediate, targets, plan.runs)
    foreign = predictions[(predictions["target"] == "nli") | (predictions["language"] != "en")]
    effects = comparison.effects(foreign, runs, plan)
    status = effects.set_index([*RUN[:3], "quantity", "language"])["status"]
    at_zero_shot = {
        ("base", "qa", "nli", "gain"): "complete",
        ("large", "qa", "nli", "gain"): "not finished",
        ("base", "nli", "copa", "gain"): "not asked for",
        ("large", "all", "nli", "gain"): "not finished",
        ("base", "all", "all", "gain"): "not asked for",
        ("base", "qa", "copa", "transfer_gap"): "not evaluated",
        ("base", "qa", "nli", "transfer_gap"): "complete",
    }
    for names, expected in at_zero_shot.items():
        assert status[(*names, "zero-shot")] == expected, names
    absent = effects[~effects["status"].isin(["complete"])]
    assert absent["estimate"].isna().all() and (absent["seeds"] == 0).all()
    assert effects.loc[effects["status"] == "complete", "estimate"].notna().all()


def test_a_language_in_which_nothing_was_found_nor_to_be_found_scores_nothing(study):
    """As in the run's own scores.json; no mean is formed of the other languages."""
    predictions, runs = study
    cells = ["size", "intermediate", "target", "seed", "language"]
    is_empty = (predictions[cells] == ["base", "qa", "nli", 1, "sw"]).all(axis=1)
    empty = predictions.assign(**{c: predictions[c].mask(is_empty, 0.0) for c in SUMS})
    scores = comparison.results(empty, runs).set_index(cells)["score"]["base", "qa", "nli", 1]
    assert scores["sw"] == 0 and scores["zero-shot"] == scores[["de", "ja", "sw"]].mean()
    place = {"size": "base", "intermediate": "qa", "target": "nli"}
    row = row_of(comparison.effects(empty, runs), "gain", **place)
    assert np.isfinite(row[["estimate", "low", "high"]].astype(float)).all()


def test_collapsed_runs_are_shown_with_and_without():
    predictions, runs = simulated_study(ONE_TARGET, items=40, collapsed=1)
    effects = comparison.effects(predictions, runs)
    place, without = {"intermediate": "qa", "target": "nli"}, {"analysis": "without collapsed"}
    assert row_of(effects, "gain", size="base", **place, **without)["seeds"] == 3
    place["size"] = "large"
    with_it, left = (row_of(effects, "gain", **place, **more) for more in ({}, without))
    assert (with_it["seeds"], left["seeds"]) == (3, 2)
    assert (with_it["status"], left["status"]) == ("with a collapsed run", "complete")
    assert with_it["estimate"] < left["estimate"]
    none_left = comparison.effects(*simulated_study(ONE_TARGET, items=40, collapsed=3))
    row = row_of(none_left, "gain", **place, **without)
    assert row["status"] == "only collapsed runs" and np.isnan(row["estimate"])


def test_a_repetition_stands_in_for_its_collapsed_run_and_only_there():
    predictions, runs = simulated_study(ONE_TARGET, items=40, collapsed=1)
    down = runs[runs["collapsed"]]
    again = predictions.merge(down[RUN]).assign(seed=1003, credit=1.0)
    repeated = down[RUN].assign(seed=1003, collapsed=False, repeats=down["seed"])
    before = comparison.effects(predictions, runs)
    plan = Plan.of(runs)
    after = comparison.effects(pd.concat([predictions, again]), pd.concat([runs, repeated]), plan)
    place = {"size": "large", "intermediate": "qa", "target": "nli"}
    same = [row_of(table, "score", **place)["estimate"] for table in (before, after)]
    assert same[0] == same[1]
    row = row_of(after, "score", analysis="without collapsed", **place)
    assert row["seeds"] == 3 and row["estimate"] > same[0]
    fallen = pd.concat([runs, repeated.assign(collapsed=True)])
    assert "1 of 18 runs collapsed" in comparison.summary_sentence(after, fallen, plan)


def test_the_slope_is_points_of_gain_per_doubling_of_the_parameters():
    gain = {"small": 0.0, "base": 6.0, "large": 12.0}
    study = simulated_study(ONE_TARGET, ("none", "qa"), tuple(gain), items=200, gain=gain)
    plan = Plan.of(study[1], {"small": 1e6, "base": 2e6, "large": 8e6})
    effects = comparison.effects(*study, plan)
    gains = effects.query("quantity == 'gain' and language == 'zero-shot'")["estimate"]
    slope = np.polyfit([0, 1, 3], gains, 1)[0]
    assert row_of(effects, "slope")["estimate"] == pytest.approx(slope)
    with pytest.raises(ComparisonError, match="parameters: base: found None; expected a number"):
        Plan.of(study[1], {"Base": 1e6, "small": 1e6, "large": 2e6})
    with pytest.raises(ComparisonError, match="trained_in: found 'en'; expected a tuple"):
        Target(trained_in="en")
    bend = (gains.iloc[2] - gains.iloc[1]) / 2 - (gains.iloc[1] - gains.iloc[0])
    assert row_of(effects, "bend")["estimate"] == pytest.approx(bend)


SUMS, PLACE = {"credit": "sum", "out_of": "sum"}, [*RUN, "language"]
BAD_PREDICTIONS = {
    "found no column credit; expected size": lambda t: t.drop(columns="credit"),
    "id 0: found credit 100 out of 1": lambda t: t.assign(credit=100 * t["credit"]),
    "credit: found 1 of 108 rows without": lambda t: t.assign(credit=t["credit"][1:]),
    "one item or group": lambda t: t.groupby(PLACE, as_index=False).agg(SUMS).assign(id="all"),
    "numbers and texts": lambda t: t.assign(id=t["id"].where(t["language"] != "de", t.index)),
    "language: found eng; expected en": lambda t: t.replace({"language": {"en": "eng"}}),
    "found column credit twice; expected": lambda t: pd.concat([t, t[["credit"]]], axis=1),
    "size: found 12; expected texts": lambda t: t.assign(size=12),
    "credit: found texts or decimals": lambda t: t.astype({"credit": str}),
    "language: found EN; expected en": lambda t: t.replace({"language": {"en": "EN"}}),
    "target: found 'all', which stands for": lambda t: t.replace({"target": {"nli": "all"}}),
}
BAD_RUNS = {
    "runs: found no row of run ('base', 'none', 'nli', 1)": lambda t: t[1:],
    "base/none/nli/seed-1 is there twice": lambda t: pd.concat([t, t.head(1)]),
    "found no row of run ('base', 'none', 'nli', '1')": lambda t: t.astype({"seed": str}),
    "collapsed: found 'no'; expected true": lambda t: t.assign(collapsed="no"),
}


@pytest.mark.parametrize("message", [*BAD_PREDICTIONS, *BAD_RUNS])
def test_tables_that_do_not_fit_are_refused_in_one_line(message):
    predictions, runs = simulated_study(ONE_TARGET, ("none", "qa"), items=3, seeds=3)
    predictions = BAD_PREDICTIONS.get(message, pd.DataFrame)(predictions)
    with pytest.raises(ComparisonError, match=re.escape(message)):
        comparison.effects(predictions, BAD_RUNS.get(message, pd.DataFrame)(runs))


def test_sensitivity_asks_the_headline_in_other_ways(study, effects):
    rows = comparison.sensitivity(*study).set_index(["check", "detail"])
    checks = {"logit scale", "share of the headroom", "languages as a sample"}
    checks |= {f"without {name}" for name in ("target", "language", "intermediate task")}
    assert set(rows.index.levels[0]) == checks | {"targets as a sample"}
    only_copa = row_of(effects, "scale_effect", intermediate="all", target="copa")
    for end in ("estimate", "low", "high"):
        assert rows.loc[("without target", "nli"), end] == pytest.approx(only_copa[end])
    only_qa = row_of(effects, "scale_effect", intermediate="qa", target="all")
    assert rows.loc[("without intermediate task", "nli"), "low"] == pytest.approx(only_qa["low"])
    headline = row_of(effects, "scale_effect", intermediate="all", target="all")
    width, one = (table["high"] - table["low"] for table in (rows, headline))
    assert width["targets as a sample"].iloc[0] > one
    assert width["logit scale", ""] == pytest.approx(one / 24, rel=0.1)  # scores of 50 to 65
    assert comparison.sensitivity(*without(study, "seed > 0"), Plan.of(study[1])).empty


def test_what_a_study_can_detect_shrinks_with_seeds_and_needs_the_baseline_most(study):
    def gain(none, others, **more):
        plan = Plan.of(study[1])
        return comparison.detectable(plan, {"none": none, "others": others}, **more)["gain base"]

    assert gain(2, 2) > gain(3, 3) > gain(5, 3) > gain(5, 5)
    assert gain(3, 3) - gain(5, 3) > gain(3, 3) - gain(3, 5)
    assert gain(3, 3, items={"nli": 100, "copa": 100}) > gain(3, 3)


def test_the_detectable_effect_is_found_four_times_in_five():
    from intervals import Case, judge

    case = Case(seeds=(3, 3), sd=(2, 1))
    _, runs = simulated_study({"t": ("en", "de", "ja", "sw")}, ("none", "a", "b", "c"), items=2)
    plan = Plan.of(runs)
    plan.targets["t"] = Target(languages=("en", "de", "ja", "sw"))
    effects = comparison.detectable(plan, {"none": 3, "others": 3}, {"t": 120}, {"t": True})
    rng = np.random.default_rng(0)
    changed = Case(seeds=case.seeds, sd=case.sd, effect=effects["gain large"])
    share = np.mean([judge(changed, rng)[1][1] < 0.05 for _ in range(300)])
    assert 0.65 < share < 0.95


def test_a_study_is_read_from_its_outputs(tmp_path):
    predictions, runs = simulated_study(ONE_TARGET, items=20, collapsed=1)
    some = runs[~((runs["size"] == "base") & (runs["seed"] == 3))]
    folder = write_outputs(tmp_path / "mine", predictions, some, runs)
    plan, read, table, curves, _ = comparison.read_study(folder)
    assert plan.name == "mine" and plan.parameters == {"base": 1e7, "large": 2e7}
    assert plan.targets["nli"].languages == ("de", "en", "sw")
    assert len(read) == len(some) and len(comparison.missing_runs(plan, read)) == 3
    tables = ((table, read), (predictions.merge(some[RUN]), some))
    pd.testing.assert_frame_equal(*(comparison.effects(*each, plan) for each in tables))
    qa = read[(read["intermediate"] == "qa") & (read["target"] == "nli")].iloc[0]
    alone = runs[(runs[RUN] == list(qa[RUN])).all(axis=1)].iloc[0]
    assert qa["cpu_seconds"] == 2 * alone["cpu_seconds"]  # with its intermediate training
    assert set(curves["phase"]) == {"intermediate", "target"}
    write(folder / "large/encoder/run.json", {"parameters_without_embeddings": 1e6})
    assert list(comparison.read_study(folder).plan.sizes) == ["large", "base"]  # by parameters


def test_a_result_of_other_settings_never_enters(tmp_path):
    predictions, runs = simulated_study(ONE_TARGET, items=20, seeds=1)
    folder = write_outputs(tmp_path / "mine", predictions, runs, runs)
    run = runs.query("size == 'base' and intermediate == 'qa'").to_dict("records")[0]
    home = folder / "base/qa/nli/seed-1"
    result(home, "base/qa/nli", run, False, settings={"learning_rate": 1})
    assert len(comparison.read_study(folder).runs) == len(runs) - 1
    result(home, "base/qa/nli", run, False)
    result(folder / "base/qa/seed-1", "base/qa", run, False, settings={"learning_rate": 1})
    assert len(comparison.read_study(folder).runs) == len(runs) - 1
    result(folder / "base/qa/seed-1", "base/qa", run, True)
    read = comparison.read_study(folder).runs
    assert set(read.query("collapsed")["collapsed_in"]) == {"intermediate"}
    assert len(read) == len(runs)


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(ComparisonError, match=r"found no study\.json with a layout; expected"):
        comparison.read_study(tmp_path)
    predictions, runs = simulated_study(ONE_TARGET, items=5, seeds=1)
    folder = write_outputs(tmp_path / "old", predictions, runs, runs, layout="0.2")
    with pytest.raises(ComparisonError, match=r"old: found layout 0\.2; expected") as caught:
        comparison.read_study(folder)
    assert "\n" not in str(caught.value) and len(caught.value._render_traceback_()) == 1


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch):
    """Five lines on anybody's tables, and prediction files in XTREME's layout."""
    text = (Path(__file__).parents[1] / "docs/comparison.md").read_text(encoding="utf-8")
    five_lines, xtreme = (part.split("```")[0] for part in text.split("```python\n")[1:])
    predictions, runs = simulated_study(ONE_TARGET, items=20)
    names = {"predictions": predictions, "runs": runs}
    exec(five_lines, names)
    assert names["chart"].to_dict() and len(names["checks"])
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    tasks = [f"{size}/{task}" for size in "ab" for task in ("none", "qa")]
    for folder in ["gold", *(f"xnli/{task}/{k}" for task in tasks for k in (1, 2))]:
        Path(folder).mkdir(parents=True)
        for code in ("en", "sw"):
            answers = "\n".join(rng.choice(["entailment", "neutral"], 30))
            Path(folder, f"test-{code}.tsv").write_text(answers, encoding="utf-8")
    exec(xtreme, names)
    assert names["effects"].query("quantity == 'gain'")["estimate"].notna().all()
