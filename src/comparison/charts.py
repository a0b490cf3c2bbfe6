"""Altair charts of a study's tables, one idea each.

Every function takes tables of `comparison` and the plan, and returns an Altair chart, or None where
there is nothing to draw. An estimate that is missing is drawn as the word that says why, but for
panels of which the study asks nothing; × marks estimates that a collapsed run enters, = cells of
the target's own data. Charts share the parameters `language`, `target` and `analysis`, so that on a
page one selection drives all of them.
"""

import json
import textwrap

import altair as alt
import numpy as np
import pandas as pd

from comparison.estimates import CROSSED, SAME_DATA, UNASKED, UNEVALUATED
from comparison.languages import language_label
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan
from comparison.theme import FAINT, INK, WARNING, by_size, by_task
from comparison.theme import enable as enable

COLUMNS = ["size", "intermediate", "target", "language", "analysis", "estimate", "low", "high"]
COLUMNS += ["p_corrected", "seeds", "n", "status", "note"]
KNOWN, GAP = "isValid(datum.estimate)", "!isValid(datum.estimate)"
HOLDS = "isValid(datum.p_corrected) && datum.p_corrected < 0.05"
TOOLTIP = [alt.Tooltip(f"{name}:N") for name in ("size", "intermediate", "target", "language")]
TOOLTIP += [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("estimate", "low", "high")]
TOOLTIP += [alt.Tooltip("p_corrected:Q", format=".3f"), alt.Tooltip("seeds:Q")]
TOOLTIP += [alt.Tooltip("n:Q", title="test items"), alt.Tooltip("status:N"), alt.Tooltip("note:N")]
Chart = alt.TopLevelMixin | None


def gains(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain of every intermediate task, sizes beside each other, a panel per target (points)."""
    text = "score(intermediate) − score(none), 95 % intervals; right of zero, the task helps"
    words, params = ("gains", "Gain from an intermediate task", text), ["language", "analysis"]
    return _by_task(plan, _of(effects, "gain"), params, words, "target", plan.judged)


def transfer_gap(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score where trained minus zero-shot score, by intermediate task, a panel per target."""
    frame = _of(effects, "transfer_gap").query("language == @ZERO_SHOT")
    text = "score in the language of training − mean score in the others, 95 % intervals"
    words = ("transfer_gap", "Transfer gap", text)
    return _by_task(plan, frame, ["analysis"], words, "target", plan.judged)


def scores(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score in every language, sizes beside each other, a panel per task (percent)."""
    frame, params = _of(effects, "score"), ["target", "analysis"]
    chart = _by_size(plan, "score (%)", _languages(effects), step=13, zero=False)
    text = "95 % intervals; zero-shot: the mean of the languages that the target was not trained in"
    words = ("scores", "Scores in every language", text)
    return _finish(chart, plan, frame, params, words, "intermediate", plan.intermediate)


def scale_effects(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Forest plot of what size does to the gain, per language, a panel per task (points)."""
    frame = pd.concat([_of(effects, "slope"), _of(effects, "scale_effect")])
    frame, params = frame.assign(change=frame["size"]), ["change", "target", "analysis"]
    base = alt.Chart().encode(_languages(effects, grid=True), tooltip=TOOLTIP)
    fill = alt.when(HOLDS).then(alt.value(INK)).otherwise(alt.value("white"))
    looks = {"fill": fill, "stroke": alt.value(INK)}
    chart = _intervals(base, "change of the gain (points)", alt.value(INK), looks)
    text = "change of the gain from one size to another, or per doubling of the parameters; 95 % "
    text += "intervals; filled: p < 0.05 after correction; left of zero, the smaller gains more"
    words = ("scale_effects", "Does the larger size gain more?", text)
    return _finish(chart, plan, frame, params, words, "intermediate", plan.compared)


def at_home(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain in English, gain elsewhere, and what a task does to the transfer gap (points)."""
    places = {("gain", "en"): "in English", ("gain", ZERO_SHOT): "in the other languages"}
    places["gap_change", ZERO_SHOT] = "change of the transfer gap"
    text = "95 % intervals; last panel, right of zero: English gains more, so the gap widens"
    return _side_by_side(plan, effects, places, ("at_home", "Gain in English and elsewhere", text))


def controls(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Zero-shot gain over none, over the placebo and over longer training (points)."""
    over = {"gain": NONE, "gain_over_placebo": "its placebo", "gain_over_longer": "longer"}
    places = {(name, ZERO_SHOT): f"over {baseline}" for name, baseline in over.items()}
    text = "95 % intervals; placebo: the same texts, labels shuffled; longer: more target steps"
    return _side_by_side(plan, effects, places, ("controls", "Gains beside controls", text))


def heat_map(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain by language and intermediate task as coloured numbers (points)."""
    frame, params = _of(effects, "gain"), ["size", "target", "analysis"]
    if frame.empty:
        return None
    number = frame["estimate"].map("{:+z.1f}".format).str.replace("-", "−")
    number += np.where(frame["p_corrected"] < 0.05, "*", "")
    number += np.where(frame["mark"] == "", "", " " + frame["mark"])
    frame = frame.assign(number=number.where(frame["estimate"].notna(), frame["status"]))
    top = max(1.0, frame["estimate"].abs().max())  # less than a point is no colour
    names = alt.Axis(orient="top", labelAngle=0, labelLimit=112, domain=False, ticks=False)
    x = alt.X("intermediate:N").sort(plan.compared).title(None).scale(paddingInner=0.04).axis(names)
    y = _languages(effects).scale(paddingInner=0.08)
    base = alt.Chart().encode(x, y, tooltip=TOOLTIP)
    colour = alt.Color("estimate:Q").title("gain (points)")
    signed = "format(datum.value, datum.value ? '+.0f' : '.0f')"
    colour = colour.legend(gradientLength=180, labelExpr=signed, values=[-top, 0, top])
    colour = colour.scale(domain=[-top, 0, top], range=["#B35806", "#F7F7F7", "#35478C"])
    dark = alt.when(f"abs(datum.estimate) > {0.6 * top:.3f}").then(alt.value("white"))
    ink = dark.when(GAP).then(alt.value(FAINT)).otherwise(alt.value(INK))
    boxes = base.transform_filter(KNOWN).mark_rect().encode(colour)
    numbers = base.mark_text(fontSize=11).encode(alt.Text("number:N"), color=ink)
    chart = alt.layer(boxes, numbers, width=alt.Step(116), height=alt.Step(25))
    words = ("heat_map", "Gain by language", "points; * p < 0.05 after correction")
    return _finish(chart, plan, frame, params, words)


def scaling(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Gain (or score, or transfer gap) against the encoder's parameters, a line per task."""
    if len(plan.parameters) < 2:
        return None
    kinds, params = ["gain", "score", "transfer_gap"], ["show", "language", "analysis"]
    frame = pd.concat([_of(effects, k).assign(show=k.replace("_", " ")) for k in kinds])
    none = frame[(frame["show"] == "score") & (frame["intermediate"] == NONE)]
    no_gain = {"show": "gain", "estimate": 0 * none["estimate"], "low": np.nan, "high": np.nan}
    frame = pd.concat([none.assign(**no_gain), frame])
    frame = frame.sort_values("intermediate", key=lambda names: names != NONE, kind="stable")
    frame.loc[frame["intermediate"].isin(plan.controls), ["low", "high"]] = np.nan  # they are wide
    frame = frame.assign(x=frame["size"].map(plan.parameters)).dropna(subset=["x"])
    x = _log("parameters without embeddings (log scale)", plan.parameters.values(), ".2~s")
    names = list(dict.fromkeys([*plan.compared, *plan.intermediate]))
    text = "95 % intervals of tasks; where a line rises, larger encoders gain more; none is zero"
    words = ("scaling", "The scaling curve", text)
    chart = _curves(names, x, "points")
    return _finish(chart, plan, frame, params, words, "target", plan.judged)


def learning(effects: pd.DataFrame, plan: Plan) -> Chart:
    """Score against the target's training examples, a line per intermediate task, a panel per size.

    The points are variants of a target that have numbers of examples of their own; None if fewer
    than two numbers were tried.
    """
    params = ["language", "analysis"]
    variants = {name: t for name, t in plan.targets.items() if t.variant_of and t.train_examples}
    frame = _of(effects, "score").query("target in @variants")
    pairs = zip(frame["size"], frame["target"], strict=True)
    amounts = [variants[target].train_examples.get(size) for size, target in pairs]
    frame = frame.assign(x=amounts).dropna(subset=["x"])
    if frame["x"].nunique() < 2:
        return None
    x = _log("training examples (log scale)", set(frame["x"]), ",")
    origins = ", ".join(dict.fromkeys(target.variant_of for target in variants.values()))
    text = "95 % intervals; where the lines meet, the target's own examples are enough"
    words = ("learning", f"The learning curve of {origins}", text)
    chart = _curves(plan.intermediate, x, "score (%)")
    return _finish(chart, plan, frame, params, words, "size", plan.sizes)


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Training of every run by optimiser step; collapsed runs are crossed.

    `curves` has size, intermediate, target, seed, phase ("intermediate" or "target"), step, loss,
    validation_score; `runs` one row per finished run, with `collapsed`.
    """
    if curves.empty:
        return None
    frame = curves.merge(runs[[*RUN, "collapsed"]], on=RUN)
    is_target = frame["phase"] == "target"
    frame["mark"] = np.where(frame["collapsed"] & is_target, "×", "")
    frame["target"] = frame["target"].where(is_target, "")  # several targets share a training
    after = frame["intermediate"] + " → " + frame["target"]
    frame["panel"] = after.where(is_target, "intermediate: " + frame["intermediate"])
    frame["line"] = frame["size"] + " " + frame["panel"] + " " + frame["seed"].astype(str)
    keys, values = [*RUN, "phase", "step", "panel", "line", "mark"], ["loss", "validation_score"]
    frame = frame.melt(keys, values, var_name="measure").dropna().drop_duplicates()
    frame["measure"] = frame["measure"].str.replace("_", " ")
    frame["last"] = ~frame.duplicated(["line", "measure"], keep="last")
    frame = frame.sort_values("phase", kind="stable")  # intermediate trainings first

    y = alt.Y("value:Q").title("loss or score (%)").scale(zero=False)
    y = y.axis(labelFlush=True, tickCount=4)
    base = alt.Chart().encode(alt.X("step:Q").title("step").axis(tickCount=4, format="~s"), y)
    color, shape, dash = by_size(plan)
    line = base.mark_line(strokeWidth=1.5, opacity=0.85).encode(color, dash, alt.Detail("line:N"))
    last = base.transform_filter("datum.last")
    tips = [alt.Tooltip(f"{name}:N") for name in ("size", "panel", "seed", "value", "mark")]
    point = last.mark_point(filled=True, size=28, opacity=1).encode(color, shape, tooltip=tips)
    chart = alt.layer(line, point, _marks(last), width=205, height=130)
    text = "a line per training and seed; scores (%) on validation data select the weights"
    words, params = ("trainings", "Every training", text), ["measure", "target"]
    chosen = "datum.phase == 'intermediate' || target == 'all' || datum.target == target"
    chosen, panels = f"datum.measure == measure && ({chosen})", dict.fromkeys(frame["panel"])
    chart = _finish(chart, plan, frame, params, words, "panel", panels, chosen)
    return chart.resolve_scale(x="independent", y="independent")


def cost(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> Chart:
    """Zero-shot score against what one run cost, the intermediate training included.

    Runs that say nothing of a time have no point.
    """
    condition, params = ["size", "intermediate", "target"], ["measure", "target", "analysis"]
    times = {"cpu_seconds": "processor minutes", "wall_seconds": "minutes of wall-clock time"}
    spent = runs.reindex(columns=[*condition, *times]).rename(columns=times)
    spent = spent.melt(condition, var_name="measure", value_name="cost").query("cost > 0")
    spent["cost"] /= 60
    each = spent.groupby([*condition, "measure"], as_index=False, sort=False)["cost"].mean()
    every = each.groupby([*condition[:2], "measure"], as_index=False, sort=False)["cost"].mean()
    frame = _of(effects, "score").query("language == @ZERO_SHOT").dropna(subset=["estimate"])
    frame = frame.merge(pd.concat([each, every.assign(target=ALL)]), on=condition)
    x = alt.X("cost:Q").scale(type="log", nice=False, padding=30).title("minutes a run (log scale)")
    x = x.axis(tickCount=4, format=".2~g", labelOverlap="greedy")
    text = "95 % intervals; the cost of a run includes its intermediate training; "
    text += "processor time is measured, over all cores"
    chart = _curves(plan.intermediate, x, "zero-shot score (%)", joined=False)
    words = ("cost", "What a gain costs", text)
    return _finish(chart, plan, frame, params, words, "size", plan.sizes)


def layers(gains: pd.DataFrame, plan: Plan) -> Chart:
    """Gain in retrieval accuracy by layer, the table of `comparison.layer_gains` (points)."""
    means = np.where(gains["centred"], "means removed", "as they are")
    panel = gains["target"] + ", " + gains["size"] + ": " + means
    frame = gains.assign(panel=panel, mark="").sort_values(["target", "centred"], kind="stable")
    text = "accuracy − accuracy of none, 95 % intervals over seeds; a gain that vanishes without "
    text += "the languages' mean vectors comes from languages that moved as a whole"
    words = ("layers", "Retrieval at every layer", text)
    names = [name for name in plan.compared if name in set(gains["intermediate"])]
    x = alt.X("layer:Q").axis(tickMinStep=1, labelFlush=False)
    chart = _curves(names, x, "gain (points)")
    return _finish(chart, plan, frame, [], words, "panel", dict.fromkeys(frame["panel"]))


def _of(effects: pd.DataFrame, *quantities: str) -> pd.DataFrame:
    """The rows of some quantities, with what is drawn beside an estimate, and if it was unasked."""
    rows = effects.loc[effects["quantity"].isin(quantities), ["quantity", *COLUMNS]]
    crosses = np.where(rows["status"] == CROSSED, "×", "")
    marks = crosses + np.where(rows["note"] == SAME_DATA, "=", "")
    return rows.assign(mark=marks, unasked=1 * rows["status"].isin([UNASKED, UNEVALUATED]))


def _languages(effects: pd.DataFrame, **axis) -> alt.Y:
    """Languages, their mean first, then by falling score: fixed, whatever is drawn or selected."""
    scores = effects[effects["quantity"] == "score"].groupby("language")["estimate"]
    means = scores.mean().sort_values(ascending=False)
    names = json.dumps({code: language_label(code) for code in means.index})
    y = alt.Y("language:N").title(None).sort(list(dict.fromkeys([ZERO_SHOT, *means.index])))
    return y.axis(alt.Axis(labelExpr=f"{names}[datum.value]", **axis))


def _log(title: str, values, number: str) -> alt.X:
    ticks = alt.Axis(values=sorted(values), format=number)
    return alt.X("x:Q").title(title).scale(type="log", base=2, padding=24, nice=False).axis(ticks)


def _marks(base: alt.Chart) -> alt.Chart:
    marked = base.transform_filter("datum.mark != ''")
    return marked.mark_text(dx=12, fontSize=18, color=WARNING).encode(alt.Text("mark:N"))


def _side_by_side(plan: Plan, effects: pd.DataFrame, places: dict, words: tuple) -> Chart:
    """Estimates by task, a panel for each (quantity, language); None if there is only one."""
    frame = _of(effects, *(quantity for quantity, _ in places))
    pairs = zip(frame["quantity"], frame["language"], strict=True)
    frame = frame.assign(panel=[places.get(pair) for pair in pairs]).dropna(subset=["panel"])
    order = [panel for panel in places.values() if panel in set(frame["panel"])]
    if len(order) < 2:
        return None
    return _by_task(plan, frame, ["target", "analysis"], words, "panel", order)


def _by_task(plan: Plan, frame, params, words: tuple, panel: str, order) -> Chart:
    """Estimates by intermediate task, sizes beside each other, in panels."""
    y = alt.Y("intermediate:N").sort([NONE, *plan.compared])
    return _finish(_by_size(plan, "points", y), plan, frame, params, words, panel, order)


def _by_size(plan: Plan, title: str, y: alt.Y, step=20, zero=True) -> alt.LayerChart:
    """Estimates with intervals along x; within a row, one size above the other."""
    sizes, (color, shape, _) = list(plan.sizes), by_size(plan)
    y = y.title(None).scale(paddingInner=0.3, paddingOuter=0.2)
    offset = alt.YOffset("size:N").sort(sizes).scale(domain=sizes)
    base = alt.Chart().encode(y, offset, tooltip=TOOLTIP)
    chart = _intervals(base, title, color, {"color": color, "shape": shape}, zero)
    return chart.properties(height=alt.Step(step))


def _intervals(base: alt.Chart, title: str, color, looks: dict, zero=True) -> alt.LayerChart:
    """Estimates with intervals along x, by `base`; the word that says why where one is missing."""

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q").title(title).scale(zero=zero).axis(tickCount=5, labelFlush=False)

    known = base.transform_filter(KNOWN)
    rule = base.mark_rule(strokeWidth=2).encode(x("low"), alt.X2("high:Q"), color=color)
    point = known.mark_point(filled=True, size=75, opacity=1).encode(x("estimate"), **looks)
    marks = _marks(known).encode(x("high"))
    word = {"align": "left", "dx": 4, "fontSize": 10, "fontStyle": "italic", "color": FAINT}
    word = base.transform_filter(GAP).mark_text(**word).encode(alt.XValue(0), alt.Text("status:N"))
    layers = [rule, point, marks, word]
    if zero:  # where nothing is gained and nothing lost
        layers.insert(0, alt.Chart().mark_rule(color="#555555").encode(x=alt.datum(0)))
    return alt.layer(*layers)


def _curves(names: list[str], x: alt.X, title: str, joined=True) -> alt.LayerChart:
    """Estimates with intervals along y, a colour for each task; joined, as lines with bands."""
    color, shape = by_task(names)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q").title(title).scale(zero=False)

    tips = [*TOOLTIP, alt.Tooltip(x["shorthand"], format=",.3~r")]
    base = alt.Chart().transform_filter(KNOWN).encode(x)
    interval = base.mark_area(opacity=0.1) if joined else base.mark_rule(strokeWidth=1.4)
    layers = [interval.encode(y("low"), color, alt.Y2("high:Q"))]
    base = base.encode(y("estimate"))
    if joined:
        layers.append(base.mark_line(strokeWidth=2).encode(color))
    point = base.mark_point(filled=True, size=75, opacity=1).encode(color, shape, tooltip=tips)
    return alt.layer(*layers, point, _marks(base), height=240)


def _finish(chart, plan: Plan, frame, params, words: tuple, panel="", order=(), chosen="") -> Chart:
    """The chart over its data with title, caption and shared parameters; None if nothing is asked.

    `words` are its name, title and text. A panel per value of the column `panel`, at most three in
    a row, left out if nothing in it is `chosen` (by default, of the parameters' values) and asked.
    """
    if frame.empty or frame.get("unasked", pd.Series(0)).all():
        return None
    name, title, text = words
    chart.data, caption = alt.NamedData(name), _caption(text, plan, frame)
    if panel:
        columns = 2 if len(order) == 4 else max(1, min(len(order), 3))  # none alone in its row
        if chart.width is alt.Undefined:
            chart.width = min(680, 735 // columns)
        facet = alt.Facet(f"{panel}:N").sort(list(order)).title(None)
        chart = chart.facet(facet, columns=columns)
    chosen = chosen or " && ".join(f"datum.{name} == {name}" for name in params)
    chart, group = chart.transform_filter(chosen or "true"), [panel] if panel else []
    chart = chart.transform_joinaggregate(empty="min(unasked)", groupby=group)
    chart = chart.transform_filter("!datum.empty")
    shown, chart.params = [], []
    for key in params:
        options = _options(key, plan, frame)
        values, labels = list(options), list(options.values())
        bind = alt.binding_select(options=values, labels=labels, name=f"{key} ")
        chart.params.append(alt.param(key, value=values[0], bind=bind).param)
        if len(values) > 1:
            shown.append(f"{json.dumps(options)}[{key}]")
    lines = [part for line in caption for part in textwrap.wrap(line, 105)]  # wide as a notebook
    heading = ", ".join(filter(None, [json.dumps(title), " + ' · ' + ".join(shown)]))
    chart.title = alt.TitleParams(text=alt.ExprRef(f"[{heading}]"), subtitle=lines)
    chart.description, chart.usermeta = f"{title}: {text}", {"chart": name, "caption": caption}
    chart.datasets = {name: json.loads(frame.to_json(orient="records", double_precision=4))}
    return chart


def _options(key: str, plan: Plan, frame: pd.DataFrame) -> dict[str, str]:
    """The values that a parameter can have, with their labels; the default is the first."""
    if key == "language":
        codes = sorted({*frame["language"]} - {ZERO_SHOT}, key=language_label)
        return {code: language_label(code) for code in [ZERO_SHOT, *codes]}
    # A single target is the default: few languages or none are shared by all.
    planned = {"target": [*plan.targets, *plan.judged], "size": reversed(plan.sizes)}
    return {value: value for value in planned.get(key, frame.get(key, []))}


def _caption(text: str, plan: Plan, frame: pd.DataFrame) -> list[str]:
    """Lines under a title: what is drawn; seeds and sizes; what marks mean, and which controls."""
    none = {seed for _, task, _, seed in plan.runs if task == NONE}
    others = {seed for _, task, _, seed in plan.runs if task != NONE}
    count = f"seeds: {len(others or none)}"
    if none and others and len(none) != len(others):
        count += f" ({len(none)} of {NONE})"
    sizes = "; ".join(f"{name}: {size.title}" for name, size in plan.sizes.items())
    lines = [text, f"{count}; {sizes}"]
    if frame["mark"].str.contains("×").any():
        lines.append("×: with a collapsed run")
    if frame["mark"].str.contains("=").any():
        lines.append("=: the intermediate task has the target's own data, which is no transfer")
    drawn = [name for name in plan.controls if name in set(frame["intermediate"])]
    if drawn:
        lines.append(f"controls, in no mean over tasks: {', '.join(drawn)}")
    return lines
