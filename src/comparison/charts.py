"""Altair charts of a study's tables, one idea each.

Every function takes tables of `comparison` and the plan, and returns an Altair chart, or None where
there is nothing to draw. An estimate that is missing is drawn as the word that says why; × marks
those that a collapsed run enters, = cells of the target's own data. Charts share the parameters
`language`, `target` and `analysis`, so that on a page one selection drives all of them.
"""

import json
import textwrap

import altair as alt
import numpy as np
import pandas as pd

from comparison import rows
from comparison.languages import language_label
from comparison.plan import NONE, ZERO_SHOT, Plan
from comparison.theme import FAINT, INK, WARNING, by_size, by_task
from comparison.theme import enable as enable

CAPTION = 105
"""Letters of a caption's line in a notebook; a page wraps it to its own width."""
KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
HOLDS = "isValid(datum.p_corrected) && datum.p_corrected < 0.05"
TOOLTIP = [alt.Tooltip(f"{name}:N") for name in ("size", "intermediate", "target", "language")]
TOOLTIP += [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("estimate", "low", "high")]
TOOLTIP += [alt.Tooltip("p_corrected:Q", format=".3f"), alt.Tooltip("seeds:Q")]
TOOLTIP += [alt.Tooltip("n:Q", title="test items"), alt.Tooltip("status:N"), alt.Tooltip("note:N")]
Chart = alt.TopLevelMixin | None


def gains(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain of every intermediate task, sizes beside each other, a panel per target (points)."""
    text = "score(intermediate) − score(none), 95 % intervals; right of zero, the task helps"
    frame, words = rows.of(effects, "gain"), ("Gain from an intermediate task", text)
    return _by_task(frame, plan, "gains", "target", plan.judged, ["language", "analysis"], *words)


def transfer_gap(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score where trained minus zero-shot score, by intermediate task, a panel per target."""
    frame = rows.of(effects, "transfer_gap").query("language == @ZERO_SHOT")
    text = "score in the language of training − mean score in the others, 95 % intervals"
    words = ("Transfer gap", text)
    return _by_task(frame, plan, "transfer_gap", "target", plan.judged, ["analysis"], *words)


def scores(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score in every language, sizes beside each other, a panel per task (percent)."""
    frame, params = rows.of(effects, "score"), ["target", "analysis"]
    chart = _by_size(plan, "score (%)", _languages(frame), params, step=13, zero=False)
    chart = _panels(chart, "scores", "intermediate", plan.intermediate)
    text = "95 % intervals; zero-shot: the mean of the languages that the target was not trained in"
    return _finish(chart, plan, frame, "Scores in every language", text, params)


def scale_effects(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Forest plot of what size does to the gain, per language, a panel per task (points)."""
    frame, params = rows.of(effects, "scale_effect", "slope"), ["change", "target", "analysis"]
    frame = frame.assign(change=frame["size"])
    base = _selected(params).encode(_languages(frame, grid=True), tooltip=TOOLTIP)
    fill = alt.when(HOLDS).then(alt.value(INK)).otherwise(alt.value("white"))
    looks = {"fill": fill, "stroke": alt.value(INK)}
    chart = _intervals(base, "change of the gain (points)", alt.value(INK), looks)
    chart = _panels(chart, "scale_effects", "intermediate", plan.compared)
    text = "change of the gain from one size to another, or per doubling of the parameters; 95 % "
    text += "intervals; filled: p < 0.05 after correction; left of zero, the smaller gains more"
    return _finish(chart, plan, frame, "Does the larger size gain more?", text, params)


def at_home(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain in English, gain elsewhere, and what a task does to the transfer gap (points)."""
    places = {("gain", "en"): "in English", ("gain", ZERO_SHOT): "in the other languages"}
    places["gap_change", ZERO_SHOT] = "change of the transfer gap"
    text = "95 % intervals; last panel, right of zero: English gains more, so the gap widens"
    return _side_by_side(effects, plan, "at_home", places, "Gain in English and elsewhere", text)


def controls(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Zero-shot gain over none, over the placebo and over longer training (points)."""
    over = {"gain": NONE, "gain_over_placebo": "its placebo", "gain_over_longer": "longer"}
    places = {(name, ZERO_SHOT): f"over {baseline}" for name, baseline in over.items()}
    text = "95 % intervals; placebo: the same texts, labels shuffled; longer: more target steps"
    return _side_by_side(effects, plan, "controls", places, "Gains beside controls", text)


def heat_map(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain by language and intermediate task as coloured numbers (points)."""
    frame, params = rows.of(effects, "gain"), ["size", "target", "analysis"]
    if frame.empty:
        return None
    number = frame["estimate"].map("{:+.1f}".format).str.replace("-", "−")
    number += np.where(frame["p_corrected"] < 0.05, "*", "")
    number += np.where(frame["mark"] == "", "", " " + frame["mark"])
    frame = frame.assign(number=number.where(frame["estimate"].notna(), frame["status"]))
    top = max(1.0, frame["estimate"].abs().max())  # less than a point is no colour
    names = alt.Axis(orient="top", labelAngle=0, labelLimit=100, domain=False, ticks=False)
    x = alt.X("intermediate:N").sort(plan.compared).title(None).scale(paddingInner=0.04).axis(names)
    y = _languages(frame).scale(paddingInner=0.08)
    base = _selected(params).encode(x, y, tooltip=TOOLTIP)
    colour = alt.Color("estimate:Q").title("gain (points)")
    colour = colour.legend(gradientLength=180, format="+.0f", values=[-top, 0, top])
    colour = colour.scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"])
    dark = alt.when(f"abs(datum.estimate) > {0.6 * top:.3f}").then(alt.value("white"))
    ink = dark.when(GAP).then(alt.value(FAINT)).otherwise(alt.value(INK))
    boxes = base.transform_filter(KNOWN).mark_rect().encode(colour)
    words = base.mark_text(fontSize=11).encode(alt.Text("number:N"), color=ink)
    chart = alt.layer(boxes, words, width=alt.Step(104), height=alt.Step(25))
    chart.data = alt.NamedData("heat_map")
    text = "points; * p < 0.05 after correction"
    return _finish(chart, plan, frame, "Gain by language", text, params)


def scaling(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain (or score, or transfer gap) against the encoder's parameters, a line per task."""
    if len(plan.parameters) < 2:
        return None
    kinds, params = ["gain", "score", "transfer_gap"], ["show", "language", "analysis"]
    frame = pd.concat([rows.of(effects, k).assign(show=k.replace("_", " ")) for k in kinds])
    none = frame[(frame["show"] == "score") & (frame["intermediate"] == NONE)]
    no_gain = {"show": "gain", "estimate": 0 * none["estimate"], "low": np.nan, "high": np.nan}
    frame = pd.concat([frame, none.assign(**no_gain)])
    frame = frame.assign(x=frame["size"].map(plan.parameters)).dropna(subset=["x"])
    x = _log("parameters without embeddings (log scale)", plan.parameters.values(), ".2~s")
    names = list(dict.fromkeys([*plan.compared, *plan.intermediate]))
    chart = _panels(_curves(names, x, "points", params), "scaling", "target", plan.judged)
    text = "95 % intervals; where a line rises, larger encoders gain more; none is the zero line"
    return _finish(chart, plan, frame, "The scaling curve", text, params)


def learning(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score against the target's training examples, a line per intermediate task, a panel per size.

    The points are variants of a target that have numbers of examples of their own; None if fewer
    than two numbers were tried.
    """
    params = ["language", "analysis"]
    variants = {name: t for name, t in plan.targets.items() if t.variant_of and t.train_examples}
    frame = rows.of(effects, "score").query("target in @variants")
    pairs = zip(frame["size"], frame["target"], strict=True)
    amounts = [variants[target].train_examples.get(size) for size, target in pairs]
    frame = frame.assign(x=amounts).dropna(subset=["x"])
    if frame["x"].nunique() < 2:
        return None
    x = _log("training examples (log scale)", set(frame["x"]), ",")
    chart = _curves(plan.intermediate, x, "score (%)", params)
    chart = _panels(chart, "learning", "size", plan.sizes)
    origins = ", ".join(dict.fromkeys(target.variant_of for target in variants.values()))
    text = "95 % intervals; where the lines meet, the target's own examples are enough"
    return _finish(chart, plan, frame, f"The learning curve of {origins}", text, params)


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Training of every run by optimiser step; collapsed runs are crossed.

    `curves` has size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss,
    validation_score; `runs` one row per finished run, with `collapsed`.
    """
    if curves.empty:
        return None
    frame, params = rows.trainings(curves, runs), ["measure", "target"]
    y = alt.Y("value:Q").title(None).scale(zero=False).axis(labelFlush=True, tickCount=4)
    base = alt.Chart().encode(alt.X("step:Q").title("step").axis(tickCount=4, format="~s"), y)
    color, shape, dash = by_size(plan)
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(color, dash, alt.Detail("line:N"))
    last = base.transform_filter("datum.last")
    tips = [alt.Tooltip(f"{name}:N") for name in ("size", "panel", "seed", "value", "mark")]
    point = last.mark_point(filled=True, size=28, opacity=1).encode(color, shape, tooltip=tips)
    chart = alt.layer(line, point, _marks(last), width=205, height=130)
    chart = _panels(chart, "trainings", "panel", dict.fromkeys(frame["panel"]))
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    chart = chart.resolve_scale(x="independent", y="independent")
    text = "a line per training and seed; scores (%) are on validation data, which choose a model"
    return _finish(chart, plan, frame, "Every training", text, params)


def cost(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Zero-shot score against what one run cost, the intermediate training included."""
    frame, params = rows.costs(effects, runs), ["measure", "target", "analysis"]
    x = alt.X("cost:Q").title("cost of one run (log scale)").scale(type="log", padding=30)
    x = x.axis(tickCount=4, format=".2~g", labelOverlap="greedy")
    chart = _curves(plan.intermediate, x, "zero-shot score (%)", params, joined=False)
    chart = _panels(chart, "cost", "size", plan.sizes)
    text = "95 % intervals; the cost of a run includes its intermediate training; "
    text += "processor time is measured, over all cores"
    return _finish(chart, plan, frame, "What a gain costs", text, params)


def layers(gains: pd.DataFrame, plan: Plan) -> Chart:
    """Gain in retrieval accuracy by layer, the table of `comparison.layer_gains` (points)."""
    means = np.where(gains["centred"], "means removed", "as they are")
    panel = gains["target"] + ", " + gains["size"] + ": " + means
    frame = gains.assign(panel=panel, mark="").sort_values(["target", "centred"], kind="stable")
    x = alt.X("layer:Q").axis(tickMinStep=1)
    chart = _curves(plan.compared, x, "gain (points)", [])
    chart = _panels(chart, "layers", "panel", dict.fromkeys(frame["panel"]))
    text = (
        "accuracy − accuracy of none, 95 % intervals over seeds; a gain that vanishes without the "
    )
    text += "languages' mean vectors comes from languages that moved as a whole"
    return _finish(chart, plan, frame, "Retrieval at every layer", text, [])


def _selected(params: list[str]) -> alt.Chart:
    """What the parameters of these names select."""
    is_chosen = " && ".join(f"datum.{name} == {name}" for name in params)
    return alt.Chart().transform_filter(is_chosen) if params else alt.Chart()


def _languages(frame: pd.DataFrame, **axis) -> alt.Y:
    names = json.dumps({code: language_label(code) for code in frame["language"].unique()})
    y = alt.Y("language:N").title(None).sort(rows.languages(frame))
    return y.axis(alt.Axis(labelExpr=f"{names}[datum.value]", **axis))


def _log(title: str, values, number: str) -> alt.X:
    ticks = alt.Axis(values=sorted(values), format=number)
    return alt.X("x:Q").title(title).scale(type="log", base=2, padding=24, nice=False).axis(ticks)


def _marks(base: alt.Chart) -> alt.Chart:
    marked = base.transform_filter("datum.mark != ''")
    return marked.mark_text(dx=12, fontSize=18, color=WARNING).encode(alt.Text("mark:N"))


def _side_by_side(effects, plan: Plan, name: str, places: dict, title: str, text: str) -> Chart:
    """Estimates by task, a panel for each (quantity, language); None if there is only one."""
    frame = rows.of(effects, *(quantity for quantity, _ in places))
    pairs = zip(frame["quantity"], frame["language"], strict=True)
    frame = frame.assign(panel=[places.get(pair) for pair in pairs]).dropna(subset=["panel"])
    order, params = [p for p in places.values() if p in set(frame["panel"])], ["target", "analysis"]
    if len(order) < 2:
        return None
    return _by_task(frame, plan, name, "panel", order, params, title, text)


def _by_task(frame, plan: Plan, name: str, panel: str, order, params, title, text) -> Chart:
    """Estimates by intermediate task, sizes beside each other, in panels."""
    y = alt.Y("intermediate:N").sort([NONE, *plan.compared])
    chart = _panels(_by_size(plan, "points", y, params), name, panel, order)
    return _finish(chart, plan, frame, title, text, params)


def _by_size(plan: Plan, title: str, y: alt.Y, params, step=20, zero=True) -> alt.LayerChart:
    """Estimates with intervals along x; within a row, one size above the other."""
    sizes, (color, shape, _) = list(plan.sizes), by_size(plan)
    y = y.title(None).scale(paddingInner=0.3, paddingOuter=0.2)
    offset = alt.YOffset("size:N").sort(sizes).scale(domain=sizes)
    base = _selected(params).encode(y, offset, tooltip=TOOLTIP)
    chart = _intervals(base, title, color, {"color": color, "shape": shape}, zero)
    return chart.properties(height=alt.Step(step))


def _intervals(base: alt.Chart, title: str, color, looks: dict, zero=True) -> alt.LayerChart:
    """Estimates with intervals along x, by `base`; the word that says why where one is missing."""

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q").title(title).scale(zero=zero).axis(tickCount=5)

    known = base.transform_filter(KNOWN)
    rule = base.mark_rule(strokeWidth=2).encode(x("low"), alt.X2("high:Q"), color=color)
    point = known.mark_point(filled=True, size=75, opacity=1).encode(x("estimate"), **looks)
    marks = _marks(known).encode(x("high"))
    word = {"align": "left", "dx": 4, "fontSize": 10, "fontStyle": "italic", "color": FAINT}
    word = base.transform_filter(GAP).mark_text(**word).encode(alt.XValue(0), alt.Text("status:N"))
    layers = [rule, point, marks, word]
    if zero:  # where nothing is gained and nothing lost
        layers.insert(0, alt.Chart().mark_rule(color="#555555").encode(x=alt.datum(0)))
    return alt.layer(*layers)


def _curves(names: list[str], x: alt.X, title: str, params, joined=True) -> alt.LayerChart:
    """Estimates with intervals along y, a colour for each task; joined, as lines with bands."""
    color, shape = by_task(names)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q").title(title).scale(zero=False)

    tips = [*TOOLTIP, alt.Tooltip(x["shorthand"], format=",.3~r")]
    base = _selected(params).transform_filter(KNOWN).encode(x)
    interval = base.mark_area(opacity=0.1) if joined else base.mark_rule(strokeWidth=1.4)
    layers = [interval.encode(y("low"), color, alt.Y2("high:Q"))]
    base = base.encode(y("estimate"))
    if joined:
        layers.append(base.mark_line(strokeWidth=2).encode(color))
    point = base.mark_point(filled=True, size=75, opacity=1).encode(color, shape, tooltip=tips)
    return alt.layer(*layers, point, _marks(base), height=240)


def _panels(chart: alt.LayerChart, name: str, field: str, order) -> alt.FacetChart:
    """The chart over the table `name`, a panel per value of `field`, at most three in a row."""
    columns = 2 if len(order) == 4 else max(1, min(len(order), 3))  # none alone in its row
    if chart.width is alt.Undefined:
        chart.width = min(680, 735 // columns)
    chart.data = alt.NamedData(name)
    return chart.facet(alt.Facet(f"{field}:N").sort(list(order)).title(None), columns=columns)


def _finish(chart, plan: Plan, frame: pd.DataFrame, title: str, text: str, params) -> Chart:
    """Title with what is selected, caption, shared parameters; None without a row."""
    if frame.empty:
        return None
    name, options, words, chart.params = chart.data.name, rows.options(plan, frame), [], []
    for key in params:
        values, labels = list(options[key]), list(options[key].values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        chart.params.append(alt.param(key, value=values[0], bind=bind).param)
        if len(values) > 1:
            words.append(f"{json.dumps(options[key])}[{key}]")
    shown = [json.dumps(title), *([" + ' · ' + ".join(words)] if words else [])]
    caption = rows.caption(text, plan, frame)
    lines = [part for line in caption for part in textwrap.wrap(line, CAPTION)]
    chart.title = alt.TitleParams(text=alt.ExprRef(f"[{', '.join(shown)}]"), subtitle=lines)
    chart.description, chart.usermeta = f"{title}: {text}", {"chart": name, "caption": caption}
    chart.datasets = {name: json.loads(frame.to_json(orient="records", double_precision=4))}
    return chart
