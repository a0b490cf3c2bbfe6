"""Charts of what more brings: parameters, English examples of the target, cost."""

import json

import altair as alt
import numpy as np
import pandas as pd

from helpers.report import grid, marks
from helpers.report.charts import finish
from helpers.report.theme import INK
from helpers.study import NONE, Study


def curve(
    study: Study, effects: pd.DataFrame, results: pd.DataFrame, parameters: dict[str, int]
) -> alt.Chart:
    """Gain (or score, or transfer gap) against the encoder's parameters, a line per task.

    ``parameters`` are those of the sizes without embeddings; a size without is left out.
    """
    frame = pd.concat(
        grid.complete(study, effects, results, quantity).assign(show=quantity.replace("_", " "))
        for quantity in ("gain", "score", "transfer_gap")
    )
    none = frame[(frame["show"] == "score") & (frame["intermediate"] == NONE)]
    no_gain = {"show": "gain", "estimate": 0 * none["estimate"], "low": np.nan, "high": np.nan}
    frame = pd.concat([frame, none.assign(**no_gain)])
    frame["parameters"] = frame["size"].map(parameters)
    frame = frame.dropna(subset=["parameters"])
    params = ["show", "language", "analysis"]
    x = alt.X("parameters:Q").title("parameters without embeddings (log scale)")
    ticks = alt.Axis(values=list(parameters.values()), format=".2~s")
    x = x.scale(type="log", base=2, padding=24).axis(ticks)
    layers = _by_task(study, x, "points", params)
    chart = marks.layer("curve", *layers, height=250)
    chart = marks.panels(chart, "target", grid.targets(study), room=900)
    title = "The scaling curve: what a growing encoder changes"
    subtitle = "95 % intervals; gain: score(intermediate) − score(none); rising: larger gains more"
    return finish(chart, study, frame, "curve", title, subtitle, params)


def learning_curve(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart | None:
    """Score against the target's English examples, a line per intermediate task, a panel per size.

    The points are a task's variants with ``train_examples`` of their own; None if fewer than two
    amounts were tried.
    """
    frame = grid.complete(study, effects, results, "score")
    frame = frame[frame["target"].isin(study.variants)]
    both = zip(frame["size"], frame["target"], strict=True)
    amounts = [study.hyperparameters("target", *names).train_examples for names in both]
    frame = frame.assign(examples=amounts, panel=frame["size"]).dropna(subset=["examples"])
    if frame["examples"].nunique() < 2:
        return None
    params = ["language", "analysis"]
    x = alt.X("examples:Q").title("English examples of the target (log scale)")
    ticks = alt.Axis(values=sorted(set(frame["examples"])), format=",")
    x = x.scale(type="log", base=2, padding=24).axis(ticks)
    layers = _by_task(study, x, "score (%)", params)
    chart = marks.layer("learning_curve", *layers, height=230)
    chart = marks.panels(chart, "panel", study.sizes, room=900)
    origins = ", ".join(dict.fromkeys(study.variants.values()))
    title = f"The learning curve of {origins}: where does an intermediate task stop helping?"
    subtitle = "95 % intervals; where the lines meet, the target's own examples are enough"
    return finish(chart, study, frame, "learning_curve", title, subtitle, params)


def _by_task(study: Study, x: alt.X, title: str, params: list[str]) -> list[alt.Chart]:
    """Estimates along x: the layers of each task's line, interval and crosses."""
    color, shape = marks.by_task(study)
    y, low = (alt.Y(f"{end}:Q").title(title).scale(zero=False) for end in ("estimate", "low"))
    base = alt.Chart().transform_filter(marks.chosen(params)).transform_filter(marks.KNOWN)
    base = base.encode(x)
    band = base.mark_area(opacity=0.1).encode(low, color, alt.Y2("high:Q"))
    line = base.mark_line(strokeWidth=2).encode(y, color)
    point = base.mark_point(filled=True, size=75, opacity=1)
    point = point.encode(y, color, shape, tooltip=marks.TOOLTIP)
    return [band, line, point, marks.cross(base.encode(y), dx=12)]


def cost(
    study: Study, runs: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame
) -> alt.Chart:
    """Score against what a run cost, a line from no intermediate task to each."""
    frame = grid.slopes(grid.cost(study, runs, effects, results))
    x = alt.X("cost:Q").title("cost of one run, both phases (minutes or petaFLOPs, as selected)")
    x = x.axis(tickCount=7).scale(zero=False, padding=45)
    y = alt.Y("estimate:Q").title("zero-shot score (%)").scale(zero=False, padding=10)
    chosen = marks.chosen(["target", "analysis"]) + " && datum.measure == cost"
    base = alt.Chart().transform_filter(chosen).encode(x, y)
    price = alt.Tooltip("price:N", title="a point of gain costs")
    tooltip = [*marks.TOOLTIP, alt.Tooltip("cost:Q", format=",.4~r"), price]
    look = {"strokeWidth": 1.4, "opacity": 0.8}
    line, point = marks.lines(base, study, base, tooltip, size=90, **look)
    first = (grid.tasks(study) or [""])[0]  # each panel has a baseline, which needs one label
    label = base.transform_calculate(label="datum.intermediate + (datum.collapsed ? ' ×' : '')")
    after = label.transform_filter("datum.stage == 'after'")
    none = label.transform_filter(f"datum.stage == 'none' && datum.panel == {json.dumps(first)}")
    after = after.mark_text(align="left", dx=9, fontSize=11, color=INK).encode(alt.Y("label_at:Q"))
    none = none.mark_text(align="right", dx=-9, fontSize=11, color=INK)
    labels = [text.encode(alt.Text("label:N")) for text in (after, none)]
    layers = [line.encode(alt.Detail("panel:N")), point, *labels]
    chart = marks.layer("cost", *layers, width=760, height=330)
    subtitle = (
        "zero-shot score (%) against the cost of one run; the steeper a line, the cheaper the point"
    )
    params = ["cost", "target", "analysis"]
    return finish(chart, study, frame, "cost", "What a point of gain costs", subtitle, params)
