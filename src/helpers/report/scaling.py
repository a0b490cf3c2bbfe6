"""Charts of what more brings: gain against parameters, score against cost."""

import json

import altair as alt
import pandas as pd

from helpers.report import grid, marks
from helpers.report.charts import finish
from helpers.report.theme import INK
from helpers.study import Study


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
    frame["parameters"] = frame["size"].map(parameters)
    frame = frame.dropna(subset=["parameters"])
    params = ["show", "language", "analysis"]
    color, shape = marks.by_task(study)
    x = alt.X("parameters:Q").title("parameters without embeddings (log scale)")
    ticks = alt.Axis(values=list(parameters.values()), format=".2~s")
    x = x.scale(type="log", base=2, padding=24).axis(ticks)
    base = alt.Chart().transform_filter(marks.chosen(params)).transform_filter(marks.KNOWN)
    base = base.encode(x)
    y, low = (
        alt.Y(f"{field}:Q").title("points").scale(zero=False) for field in ("estimate", "low")
    )
    zero = base.transform_filter("show != 'score'").transform_calculate(zero="0")
    layers = [
        zero.mark_line(color="#555555", strokeWidth=1).encode(y="zero:Q"),
        base.mark_area(opacity=0.1).encode(low, color, y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y, color),
        base.mark_point(filled=True, size=75, opacity=1).encode(
            y, color, shape, tooltip=marks.TOOLTIP
        ),
        marks.cross(base.encode(y), dx=12),
    ]
    chart = marks.layer("curve", *layers).properties(width=300, height=230)
    chart = marks.panels(chart, "target", grid.targets(study))
    title = "The scaling curve: what a growing encoder changes"
    subtitle = "95 % intervals; gain: score(intermediate) − score(none); rising: larger gains more"
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
