"""What is transfer and what is not: the target's own data, controls, English, geometry, noise."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_study
from written import result, write_outputs

import comparison
from comparison import ComparisonError, Plan, Target, charts
from comparison.contrasts import headline

TARGETS = {"nli": ("en", "de", "ja"), "copa": ("en", "de", "et"), "find": ("en", "de", "sw")}
TASKS = ("none", "mnli", "qa", "placebo-qa", "longer")
NAMES = ["quantity", "size", "intermediate", "target", "language"]


@pytest.fixture(scope="module")
def study():
    """MNLI is the data of nli; find is not trained, so nothing trains it longer."""
    tables = simulated_study(TARGETS, TASKS, items=80)
    predictions, runs = (t.query("intermediate != 'longer' or target != 'find'") for t in tables)
    targets = {name: Target(same_data=("mnli",) * (name == "nli")) for name in TARGETS}
    controls = {"placebo-qa": "qa", "longer": None}
    return predictions, runs, replace(Plan.of(runs), targets=targets, controls=controls)


@pytest.fixture(scope="module")
def table(study):
    return comparison.effects(*study)


def value(table, *names, column="estimate", language="zero-shot"):
    return table.set_index(NAMES).loc[(*names, language), column]


def test_a_targets_own_data_is_shown_marked_and_in_no_mean(study, table):
    gain = ("gain", "large")
    assert value(table, *gain, "mnli", "nli", column="note") == "same data"
    assert value(table, *gain, "all", "nli") == value(table, *gain, "qa", "nli")
    assert value(table, *gain, "all", "nli", column="note") == ""
    each = [value(table, *gain, "qa", "nli")]
    for target in ("copa", "find"):
        tasks = [value(table, *gain, task, target) for task in ("mnli", "qa")]
        each.append(np.mean(tasks))
    assert value(table, *gain, "all", "all") == pytest.approx(np.mean(each))
    others = [value(table, *gain, "mnli", target) for target in ("copa", "find")]
    assert value(table, *gain, "mnli", "all") == pytest.approx(np.mean(others))


def test_the_headline_changes_only_if_the_study_counts_its_own_data(study, table):
    predictions, runs, plan = study
    own = (predictions["intermediate"] == "mnli") & (predictions["target"] == "nli")
    perfect = predictions.assign(credit=predictions["credit"].where(~own, 1.0))
    changed = comparison.effects(perfect, runs, plan)
    place = ("scale_effect", "large - base", "all", "all")
    gone = [t[(t["intermediate"] != "mnli") | (t["target"] != "nli")] for t in (predictions, runs)]
    for each in (changed, comparison.effects(*gone, plan)):
        assert value(each, *place) == pytest.approx(value(table, *place))
        assert value(each, *place, column="status") == "complete"
    counted = replace(plan, same_data_in_headline=True)
    with_them = value(comparison.effects(predictions, runs, counted), *place)
    gains = [value(table, *place[:2], *cell) for cell in product(("mnli", "qa"), TARGETS)]
    assert with_them == pytest.approx(np.mean(gains)) != value(table, *place)
    for one, estimate in ((plan, with_them), (counted, value(table, *place))):
        checks = comparison.sensitivity(predictions, runs, one).set_index("detail")
        assert checks.loc["mnli before nli", "estimate"] == pytest.approx(estimate)
    text = comparison.summary_sentence(table, runs, plan)
    assert "Left out as the target's own data: mnli before nli." in text


def test_a_target_with_nothing_but_its_own_data_leaves_the_mean(study):
    predictions, runs, plan = study
    few = [t.query("intermediate in ('none', 'mnli')") for t in (predictions, runs)]
    plan = replace(plan, intermediate=["none", "mnli"], controls={})
    table = comparison.effects(*few, plan)
    others = [value(table, "gain", "base", "mnli", target) for target in ("copa", "find")]
    assert value(table, "gain", "base", "mnli", "all") == pytest.approx(np.mean(others))
    assert "on 2 targets (copa, find)" in comparison.summary_sentence(table, few[1], plan)
    alone = replace(plan, targets={"nli": plan.targets["nli"]})
    assert headline(alone) is None and headline(plan).intermediate == "mnli"
    with pytest.raises(ComparisonError, match="found 'placebo_qa' in controls or same_data"):
        comparison.effects(*few, replace(plan, controls={"placebo_qa": "qa"}))


def test_controls_are_in_no_mean_and_change_no_number_of_a_task(study, table):
    predictions, runs, plan = study
    tasks = [t.query("intermediate in ('none', 'mnli', 'qa')") for t in (predictions, runs)]
    without = comparison.effects(*tasks, replace(plan, controls={}, intermediate=[*TASKS[:3]]))
    kept = table[table["quantity"].isin(without["quantity"]) & (table["note"] != "control")]
    kept = kept[~kept["intermediate"].isin(TASKS[3:])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, without)
    assert not any("placebo" in text for text in comparison.sensitivity(*study)["detail"])


def test_a_gain_is_shown_over_the_placebo_and_over_as_many_more_steps(study, table):
    for target in ("copa", "all"):
        score = [value(table, "score", "base", task, target) for task in ("qa", "placebo-qa")]
        over = value(table, "gain_over_placebo", "base", "qa", target)
        assert over == pytest.approx(score[0] - score[1])
    status = value(table, "gain_over_longer", "base", "all", "find", column="status")
    assert status == "not asked for"
    each = [value(table, "gain_over_longer", "base", "all", target) for target in ("nli", "copa")]
    assert value(table, "gain_over_longer", "base", "all", "all") == pytest.approx(np.mean(each))
    table = table.assign(low=table["estimate"] - 1, high=table["estimate"] + 1)
    table.loc[table["quantity"] == "gain_over_longer", ["estimate", "low", "high"]] = [2, 1, 3]
    text = comparison.beside_sentence(table, study[1], study[2])
    assert "On nli and copa, +2.0 points [1.0, 3.0] at base and +2.0 points [1.0, 3.0] at" in text
    assert "remain over more steps on the target alone." in text
    assert "qa minus its placebo (the same texts, labels shuffled): +" in text
    kept = [run for run in study[2].runs if run[1:3] != ("placebo-qa", "copa")]
    without = comparison.beside_sentence(table, study[1], replace(study[2], runs=kept))
    assert "On nli and copa, " in without  # where more steps were asked for
    none_left = pd.concat([table, table.assign(analysis="without collapsed", low=np.nan)])
    text = comparison.beside_sentence(none_left, study[1], study[2])
    assert "above zero at base and large only if collapsed runs count" in text
    is_lost = (table["quantity"] == "gain_over_placebo") & (table["size"] == "large")
    table.loc[is_lost, ["estimate", "low", "high"]] = np.nan  # not finished is not collapsed
    both = pd.concat([table, table.assign(analysis="without collapsed")])
    assert "if collapsed runs count" not in comparison.beside_sentence(both, study[1], study[2])
    unsure = comparison.beside_sentence(table.assign(low=-1.0), study[1], study[2])
    assert "target alone (not seen above zero at base and large)." in unsure


def test_the_transfer_is_tested_by_what_a_task_does_to_the_gap(study, table):
    for task, target in product(("all", "qa"), ("copa", "all")):
        home = value(table, "gain", "base", task, target, language="en")
        change = value(table, "gap_change", "base", task, target)
        assert change == pytest.approx(home - value(table, "gain", "base", task, target))
    scale = value(table, "gap_scale_effect", "large - base", "qa", "copa")
    both = [value(table, "gap_change", size, "qa", "copa") for size in ("base", "large")]
    assert scale == pytest.approx(both[1] - both[0])
    assert 0 < value(table, "gap_scale_effect", "large - base", "qa", "copa", column="p") <= 1
    more = table.assign(low=-3.0, high=-1.0)
    texts = [comparison.beside_sentence(each, *study[1:]) for each in (table, more)]
    assert ["not seen to gain more than English" in text for text in texts] == [True, False]


def test_pictures_mark_own_data_and_show_controls_and_english(study, table):
    spec = [charts.gains, charts.controls, charts.at_home]
    drawn = {chart.__name__: chart(table, study[2]) for chart in spec}
    for chart in drawn.values():
        rows = pd.DataFrame(chart.datasets[chart.data.name])
        marked = rows[rows["mark"] == "="]
        assert set(marked["intermediate"]) == {"mnli"} and set(marked["target"]) == {"nli"}
    panels = [pd.DataFrame(drawn[n].datasets[n])["panel"].unique() for n in ("controls", "at_home")]
    assert set(panels[0]) == {"over none", "over its placebo", "over longer"}
    assert "in English" in panels[1] and "in the other languages" in panels[1]


def test_other_weights_are_read_where_the_study_compares_them(tmp_path):
    predictions, runs = simulated_study({"nli": ("en", "de", "sw")}, items=20, seeds=2)
    folder = write_outputs(tmp_path / "mine", predictions, runs, runs, compare_selections=True)
    assert comparison.read_study(folder, "last").runs.empty
    for path in folder.glob("*/*/*/seed-*/predictions.parquet"):
        best = pd.read_parquet(path)
        best.to_parquet(path.with_name("predictions-average.parquet"))
        last = best.assign(credit=float(path.parent.name == "seed-2"))
        last.to_parquet(path.with_name("predictions-last.parquet"))
    names = ("last", "average", "oracle")
    others = {name: comparison.read_study(folder, name).predictions for name in names}
    lucky = others["oracle"]["seed"] == 2
    assert (others["oracle"].loc[lucky, "credit"] == 1).all()
    first = predictions.query("seed == 1")["credit"].mean()
    assert others["oracle"].loc[~lucky, "credit"].mean() == pytest.approx(first)
    checks = comparison.sensitivity(predictions, runs, selections=others).set_index("check")
    answer = comparison.effects(predictions, runs).query("comparisons == 1").iloc[0]
    assert checks.loc["selection: average of the weights", "high"] == answer["high"]
    assert checks.loc["selection: last weights", "estimate"] == 0
    assert np.isnan(checks.loc["oracle, description only", ["low", "high"]].astype(float)).all()
    with pytest.raises(ComparisonError, match="selection: found worst; expected one of best"):
        comparison.read_study(folder, "worst")


def test_a_retrieval_gain_that_vanishes_without_the_means_is_named():
    cells = product(["none", "qa", "nli"], [1, 2, 3], ["de", "sw"], [0, 1], [False, True])
    names = ["intermediate", "seed", "language", "layer", "centred"]
    layers = pd.DataFrame(cells, columns=names).assign(size="base", target="find")
    moved = 8.0 * ((layers["intermediate"] == "qa") & ~layers["centred"])
    learned = 5.0 * (layers["intermediate"] == "nli")
    noise = np.random.default_rng(0).normal(0, 0.1, len(layers))
    layers["accuracy"] = 40 + 10 * layers["layer"] + moved + learned + noise
    gains = comparison.layer_gains(layers)
    row = gains.query("layer == 1 and intermediate == 'qa' and not centred").iloc[0]
    assert 7.5 < row["low"] < row["estimate"] < row["high"] < 8.5 and row["seeds"] == 3
    vanish, stay = comparison.layers_sentence(gains).split(". ")
    assert "these gains vanish: qa before find at base (layer 1: +8.0 to" in vanish
    assert "these gains stay: nli before find" in stay and "nli" not in vanish
    plan = Plan({"base": comparison.Size("base")}, ["none", "qa", "nli"], {"find": Target()}, [])
    assert charts.layers(gains, plan).to_dict() and charts.layers(gains[:0], plan) is None
    assert comparison.layer_gains(layers.query("seed == 1"))["low"].isna().all()


def crossed(levels: tuple, sd: dict[str, float], items: int = 200) -> pd.DataFrame:
    """Predictions of crossed runs whose variances (points) are known."""
    rng, names = np.random.default_rng(1), ["item", "intermediate_seed", "target_seed", "draw"]
    shape = (items, *levels)
    points = 50 + sd["rest"] * rng.standard_normal(shape)
    for axis, name in enumerate(names):
        effect = rng.standard_normal(shape[axis])
        effect = sd[name] * (effect - effect.mean()) / effect.std(ddof=1)
        points += effect.reshape([-1 if i == axis else 1 for i in range(4)])
    cells = pd.MultiIndex.from_product(map(range, shape), names=names).to_frame(index=False)
    cells = cells.assign(size="base", intermediate="qa", target="nli", out_of=1.0)
    cells = cells.assign(credit=points.ravel() / 100, id=cells["item"].astype(str))
    languages = [cells.assign(language=code) for code in ("en", "de", "sw")]
    languages[0]["credit"] = 0.5  # English does not count
    return pd.concat(languages)


def test_the_variance_of_a_score_is_told_by_its_sources():
    sd = {"item": 20.0, "intermediate_seed": 1.0, "target_seed": 2.0, "draw": 0.5, "rest": 4.0}
    predictions = crossed((5, 5, 4), sd)
    table = comparison.variance_table(predictions).set_index("source")
    expected = {"intermediate seed": 1.0, "target seed": 2.0, "draw of the data": 0.5}
    expected |= {"items": 20 / 200**0.5, "items by training": 4 / 200**0.5}
    for source, points in expected.items():
        assert table.loc[source, "sd"] == pytest.approx(points, abs=0.1), source
    assert table["share"].sum() == pytest.approx(100)
    assert table.loc["interactions of the trainings", "sd"] < 0.2
    alike = crossed((3, 3, 2), dict.fromkeys(sd, 0.0) | {"rest": 4.0})
    assert comparison.variance_table(alike)["variance"].min() == 0  # an estimate below is none
    last = predictions[["intermediate_seed", "target_seed", "draw"]] == [4, 4, 3]
    assert comparison.variance_table(predictions[~last.all(axis=1)]).empty


def test_crossed_runs_are_read_under_the_studys_settings_only(tmp_path):
    predictions, runs = simulated_study({"nli": ("en", "de")}, items=20, seeds=1)
    names = {"size": "base", "intermediate": "qa", "target": "nli"}
    listed = []
    for a, b in product((1, 2), (1, 2)):
        seeds = {"intermediate_seed": a, "target_seed": b, "draw": 1}
        listed.append(names | seeds | {"folder": f"base/qa/nli/crossed/{a}{b}"})
    folder = write_outputs(tmp_path / "mine", predictions, runs, runs, crossed=listed)
    for number, run in enumerate(listed):
        more = {"settings": {"learning_rate": 1}} if number == 3 else {}
        costs = {"wall_seconds": 1, "cpu_seconds": 1, "seed": 1}
        result(folder / run["folder"], "base/qa/nli", costs, False, **more)
        answers = predictions.query("size == 'base' and intermediate == 'qa'")
        answers.to_parquet(folder / run["folder"] / "predictions.parquet")
    read = comparison.read_crossed(folder)
    assert read.groupby(["intermediate_seed", "target_seed", "draw"]).size().tolist() == [40] * 3


def test_gains_stand_beside_what_is_known_of_languages():
    figures, codes = comparison.languages(), ["de", "fr", "ru", "hi", "tr", "sw", "zh", "qu"]
    assert figures.set_index("language").loc[codes].notna().all(axis=None)
    place = {"quantity": "gain", "size": "base", "intermediate": "qa", "target": "nli"}
    rows = {"language": [*codes, "en", "zero-shot"], "estimate": [8, 7, 6, 5, 4, 3, 2, 1, 99, 99]}
    effects = pd.DataFrame(rows).assign(analysis="all runs", **place)
    tokens = {"en": 10.0} | {code: 11.0 + i for i, code in enumerate(codes)}
    size = comparison.Size("base", fertility={"nli": tokens})
    tokens = comparison.fertility(Plan({"base": size}, ["none", "qa"], {"nli": Target()}, []))
    assert tokens.set_index(["target", "language"]).loc[("all", "fr"), "fertility"] == 1.2
    explained = comparison.explain_gains(effects, figures, tokens).set_index("figure")
    assert explained.loc["fertility", ["rho", "n"]].tolist() == [pytest.approx(-1), 8]
    assert explained.loc["syntactic_distance", "rho"] < -0.5
    assert explained.loc["Indo-European family", "rho"] > 0.8
    assert comparison.explain_gains(effects[:4], figures, tokens).empty
    means = comparison.mean_gains(effects, figures).set_index(["by", "group"])
    assert means.loc[("family", "Indo-European"), ["gain", "n"]].tolist() == [6.5, 4]
