"""Claims about the pictures: no planned run vanishes, no collapsed one hides, looks are kept."""

import json

import pandas as pd
import pytest
import vl_convert
from simulated import simulated_study
from written import LOG, RUN

import comparison
from comparison import Plan, Target, charts, run_charts, theme

TARGETS = {"nli": ("en", "de", "ja", "sw"), "copa": ("en", "et", "sw", "vi")}
PARAMETERS = {"small": 5_000_000, "base": 10_000_000, "large": 21_000_000}
COPA_QA = "size == 'large' and intermediate == 'qa' and target == 'copa'"


def drawn(without="", collapsed=0, **study) -> dict:
    """Every chart of a simulated study, without the runs that a query names."""
    predictions, runs = simulated_study(items=37, seeds=2, collapsed=collapsed, **study)
    plan = Plan.of(runs, PARAMETERS)
    if without:
        predictions, runs = (table.query(f"not ({without})") for table in (predictions, runs))
    effects = comparison.effects(predictions, runs, plan)
    log = runs[RUN].merge(pd.DataFrame({"phase": ["intermediate", "target"]}), how="cross")
    log = log.query("phase == 'target' or intermediate != 'none'")
    log = log.merge(pd.DataFrame(LOG), how="cross")
    draw = [charts.gains, charts.scores, charts.scale_effects, charts.heat_map]
    draw += [charts.transfer_gap, charts.scaling]
    every = {function.__name__: function(effects, plan) for function in draw}
    every["trainings"] = charts.trainings(log, runs, plan)
    return every | {"cost": charts.cost(effects, runs, plan)}


def svg(chart, **selected) -> str:
    """The chart as SVG text, with other parameters selected than the default ones."""
    spec = chart.to_dict()
    for param in spec["params"]:
        param["value"] = selected.get(param["name"], param.get("value"))
    return vl_convert.vegalite_to_svg(json.dumps(spec))


@pytest.fixture(scope="module")
def whole():
    return drawn()


CASES = [{"without": COPA_QA}, {"without": "intermediate == 'none'"}, {"without": "seed > 0"}]
CASES += [{"sizes": ("large",), "without": "seed == 2"}, {"targets": {"nli": ("en", "de")}}]
CASES += [{"sizes": ("small", "base", "large"), "without": "size == 'base'"}]
CASES += [{"intermediates": ("none",)}]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_chart_draws_a_half_finished_study_or_is_left_out(case):
    for name, chart in drawn(**case).items():
        assert chart is None or "<svg" in svg(chart), name


def test_a_missing_run_shows_as_the_word_that_says_why(whole):
    holed = drawn(without=COPA_QA)
    assert ">not finished<" not in svg(whole["gains"])
    assert svg(holed["gains"]).count(">not finished<") == 4  # qa and all, for copa and for all
    assert ">not finished<" in svg(holed["heat_map"], target="copa", size="large")
    assert ">not finished<" not in svg(holed["heat_map"], target="copa", size="base")


def test_a_collapsed_run_is_crossed_wherever_it_enters(whole):
    choice = {"target": "copa", "size": "large"}
    fallen = drawn(collapsed=1)
    for name, chart in fallen.items():
        assert svg(chart, **choice).replace("×: with", "").count("×"), name
        assert "×" not in svg(whole[name], **choice), name
    assert "×" not in svg(fallen["gains"], analysis="without collapsed").replace("×: with", "")


def test_selecting_a_language_or_a_target_changes_the_picture(whole):
    assert svg(whole["gains"], language="sw") != svg(whole["gains"])
    assert svg(whole["scores"], target="copa") != svg(whole["scores"])


def test_a_task_has_one_colour_in_every_chart_and_study():
    studies = (["all", "none", "qa"], ["none", "qa", "siqa"])
    scales = [theme.by_task(names)[0].to_dict()["scale"] for names in studies]
    first, second = (dict(zip(s["domain"], s["range"], strict=True)) for s in scales)
    assert first["qa"] == second["qa"] and first["none"] == second["none"] == theme.GREY
    many = theme.slots([*theme.USUAL, "one", "two", "three"])
    assert len(set(many.values())) == 12


def test_sizes_keep_colour_and_shape_in_every_chart(whole):
    looks = set()
    for chart in whole.values():
        parts = json.dumps(chart.to_dict()).split('"domain": ["base", "large"], "range": ')[1:]
        looks |= {part[: part.index("}")] for part in parts}
    assert looks == {json.dumps(s[1::-1]) for s in (theme.SIZES, theme.SHAPES, theme.DASHES)}


def test_zero_is_labelled_where_gains_are_drawn(whole):
    for name in ("gains", "scale_effects", "scaling"):
        assert ">0<" in svg(whole[name]), name


def test_in_the_scaling_curve_no_intermediate_task_is_the_zero_line(whole):
    rows = pd.DataFrame(whole["scaling"].datasets["scaling"])
    gains = rows[(rows["show"] == "gain") & (rows["intermediate"] == "none")]
    assert len(gains) and (gains["estimate"] == 0).all()


def test_the_cost_of_a_run_is_measured_processor_time_and_never_nothing(whole):
    rows = pd.DataFrame(whole["cost"].datasets["cost"])
    assert rows["measure"].iloc[0] == "processor minutes" and (rows["cost"] > 0).all()
    assert ">0.00<" not in svg(whole["cost"])
    predictions, runs = simulated_study(items=5, seeds=1)
    runs = runs.drop(columns=["cpu_seconds", "wall_seconds"])
    assert charts.cost(comparison.effects(predictions, runs), runs, Plan.of(runs)) is None


def test_the_learning_curve_has_a_point_for_every_number_of_examples():
    study = simulated_study({"few": ("en", "de"), "many": ("en", "de")}, items=20, seeds=1)
    plan, effects = Plan.of(study[1]), comparison.effects(*study)
    assert charts.learning(effects, plan) is None
    for name, count in {"few": 100, "many": 400}.items():
        amounts = dict.fromkeys(plan.sizes, count)
        plan.targets[name] = Target(variant_of="nli", train_examples=amounts)
    chart = charts.learning(effects, plan)
    assert set(pd.DataFrame(chart.datasets["learning"])["x"]) == {100, 400}
    assert ">400<" in svg(chart)


def test_an_older_vega_lite_draws_the_same(whole):
    """JupyterLab 4.6 brings Vega-Lite 5; the oldest that vl-convert has stands in for it."""
    for name, chart in whole.items():
        data = theme.bundle(chart.to_dict())
        spec = data[theme.MIME]
        assert data["image/svg+xml"].startswith("<svg"), name
        assert "http" not in json.dumps(spec).replace(theme.SCHEMA, ""), name
        oldest = vl_convert.get_vegalite_versions()[0]
        old = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=oldest)
        assert old.count("<path") == svg(chart).count("<path"), name


def test_the_chart_of_a_confusion_has_a_panel_for_every_language():
    rows = [(code, "yes", answer) for code in ("en", "de") for answer in ("yes", "no")]
    predictions = pd.DataFrame(rows, columns=["language", "label", "prediction"])
    chart = run_charts.confusion(predictions, ["yes", "no"], "title").to_dict()
    picture = vl_convert.vegalite_to_svg(json.dumps(chart))
    assert picture.count(">50<") == 5  # one of them in the legend
