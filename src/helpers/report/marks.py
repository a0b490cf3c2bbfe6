"""Pieces that charts share: tooltips, scales that keep a size's look, marks for collapsed and missing runs."""

import json

import altair as alt

from helpers.report import grid
from helpers.report.theme import COLOURS, DASHES, FAINT, SHAPES, WARNING

NAME = "datum.value == 'all' ? 'mean' : datum.value"  # of an axis' or a panel's label
KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
TEXT = {  # words made in the page, so that a row carries numbers alone
    "interval": "isValid(datum.low) ? format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f') : 'none'",
    "p_text": "isValid(datum.p) ? format(datum.p, '.3f') + '; ' + format(datum.p_corrected, '.3f')"
    " + ' corrected for ' + datum.comparisons + ' comparisons' : 'none'",
    "number": "format(datum.estimate, '+.1f') + (isValid(datum.p_corrected) && datum.p_corrected < 0.05 ? '*' : '')"
    " + (datum.collapsed ? ' ×' : '')",
    "gap": "datum.analysis == 'without collapsed' ? 'none left' : datum.target == 'all' || datum.intermediate == 'all'"
    " ? 'incomplete' : 'no run'",
    "note": "!isValid(datum.estimate) ? 'planned, no run yet' : datum.collapsed ? 'with a collapsed run' : 'complete'",
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


def gaps(base, y, x):
    """A cross at the interval's end where a collapsed run enters, a word where a planned estimate is missing."""
    cross = base.transform_filter(f"datum.collapsed && {KNOWN}").transform_calculate(
        end="isValid(datum.high) ? datum.high : datum.estimate"
    )
    cross = cross.mark_text(
        text="×", align="left", dx=4, fontSize=17, fontWeight="bold", color=WARNING
    )
    word = base.transform_filter(GAP).mark_text(
        align="left", dx=4, fontSize=10, fontStyle="italic", color=FAINT
    )
    return cross.encode(y=y, x=x("end")), word.encode(y=y, x=alt.value(0), text="gap:N")


def points(title, zero):
    """The x channel of several fields on one scale."""
    return lambda field: alt.X(
        f"{field}:Q", title=title, scale=alt.Scale(zero=zero), axis=alt.Axis(tickCount=5)
    )


def layer(name, *layers):
    """Layers over the table that the finished chart carries under `name`, with the words that they show."""
    return alt.layer(*layers, data=alt.NamedData(name)).transform_calculate(**TEXT)


def zero_line():
    """Where nothing is gained and nothing lost."""
    return alt.Chart().mark_rule(color="#555555", strokeWidth=1).encode(x=alt.datum(0))


def chosen(names):
    """A filter: the row is what the parameters of these names select."""
    return " && ".join(f"datum.{name} == {name}" for name in names)


def panel(field, order):
    """A panel per value of `field`, in the given order."""
    name = NAME.replace("mean", f"mean of {field}s" if field == "target" else "mean of tasks")
    return alt.Facet(f"{field}:N", sort=list(order), title=None, header=alt.Header(labelExpr=name))


def language_axis(frame, **more):
    """An axis with the languages' names for their codes."""
    names = json.dumps({code: grid.language_label(code) for code in frame["language"].unique()})
    return alt.Axis(labelExpr=f"{names}[datum.value]", **more)


def _by_size(channel, study, styles, **more):
    sizes = list(study.sizes)
    return channel(
        "size:N", title="size", scale=alt.Scale(domain=sizes, range=styles[: len(sizes)]), **more
    )


def colour(study):
    """A size's colour, the same in every chart."""
    return _by_size(alt.Color, study, COLOURS)


def shape(study):
    """A size's shape, the same in every chart."""
    return _by_size(alt.Shape, study, SHAPES)


def dash(study):
    """A size's dash, the same in every chart."""
    return _by_size(alt.StrokeDash, study, DASHES)
