"""Marks and scales that charts share: a size keeps its look, what collapsed or is missing shows."""

import json

import altair as alt
import pandas as pd

from helpers.report import grid
from helpers.report.theme import COLOURS, DASHES, FAINT, SHAPES, WARNING
from helpers.study import Study

TASKS = ["#222222", "#0057A0", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7A00"]
"""Colours of intermediate tasks, their mean first (after Okabe and Ito 2008)."""
WIDEST = 680
"""Pixels of a panel that stands alone."""
NAME = "datum.value == 'all' ? 'mean' : datum.value"
"""Label of an axis or a panel."""
KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
TEXT = {  # words made in the page, so that a row carries numbers alone
    "interval": "isValid(datum.low) ? format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f')"
    " : 'none'",
    "p_text": "isValid(datum.p) ? format(datum.p, '.3f') + '; ' + format(datum.p_corrected, '.3f')"
    " + ' corrected for ' + datum.comparisons + ' comparisons' : 'none'",
    "number": "format(datum.estimate, '+.1f')"
    " + (isValid(datum.p_corrected) && datum.p_corrected < 0.05 ? '*' : '')"
    " + (datum.collapsed ? ' ×' : '')",
    "gap": "datum.analysis == 'without collapsed' ? 'none left'"
    " : datum.target == 'all' || datum.intermediate == 'all' ? 'incomplete' : 'no run'",
    "note": "!isValid(datum.estimate) ? 'planned, no run yet'"
    " : datum.collapsed ? 'with a collapsed run' : 'complete'",
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
    alt.Tooltip("note:N"),
]


def by_size(study: Study) -> tuple:
    """Colour, shape and dash of the sizes, the same in every chart."""
    sizes = list(study.sizes)
    looks = ((alt.Color, COLOURS), (alt.Shape, SHAPES), (alt.StrokeDash, DASHES))
    return tuple(
        channel("size:N").title("size").scale(domain=sizes, range=(styles * 9)[: len(sizes)])
        for channel, styles in looks
    )


def by_task(study: Study) -> tuple:
    """Colour and shape of the intermediate tasks, their mean first, the baseline last."""
    names = list(dict.fromkeys([*grid.contrasts(study), *study.intermediate]))
    key = alt.Legend(labelExpr=NAME, symbolOpacity=1)
    looks = ((alt.Color, TASKS), (alt.Shape, SHAPES))
    return tuple(
        channel("intermediate:N")
        .title("intermediate task")
        .scale(domain=names, range=(styles * 9)[: len(names)])
        .legend(key)
        for channel, styles in looks
    )


def lines(base: alt.Chart, study: Study, point: alt.Chart, tooltip: list, size: int, **line):
    """A line per size over all of `base`, and points where `point` says."""
    color, shape, dash = by_size(study)
    points = point.mark_point(filled=True, size=size, opacity=1)
    return base.mark_line(**line).encode(color, dash), points.encode(color, shape, tooltip=tooltip)


def cross(base: alt.Chart, dx: int) -> alt.Chart:
    """A cross beside what a collapsed run enters."""
    collapsed = base.transform_filter("datum.collapsed")
    return collapsed.mark_text(text="×", dx=dx, fontSize=18, color=WARNING)


def ends(base: alt.Chart, x) -> list[alt.Chart]:
    """A cross at the interval's end for a collapsed run, a word for an estimate that is missing."""
    marked = base.transform_filter(f"datum.collapsed && {KNOWN}")
    marked = marked.transform_calculate(end="isValid(datum.high) ? datum.high : datum.estimate")
    look: dict = {"text": "×", "fontSize": 17, "fontWeight": "bold", "color": WARNING}
    mark = marked.mark_text(align="left", dx=4, **look)
    gap = base.transform_filter(GAP)
    word = gap.mark_text(align="left", dx=4, fontSize=10, fontStyle="italic", color=FAINT)
    return [mark.encode(x("end")), word.encode(alt.XValue(0), alt.Text("gap:N"))]


def points(title: str, zero: bool):
    """The x channel of several fields on one scale."""
    return lambda field: alt.X(f"{field}:Q").title(title).scale(zero=zero).axis(tickCount=5)


def layer(name: str, *layers: alt.Chart, **more) -> alt.LayerChart:
    """Layers over the table that the finished chart has under `name`, with the words they show.

    What else the chart has is given here: Altair's methods copy all layers several times.
    """
    words = [alt.CalculateTransform(**{"calculate": TEXT[key], "as": key}) for key in TEXT]
    return alt.layer(*layers, data=alt.NamedData(name), transform=words, **more)


def zero_line() -> alt.Chart:
    """Where nothing is gained and nothing lost."""
    return alt.Chart().mark_rule(color="#555555", strokeWidth=1).encode(x=alt.datum(0))


def chosen(names: list[str]) -> str:
    """A filter: the row is what the parameters of these names select."""
    return " && ".join(f"datum.{name} == {name}" for name in names)


def panels(chart, field: str, order, columns: int = 0, room: int = 735):
    """A panel per value of `field`, in the given order.

    Without `columns`, at most three stand side by side and share `room` pixels.
    """
    if not columns:  # two where that leaves no panel alone in its row
        columns = 2 if len(order) == 4 else max(1, min(len(order), 3))
        chart.width = min(WIDEST, room // columns)
    name = NAME.replace("mean", f"mean of {field}s" if field == "target" else "mean of tasks")
    facet = alt.Facet(f"{field}:N").sort(list(order)).title(None).header(labelExpr=name)
    return chart.facet(facet, columns=columns)


def language_axis(frame: pd.DataFrame, **more) -> alt.Axis:
    """An axis with the languages' names for their codes."""
    names = json.dumps({code: grid.language_label(code) for code in frame["language"].unique()})
    return alt.Axis(labelExpr=f"{names}[datum.value]", **more)


def dodged(name, study, axis, y, params, step=13, zero=False) -> alt.LayerChart:
    """Estimates with intervals along x; within a row, one size above the other."""
    sizes = list(study.sizes)
    x, (color, shape, _) = points(axis, zero), by_size(study)
    y = y.title(None).scale(paddingInner=0.3, paddingOuter=0.2)
    offset = alt.YOffset("size:N").sort(sizes).scale(domain=sizes)
    base = alt.Chart().transform_filter(chosen(params))
    base = base.encode(y, offset, tooltip=TOOLTIP)
    rule = base.mark_rule(strokeWidth=2).encode(x("low"), color, alt.X2("high:Q"))
    point = base.transform_filter(KNOWN).mark_point(filled=True, size=75, opacity=1)
    layers = [rule, point.encode(x("estimate"), color, shape), *ends(base, x)]
    layers = [zero_line(), *layers] if zero else layers
    return layer(name, *layers, height=alt.Step(step))
