"""Small charts of a single run, for the notebooks of phases 1 to 3. No torch."""

import altair as alt
import pandas as pd

from helpers.report import theme

theme.enable()
_BLUE = theme.COLOURS[1]


def settings(values) -> pd.DataFrame:
    """Settings (a pydantic model) as a table of those that are given."""
    given = {key: str(value) for key, value in values.model_dump().items() if value is not None}
    return pd.DataFrame({"setting": list(given), "value": list(given.values())}).set_index(
        "setting"
    )


def bars(values: dict[str, float], what: str, title: str, subtitle: str = "") -> alt.Chart:
    """One bar for every entry of ``values``, longest first; ``what`` names the numbers and their unit."""
    frame = pd.DataFrame({"name": list(values), "value": list(values.values())})
    base = alt.Chart(frame).encode(
        y=alt.Y("name:N", sort="-x", title=None),
        x=alt.X("value:Q", title=what),
        tooltip=["name", "value"],
    )
    text = base.mark_text(align="left", dx=4).encode(text=alt.Text("value:Q", format=",.4~s"))
    chart = base.mark_bar(color=_BLUE, height=12) + text
    return chart.properties(
        title=alt.TitleParams(title, subtitle=subtitle),
        width=420,
        height=alt.Step(20),
        usermeta={"chart": title},
    )


def loss_curve(log: list[dict], title: str) -> alt.Chart:
    """Training loss above, the English validation score below, over optimiser steps; tasks trained in order."""
    frame = pd.DataFrame(log)
    for column in ("loss", "validation_score"):
        if column not in frame:
            frame[column] = None
    x = alt.X("step:Q", title="optimiser step")
    base = alt.Chart(frame).encode(x=x, tooltip=["task", "step", "loss", "validation_score"])
    loss = (
        base.transform_filter("isValid(datum.loss)")
        .mark_line(color=_BLUE, point={"filled": True, "size": 18, "color": _BLUE})
        .encode(
            y=alt.Y("loss:Q", title="training loss (nats)", scale=alt.Scale(zero=False)),
            detail="task:N",
        )
    )
    score = (
        base.transform_filter("isValid(datum.validation_score)")
        .mark_line(
            color=theme.INK,
            strokeDash=[4, 3],
            point={"filled": True, "shape": "square", "color": theme.INK},
        )
        .encode(
            y=alt.Y("validation_score:Q", title="score (%)", scale=alt.Scale(zero=False)),
            detail="task:N",
        )
    )
    chart = alt.vconcat(
        loss.properties(width=460, height=150),
        score.properties(
            width=460, height=100, title="English validation data: what the weights are selected on"
        ),
    )
    return chart.properties(title=title, usermeta={"chart": title})


def scores(result: dict, title: str) -> alt.Chart:
    """A run's score in every language, best first; the zero-shot score (English left out) as a line."""
    frame = pd.DataFrame([{"language": k, **v} for k, v in result["languages"].items()])
    frame["role"] = frame["language"].map(
        lambda code: "trained on" if code == "en" else "zero-shot"
    )
    x = alt.X("score:Q", title=f"{result['metric']} (%)", scale=alt.Scale(domain=[0, 100]))
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90)
        .encode(
            y=alt.Y("language:N", sort="-x", title=None),
            x=x,
            shape=alt.Shape("role:N", title=None),
            color=alt.Color("role:N", title=None, scale=alt.Scale(range=[theme.INK, _BLUE])),
            tooltip=["language", "score", "n"],
        )
    )
    mean = pd.DataFrame({"score": [result["zero_shot"]]})
    rule = alt.Chart(mean).mark_rule(strokeDash=[4, 3], color=theme.FAINT).encode(x="score:Q")
    subtitle = f"dashed: the zero-shot score, {result['zero_shot']:.1f} (mean over the languages other than English)"
    return (rule + points).properties(
        title=alt.TitleParams(title, subtitle=subtitle),
        width=420,
        height=alt.Step(20),
        usermeta={"chart": title},
    )
