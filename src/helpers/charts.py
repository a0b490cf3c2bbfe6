"""Altair charts of a study's tables, one idea each.

Every function takes the study (names and order of sizes, intermediate tasks, targets, languages) and the tables of
`helpers.transfer`, and returns an Altair chart. A planned cell without a run is drawn as a gap that says so; an
estimate that a collapsed run enters carries a cross. Charts share the parameters `language`, `target` and `analysis`,
so that one selection drives all of them.
"""

import json

import altair as alt
import pandas as pd

from helpers import cells
from helpers.theme import COLOURS, DASHES, FAINT, INK, SHAPES, WARNING, enable

__all__ = [
    "cost", "curves", "dashboard", "enable", "gains", "heat_map", "scale_effects", "scores", "slopes", "transfer_gap",
]  # fmt: skip

KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
TEXT = {  # words made in the page, so that a row carries numbers alone
    "interval": "isValid(datum.low) ? format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f') : 'none'",
    "p_text": "isValid(datum.p) ? format(datum.p, '.3f') + '; ' + format(datum.p_corrected, '.3f')"
    " + ' corrected for ' + datum.comparisons + ' comparisons' : 'none'",
    "number": "format(datum.estimate, '+.1f') + (isValid(datum.p_corrected) && datum.p_corrected < 0.05 ? '*' : '')"
    " + (datum.collapsed ? ' ×' : '')",
    "gap": "datum.target == 'all' ? 'incomplete' : 'no run'",
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


def gains(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain of every intermediate task, base beside large, with 95 % intervals, a panel per target (points)."""
    frame = cells.complete(study, effects, results, "gain")
    return _per_target(
        study, frame, "gains", "gain (points)", "Gain from an English intermediate task",
        "score(intermediate) − score(none), 95 % intervals; right of the line, the intermediate task helps",
    )  # fmt: skip


def transfer_gap(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """English score minus the zero-shot score, by intermediate task (`none` first), a panel per target (points)."""
    frame = cells.complete(study, effects, results, "transfer_gap")
    return _per_target(
        study, frame, "transfer_gap", "transfer gap (points)", "Transfer gap: what is lost on the way from English",
        "score in English − score in the selected language, 95 % intervals; smaller is better",
    )  # fmt: skip


def scores(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score in every language, base beside large, a panel per intermediate task (percent)."""
    frame = cells.complete(study, effects, results, "score")
    panels = _dodged(study, frame, "score (%)", "language", cells.order(frame), ["target", "analysis"])
    return _finish(
        panels.facet(facet=_panel("intermediate", study.intermediate), columns=3), study, frame, "scores",
        "Scores in every language",
        "95 % intervals; a panel per intermediate task; English is the language of training, all others are zero-shot",
        ["target", "analysis"],
    )  # fmt: skip


def scale_effects(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Forest plot of gain(large) - gain(base) per language, ordered, a panel per intermediate task (points)."""
    frame = cells.complete(study, effects, results, "scale_effect")
    base = alt.Chart().transform_filter(_chosen(["target", "analysis"]))
    y = alt.Y("language:N", title=None, sort=cells.order(frame), axis=_languages(frame, grid=True))
    x = _along("scale effect (points)", zero=True)
    pooled = f"datum.language == '{cells.POOLED}'"
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(y=y, x=x("low"), x2="high:Q", tooltip=TOOLTIP)
    point = base.transform_filter(KNOWN).mark_point(opacity=1, stroke=INK, strokeWidth=1.4).encode(
        y=y,
        x=x("estimate"),
        shape=alt.condition(pooled, alt.value("diamond"), alt.value("circle")),
        size=alt.condition(pooled, alt.value(150), alt.value(60)),
        fill=alt.condition("datum.p_corrected != null && datum.p_corrected < 0.05", alt.value(INK), alt.value("white")),
        tooltip=TOOLTIP,
    )  # fmt: skip
    panels = _layer(frame, _zero(), rule, point, *_marks(base, y, x)).properties(width=275)
    large, small = [*reversed(list(study.sizes)[:2]), "base"][:2]
    return _finish(
        panels.facet(facet=_panel("intermediate", cells.tasks(study)), columns=3), study, frame, "scale_effects",
        "Scale effect: does the larger encoder gain more?",
        f"gain({large}) − gain({small}); 95 % intervals; filled: p < 0.05 after correction; in order of the mean effect",
        ["target", "analysis"],
    )  # fmt: skip


def heat_map(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain by language and intermediate task as coloured numbers (points); size and target on switches."""
    frame = cells.complete(study, effects, results, "gain")
    top = float(frame["estimate"].abs().max()) if frame["estimate"].notna().any() else 1.0
    base = (
        alt.Chart()
        .transform_filter(_chosen(["size", "target", "analysis"]))
        .encode(
            x=alt.X("intermediate:N", sort=cells.tasks(study), title=None, scale=alt.Scale(paddingInner=0.04),
                    axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False, labelLimit=88)),
            y=alt.Y("language:N", sort=cells.order(frame), title=None, scale=alt.Scale(paddingInner=0.08),
                    axis=_languages(frame)),
            tooltip=TOOLTIP,
        )
    )  # fmt: skip
    colour = alt.Color(
        "estimate:Q", title="gain (points)", legend=alt.Legend(gradientLength=180, format="+.0f"),
        scale=alt.Scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"]),
    )  # fmt: skip
    cell = base.transform_filter(KNOWN).mark_rect().encode(color=colour)
    hole = base.transform_filter(GAP).mark_rect(fill="white", stroke="#BBBBBB", strokeDash=[3, 2])
    ink = alt.condition(f"abs(datum.estimate) > {0.6 * top:.3f}", alt.value("white"), alt.value(INK))
    number = base.transform_filter(KNOWN).mark_text(fontSize=11.5).encode(text="number:N", color=ink)
    word = base.transform_filter(GAP).mark_text(fontSize=10, color=FAINT).encode(text="gap:N")
    chart = _layer(frame, cell, hole, number, word).properties(width=alt.Step(92), height=alt.Step(25))
    return _finish(
        chart, study, frame, "heat_map", "Gain by language", "points; * p < 0.05 after correction",
        ["size", "target", "analysis"],
    )  # fmt: skip


def slopes(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score without and with each intermediate task, a line per size, a panel per intermediate task (percent)."""
    frame = cells.slopes(cells.complete(study, effects, results, "score"))
    base = alt.Chart().transform_filter(_chosen(["language", "target", "analysis"])).transform_filter(KNOWN)
    x = alt.X("stage:N", sort=["none", "after"], title=None, scale=alt.Scale(padding=0.4, domain=["none", "after"]),
              axis=alt.Axis(labelAngle=0, labelExpr="datum.value == 'none' ? 'none' : 'with it'"))  # fmt: skip
    y = alt.Y("estimate:Q", title="score (%)", scale=alt.Scale(zero=False))
    line = base.mark_line(strokeWidth=2.4).encode(x=x, y=y, color=_colour(study), strokeDash=_dash(study))
    rule = base.mark_rule(strokeWidth=1.2).encode(
        x=x, y=alt.Y("low:Q", title="score (%)", scale=alt.Scale(zero=False)), y2="high:Q", color=_colour(study)
    )
    point = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x, y=y, color=_colour(study), shape=_shape(study), tooltip=TOOLTIP
    )
    cross = base.transform_filter("datum.collapsed").mark_text(text="×", dx=13, fontSize=18, color=WARNING)
    panels = _layer(frame, rule, line, point, cross.encode(x=x, y=y)).properties(width=150, height=210)
    return _finish(
        panels.facet(facet=_panel("panel", cells.tasks(study)), columns=5), study, frame, "slopes",
        "From no intermediate task to each of them",
        "score (%), 95 % intervals; where the line of the larger size is steeper, it gains more; a missing line is a missing run",
        ["language", "target", "analysis"],
    )  # fmt: skip


def curves(study, log: pd.DataFrame, runs: pd.DataFrame) -> alt.Chart:
    """Training of every run by optimiser step: loss, or score on English validation data; collapsed runs are crossed.

    Args:
        log: columns size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss, validation_score.
        runs: one row per finished run, with `collapsed`.
    """
    frame = cells.curves(study, log, runs)
    base = alt.Chart()
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=4, format="~s"))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(labelFlush=True, tickCount=4))
    fields = ["size:N", "intermediate:N", "target:N", "seed:Q", "step:Q", "value:Q", "collapsed:N"]
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(
        x=x, y=y, detail="run:N", color=_colour(study), strokeDash=_dash(study)
    )
    end = base.transform_filter("datum.last").mark_point(filled=True, size=28, opacity=1).encode(
        x=x, y=y, color=_colour(study), shape=_shape(study), tooltip=fields
    )  # fmt: skip
    cross = base.transform_filter("datum.last && datum.collapsed").mark_text(
        text="×", dx=10, fontSize=18, color=WARNING
    )
    panels = alt.layer(line, end, cross.encode(x=x, y=y), data=_data(frame)).properties(width=205, height=130)
    chart = panels.facet(facet=_panel("panel", dict.fromkeys(frame["panel"])), columns=4)
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    return _finish(
        chart.resolve_scale(x="independent", y="independent"), study, frame, "curves", "Training of every run",
        "a line per run and seed; the score (%) is on English validation data, which alone chooses a model",
        ["measure", "target"],
    )  # fmt: skip


def cost(study, runs: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score against what a run cost, a line from no intermediate task to each; time or FLOPs on a switch."""
    frame = cells.slopes(cells.cost(study, runs, effects, results))
    first = (cells.tasks(study) or [""])[0]
    base = alt.Chart().transform_filter(_chosen(["target", "analysis"]) + " && datum.measure == cost")
    x = alt.X("cost:Q", title="cost of one run, both phases (minutes or petaFLOPs, as selected)",
              axis=alt.Axis(tickCount=7), scale=alt.Scale(zero=False, padding=45))  # fmt: skip
    y = alt.Y("estimate:Q", title="zero-shot score (%)", scale=alt.Scale(zero=False, padding=10))
    more = [alt.Tooltip("cost:Q", format=",.4~r"), alt.Tooltip("price:N", title="a point of gain costs")]
    line = base.mark_line(strokeWidth=1.4, opacity=0.8).encode(
        x=x, y=y, detail="panel:N", color=_colour(study), strokeDash=_dash(study)
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, y=y, color=_colour(study), shape=_shape(study), tooltip=[*TOOLTIP, *more]
    )
    once = base.transform_filter(f"datum.stage == 'after' || datum.panel == {json.dumps(first)}")
    label = once.transform_calculate(label="datum.intermediate + (datum.collapsed ? ' ×' : '')")
    after, before = (label.transform_filter(f"datum.stage == '{stage}'") for stage in ("after", "none"))
    after = after.mark_text(align="left", dx=9, fontSize=11, color=INK).encode(x=x, y=y, text="label:N")
    before = before.mark_text(align="right", dx=-9, fontSize=11, color=INK).encode(x=x, y=y, text="label:N")
    chart = _layer(frame, line, point, after, before).properties(width=760, height=330)
    return _finish(
        chart, study, frame, "cost", "What a point of gain costs",
        "zero-shot score (%) against the cost of one run; the steeper a line, the cheaper the point",
        ["cost", "target", "analysis"],
    )  # fmt: skip


def dashboard(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gains, slopes and the heat map in one specification: a choice of language or target moves all three."""
    parts = [gains(study, effects, results), slopes(study, effects, results), heat_map(study, effects, results)]
    shared = {param.name: param for part in parts for param in part.params}
    for part in parts:  # what parts share belongs to the whole: one selection, not one each
        part.params = part.usermeta = alt.Undefined
        part.title.frame = "group"
    for part in parts[1:]:
        part.title.subtitle = part.title.subtitle[:1]
    chart = alt.vconcat(*parts, spacing=40, params=list(shared.values()), usermeta={"chart": "dashboard"})
    return chart.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def _finish(chart, study, frame, name, title, subtitle, params):
    """Title with what is selected, subtitle with units, seeds and encoders, and the shared parameters."""
    options = cells.options(study, frame)
    words = []
    for key in params:
        values, labels = list(options[key]), list(options[key].values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        chart = chart.add_params(alt.param(key, value=values[0], bind=bind))
        if len(values) > 1:
            words.append(f"{json.dumps(options[key])}[{key}]")
    lines = [json.dumps(title), *([" + ' · ' + ".join(words)] if words else [])]
    text = alt.ExprRef(f"[{', '.join(lines)}]")
    return chart.properties(
        title=alt.TitleParams(text=text, subtitle=[subtitle, *cells.notes(study, frame)]),
        description=f"{title}: {subtitle}",
        usermeta={"chart": name},
    )


def _per_target(study, frame, name, axis, title, subtitle):
    rows = list(dict.fromkeys(frame["intermediate"]))
    panels = _dodged(study, frame, axis, "intermediate", rows, ["language", "analysis"], step=20, zero=True)
    words = json.dumps({"all": "mean of targets"})
    header = alt.Header(labelExpr=f"{words}[datum.value] || datum.value")
    chart = panels.facet(facet=_panel("target", cells.targets(study), header=header), columns=3)
    return _finish(chart, study, frame, name, title, subtitle, ["language", "analysis"])


def _dodged(study, frame, axis, rows, order, chosen, step=13, zero=False):
    """Estimates with intervals along x; within a row, one size above the other."""
    base = alt.Chart().transform_filter(_chosen(chosen))
    labels = _languages(frame) if rows == "language" else alt.Axis()
    y = alt.Y(f"{rows}:N", title=None, sort=order, scale=alt.Scale(paddingInner=0.3, paddingOuter=0.2), axis=labels)
    offset = alt.YOffset("size:N", sort=list(study.sizes), scale=alt.Scale(domain=list(study.sizes)))
    x = _along(axis, zero)
    base = base.encode(y=y, yOffset=offset, tooltip=TOOLTIP)
    rule = base.mark_rule(strokeWidth=2).encode(x=x("low"), x2="high:Q", color=_colour(study))
    point = base.transform_filter(KNOWN).mark_point(filled=True, size=75, opacity=1).encode(
        x=x("estimate"), color=_colour(study), shape=_shape(study)
    )  # fmt: skip
    layers = [*([_zero()] if zero else []), rule, point, *_marks(base, y, x)]
    return _layer(frame, *layers).properties(width=275, height=alt.Step(step))


def _marks(base, y, x):
    """A cross at the interval's end where a collapsed run enters, a word where a planned estimate is missing."""
    cross = base.transform_filter(f"datum.collapsed && {KNOWN}").transform_calculate(
        end="isValid(datum.high) ? datum.high : datum.estimate"
    )
    cross = cross.mark_text(text="×", align="left", dx=4, fontSize=17, fontWeight="bold", color=WARNING)
    word = base.transform_filter(GAP).mark_text(align="left", dx=4, fontSize=10, fontStyle="italic", color=FAINT)
    return cross.encode(y=y, x=x("end")), word.encode(y=y, x=alt.value(0), text="gap:N")


def _along(title, zero):
    return lambda field: alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=zero), axis=alt.Axis(tickCount=5))


def _layer(frame, *layers):
    return alt.layer(*layers, data=_data(frame)).transform_calculate(**TEXT)


def _data(frame):
    return alt.Data(values=cells.records(frame))


def _zero():
    return alt.Chart().mark_rule(color="#555555", strokeWidth=1).encode(x=alt.datum(0))


def _chosen(names):
    return " && ".join(f"datum.{name} == {name}" for name in names)


def _panel(field, order, **more):
    return alt.Facet(f"{field}:N", sort=list(order), title=None, **more)


def _languages(frame, **more):
    names = json.dumps({code: cells.language_label(code) for code in frame["language"].unique()})
    return alt.Axis(labelExpr=f"{names}[datum.value]", **more)


def _by_size(channel, study, styles, **more):
    sizes = list(study.sizes)
    return channel("size:N", title="size", scale=alt.Scale(domain=sizes, range=styles[: len(sizes)]), **more)


def _colour(study):
    return _by_size(alt.Color, study, COLOURS)


def _shape(study):
    return _by_size(alt.Shape, study, SHAPES)


def _dash(study):
    return _by_size(alt.StrokeDash, study, DASHES)
