"""Altair charts of a study's tables, one idea each.

Every function takes the study (names and order of sizes, intermediate tasks, targets, languages) and the tables of
`helpers.comparison`, and returns an Altair chart. A planned cell without a run is drawn as a gap that says so; an
estimate that a collapsed run enters carries a cross. Charts share the parameters `language`, `target` and `analysis`,
so that one selection drives all of them.
"""

import json

import altair as alt
import pandas as pd

from helpers.report import grid, marks
from helpers.report.theme import FAINT, INK, WARNING, enable

__all__ = [
    "cost", "curves", "dashboard", "enable", "gains", "heat_map", "scale_effects", "scores", "slopes", "transfer_gap",
]  # fmt: skip


def gains(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain of every intermediate task, base beside large, with 95 % intervals, a panel per target (points)."""
    frame = grid.complete(study, effects, results, "gain")
    return _per_target(
        study, frame, "gains", "gain (points)", "Gain from an English intermediate task",
        "score(intermediate) − score(none), 95 % intervals; right of the line, the intermediate task helps",
        ["language", "analysis"],
    )  # fmt: skip


def transfer_gap(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """English score minus the zero-shot score, by intermediate task (`none` first), a panel per target (points)."""
    frame = grid.complete(study, effects, results, "transfer_gap")
    return _per_target(
        study, frame, "transfer_gap", "transfer gap (points)", "Transfer gap: what is lost on the way from English",
        "score in English − mean score in the other languages, 95 % intervals; smaller is better",
        ["analysis"],
    )  # fmt: skip


def scores(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score in every language, base beside large, a panel per intermediate task (percent)."""
    frame = grid.complete(study, effects, results, "score")
    panels = _dodged(
        "scores", study, frame, "score (%)", "language", grid.order(frame), ["target", "analysis"]
    )
    facet, columns = marks.panel("intermediate", study.intermediate), _columns(study.intermediate)
    return _finish(
        panels.facet(facet=facet, columns=columns), study, frame, "scores",
        "Scores in every language",
        "95 % intervals; a panel per intermediate task; English is the language of training, all others are zero-shot",
        ["target", "analysis"],
    )  # fmt: skip


def scale_effects(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Forest plot of gain(large) - gain(base) per language, ordered, a panel per intermediate task (points)."""
    frame = grid.complete(study, effects, results, "scale_effect")
    base = alt.Chart().transform_filter(marks.chosen(["target", "analysis"]))
    y = alt.Y(
        "language:N", title=None, sort=grid.order(frame), axis=marks.language_axis(frame, grid=True)
    )
    x = marks.points("scale effect (points)", zero=True)
    pooled = f"datum.language == '{grid.POOLED}'"
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(
        y=y, x=x("low"), x2="high:Q", tooltip=marks.TOOLTIP
    )
    point = base.transform_filter(marks.KNOWN).mark_point(opacity=1, stroke=INK, strokeWidth=1.4).encode(
        y=y,
        x=x("estimate"),
        shape=alt.condition(pooled, alt.value("diamond"), alt.value("circle")),
        size=alt.condition(pooled, alt.value(150), alt.value(60)),
        fill=alt.condition("datum.p_corrected != null && datum.p_corrected < 0.05", alt.value(INK), alt.value("white")),
        tooltip=marks.TOOLTIP,
    )  # fmt: skip
    panels = marks.layer(
        "scale_effects", marks.zero_line(), rule, point, *marks.gaps(base, y, x)
    ).properties(width=245)
    large, small = [*reversed(list(study.sizes)[:2]), "base"][:2]
    contrasts = grid.contrasts(study)
    chart = panels.facet(facet=marks.panel("intermediate", contrasts), columns=_columns(contrasts))
    return _finish(
        chart, study, frame, "scale_effects", "Scale effect: does the larger encoder gain more?",
        f"gain({large}) − gain({small}); 95 % intervals; filled: p < 0.05, corrected; in order of the mean effect",
        ["target", "analysis"],
    )  # fmt: skip


def heat_map(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain by language and intermediate task as coloured numbers (points); size and target on switches."""
    frame = grid.complete(study, effects, results, "gain")
    top = float(frame["estimate"].abs().max()) if frame["estimate"].notna().any() else 1.0
    base = (
        alt.Chart()
        .transform_filter(marks.chosen(["size", "target", "analysis"]))
        .encode(
            x=alt.X("intermediate:N", sort=grid.contrasts(study), title=None, scale=alt.Scale(paddingInner=0.04),
                    axis=alt.Axis(orient="top", labelExpr=marks.NAME, labelAngle=0, labelLimit=96,
                                  domain=False, ticks=False)),
            y=alt.Y("language:N", sort=grid.order(frame), title=None, scale=alt.Scale(paddingInner=0.08),
                    axis=marks.language_axis(frame)),
            tooltip=marks.TOOLTIP,
        )
    )  # fmt: skip
    colour = alt.Color(
        "estimate:Q", title="gain (points)", legend=alt.Legend(gradientLength=180, format="+.0f"),
        scale=alt.Scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"]),
    )  # fmt: skip
    cell = base.transform_filter(marks.KNOWN).mark_rect().encode(color=colour)
    hole = base.transform_filter(marks.GAP).mark_rect(
        fill="white", stroke="#BBBBBB", strokeDash=[3, 2]
    )
    ink = alt.condition(
        f"abs(datum.estimate) > {0.6 * top:.3f}", alt.value("white"), alt.value(INK)
    )
    number = (
        base.transform_filter(marks.KNOWN)
        .mark_text(fontSize=11.5)
        .encode(text="number:N", color=ink)
    )
    word = base.transform_filter(marks.GAP).mark_text(fontSize=10, color=FAINT).encode(text="gap:N")
    chart = marks.layer("heat_map", cell, hole, number, word).properties(
        width=alt.Step(96), height=alt.Step(25)
    )
    return _finish(
        chart, study, frame, "heat_map", "Gain by language", "points; * p < 0.05 after correction",
        ["size", "target", "analysis"],
    )  # fmt: skip


def slopes(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score without and with each intermediate task, a line per size, a panel per intermediate task (percent)."""
    frame = grid.slopes(grid.complete(study, effects, results, "score"))
    base = (
        alt.Chart()
        .transform_filter(marks.chosen(["language", "target", "analysis"]))
        .transform_filter(marks.KNOWN)
    )
    x = alt.X("stage:N", sort=["none", "after"], title=None, scale=alt.Scale(padding=0.4, domain=["none", "after"]),
              axis=alt.Axis(labelAngle=0, labelExpr="datum.value == 'none' ? 'none' : 'with it'"))  # fmt: skip
    y = alt.Y("estimate:Q", title="score (%)", scale=alt.Scale(zero=False))
    line = base.mark_line(strokeWidth=2.4).encode(
        x=x, y=y, color=marks.colour(study), strokeDash=marks.dash(study)
    )
    rule = base.mark_rule(strokeWidth=1.2).encode(
        x=x,
        y=alt.Y("low:Q", title="score (%)", scale=alt.Scale(zero=False)),
        y2="high:Q",
        color=marks.colour(study),
    )
    point = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x, y=y, color=marks.colour(study), shape=marks.shape(study), tooltip=marks.TOOLTIP
    )
    cross = base.transform_filter("datum.collapsed").mark_text(
        text="×", dx=13, fontSize=18, color=WARNING
    )
    panels = marks.layer("slopes", rule, line, point, cross.encode(x=x, y=y)).properties(
        width=150, height=210
    )
    return _finish(
        panels.facet(facet=marks.panel("panel", grid.tasks(study)), columns=5), study, frame, "slopes",
        "From no intermediate task to each of them",
        "score (%), 95 % intervals; a steeper line gains more, a missing line is a missing run",
        ["language", "target", "analysis"],
    )  # fmt: skip


def curves(study, log: pd.DataFrame, runs: pd.DataFrame) -> alt.Chart:
    """Training of every run by optimiser step: loss, or score on English validation data; collapsed runs are crossed.

    Args:
        log: columns size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss, validation_score.
        runs: one row per finished run, with `collapsed`.
    """
    frame = grid.curves(study, log, runs)
    base = alt.Chart()
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=4, format="~s"))
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(zero=False),
        axis=alt.Axis(labelFlush=True, tickCount=4),
    )
    fields = ["size:N", "intermediate:N", "target:N", "seed:Q", "step:Q", "value:Q", "collapsed:N"]
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(
        x=x, y=y, detail="run:N", color=marks.colour(study), strokeDash=marks.dash(study)
    )
    end = base.transform_filter("datum.last").mark_point(filled=True, size=28, opacity=1).encode(
        x=x, y=y, color=marks.colour(study), shape=marks.shape(study), tooltip=fields
    )  # fmt: skip
    cross = base.transform_filter("datum.last && datum.collapsed").mark_text(
        text="×", dx=10, fontSize=18, color=WARNING
    )
    panels = alt.layer(line, end, cross.encode(x=x, y=y), data=alt.NamedData("curves")).properties(
        width=205, height=130
    )
    chart = panels.facet(facet=marks.panel("panel", dict.fromkeys(frame["panel"])), columns=4)
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    return _finish(
        chart.resolve_scale(x="independent", y="independent"), study, frame, "curves", "Training of every run",
        "a line per run and seed; the score (%) is on English validation data, which alone chooses a model",
        ["measure", "target"],
    )  # fmt: skip


def cost(study, runs: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score against what a run cost, a line from no intermediate task to each; time or FLOPs on a switch."""
    frame = grid.slopes(grid.cost(study, runs, effects, results))
    first = (grid.tasks(study) or [""])[0]
    base = alt.Chart().transform_filter(
        marks.chosen(["target", "analysis"]) + " && datum.measure == cost"
    )
    x = alt.X("cost:Q", title="cost of one run, both phases (minutes or petaFLOPs, as selected)",
              axis=alt.Axis(tickCount=7), scale=alt.Scale(zero=False, padding=45))  # fmt: skip
    y = alt.Y("estimate:Q", title="zero-shot score (%)", scale=alt.Scale(zero=False, padding=10))
    more = [
        alt.Tooltip("cost:Q", format=",.4~r"),
        alt.Tooltip("price:N", title="a point of gain costs"),
    ]
    line = base.mark_line(strokeWidth=1.4, opacity=0.8).encode(
        x=x, y=y, detail="panel:N", color=marks.colour(study), strokeDash=marks.dash(study)
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x,
        y=y,
        color=marks.colour(study),
        shape=marks.shape(study),
        tooltip=[*marks.TOOLTIP, *more],
    )
    once = base.transform_filter(f"datum.stage == 'after' || datum.panel == {json.dumps(first)}")
    label = once.transform_calculate(label="datum.intermediate + (datum.collapsed ? ' ×' : '')")
    after, before = (
        label.transform_filter(f"datum.stage == '{stage}'") for stage in ("after", "none")
    )
    after = after.mark_text(align="left", dx=9, fontSize=11, color=INK).encode(
        x=x, y="label_at:Q", text="label:N"
    )
    before = before.mark_text(align="right", dx=-9, fontSize=11, color=INK).encode(
        x=x, y=y, text="label:N"
    )
    chart = marks.layer("cost", line, point, after, before).properties(width=760, height=330)
    return _finish(
        chart, study, frame, "cost", "What a point of gain costs",
        "zero-shot score (%) against the cost of one run; the steeper a line, the cheaper the point",
        ["cost", "target", "analysis"],
    )  # fmt: skip


def dashboard(study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gains, slopes and the heat map in one specification: a choice of language or target moves all three."""
    parts = [
        gains(study, effects, results),
        slopes(study, effects, results),
        heat_map(study, effects, results),
    ]
    shared = {param.name: param for part in parts for param in part.params}
    tables = {name: rows for part in parts for name, rows in part.datasets.items()}
    for part in parts:  # what parts share belongs to the whole: one selection, not one each
        part.params = part.usermeta = part.datasets = alt.Undefined
        part.title.frame = "group"
    for part in parts[1:]:
        part.title.subtitle = part.title.subtitle[:1]
    whole = {
        "params": list(shared.values()),
        "datasets": tables,
        "usermeta": {"chart": "dashboard"},
    }
    chart = alt.vconcat(*parts, spacing=40, **whole)
    return chart.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def _finish(chart, study, frame, name, title, subtitle, params):
    """Title with what is selected, subtitle with units, seeds and encoders, and the shared parameters."""
    options = grid.options(study, frame)
    words, shared = [], []
    for key in params:
        values, labels = list(options[key]), list(options[key].values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        shared.append(alt.param(key, value=values[0], bind=bind))
        if len(values) > 1:
            words.append(f"{json.dumps(options[key])}[{key}]")
    lines = [json.dumps(title), *([" + ' · ' + ".join(words)] if words else [])]
    text = alt.ExprRef(f"[{', '.join(lines)}]")
    chart = chart.add_params(*shared).properties(
        title=alt.TitleParams(text=text, subtitle=[subtitle, *grid.notes(study, frame)]),
        description=f"{title}: {subtitle}",
        usermeta={"chart": name},
    )
    chart.datasets = {
        name: grid.records(frame)
    }  # `properties` would validate each row, as drawing the chart does
    return chart


def _per_target(study, frame, name, axis, title, subtitle, params):
    rows = list(dict.fromkeys(frame["intermediate"]))
    panels = _dodged(name, study, frame, axis, "intermediate", rows, params, step=20, zero=True)
    chart = panels.facet(facet=marks.panel("target", grid.targets(study)), columns=3)
    return _finish(chart, study, frame, name, title, subtitle, params)


def _dodged(name, study, frame, axis, rows, order, chosen, step=13, zero=False):
    """Estimates with intervals along x; within a row, one size above the other."""
    base = alt.Chart().transform_filter(marks.chosen(chosen))
    labels = marks.language_axis(frame) if rows == "language" else alt.Axis(labelExpr=marks.NAME)
    y = alt.Y(
        f"{rows}:N",
        title=None,
        sort=order,
        scale=alt.Scale(paddingInner=0.3, paddingOuter=0.2),
        axis=labels,
    )
    offset = alt.YOffset(
        "size:N", sort=list(study.sizes), scale=alt.Scale(domain=list(study.sizes))
    )
    x = marks.points(axis, zero)
    base = base.encode(y=y, yOffset=offset, tooltip=marks.TOOLTIP)
    rule = base.mark_rule(strokeWidth=2).encode(x=x("low"), x2="high:Q", color=marks.colour(study))
    point = base.transform_filter(marks.KNOWN).mark_point(filled=True, size=75, opacity=1).encode(
        x=x("estimate"), color=marks.colour(study), shape=marks.shape(study)
    )  # fmt: skip
    layers = [*([marks.zero_line()] if zero else []), rule, point, *marks.gaps(base, y, x)]
    return marks.layer(name, *layers).properties(width=245, height=alt.Step(step))


def _columns(panels) -> int:
    """Panels side by side: three, or two where that leaves no row with one panel alone."""
    return 2 if len(panels) == 4 else 3
