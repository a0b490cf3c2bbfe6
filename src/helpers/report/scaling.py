"""Charts of what more brings: gain against parameters, score against cost."""

import json

import altair as alt
import pandas as pd

from helpers.report import grid, marks
from helpers.report.charts import finish
from helpers.report.theme import INK, SHAPES
from helpers.study import Study


def curve(
    study: Study, effects: pd.DataFrame, results: pd.DataFrame, parameters: dict[str, int]
) -> alt.Chart:
    """Gain against the encoder's parameters: the scaling curve, a line per intermediate task.

    ``parameters`` are those of the sizes without embeddings; a size without is left out.
    """
    frame = grid.complete(study, effects, results, "gain")
    frame["parameters"] = frame["size"].map(parameters)
    frame = frame.dropna(subset=["parameters"])
    names, params = grid.contrasts(study), ["language", "analysis"]
    looks = [(marks.TASKS * len(names))[i] for i in range(len(names))]
    shapes = [(SHAPES * len(names))[i] for i in range(len(names))]
    color = alt.Color("intermediate:N").title("intermediate task").scale(domain=names, range=looks)
    shape = alt.Shape("intermediate:N").title("intermediate task").scale(domain=names, range=shapes)
    key = alt.Legend(labelExpr=marks.NAME, symbolOpacity=1)
    color, shape = color.legend(key), shape.legend(key)
    x = alt.X("parameters:Q").title("parameters without embeddings (log scale)")
    x = x.scale(type="log", base=2, padding=24).axis(
        values=list(parameters.values()), format=".2~s"
    )
    y = alt.Y("estimate:Q").title("gain (points)")
    base = alt.Chart().transform_filter(marks.chosen(params)).transform_filter(marks.KNOWN)
    base = base.encode(x)
    zero = alt.Chart().mark_rule(color="#555555").encode(y=alt.datum(0))
    band = base.mark_area(opacity=0.1).encode(alt.Y("low:Q").title("gain (points)"), color)
    line, point = (base.encode(y, color) for _ in range(2))
    point = point.mark_point(filled=True, size=75, opacity=1).encode(shape, tooltip=marks.TOOLTIP)
    layers = [zero, band.encode(y2="high:Q"), line.mark_line(strokeWidth=2), point]
    crosses = marks.cross(base.encode(y), dx=12)
    chart = marks.layer("curve", *layers, crosses).properties(width=300, height=230)
    chart = marks.panels(chart, "target", grid.targets(study))
    title = "The scaling curve: gain against the size of the encoder"
    subtitle = "score(intermediate) − score(none), 95 % intervals; a rising line: larger gains more"
    return finish(chart, study, frame, "curve", title, subtitle, params)


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
    after = after.mark_text(align="left", dx=9, fontSize=11, color=INK).encode(y="label_at:Q")
    none = none.mark_text(align="right", dx=-9, fontSize=11, color=INK)
    labels = [text.encode(text="label:N") for text in (after, none)]
    chart = marks.layer("cost", line.encode(detail="panel:N"), point, *labels)
    chart = chart.properties(width=760, height=330)
    subtitle = (
        "zero-shot score (%) against the cost of one run; the steeper a line, the cheaper the point"
    )
    params = ["cost", "target", "analysis"]
    return finish(chart, study, frame, "cost", "What a point of gain costs", subtitle, params)
