"""Altair charts of a study's tables, one idea each.

Every function takes the study (names and order of sizes, intermediate tasks, targets, languages)
and the tables of `helpers.comparison`, and returns an Altair chart. A planned estimate without a
run is drawn as a gap that says so; one that a collapsed run enters carries a cross. Charts share
the parameters `language`, `target` and `analysis`, so that one selection drives all of them.
"""

import json

import altair as alt
import pandas as pd

from helpers.report import grid, marks
from helpers.report.theme import FAINT, INK, tooltip
from helpers.report.theme import enable as enable
from helpers.study import RUN, ZERO_SHOT, Study


def gains(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain of every intermediate task, sizes beside each other, a panel per target (points)."""
    frame = grid.complete(study, effects, results, "gain")
    params = ["language", "analysis"]
    chart = _per_target("gains", study, frame, "gain (points)", params)
    title = "Gain from an English intermediate task"
    subtitle = (
        "score(intermediate) − score(none), 95 % intervals; right of the line, the intermediate "
        "task helps"
    )
    return finish(chart, study, frame, "gains", title, subtitle, params)


def transfer_gap(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """English minus zero-shot score, by intermediate task, a panel per target (points)."""
    frame = grid.complete(study, effects, results, "transfer_gap")
    chart = _per_target("transfer_gap", study, frame, "transfer gap (points)", ["analysis"])
    title = "Transfer gap: what is lost on the way from English"
    subtitle = (
        "score in English − mean score in the other languages, 95 % intervals; smaller is better"
    )
    return finish(chart, study, frame, "transfer_gap", title, subtitle, ["analysis"])


def scores(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score in every language, sizes beside each other, a panel per task (percent)."""
    frame = grid.complete(study, effects, results, "score")
    y = alt.Y("language:N").sort(grid.order(frame)).axis(marks.language_axis(frame))
    params = ["target", "analysis"]
    chart = marks.dodged("scores", study, "score (%)", y, params)
    chart = marks.panels(chart, "intermediate", study.intermediate)
    subtitle = (
        "95 % intervals; a panel per intermediate task; English is the language of training, all "
        "others are zero-shot"
    )
    title = "Scores in every language"
    return finish(chart, study, frame, "scores", title, subtitle, params)


def scale_effects(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Forest plot of what size does to the gain, per language, a panel per task (points)."""
    frame = grid.complete(study, effects, results, "change")
    params = ["change", "target", "analysis"]
    frame["change"] = frame["size"]
    y = alt.Y("language:N").title(None).sort(grid.order(frame))
    y = y.axis(marks.language_axis(frame, grid=True))
    x = marks.points("change of the gain (points)", zero=True)
    base = alt.Chart().transform_filter(marks.chosen(params)).encode(y, tooltip=marks.TOOLTIP)
    pooled = alt.when(f"datum.language == '{ZERO_SHOT}'")
    found = alt.when("datum.p_corrected != null && datum.p_corrected < 0.05")
    rule = base.mark_rule(strokeWidth=1.8, color=INK).encode(x("low"), alt.X2("high:Q"))
    point = base.transform_filter(marks.KNOWN).mark_point(opacity=1, stroke=INK, strokeWidth=1.4)
    point = point.encode(
        x("estimate"),
        shape=pooled.then(alt.value("diamond")).otherwise(alt.value("circle")),
        size=pooled.then(alt.value(150)).otherwise(alt.value(60)),
        fill=found.then(alt.value(INK)).otherwise(alt.value("white")),
    )
    layers = [marks.zero_line(), rule, point, *marks.ends(base, x)]
    chart = marks.layer("scale_effects", *layers)
    chart = marks.panels(chart, "intermediate", grid.contrasts(study))
    title = "Scale: does the larger encoder gain more?"
    subtitle = (
        "change of the gain from one size to another, or per doubling of the parameters; 95 % "
        "intervals; filled: p < 0.05, corrected; in order of the mean effect"
    )
    return finish(chart, study, frame, "scale_effects", title, subtitle, params)


def heat_map(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gain by language and intermediate task as coloured numbers (points)."""
    frame = grid.complete(study, effects, results, "gain")
    params = ["size", "target", "analysis"]
    top = max(1.0, frame["estimate"].abs().max())  # less than a point is no colour
    names = alt.Axis(orient="top", labelExpr=marks.NAME, labelAngle=0, labelLimit=96)
    names.domain = names.ticks = False
    x = alt.X("intermediate:N").sort(grid.contrasts(study)).title(None).scale(paddingInner=0.04)
    y = alt.Y("language:N").sort(grid.order(frame)).title(None).scale(paddingInner=0.08)
    y = y.axis(marks.language_axis(frame))
    base = alt.Chart().transform_filter(marks.chosen(params))
    base = base.encode(x.axis(names), y, tooltip=marks.TOOLTIP)
    known, gap = (base.transform_filter(rows) for rows in (marks.KNOWN, marks.GAP))
    colour = (
        alt.Color("estimate:Q").title("gain (points)").legend(gradientLength=180, format="+.0f")
    )
    colour = colour.scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"])
    dark = alt.when(f"abs(datum.estimate) > {0.6 * top:.3f}")
    ink = dark.then(alt.value("white")).otherwise(alt.value(INK))
    chart = marks.layer(
        "heat_map",
        known.mark_rect().encode(colour),
        gap.mark_rect(fill="white", stroke="#BBBBBB", strokeDash=[3, 2]),
        known.mark_text(fontSize=11.5).encode(alt.Text("number:N"), color=ink),
        gap.mark_text(fontSize=10, color=FAINT).encode(alt.Text("gap:N")),
        width=alt.Step(96),
        height=alt.Step(25),
    )
    subtitle = "points; * p < 0.05 after correction"
    return finish(chart, study, frame, "heat_map", "Gain by language", subtitle, params)


def slopes(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Score without and with each intermediate task, a line per size (percent)."""
    frame = grid.slopes(grid.complete(study, effects, results, "score"))
    params = ["language", "target", "analysis"]
    stages = ["none", "after"]
    x = alt.X("stage:N").sort(stages).title(None).scale(padding=0.4, domain=stages)
    x = x.axis(labelAngle=0, labelExpr="datum.value == 'none' ? 'none' : 'with it'")
    y = alt.Y("estimate:Q").title("score (%)").scale(zero=False)
    base = alt.Chart().transform_filter(marks.chosen(params)).transform_filter(marks.KNOWN)
    base = base.encode(x, y)
    line, point = marks.lines(base, study, base, marks.TOOLTIP, size=80, strokeWidth=2.4)
    color, *_ = marks.by_size(study)
    low = alt.Y("low:Q").title("score (%)").scale(zero=False)
    rule = base.mark_rule(strokeWidth=1.2).encode(low, color, alt.Y2("high:Q"))
    layers = [rule, line, point, marks.cross(base, dx=13)]
    chart = marks.layer("slopes", *layers, width=150, height=210)
    chart = marks.panels(chart, "panel", grid.tasks(study), columns=5)
    title = "From no intermediate task to each of them"
    subtitle = (
        "score (%), 95 % intervals; a steeper line gains more, a missing line is a missing run"
    )
    return finish(chart, study, frame, "slopes", title, subtitle, params)


def curves(study: Study, log: pd.DataFrame, runs: pd.DataFrame) -> alt.Chart:
    """Training of every run by optimiser step; collapsed runs are crossed.

    Parameters
    ----------
    log
        Size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss,
        validation_score (on English validation data).
    runs
        One row per finished run, with `collapsed`.
    """
    frame = grid.curves(study, log, runs)
    x = alt.X("step:Q").title("step").axis(tickCount=4, format="~s")
    y = alt.Y("value:Q").title(None).scale(zero=False).axis(labelFlush=True, tickCount=4)
    base = alt.Chart().encode(x, y)
    last = base.transform_filter("datum.last")
    fields = ["size:N", "intermediate:N", "target:N", "seed:Q", "step:Q", "value:Q", "collapsed:N"]
    look = {"strokeWidth": 1.5, "opacity": 0.85}
    line, point = marks.lines(base, study, last, tooltip(fields), size=28, **look)
    layers = [line.encode(alt.Detail("run:N")), point, marks.cross(last, dx=10)]
    chart = alt.layer(*layers, data=alt.NamedData("curves"), width=205, height=130)
    chart = marks.panels(chart, "panel", dict.fromkeys(frame["panel"]), columns=4)
    phase = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chart = chart.transform_filter(f"datum.measure == measure && ({phase})")
    chart = chart.resolve_scale(x="independent", y="independent")
    trained = log.loc[log["phase"] == "target", RUN].drop_duplicates()
    all_shown = frame.loc[frame["phase"] == "target", "run"].nunique() == len(trained)
    which = "" if all_shown else ", for some of very many seeds: the lowest, the highest, between"
    subtitle = (
        f"a line per run and seed{which}; the score (%) is on English validation data, which alone "
        "chooses a model"
    )
    title = "Training of every run"
    return finish(chart, study, frame, "curves", title, subtitle, ["measure", "target"])


def beside_published(study: Study, beside: pd.DataFrame) -> alt.Chart:
    """Published scores and the study's own of the same encoder, task and languages (percent)."""
    frame = beside.assign(row=beside["target"] + ", " + beside["language"])
    color, shape, _ = marks.by_size(study)
    fields = ["size", "intermediate", "language", "value", "ours", "seeds", "source", "note"]
    y = alt.Y("row:N").title(None).sort(list(dict.fromkeys(frame["row"])))
    base = alt.Chart(frame).encode(y, color, tooltip=tooltip(fields))
    theirs = alt.X("value:Q").title("score (%)").scale(zero=False)
    rule = base.mark_rule(opacity=0.5).encode(theirs, alt.X2("ours:Q"))
    tick = base.mark_tick(thickness=2, height=13).encode(theirs)
    own = base.mark_point(filled=True, opacity=1, size=70).encode(alt.X("ours:Q"), shape)
    title = alt.TitleParams(
        "Beside published scores",
        subtitle="points: this study, mean over seeds; ticks: others, whose notes the table has",
    )
    chart = (rule + tick + own).properties(title=title, width=600, height=alt.Step(18))
    return chart.properties(usermeta={"chart": "beside_published"})


def dashboard(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> alt.Chart:
    """Gains, slopes and the heat map in one: a choice of language or target moves all three."""
    parts = [draw(study, effects, results) for draw in (gains, slopes, heat_map)]
    shared = {param.name: param for part in parts for param in part.params}
    tables = {name: rows for part in parts for name, rows in part.datasets.items()}
    for part in parts:  # what parts share belongs to the whole: one selection, not one each
        part.params = part.usermeta = part.datasets = alt.Undefined
        part.title.frame = "group"
    for part in parts[1:]:
        part.title.subtitle = part.title.subtitle[:1]
    whole = {"params": list(shared.values()), "datasets": tables}
    chart = alt.vconcat(*parts, spacing=40, usermeta={"chart": "dashboard"}, **whole)
    return chart.resolve_scale(color="independent", shape="independent", strokeDash="independent")


def _per_target(name, study, frame, axis, chosen) -> alt.FacetChart:
    """Estimates by intermediate task, a panel per target."""
    y = alt.Y("intermediate:N").sort(list(dict.fromkeys(frame["intermediate"])))
    y = y.axis(labelExpr=marks.NAME)
    chart = marks.dodged(name, study, axis, y, chosen, step=20, zero=True)
    return marks.panels(chart, "target", grid.targets(study))


def finish(chart, study, frame, name, title, subtitle, params) -> alt.Chart:
    """Title with what is selected, subtitle with units, seeds and encoders, shared parameters."""
    options, words, given = grid.options(study, frame), [], []
    for key in params:
        values, labels = list(options[key]), list(options[key].values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        given.append(alt.param(key, value=values[0], bind=bind).param)
        if len(values) > 1:
            words.append(f"{json.dumps(options[key])}[{key}]")
    lines = [json.dumps(title), *([" + ' · ' + ".join(words)] if words else [])]
    text = alt.ExprRef(f"[{', '.join(lines)}]")
    # `properties` and `add_params` would copy and validate all that there is, as drawing does.
    chart.params = given
    chart.title = alt.TitleParams(text=text, subtitle=[subtitle, *grid.notes(study, frame)])
    chart.description, chart.usermeta = f"{title}: {subtitle}", {"chart": name}
    chart.datasets = {name: grid.records(frame)}
    return chart
