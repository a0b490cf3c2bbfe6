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

from comparison import marks, rows
from comparison.plan import ALL, NONE, ZERO_SHOT, Plan
from comparison.theme import FAINT, INK, tooltip
from comparison.theme import enable as enable

CAPTION = 105
"""Letters of a caption's line in a notebook; a page wraps it to its own width."""


def gains(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Gain of every intermediate task, sizes beside each other, a panel per target (points)."""
    frame = rows.of(effects, "gain")
    chart = _per_target("gains", plan, frame, "gain (points)", ["language", "analysis"])
    text = "score(intermediate) − score(none), 95 % intervals; right of zero, the task helps"
    title = "Gain from an intermediate task"
    return finish(chart, plan, frame, "gains", title, text, ["language", "analysis"])


def transfer_gap(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Score where trained minus zero-shot score, by intermediate task, a panel per target."""
    frame = rows.of(effects, "transfer_gap").query("language == @ZERO_SHOT")
    chart = _per_target("transfer_gap", plan, frame, "transfer gap (points)", ["analysis"])
    text = "score in the language of training − mean score in the others, 95 % intervals"
    return finish(chart, plan, frame, "transfer_gap", "Transfer gap", text, ["analysis"])


def scores(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Score in every language, sizes beside each other, a panel per task (percent)."""
    frame = rows.of(effects, "score")
    y = alt.Y("language:N").sort(rows.languages(frame)).axis(marks.language_axis(frame))
    params = ["target", "analysis"]
    chart = marks.dodged("scores", plan, "score (%)", y, params)
    chart = marks.panels(chart, "intermediate", plan.intermediate)
    text = "95 % intervals; a panel per intermediate task; zero-shot: the mean of the languages "
    text += "that the target was not trained in"
    return finish(chart, plan, frame, "scores", "Scores in every language", text, params)


def scale_effects(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Forest plot of what size does to the gain, per language, a panel per task (points)."""
    frame = rows.of(effects, "scale_effect", "slope")
    order = {name: i for i, name in enumerate(rows.changes(effects))}
    frame = frame.assign(change=frame["size"]).sort_values(
        "change", key=lambda names: names.map(order), kind="stable"
    )
    params = ["change", "target", "analysis"]
    y = alt.Y("language:N").title(None).sort(rows.languages(frame))
    y = y.axis(marks.language_axis(frame, grid=True))
    title = "change of the gain (points)"
    chart = marks.forest("scale_effects", params, y, title, ZERO_SHOT)
    chart = marks.panels(chart, "intermediate", plan.gained)
    text = "change of the gain from one size to another, or per doubling of the parameters; 95 % "
    text += "intervals; filled: p < 0.05 after correction; left of zero, the smaller one gains more"
    title = "Does the larger encoder gain more?"
    return finish(chart, plan, frame, "scale_effects", title, text, params)


def heat_map(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Gain by language and intermediate task as coloured numbers (points)."""
    frame = rows.of(effects, "gain")
    params = ["size", "target", "analysis"]
    top = max(1.0, frame["estimate"].abs().max())  # less than a point is no colour
    names = alt.Axis(orient="top", labelAngle=0, labelLimit=96, domain=False, ticks=False)
    x = alt.X("intermediate:N").sort(plan.gained).title(None).scale(paddingInner=0.04)
    y = alt.Y("language:N").sort(rows.languages(frame)).title(None).scale(paddingInner=0.08)
    y = y.axis(marks.language_axis(frame))
    base = alt.Chart().transform_filter(marks.chosen(params))
    base = base.encode(x.axis(names), y, tooltip=marks.TOOLTIP)
    known, gap = (base.transform_filter(which) for which in (marks.KNOWN, marks.GAP))
    colour = alt.Color("estimate:Q").title("gain (points)")
    colour = colour.legend(gradientLength=180, format="+.0f", values=[-top, 0, top])
    colour = colour.scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"])
    dark = alt.when(f"abs(datum.estimate) > {0.6 * top:.3f}")
    ink = dark.then(alt.value("white")).otherwise(alt.value(INK))
    chart = marks.layer(
        "heat_map",
        known.mark_rect().encode(colour),
        gap.mark_rect(fill="white", stroke="#BBBBBB", strokeDash=[3, 2]),
        known.mark_text(fontSize=11.5).encode(alt.Text("number:N"), color=ink),
        gap.mark_text(fontSize=10, color=FAINT).encode(alt.Text("status:N")),
        width=alt.Step(104),
        height=alt.Step(25),
    )
    text = "points; * p < 0.05 after correction"
    return finish(chart, plan, frame, "heat_map", "Gain by language", text, params)


def scaling(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Gain (or score, or transfer gap) against the encoder's parameters, a line per task."""
    if len(plan.parameters) < 2:
        return None
    kinds = ["gain", "score", "transfer_gap"]
    frame = pd.concat([rows.of(effects, k).assign(show=k.replace("_", " ")) for k in kinds])
    none = frame[(frame["show"] == "score") & (frame["intermediate"] == NONE)]
    no_gain = {"show": "gain", "estimate": 0 * none["estimate"], "low": np.nan, "high": np.nan}
    frame = pd.concat([frame, none.assign(**no_gain)])
    frame["parameters"] = frame["size"].map(plan.parameters)
    frame = frame.dropna(subset=["parameters"])
    params = ["show", "language", "analysis"]
    x = alt.X("parameters:Q").title("parameters without embeddings (log scale)")
    ticks = alt.Axis(values=list(plan.parameters.values()), format=".2~s")
    x = x.scale(type="log", base=2, padding=24, nice=False).axis(ticks)
    names = list(dict.fromkeys([*plan.gained, *plan.intermediate]))
    layers = marks.lines_by_task(plan, names, x, "points", params)
    chart = marks.panels(marks.layer("scaling", *layers, height=250), "target", plan.judged)
    text = "95 % intervals; where a line rises, larger encoders gain more; none is the zero line"
    return finish(chart, plan, frame, "scaling", "The scaling curve", text, params)


def learning(effects: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Score against the target's training examples, a line per intermediate task, a panel per size.

    The points are variants of a target that have numbers of examples of their own; None if fewer
    than two numbers were tried.
    """
    variants = {name: t for name, t in plan.targets.items() if t.variant_of and t.train_examples}
    frame = rows.of(effects, "score")
    frame = frame[frame["target"].isin(variants)]
    pairs = zip(frame["size"], frame["target"], strict=True)
    amounts = [variants[target].train_examples.get(size) for size, target in pairs]
    frame = frame.assign(examples=amounts).dropna(subset=["examples"])
    if frame["examples"].nunique() < 2:
        return None
    params = ["language", "analysis"]
    x = alt.X("examples:Q").title("training examples of the target (log scale)")
    ticks = alt.Axis(values=sorted(set(frame["examples"])), format=",")
    x = x.scale(type="log", base=2, padding=24).axis(ticks)
    layers = marks.lines_by_task(plan, plan.intermediate, x, "score (%)", params)
    chart = marks.panels(marks.layer("learning", *layers, height=230), "size", plan.sizes)
    origins = ", ".join(dict.fromkeys(target.variant_of for target in variants.values()))
    text = "95 % intervals; where the lines meet, the target's own examples are enough"
    title = f"The learning curve of {origins}"
    return finish(chart, plan, frame, "learning", title, text, params)


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Training of every run by optimiser step; collapsed runs are crossed.

    Parameters
    ----------
    curves
        Size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss,
        validation_score.
    runs
        One row per finished run, with `collapsed`.
    """
    if curves.empty:
        return None
    frame = rows.trainings(curves, runs, plan)
    x = alt.X("step:Q").title("step").axis(tickCount=4, format="~s")
    y = alt.Y("value:Q").title(None).scale(zero=False).axis(labelFlush=True, tickCount=4)
    base = alt.Chart().encode(x, y)
    last = base.transform_filter("datum.last")
    fields = ["size:N", "intermediate:N", "target:N", "seed:Q", "step:Q", "value:Q", "collapsed:N"]
    color, shape, dash = marks.by_size(plan)
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(color, dash, alt.Detail("line:N"))
    point = last.mark_point(filled=True, size=28, opacity=1)
    layers = [line, point.encode(color, shape, tooltip=tooltip(fields)), marks.cross(last, dx=10)]
    chart = alt.layer(*layers, data=alt.NamedData("trainings"), width=205, height=130)
    chart = marks.panels(chart, "panel", dict.fromkeys(frame["panel"]), columns=3)
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    chart = chart.resolve_scale(x="independent", y="independent")
    text = (
        "a line per training and seed; scores (%) are on the validation data that chooses a model"
    )
    return finish(chart, plan, frame, "trainings", "Every training", text, ["measure", "target"])


def cost(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Zero-shot score against what one run cost, the intermediate training included."""
    frame = rows.costs(effects, runs)
    if frame.empty:
        return None
    x = alt.X("cost:Q").title("cost of one run (log scale)").scale(type="log", padding=30)
    x = x.axis(tickCount=4, format=".2~g", labelOverlap="greedy")
    y = alt.Y("estimate:Q").title("zero-shot score (%)").scale(zero=False, padding=10)
    params = ["measure", "target", "analysis"]
    base = alt.Chart().transform_filter(marks.chosen(params)).encode(x, y)
    color, shape = marks.by_task(plan, plan.intermediate)
    low = alt.Y("low:Q").title("zero-shot score (%)").scale(zero=False)
    rule = base.mark_rule(strokeWidth=1.4).encode(low, color, alt.Y2("high:Q"))
    tips = [*marks.TOOLTIP, alt.Tooltip("cost:Q", format=".3~g")]
    point = base.mark_point(filled=True, size=90, opacity=1).encode(color, shape, tooltip=tips)
    layers = [rule, point, marks.cross(base, dx=12)]
    chart = marks.panels(marks.layer("cost", *layers, height=230), "size", plan.sizes)
    text = (
        "95 % intervals; the cost of a run includes its intermediate training; processor time is "
    )
    text += "measured, over all cores"
    return finish(chart, plan, frame, "cost", "What a gain costs", text, params)


def beside_published(beside: pd.DataFrame, plan: Plan) -> alt.TopLevelMixin | None:
    """Published scores and the study's own of the same encoder, task and languages (percent)."""
    frame = beside[beside["differs"] == ""]
    if frame.empty:
        return None
    frame = frame.assign(row=frame["target"] + ", " + frame["language"])
    color, shape, _ = marks.by_size(plan)
    fields = ["size", "intermediate", "language", "value", "ours", "seeds", "source", "note"]
    y = alt.Y("row:N").title(None).sort(list(dict.fromkeys(frame["row"])))
    base = alt.Chart(alt.NamedData("beside_published")).encode(
        y,
        color,
        tooltip=[
            alt.Tooltip(f"{field}:{'Q' if field in ('value', 'ours', 'seeds') else 'N'}")
            for field in fields
        ],
    )
    theirs = alt.X("value:Q").title("score (%)").scale(zero=False)
    rule = base.mark_rule(opacity=0.5).encode(theirs, alt.X2("ours:Q"))
    tick = base.mark_tick(thickness=2, height=13).encode(theirs)
    point = base.mark_point(filled=True, opacity=1, size=70).encode(alt.X("ours:Q"), shape)
    chart = (rule + tick + point).properties(width=500, height=alt.Step(18))
    text = "points: this study, mean over seeds; ticks: others, whose notes the table has"
    return finish(chart, plan, frame, "beside_published", "Beside published scores", text, [])


def _per_target(name, plan, frame, axis, params) -> alt.FacetChart:
    """Estimates by intermediate task, a panel per target."""
    y = alt.Y("intermediate:N").sort([ALL, NONE, *plan.tasks])
    chart = marks.dodged(name, plan, axis, y, params, step=20, zero=True)
    return marks.panels(chart, "target", plan.judged)


def finish(chart, plan, frame, name, title, text, params) -> alt.TopLevelMixin | None:
    """Title with what is selected, caption, shared parameters; None without a row."""
    if frame.empty:
        return None
    options, words, shared = rows.options(plan, frame), [], []
    for key in params:
        values, labels = list(options[key]), list(options[key].values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        shared.append(alt.param(key, value=values[0], bind=bind).param)
        if len(values) > 1:
            words.append(f"{json.dumps(options[key])}[{key}]")
    lines = [json.dumps(title), *([" + ' · ' + ".join(words)] if words else [])]
    chart.params = shared or alt.Undefined
    caption = rows.caption(text, plan, frame)
    chart.title = alt.TitleParams(
        text=alt.ExprRef(f"[{', '.join(lines)}]"),
        subtitle=[part for line in caption for part in textwrap.wrap(line, CAPTION)],
    )
    chart.description = f"{title}: {text}"
    chart.usermeta = {"chart": name, "caption": caption}
    chart.datasets = {name: rows.records(frame)}
    return chart
