"""Small charts of a single run, for the notebooks of phases 1 to 3. No torch."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from comparison import theme

theme.enable()
_BLUE = theme.TASKS[0]


def settings(values: Mapping[str, object]) -> pd.DataFrame:
    """Settings as a table of those that have a value."""
    known = {key: str(value) for key, value in values.items() if value is not None}
    return pd.DataFrame(known.items(), columns=["setting", "value"]).set_index("setting")


def bars(values: Mapping[str, float], what: str, title: str, subtitle: str = "") -> alt.LayerChart:
    """One bar for every entry of `values`, longest first; `what` names the numbers and unit."""
    frame = pd.DataFrame(values.items(), columns=["name", "value"])
    x, y = alt.X("value:Q").title(what), alt.Y("name:N").sort("-x").title(None)
    base = alt.Chart(frame).encode(x, y, tooltip=list(frame))
    text = base.mark_text(align="left", dx=4).encode(alt.Text("value:Q").format(",.4~s"))
    return _titled(base.mark_bar(color=_BLUE, height=12) + text, title, subtitle)


def confusion(predictions: pd.DataFrame, labels: list[str], title: str) -> alt.FacetChart:
    """Gold labels by rows, predictions by columns, a panel per language; shares of a row in %."""
    row = ["language", "label"]
    frame = predictions.groupby([*row, "prediction"]).size().rename("items").reset_index()
    frame["share"] = 100 * frame["items"] / frame.groupby(row)["items"].transform("sum")
    x = alt.X("prediction:N").sort(labels).scale(domain=labels)
    y = alt.Y("label:N").sort(labels).scale(domain=labels)
    base = alt.Chart(frame).encode(x, y, tooltip=list(frame))
    colour = alt.Color("share:Q").title("% of the label").scale(scheme="blues", domain=[0, 100])
    ink = alt.condition("datum.share > 55", alt.value("white"), alt.value(theme.INK))
    text = base.mark_text().encode(alt.Text("share:Q").format(".0f"), color=ink)
    panel = (base.mark_rect().encode(colour) + text).properties(width=150, height=110)
    return panel.facet("language:N", columns=4).properties(title=title, usermeta={"chart": title})


def loss_curve(results: Mapping[int, Mapping], title: str) -> alt.VConcatChart:
    """Training loss above, the English validation score below, over optimiser steps.

    `results` are run.json and scores.json together, by seed: a line for each. A red line marks what
    the majority class scores.
    """
    lines = [{**line, "seed": seed} for seed, result in results.items() for line in result["log"]]
    columns = ["seed", "task", "step", "loss", "validation_score"]
    frame = pd.DataFrame(lines, columns=columns).astype({"seed": str})
    steps = [0, max((line["step"] for line in lines), default=1)]  # the same above and below
    x = alt.X("step:Q").title("optimiser step").scale(domain=steps).axis(tickMinStep=1)
    color = alt.Color("seed:N").scale(range=theme.TASKS)
    base = alt.Chart(frame, width=600).encode(x, color, alt.Detail("task:N"), tooltip=columns)
    loss = base.transform_filter("isValid(datum.loss)").mark_line(point=True)
    loss = loss.encode(alt.Y("loss:Q").title("training loss (nats)").scale(zero=False))
    score = base.transform_filter("isValid(datum.validation_score)").mark_line(point=True)
    score = score.encode(alt.Y("validation_score:Q").title("score (%)").scale(zero=False))
    constant = [result["selection"]["majority"] for result in results.values()]
    if constant:
        level = alt.Chart(pd.DataFrame({"validation_score": constant[:1]}))
        level = level.encode(alt.Y("validation_score:Q"))
        score += level.mark_rule(color=theme.WARNING)
        score += level.mark_text(text="majority class", dy=-7, color=theme.WARNING)
    score = score.properties(title="English validation data: what the weights are selected on")
    chart = alt.vconcat(loss.properties(height=150), score.properties(height=100))
    return chart.properties(title=title, usermeta={"chart": title})


def scores(
    results: Mapping[int, Mapping], title: str, trained_in: Sequence[str] = ("en",)
) -> alt.LayerChart:
    """The scores of a condition's runs in every language, a mark for each seed, best first.

    `results` are run.json and scores.json together, by seed; the line is the zero-shot score.
    """
    rows = [
        {"language": code, "seed": str(seed), "score": row["score"], "n": row["n"]}
        for seed, result in results.items()
        for code, row in result["languages"].items()
    ]
    frame = pd.DataFrame(rows)
    is_trained = frame["language"].isin(trained_in)
    frame["role"] = is_trained.map({True: "trained on", False: "zero-shot"})
    zero_shot = sum(result["zero_shot"] for result in results.values()) / len(results)
    metric = next(iter(results.values()))["metric"]
    x = alt.X("score:Q").title(f"{metric} (%)").scale(domain=[0, 100]).axis(tickCount=5)
    color = alt.Color("role:N").title(None).scale(range=[theme.INK, _BLUE])
    base = alt.Chart(frame).mark_point(filled=True, size=90)
    y, shape = alt.Y("language:N").sort("-x").title(None), alt.Shape("role:N").title(None)
    points = base.encode(x, y, shape, color, tooltip=list(frame))
    rule = alt.Chart().mark_rule(strokeDash=[4, 3], color=theme.FAINT)
    subtitle = f"dashed: the zero-shot score, {zero_shot:.1f}, over all seeds"
    return _titled(rule.encode(x=alt.datum(zero_shot)) + points, title, subtitle)


def _titled(chart: alt.LayerChart, title: str, subtitle: str) -> alt.LayerChart:
    titles = alt.TitleParams(title, subtitle=subtitle)
    return chart.properties(title=titles, width=600, height=alt.Step(20), usermeta={"chart": title})
