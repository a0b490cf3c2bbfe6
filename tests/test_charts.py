"""Claims about the pictures: no planned run vanishes, no collapsed one hides, sizes keep a look."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import vl_convert
from helpers.comparison import estimates
from helpers.report import charts, grid, scaling, theme
from simulated import simulated_study

TARGETS = {"nli": ("en", "de", "ja", "sw"), "copa": ("en", "et", "sw", "vi")}
PARAMETERS = {"small": 5_000_000, "base": 10_000_000, "large": 21_000_000}
COPA_QA = "size == 'large' and intermediate == 'qa' and target == 'copa'"


def a_study(
    sizes=("base", "large"), intermediate=("none", "nli", "qa"), targets=TARGETS, seeds=(1, 2)
):
    """What charts read of a study."""
    return SimpleNamespace(
        sizes={
            name: SimpleNamespace(title=f"{name} of the test", encoder="stand-in") for name in sizes
        },
        intermediate=list(intermediate),
        targets=[SimpleNamespace(task=name) for name in targets],
        seeds=list(seeds),
        seeds_of=lambda intermediate: list(seeds),
        languages=lambda target: list(targets[target]),
    )


def tables(study, without="", collapsed=0):
    """(effects, results, runs, log) of a simulated study, without the runs that a query names."""
    targets = {target.task: tuple(study.languages(target.task)) for target in study.targets}
    size, names = tuple(study.sizes), tuple(study.intermediate)
    predictions, runs = simulated_study(
        targets, names, size, len(study.seeds), items=37, collapsed=collapsed
    )
    planned = runs[["size", "intermediate", "target", "seed"]].itertuples(index=False, name=None)
    if without:
        predictions, runs = (table.query(f"not ({without})") for table in (predictions, runs))
    effects = estimates.effects(
        predictions, runs, resamples=50, planned=planned, parameters=PARAMETERS
    )
    return effects, estimates.results(predictions, runs), runs, a_log(runs)


def a_log(runs, steps=(10, 20, 30)):
    lines = [{"step": step, "loss": 1 / step, "validation_score": None} for step in steps]
    lines += [{"step": steps[-1], "loss": None, "validation_score": 60.0}]
    rows = [
        {
            **{key: run[key] for key in ("size", "intermediate", "target", "seed")},
            "phase": phase,
            **line,
        }
        for run in runs.to_dict("records")
        for phase in ("intermediate", "target")
        if phase == "target" or run["intermediate"] != "none"
        for line in lines
    ]
    columns = [
        "size",
        "intermediate",
        "target",
        "seed",
        "phase",
        "step",
        "loss",
        "validation_score",
    ]
    return pd.DataFrame(rows, columns=columns)


def every_chart(study, effects, results, runs, log):
    return {
        "gains": charts.gains(study, effects, results),
        "scores": charts.scores(study, effects, results),
        "scale_effects": charts.scale_effects(study, effects, results),
        "heat_map": charts.heat_map(study, effects, results),
        "slopes": charts.slopes(study, effects, results),
        "transfer_gap": charts.transfer_gap(study, effects, results),
        "curves": charts.curves(study, log, runs),
        "curve": scaling.curve(study, effects, results, PARAMETERS),
        "cost": scaling.cost(study, runs, effects, results),
        "dashboard": charts.dashboard(study, effects, results),
    }


def svg(chart, **selected):
    """The chart as SVG text, with other parameters selected than the default ones."""
    spec = chart.to_dict(validate=False)
    for param in spec["params"]:
        param["value"] = selected.get(param["name"], param.get("value"))
    return vl_convert.vegalite_to_svg(json.dumps(spec))


@pytest.fixture(scope="module")
def study():
    return a_study()


@pytest.fixture(scope="module")
def whole(study):
    return tables(study)


@pytest.fixture(scope="module")
def drawn(study, whole):
    return every_chart(study, *whole)


@pytest.fixture(scope="module")
def holed(study):
    return tables(study, without=COPA_QA)


@pytest.fixture(scope="module")
def fallen(study):
    return tables(study, collapsed=1)


HALF_FINISHED = {
    "a missing cell": (a_study(), COPA_QA),
    "one size, one seed": (a_study(sizes=("large",), seeds=(1,)), ""),
    "three sizes": (a_study(sizes=("small", "base", "large")), "size == 'base' and seed == 1"),
    "one target": (a_study(targets={"nli": ("en", "de")}), ""),
    "no baseline yet": (a_study(), "intermediate == 'none'"),
    "only the baseline": (a_study(intermediate=("none",)), ""),
    "no finished run": (a_study(), "seed > 0"),
}


@pytest.mark.parametrize("case", HALF_FINISHED)
def test_every_chart_draws_a_half_finished_study(case):
    study, without = HALF_FINISHED[case]
    for name, chart in every_chart(study, *tables(study, without)).items():
        spec = chart.to_dict(validate=name != "dashboard")  # of which the parts are valid
        assert name == spec["usermeta"]["chart"]
        if name != "dashboard":  # its parts are drawn
            assert "<svg" in vl_convert.vegalite_to_svg(json.dumps(spec)), name


def test_a_missing_run_shows_as_a_gap_in_place_of_its_estimate(study, whole, holed):
    assert ">no run<" not in svg(charts.gains(study, *whole[:2]))
    picture = svg(charts.gains(study, *holed[:2]))
    assert picture.count(">no run<") == 1
    assert "planned, not finished" in picture
    assert ">no run<" in svg(charts.heat_map(study, *holed[:2]), target="copa", size="large")
    assert ">no run<" not in svg(charts.heat_map(study, *holed[:2]), target="copa", size="base")


def test_a_collapsed_run_is_crossed_wherever_it_enters_an_estimate(study, whole, fallen):
    down = fallen[2].query("collapsed").iloc[0]
    choice = {"target": down["target"], "size": down["size"]}
    for name, chart in every_chart(study, *fallen).items():
        shown = {param["name"]: param["value"] for param in chart.to_dict(validate=False)["params"]}
        assert shown.get("analysis", "all runs") == "all runs", name
        assert "×" in svg(chart, **choice).replace("×: with a collapsed run", ""), name
    assert "×" not in svg(charts.dashboard(study, *whole[:2]), **choice)


def test_without_collapsed_runs_no_estimate_is_crossed(study, fallen):
    picture = svg(charts.gains(study, *fallen[:2]), analysis="without collapsed")
    assert "×" not in picture.replace("×: with a collapsed run", "")


def test_a_collapsed_baseline_marks_every_gain_over_it(study, whole):
    effects, results, *_ = whole
    where = results.eval("size == 'base' and intermediate == 'none' and target == 'nli'")
    frame = grid.complete(study, effects, results.assign(collapsed=where), "gain")
    assert set(frame.query("collapsed")["target"]) == {"nli", "all"}
    assert set(frame.query("target == 'nli' and size == 'base'")["collapsed"]) == {True}
    assert set(frame.query("size == 'large'")["collapsed"]) == {False}


def test_pictures_show_the_numbers_of_the_table(study, whole):
    effects, results, *_ = whole
    row = effects.query(
        "quantity == 'gain' and size == 'large' and intermediate == 'qa'"
        " and target == 'nli' and language == 'ja'"
    ).iloc[0]
    shown = f"{row['estimate']:+.1f}".replace("-", "−")
    assert shown in svg(charts.heat_map(study, effects, results), target="nli", size="large")


def test_selecting_a_language_or_a_target_changes_the_picture(drawn):
    assert svg(drawn["gains"], language="sw") != svg(drawn["gains"])
    both = drawn["dashboard"]
    assert [p["name"] for p in both.to_dict()["params"]].count("language") == 1
    for choice in ({"language": "sw"}, {"target": "copa"}, {"size": "base"}):
        assert svg(both, **choice) != svg(both), choice


def test_sizes_keep_colour_and_shape_in_every_chart(drawn):
    found = set()
    for chart in drawn.values():
        text = json.dumps(chart.to_dict())
        found |= {
            part[: part.index("}")]
            for part in text.split('"domain": ["base", "large"], "range": ')[1:]
        }
    assert found == {json.dumps(style[:2]) for style in (theme.COLOURS, theme.SHAPES, theme.DASHES)}


def lightness(colour):
    """Relative luminance of sRGB (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_base_and_large_differ_in_black_and_white():
    light, dark = sorted((lightness(colour) for colour in theme.COLOURS[:2]), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 3


def test_every_chart_says_that_stand_ins_are_stand_ins(study, whole, drawn):
    for name, chart in drawn.items():
        assert "stand-ins for XLM-R" in json.dumps(chart.to_dict()), name
    real = a_study()
    for name, size in real.sizes.items():
        size.encoder = f"FacebookAI/xlm-roberta-{name}"
    assert "stand-ins" not in svg(charts.gains(real, *whole[:2]))


def test_curves_stay_small_and_keep_the_last_step(study, whole, monkeypatch):
    frame = grid.curves(study, a_log(whole[2], range(10, 2001, 10)), whole[2])
    counts = frame.groupby(["run", "phase", "measure"]).size()
    assert counts.max() <= 2 * grid.CURVE_POINTS
    assert set(frame[frame["last"] & (frame["measure"] == "loss")]["step"]) == {2000}
    monkeypatch.setattr(grid, "CURVE_ROWS", 100)  # as if there were many runs
    fewer = grid.curves(study, a_log(whole[2], range(10, 2001, 10)), whole[2])
    assert len(fewer) < len(frame) / 4 and fewer["last"].sum() == frame["last"].sum()
    # An intermediate training that two targets build on is one line, not two.
    assert frame.query("phase == 'intermediate'")["run"].nunique() == 2 * 2 * 2


def test_of_very_many_seeds_some_trainings_are_drawn_and_the_chart_says_so(monkeypatch):
    study = a_study(["base"], ["none"], {"nli": TARGETS["nli"]}, range(1, 13))
    *_, runs, log = tables(study)
    runs["collapsed"] = runs["seed"] == 7
    score = log["validation_score"].notna()
    log.loc[score, "validation_score"] = 50.0 + log["seed"] % 12  # the twelfth is the lowest
    said = "for some of very many seeds"
    assert said not in json.dumps(charts.curves(study, log, runs).to_dict())
    monkeypatch.setattr(grid, "CURVE_ROWS", 3 * 4 * grid.CURVE_SHAPE)  # two measures, collapsed too
    drawn = charts.curves(study, log, runs)
    rows = pd.DataFrame(drawn.datasets["curves"]).query("measure == 'validation score'")
    assert set(rows["seed"]) == {12, 5, 11} | {7}
    assert said in json.dumps(drawn.to_dict())


def test_in_the_curve_no_intermediate_task_is_where_nothing_is_gained(study, drawn):
    rows = pd.DataFrame(drawn["curve"].datasets["curve"])
    gains = rows[rows["show"] == "gain"].dropna(subset=["estimate"])
    assert set(gains["intermediate"]) == {"all", *study.intermediate}
    assert (gains.loc[gains["intermediate"] == "none", "estimate"] == 0).all()
    scores = rows[(rows["show"] == "score") & (rows["intermediate"] == "none")]
    assert (scores["estimate"] > 0).all()


def test_a_point_of_gain_is_priced_against_no_intermediate_task(study, whole):
    effects, results, runs, _ = whole
    runs = runs.assign(
        wall_seconds=[120.0 if name == "none" else 420.0 for name in runs["intermediate"]]
    )
    frame = grid.cost(study, runs, effects, results).query(
        "measure == 'minutes' and target == 'nli' and size == 'large'"
    )
    row = frame[frame["intermediate"] == "qa"].iloc[0]
    gain = row["estimate"] - frame[frame["intermediate"] == "none"]["estimate"].iloc[0]
    assert row["price"] == ("no gain" if gain <= 0 else f"{5 / gain:.3g} minutes")


def test_no_label_of_the_cost_chart_covers_another(study, whole):
    effects, results, runs, _ = whole
    frame = grid.cost(study, runs, effects, results).query(
        "measure == 'minutes' and target == 'nli'"
    )
    height = frame["estimate"].max() - frame["estimate"].min()
    for _, column in frame[frame["intermediate"] != "none"].groupby("size"):
        assert column["label_at"].sort_values().diff().min() >= 0.044 * height
        assert (column["label_at"] >= column["estimate"]).all()


def test_a_notebook_stores_a_chart_live_and_as_a_picture(study, whole):
    spec = charts.gains(study, *whole[:2]).to_dict()
    data = theme.bundle(spec)
    assert data["image/svg+xml"].startswith("<svg")
    assert data[theme.MIME]["$schema"] == theme.SCHEMA
    assert data[theme.MIME]["spec"] == spec["spec"]
    assert "http" not in json.dumps(data[theme.MIME]).replace(theme.SCHEMA, "")


def test_an_older_vega_lite_draws_the_same(drawn):
    """JupyterLab 4.6 brings Vega-Lite 5; the oldest that vl-convert has stands in for it."""
    for name, chart in drawn.items():
        spec = json.dumps(theme.bundle(chart.to_dict())[theme.MIME])
        old = vl_convert.vegalite_to_svg(spec, vl_version=vl_convert.get_vegalite_versions()[0])
        assert old.count("<path") == svg(chart).count("<path"), name


def test_the_learning_curve_has_a_point_for_every_amount_of_target_data():
    study = a_study(targets={"few": ("en", "de"), "many": ("en", "de"), "other": ("en", "de")})
    study.variants = {"few": "nli", "many": "nli"}
    amounts = {"few": 100, "many": 400, "other": 200}
    study.hyperparameters = lambda phase, size, task: SimpleNamespace(train_examples=amounts[task])
    effects, results, *_ = tables(study)
    chart = scaling.learning_curve(study, effects, results)
    rows = pd.DataFrame(chart.datasets["learning_curve"])
    assert set(rows["examples"]) == {100, 400} and set(rows["panel"]) == {"base", "large"}
    shown = rows.query("language == 'zero-shot' and intermediate == 'qa' and size == 'large'")
    wanted = effects.query("quantity == 'score' and language == 'zero-shot' and size == 'large'")
    wanted = wanted.query("intermediate == 'qa' and target in ('few', 'many')")
    assert shown["estimate"].round(3).to_list() == wanted["estimate"].round(3).to_list()
    assert ">400<" in svg(chart)
    amounts["many"] = 100
    assert scaling.learning_curve(study, effects, results) is None
