"""Altair charts of a study's tables, one idea each.

Every function takes tables of `comparison` and the plan, and returns an Altair chart, or None where
there is nothing to draw. An estimate that is missing is drawn as the word that says why; one that a
collapsed run enters carries a cross. Charts share the parameters `language`, `target` and
`analysis`, so that on a page one selection drives all of them.
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
TOOLTIP += [alt.Tooltip("n:Q", title="test items"), alt.Tooltip("status:N")]
Chart = alt.TopLevelMixin | None


def gains(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain of every intermediate task, sizes beside each other, a panel per target (points)."""
    frame, params = rows.of(effects, "gain"), ["language", "analysis"]
    y = alt.Y("intermediate:N").sort(plan.gained)
    chart = _panels(_by_size("gains", plan, "gain (points)", y, params, 20), "target", plan.judged)
    text = "score(intermediate) − score(none), 95 % intervals; right of zero, the task helps"
    return _finish(chart, plan, frame, "gains", "Gain from an intermediate task", text, params)


def transfer_gap(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score where trained minus zero-shot score, by intermediate task, a panel per target."""
    frame = rows.of(effects, "transfer_gap").query("language == @ZERO_SHOT")
    y = alt.Y("intermediate:N").sort([NONE, *plan.tasks])
    chart = _by_size("transfer_gap", plan, "transfer gap (points)", y, ["analysis"], 20)
    chart = _panels(chart, "target", plan.judged)
    text = "score in the language of training − mean score in the others, 95 % intervals"
    return _finish(chart, plan, frame, "transfer_gap", "Transfer gap", text, ["analysis"])


def scores(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score in every language, sizes beside each other, a panel per task (percent)."""
    frame, params = rows.of(effects, "score"), ["target", "analysis"]
    chart = _by_size("scores", plan, "score (%)", _languages(frame), params, 13, zero=False)
    chart = _panels(chart, "intermediate", plan.intermediate)
    text = "95 % intervals; zero-shot: the mean of the languages that the target was not trained in"
    return _finish(chart, plan, frame, "scores", "Scores in every language", text, params)


def scale_effects(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Forest plot of what size does to the gain, per language, a panel per task (points)."""
    frame, params = rows.of(effects, "scale_effect", "slope"), ["change", "target", "analysis"]
    frame = frame.assign(change=frame["size"])
    x = _points("change of the gain (points)", zero=True)
    base = alt.Chart().transform_filter(_chosen(params))
    base = base.encode(_languages(frame, grid=True), tooltip=TOOLTIP)
    mean = alt.when(f"datum.language == '{ZERO_SHOT}'")
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(x("low"), alt.X2("high:Q"))
    point = base.transform_filter(KNOWN).mark_point(opacity=1, stroke=INK, strokeWidth=1.4)
    point = point.encode(
        x("estimate"),
        shape=mean.then(alt.value("diamond")).otherwise(alt.value("circle")),
        size=mean.then(alt.value(150)).otherwise(alt.value(60)),
        fill=alt.when(HOLDS).then(alt.value(INK)).otherwise(alt.value("white")),
    )
    chart = _layer("scale_effects", _zero_line(), rule, point, *_ends(base, x))
    chart = _panels(chart, "intermediate", plan.gained)
    text = "change of the gain from one size to another, or per doubling of the parameters; 95 % "
    text += "intervals; filled: p < 0.05 after correction; left of zero, the smaller gains more"
    title = "Does the larger encoder gain more?"
    return _finish(chart, plan, frame, "scale_effects", title, text, params)


def heat_map(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain by language and intermediate task as coloured numbers (points)."""
    frame, params = rows.of(effects, "gain"), ["size", "target", "analysis"]
    if frame.empty:
        return None
    number = frame["estimate"].map("{:+.1f}".format).str.replace("-", "−")
    number += np.where(frame["p_corrected"] < 0.05, "*", "") + np.where(
        frame["collapsed"], " ×", ""
    )
    frame = frame.assign(number=number.where(frame["estimate"].notna(), frame["status"]))
    top = max(1.0, frame["estimate"].abs().max())  # less than a point is no colour
    names = alt.Axis(orient="top", labelAngle=0, labelLimit=100, domain=False, ticks=False)
    x = alt.X("intermediate:N").sort(plan.gained).title(None).scale(paddingInner=0.04).axis(names)
    base = alt.Chart().transform_filter(_chosen(params))
    base = base.encode(x, _languages(frame).scale(paddingInner=0.08), tooltip=TOOLTIP)
    colour = alt.Color("estimate:Q").title("gain (points)")
    colour = colour.legend(gradientLength=180, format="+.0f", values=[-top, 0, top])
    colour = colour.scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"])
    dark = alt.when(f"abs(datum.estimate) > {0.6 * top:.3f}").then(alt.value("white"))
    ink = dark.when(GAP).then(alt.value(FAINT)).otherwise(alt.value(INK))
    boxes = base.transform_filter(KNOWN).mark_rect().encode(colour)
    words = base.mark_text(fontSize=11).encode(alt.Text("number:N"), color=ink)
    chart = _layer("heat_map", boxes, words, width=alt.Step(104), height=alt.Step(25))
    text = "points; * p < 0.05 after correction"
    return _finish(chart, plan, frame, "heat_map", "Gain by language", text, params)


def scaling(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain (or score, or transfer gap) against the encoder's parameters, a line per task."""
    if len(plan.parameters) < 2:
        return None
    kinds = ["gain", "score", "transfer_gap"]
    frame = pd.concat([rows.of(effects, k).assign(show=k.replace("_", " ")) for k in kinds])
    none = frame[(frame["show"] == "score") & (frame["intermediate"] == NONE)]
    no_gain = {"show": "gain", "estimate": 0 * none["estimate"], "low": np.nan, "high": np.nan}
    frame = pd.concat([frame, none.assign(**no_gain)])
    frame = frame.assign(x=frame["size"].map(plan.parameters)).dropna(subset=["x"])
    x = _log("parameters without embeddings (log scale)", plan.parameters.values(), ".2~s")
    params, names = (
        ["show", "language", "analysis"],
        dict.fromkeys([*plan.gained, *plan.intermediate]),
    )
    chart = _panels(_lines("scaling", list(names), x, "points", params), "target", plan.judged)
    text = "95 % intervals; where a line rises, larger encoders gain more; none is the zero line"
    return _finish(chart, plan, frame, "scaling", "The scaling curve", text, params)


def learning(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score against the target's training examples, a line per intermediate task, a panel per size.

    The points are variants of a target that have numbers of examples of their own; None if fewer
    than two numbers were tried.
    """
    variants = {name: t for name, t in plan.targets.items() if t.variant_of and t.train_examples}
    frame = rows.of(effects, "score")
    frame = frame[frame["target"].isin(variants)]
    pairs = zip(frame["size"], frame["target"], strict=True)
    amounts = [variants[target].train_examples.get(size) for size, target in pairs]
    frame = frame.assign(x=amounts).dropna(subset=["x"])
    if frame["x"].nunique() < 2:
        return None
    x, params = (
        _log("training examples (log scale)", set(frame["x"]), ","),
        ["language", "analysis"],
    )
    chart = _lines("learning", plan.intermediate, x, "score (%)", params)
    chart = _panels(chart, "size", plan.sizes)
    origins = ", ".join(dict.fromkeys(target.variant_of for target in variants.values()))
    text = "95 % intervals; where the lines meet, the target's own examples are enough"
    title = f"The learning curve of {origins}"
    return _finish(chart, plan, frame, "learning", title, text, params)


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Training of every run by optimiser step; collapsed runs are crossed.

    `curves` has size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss,
    validation_score; `runs` one row per finished run, with `collapsed`.
    """
    if curves.empty:
        return None
    frame, params = rows.trainings(curves, runs, plan), ["measure", "target"]
    y = alt.Y("value:Q").title(None).scale(zero=False).axis(labelFlush=True, tickCount=4)
    base = alt.Chart().encode(alt.X("step:Q").title("step").axis(tickCount=4, format="~s"), y)
    color, shape, dash = by_size(plan)
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(color, dash, alt.Detail("line:N"))
    last = base.transform_filter("datum.last")
    tips = [alt.Tooltip(f"{name}:N") for name in ("size", "panel", "seed", "value", "collapsed")]
    point = last.mark_point(filled=True, size=28, opacity=1).encode(color, shape, tooltip=tips)
    chart = _layer("trainings", line, point, _cross(last), width=205, height=130)
    chart = _panels(chart, "panel", dict.fromkeys(frame["panel"]))
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    chart = chart.resolve_scale(x="independent", y="independent")
    text = "a line per training and seed; scores (%) are on validation data, which choose a model"
    return _finish(chart, plan, frame, "trainings", "Every training", text, params)


def cost(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Zero-shot score against what one run cost, the intermediate training included."""
    frame, params = rows.costs(effects, runs), ["measure", "target", "analysis"]
    x = alt.X("cost:Q").title("cost of one run (log scale)").scale(type="log", padding=30)
    x = x.axis(tickCount=4, format=".2~g", labelOverlap="greedy")
    base = alt.Chart().transform_filter(_chosen(params)).encode(x)
    (color, shape), y = by_task(plan.intermediate), _level("zero-shot score (%)")
    rule = base.mark_rule(strokeWidth=1.4).encode(y("low"), color, alt.Y2("high:Q"))
    point = base.encode(y("estimate")).mark_point(filled=True, size=90, opacity=1)
    tips = [*TOOLTIP, alt.Tooltip("cost:Q", format=".3~g")]
    layers = [rule, point.encode(color, shape, tooltip=tips), _cross(base.encode(y("estimate")))]
    chart = _panels(_layer("cost", *layers, height=230), "size", plan.sizes)
    text = (
        "95 % intervals; the cost of a run includes its intermediate training; processor time is "
    )
    text += "measured, over all cores"
    return _finish(chart, plan, frame, "cost", "What a gain costs", text, params)


def _chosen(params: list[str]) -> str:
    """A filter: the row is what the parameters of these names select."""
    return " && ".join(f"datum.{name} == {name}" for name in params)


def _layer(name: str, *layers: alt.Chart, **size) -> alt.LayerChart:
    """Layers over the table that the finished chart has under `name`."""
    return alt.layer(*layers, data=alt.NamedData(name), **size)


def _panels(chart, field: str, order) -> alt.FacetChart:
    """A panel per value of `field`, in the given order, at most three side by side."""
    columns = 2 if len(order) == 4 else max(1, min(len(order), 3))  # none alone in its row
    if chart.width is alt.Undefined:
        chart.width = min(680, 735 // columns)
    return chart.facet(alt.Facet(f"{field}:N").sort(list(order)).title(None), columns=columns)


def _points(title: str, zero: bool):
    """The x channel of several fields on one scale; with zero there is a tick at 0."""
    return lambda field: alt.X(f"{field}:Q").title(title).scale(zero=zero).axis(tickCount=5)


def _level(title: str):
    """The y channel of several fields on one scale."""
    return lambda field: alt.Y(f"{field}:Q").title(title).scale(zero=False)


def _log(title: str, values, number: str) -> alt.X:
    ticks = alt.Axis(values=sorted(values), format=number)
    return alt.X("x:Q").title(title).scale(type="log", base=2, padding=24, nice=False).axis(ticks)


def _languages(frame: pd.DataFrame, **axis) -> alt.Y:
    """Rows of languages under their names."""
    names = json.dumps({code: language_label(code) for code in frame["language"].unique()})
    y = alt.Y("language:N").title(None).sort(rows.languages(frame))
    return y.axis(alt.Axis(labelExpr=f"{names}[datum.value]", **axis))


def _zero_line() -> alt.Chart:
    """Where nothing is gained and nothing lost."""
    return alt.Chart().mark_rule(color="#555555", strokeWidth=1).encode(x=alt.datum(0))


def _cross(base: alt.Chart) -> alt.Chart:
    """A cross beside what a collapsed run enters."""
    collapsed = base.transform_filter("datum.collapsed")
    return collapsed.mark_text(text="×", dx=12, fontSize=18, color=WARNING)


def _ends(base: alt.Chart, x) -> list[alt.Chart]:
    """A cross at the interval's end for a collapsed run, a word for an estimate that is missing."""
    cross = _cross(base.transform_filter(KNOWN)).encode(x("high"))
    look = {"align": "left", "dx": 4, "fontSize": 10, "fontStyle": "italic", "color": FAINT}
    word = base.transform_filter(GAP).mark_text(**look)
    return [cross, word.encode(alt.XValue(0), alt.Text("status:N"))]


def _by_size(name: str, plan, axis, y, params, step: int, zero: bool = True) -> alt.LayerChart:
    """Estimates with intervals along x; within a row, one size above the other."""
    sizes, x, (color, shape, _) = list(plan.sizes), _points(axis, zero), by_size(plan)
    y = y.title(None).scale(paddingInner=0.3, paddingOuter=0.2)
    offset = alt.YOffset("size:N").sort(sizes).scale(domain=sizes)
    base = alt.Chart().transform_filter(_chosen(params)).encode(y, offset, tooltip=TOOLTIP)
    rule = base.mark_rule(strokeWidth=2).encode(x("low"), color, alt.X2("high:Q"))
    point = base.transform_filter(KNOWN).mark_point(filled=True, size=75, opacity=1)
    layers = [rule, point.encode(x("estimate"), color, shape), *_ends(base, x)]
    return _layer(name, *[_zero_line()] * zero, *layers, height=alt.Step(step))


def _lines(name: str, names: list[str], x: alt.X, title: str, params) -> alt.LayerChart:
    """Estimates along x, a line with its interval for each task."""
    (color, shape), y = by_task(names), _level(title)
    base = alt.Chart().transform_filter(f"{_chosen(params)} && {KNOWN}").encode(x)
    band = base.mark_area(opacity=0.1).encode(y("low"), color, alt.Y2("high:Q"))
    base = base.encode(y("estimate"))
    point = base.mark_point(filled=True, size=75, opacity=1).encode(color, shape, tooltip=TOOLTIP)
    line = base.mark_line(strokeWidth=2).encode(color)
    return _layer(name, band, line, point, _cross(base), height=250)


def _finish(chart, plan: Plan, frame: pd.DataFrame, name, title, text, params) -> Chart:
    """Title with what is selected, caption, shared parameters; None without a row."""
    if frame.empty:
        return None
    options, words, chart.params = rows.options(plan, frame), [], []
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
