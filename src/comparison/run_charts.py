"""Charts of single runs that several notebooks draw. No torch."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from comparison import theme

theme.enable()


def confusion(predictions: pd.DataFrame, labels: list[str], title: str) -> alt.FacetChart:
    """Gold labels by rows, predictions by columns, a panel per language; shares of a row in %."""
    row = ["language", "label"]
    frame = predictions.groupby([*row, "prediction"]).size().rename("items").reset_index()
    frame["share"] = 100 * frame["items"] / frame.groupby(row)["items"].transform("sum")
    x = alt.X("prediction:N").sort(labels).scale(domain=labels)
    y = alt.Y("label:N").sort(labels).scale(domain=labels)
    base = alt.Chart(frame, width=150, height=110).encode(x, y, tooltip=list(frame))
    colour = alt.Color("share:Q").title("% of the label").scale(scheme="blues", domain=[0, 100])
    ink = alt.condition("datum.share > 55", alt.value("white"), alt.value(theme.INK))
    text = base.mark_text().encode(alt.Text("share:Q").format(".0f"), color=ink)
    panel = base.mark_rect().encode(colour) + text
    return panel.facet("language:N", columns=4).properties(title=title)


def loss_curve(results: Mapping[int, Mapping], title: str) -> alt.VConcatChart:
    """Training loss above, the English validation score below, over optimiser steps.

    `results` are run.json and scores.json together, by seed: a line for each. A red line marks the
    score of always giving the most frequent label.
    """
    lines = [{**line, "seed": seed} for seed, result in results.items() for line in result["log"]]
    columns = ["seed", "task", "step", "loss", "validation_score"]
    frame = pd.DataFrame(lines, columns=columns).astype({"seed": str})
    x = alt.X("step:Q").title("optimiser step").axis(tickMinStep=1)
    color = alt.Color("seed:N").scale(range=theme.TASKS)
    base = alt.Chart(frame, width=600, height=120).mark_line(point=True)
    base = base.encode(x, color, alt.Detail("task:N"), tooltip=columns)
    loss = base.transform_filter("isValid(datum.loss)")
    loss = loss.encode(alt.Y("loss:Q").title("training loss").scale(zero=False))
    score = base.transform_filter("isValid(datum.validation_score)")
    score = score.encode(alt.Y("validation_score:Q").title("score (%)").scale(zero=False))
    majority = [result["selection"]["majority"] for result in results.values()]
    level = alt.Chart(pd.DataFrame({"validation_score": majority[:1]}))
    level = level.encode(alt.Y("validation_score:Q"))
    score += level.mark_rule(color=theme.WARNING)
    score += level.mark_text(text="always the most frequent label", dy=-7, color=theme.WARNING)
    score = score.properties(title="English validation data: what the weights are selected on")
    return alt.vconcat(loss, score, title=title).resolve_scale(x="shared")
