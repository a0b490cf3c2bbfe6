"""Marks and scales that charts share: a size keeps its look, what collapsed or is missing shows."""

import json

import altair as alt
import pandas as pd

from comparison.languages import language_label
from comparison.plan import Plan
from comparison.theme import DASHES, FAINT, INK, SHAPES, SIZES, WARNING, task_looks

WIDEST, ROOM = 680, 735
"""Pixels of a panel that stands alone, and of panels side by side."""
KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
WORDS = {  # made where the chart is drawn, so that a row carries numbers alone
    "interval": "isValid(datum.low) ? format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f')"
    " : ''",
    "p_text": "isValid(datum.p) ? format(datum.p, '.3f') + '; ' + format(datum.p_corrected, '.3f')"
    " + ' corrected for ' + datum.comparisons + ' comparisons' : 'not tested'",
    "number": "format(datum.estimate, '+.1f')"
    " + (isValid(datum.p_corrected) && datum.p_corrected < 0.05 ? '*' : '')"
    " + (datum.collapsed ? ' ×' : '')",
}
TOOLTIP = [
    alt.Tooltip("size:N"),
    alt.Tooltip("intermediate:N", title="intermediate task"),
    alt.Tooltip("target:N"),
    alt.Tooltip("language:N"),
    alt.Tooltip("estimate:Q", format=".2f"),
    alt.Tooltip("interval:N", title="95 % interval"),
    alt.Tooltip("p_text:N", title="p"),
    alt.Tooltip("seeds:Q"),
    alt.Tooltip("n:Q", title="test items"),
    alt.Tooltip("status:N"),
]


def by_size(plan: Plan) -> tuple:
    """Colour, shape and dash of the sizes, the same in every chart."""
    sizes = list(plan.sizes)
    looks = ((alt.Color, SIZES), (alt.Shape, SHAPES), (alt.StrokeDash, DASHES))
    return tuple(
        channel("size:N")
        .title("size")
        .scale(domain=sizes, range=[styles[i % len(styles)] for i in range(len(sizes))])
        for channel, styles in looks
    )


def by_task(plan: Plan, names: list[str]) -> tuple:
    """Colour and shape of intermediate tasks, by their names alone."""
    looks = zip((alt.Color, alt.Shape), task_looks(names), strict=True)
    return tuple(
        channel("intermediate:N")
        .title("intermediate task")
        .scale(domain=names, range=styles)
        .legend(alt.Legend(symbolOpacity=1, columns=6))
        for channel, styles in looks
    )


def cross(base: alt.Chart, dx: int) -> alt.Chart:
    """A cross beside what a collapsed run enters."""
    collapsed = base.transform_filter("datum.collapsed")
    return collapsed.mark_text(text="×", dx=dx, fontSize=18, color=WARNING)


def ends(base: alt.Chart, x) -> list[alt.Chart]:
    """A cross at the interval's end for a collapsed run, a word for an estimate that is missing."""
    marked = base.transform_filter(f"datum.collapsed && {KNOWN}")
    marked = marked.transform_calculate(end="isValid(datum.high) ? datum.high : datum.estimate")
    mark = marked.mark_text(
        align="left", dx=4, text="×", fontSize=17, fontWeight="bold", color=WARNING
    )
    gap = base.transform_filter(GAP)
    word = gap.mark_text(align="left", dx=4, fontSize=10, fontStyle="italic", color=FAINT)
    return [mark.encode(x("end")), word.encode(alt.XValue(0), alt.Text("status:N"))]


def points(title: str, zero: bool):
    """The x channel of several fields on one scale; with zero there is a tick at 0."""
    return lambda field: alt.X(f"{field}:Q").title(title).scale(zero=zero).axis(tickCount=5)


def layer(name: str, *layers: alt.Chart, **more) -> alt.LayerChart:
    """Layers over the table that the finished chart has under `name`, with the words they show."""
    words = [alt.CalculateTransform(**{"calculate": WORDS[key], "as": key}) for key in WORDS]
    return alt.layer(*layers, data=alt.NamedData(name), transform=words, **more)


def zero_line() -> alt.Chart:
    """Where nothing is gained and nothing lost."""
    return alt.Chart().mark_rule(color="#555555", strokeWidth=1).encode(x=alt.datum(0))


def chosen(names: list[str]) -> str:
    """A filter: the row is what the parameters of these names select."""
    return " && ".join(f"datum.{name} == {name}" for name in names)


def panels(chart, field: str, order, columns: int = 0, room: int = ROOM):
    """A panel per value of `field`, in the given order.

    Without `columns`, at most three stand side by side and share `room` pixels.
    """
    if not columns:  # two where that leaves no panel alone in its row
        columns = 2 if len(order) == 4 else max(1, min(len(order), 3))
        chart.width = min(WIDEST, room // columns)
    return chart.facet(alt.Facet(f"{field}:N").sort(list(order)).title(None), columns=columns)


def language_axis(frame: pd.DataFrame, **more) -> alt.Axis:
    """An axis with the languages' names for their codes."""
    names = json.dumps({code: language_label(code) for code in frame["language"].unique()})
    return alt.Axis(labelExpr=f"{names}[datum.value]", **more)


def dodged(name, plan, axis, y, params, step=13, zero=False) -> alt.LayerChart:
    """Estimates with intervals along x; within a row, one size above the other."""
    sizes = list(plan.sizes)
    x, (color, shape, _) = points(axis, zero), by_size(plan)
    y = y.title(None).scale(paddingInner=0.3, paddingOuter=0.2)
    offset = alt.YOffset("size:N").sort(sizes).scale(domain=sizes)
    base = alt.Chart().transform_filter(chosen(params))
    base = base.encode(y, offset, tooltip=TOOLTIP)
    rule = base.mark_rule(strokeWidth=2).encode(x("low"), color, alt.X2("high:Q"))
    point = base.transform_filter(KNOWN).mark_point(filled=True, size=75, opacity=1)
    layers = [rule, point.encode(x("estimate"), color, shape), *ends(base, x)]
    layers = [zero_line(), *layers] if zero else layers
    return layer(name, *layers, height=alt.Step(step))


def lines_by_task(plan: Plan, names: list[str], x: alt.X, title: str, params) -> list[alt.Chart]:
    """Estimates along x: the layers of each task's line, interval and crosses."""
    color, shape = by_task(plan, names)
    y, low = (alt.Y(f"{end}:Q").title(title).scale(zero=False) for end in ("estimate", "low"))
    base = alt.Chart().transform_filter(chosen(params)).transform_filter(KNOWN)
    base = base.encode(x)
    band = base.mark_area(opacity=0.1).encode(low, color, alt.Y2("high:Q"))
    line = base.mark_line(strokeWidth=2).encode(y, color)
    point = base.mark_point(filled=True, size=75, opacity=1)
    point = point.encode(y, color, shape, tooltip=TOOLTIP)
    return [band, line, point, cross(base.encode(y), dx=12)]


def forest(name: str, params: list[str], y: alt.Y, title: str, pooled: str) -> alt.LayerChart:
    """Estimates with intervals around zero; filled where they hold after correction."""
    x = points(title, zero=True)
    base = alt.Chart().transform_filter(chosen(params)).encode(y, tooltip=TOOLTIP)
    mean = alt.when(f"datum.language == '{pooled}'")
    holds = alt.when("isValid(datum.p_corrected) && datum.p_corrected < 0.05")
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(x("low"), alt.X2("high:Q"))
    point = base.transform_filter(KNOWN).mark_point(opacity=1, stroke=INK, strokeWidth=1.4)
    point = point.encode(
        x("estimate"),
        shape=mean.then(alt.value("diamond")).otherwise(alt.value("circle")),
        size=mean.then(alt.value(150)).otherwise(alt.value(60)),
        fill=holds.then(alt.value(INK)).otherwise(alt.value("white")),
    )
    return layer(name, zero_line(), rule, point, *ends(base, x))
