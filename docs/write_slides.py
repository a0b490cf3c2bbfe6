"""Slides of a finished study as one HTML file that needs no network.

Usage: ``python docs/write_slides.py params/STUDY.yaml [OUTPUTS]``, or ``make slides``. Arrow keys
turn the slides, ``n`` shows the speaker's notes, and a browser prints one slide per page.
"""

import html
import json
import sys
import textwrap
from pathlib import Path

import altair as alt
import pandas as pd
import vl_convert

import comparison
from comparison import charts, theme
from comparison.plan import Plan
from helpers import data
from helpers.study import NONE, Study, StudyError, Task

PAGE = Path(__file__).with_name("slides.html")
"""The page around the slides: its style and the few lines that turn them."""
LINKS = {
    "Phang et al. 2020, English Intermediate-Task Training Improves Zero-Shot Cross-Lingual"
    " Transfer Too": "2005.13013",
    "Pruksachatkun et al. 2020, Intermediate-Task Transfer Learning: When and Why Does It"
    " Work?": "2005.00628",
    "Conneau et al. 2020, Unsupervised Cross-lingual Representation Learning at Scale"
    " (XLM-R)": "1911.02116",
    "Goyal et al. 2021, Larger-Scale Transformers for Multilingual Masked Language Modeling"
    " (XLM-R XL, XXL)": "2105.00572",
    "Ruder et al. 2021, XTREME-R: Towards More Challenging Evaluation": "2104.07412",
}


def slide(title: str, body: str = "", notes: str = "") -> str:
    """One slide; a title without a body is a question to the room."""
    kind = "text" if body else "question"
    aside = f"<aside>{html.escape(notes)}</aside>" if notes else ""
    return f'<section class="{kind}"><h1>{html.escape(title)}</h1>{body}{aside}</section>'


def points(*lines: str) -> str:
    """A few short lines."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def picture(chart) -> str:
    """A chart without its caption, with letters that can be read from the back of a room."""
    if chart is None:
        return points("There is nothing to draw in this study.")
    spec = larger(chart.to_dict())
    spec.pop("title", None)
    return f"<figure>{vl_convert.vegalite_to_svg(json.dumps(spec))}</figure>"


def larger(part):
    """The specification with larger letters."""
    if isinstance(part, list):
        return [larger(item) for item in part]
    if not isinstance(part, dict):
        return part
    sizes = {
        key: 1.5 * value
        for key, value in part.items()
        if key.lower().endswith("fontsize") and isinstance(value, (int, float))
    }
    kept = ("data", "datasets")
    return {key: value if key in kept else larger(value) for key, value in part.items()} | sizes


def examples(study: Study, tasks: list[str]) -> str:
    """A short example of each of the first tasks, and of the first target in two languages."""
    shown = []
    for name in tasks[:3]:
        part = study.labelled(study.components(name)[0])
        shown.append((name, *_read(_short(data.trained_on(study.data, part, "validation")), part)))
    target = study.labelled(study.targets[0].task)
    first, *others = study.languages(target.name)[:2]
    item = _short(data.examples(study.data, target, target.evaluate, first))
    shown.append((f"{target.name}, {first}", *_read(item, target)))
    for language in others:
        rows = data.examples(study.data, target, target.evaluate, language)
        item = next((row for row in rows if row["id"] == item["id"]), rows[0])
        shown.append((f"{target.name}, {language}", *_read(item, target)))
    return pd.DataFrame(shown, columns=["task", "texts", "answer"]).to_html(index=False, border=0)


def _short(rows: list[dict]) -> dict:
    """The shortest of the first examples."""
    return min(rows[:50], key=lambda row: len(str(row)))


def _read(example: dict, task: Task) -> tuple[str, str]:
    """The texts of an example in one line, and its answer."""
    row = data.table([example], task).to_dict("records")[0]
    answer = row.pop("label", row.pop("labels", ""))
    if isinstance(found := row.pop("answers", None), dict):
        answer = next(iter(found["text"]), "no answer")
    texts = [
        " ".join(value) if isinstance(value, list) else str(value)
        for key, value in row.items()
        if value and key not in ("id", "tag")
    ]
    texts = [textwrap.shorten(text, 100, placeholder=" …") for text in texts]
    return " / ".join(texts), textwrap.shorten(str(row.get(answer, answer)), 60, placeholder=" …")


def method(effects: pd.DataFrame, plan: Plan) -> alt.HConcatChart:
    """Both ways from the encoder to a score with its interval, and the gain between them."""
    size, task, target = list(plan.sizes)[-1], plan.tasks[0], next(iter(plan.targets))
    boxes = [(0, 2, size, "encoder"), (1, 2, task, "intermediate task"), (2, 2, target, "target")]
    boxes += [(0, 1, size, "encoder"), (2, 1, target, "target")]
    frame = pd.DataFrame(boxes, columns=["x", "y", "name", "role"])
    y = alt.Y("y:Q").axis(None).scale(domain=[-0.5, 2.5])
    ways = alt.Chart(frame, width=600, height=330)
    ways = ways.encode(alt.X("x:Q").axis(None).scale(domain=[-0.5, 2.5]), y)
    line = ways.mark_line(color="#999").encode(detail="y:Q", order="x:Q")
    box = ways.mark_rect(width=165, height=70, cornerRadius=8, fill="#E8F0F8", stroke="#0057A0")
    name = ways.mark_text(fontSize=14, fontWeight="bold", dy=-11).encode(text="name")
    role = ways.mark_text(fontSize=12, dy=12).encode(text="role")
    said = pd.DataFrame([(1, 0, "the gain: upper score minus lower")], columns=["x", "y", "name"])
    left = line + box + name + role + name.properties(data=said)

    rows = effects[(effects["size"] == size) & (effects["target"] == target)]
    rows = rows[rows["quantity"].isin(["score", "gain"]) & (rows["language"] == "zero-shot")]
    rows = rows[rows["intermediate"].isin([NONE, task]) & (rows["analysis"] == "all runs")]
    rows = rows.dropna(subset=["estimate", "low", "high"])
    rows = rows.assign(y=(rows["quantity"] == "score") * (1 + (rows["intermediate"] == task)))
    form = "{estimate:.1f} [{low:.1f}, {high:.1f}]".format_map
    rows["text"] = [f"{row['quantity']} {form(row)}" for row in rows.to_dict("records")]
    rows["text"] = rows["text"].str.replace("-", "−")
    scores = rows[rows["quantity"] == "score"]
    rows.loc[rows["quantity"] == "gain", "estimate"] = scores["estimate"].mean()
    x = alt.X("estimate:Q").scale(zero=False, padding=70).axis(tickCount=5, grid=False)
    text = alt.Chart(rows, width=360, height=330).encode(x.title("zero-shot score (%)"), y)
    ends, between = text.properties(data=scores), text.properties(data=scores.assign(y=0))
    interval = ends.mark_rule(strokeWidth=3, color="#0057A0").encode(x="low:Q", x2="high:Q")
    right = between.mark_line(color="#999") + between.mark_tick(color="#999", size=16)
    right += interval + ends.mark_point(filled=True, opacity=1, size=120, color="#0057A0")
    right += text.mark_text(fontSize=14, dy=-18).encode(text="text")
    return alt.hconcat(left, right, spacing=0)


def slides(study: Study) -> list[str]:
    """The slides of a study, with numbers of its finished runs."""
    plan, runs, predictions, *_ = comparison.read_study(study.folder)
    if runs.empty:
        raise StudyError(f"{study.folder}: no finished run; run `make study STUDY={study.path}`")
    effects = comparison.effects(predictions, runs, plan)
    sentence = comparison.summary_sentence(effects, runs, plan)
    means = effects[effects["language"] == "zero-shot"]
    seeds = runs.groupby(["size", "intermediate", "target"]).size()
    items = predictions.groupby(["target", "language"])["id"].nunique()
    frozen = max(recipe["frozen_layers"] for recipe in plan.recipes)
    first, *_, last = [size.title for size in plan.sizes.values()]
    trainings = " to ".join(map(str, dict.fromkeys([seeds.min(), seeds.max()])))
    counts = f"{len(plan.sizes)} sizes of encoder, {len(plan.tasks)} intermediate tasks"
    targets = "1 target" if len(plan.targets) == 1 else f"{len(plan.targets)} targets"
    tested = f"{targets}, {len(items.index.unique('language'))} languages"
    return [
        slide("Does a larger encoder gain more from an English task?", points(
            study.description, f"{counts}, {tested}",
        ), "An encoder is a neural network that turns text into numbers."),
        slide("Why ask?", points(
            "Most labelled data is in English.",
            "A multilingual encoder that learns a task in English can do it in other languages.",
            "It may do better if it first learns another English task.",
            "Is that still so when the encoder is larger?",
        ), "Zero-shot: the model has seen no label in the language that it is tested in."),
        slide("What is known", points(
            "Phang et al. 2020: nine English tasks before XTREME's targets, with XLM-R large."
            " Sentence retrieval gains much, question answering moderately.",
            "Pruksachatkun et al. 2020: tasks that need inference help most often, in English.",
            "Both used one size of encoder. They did not ask how the gain changes with size.",
        ), "XTREME and XTREME-R are collections of tasks in many languages."),
        slide("One example of each task", examples(study, plan.tasks),
              "Cover the last column and ask the room for the answers."),
        slide("Method: two ways to one test", picture(method(effects, plan)),
              "Above: with the intermediate task. Middle: without. Below: the gain, the score above"
              " minus the score without, as a line between the two. Brackets are 95 % intervals."),
        slide("What the numbers say", points(
            f"Gain: the score with the intermediate task minus the score without ({NONE}).",
            "Scale effect: the gain of the larger encoder minus the gain of the smaller.",
            "Slope: the scale effect for each doubling of the parameters.",
            f"95 % interval: allows for chance in seeds (trainings: {trainings})"
            f" and test items ({items.min()} or more per language).",
        ), "If an interval includes zero, we claim no difference. A seed decides the head's first"
           " weights and the order of the examples."),
        slide("Which task helps, and which size most?", "", "Let the room predict."),
        slide("Gains (points)", picture(charts.gains(effects, plan)),
              "If an interval includes zero, there may be no gain. A red cross marks an estimate"
              " that a collapsed run enters."),
        slide("Does the gain grow with the encoder?", "", "Let the room predict."),
        slide("Gain by size", picture(charts.scaling(effects, plan)),
              "Bands are 95 % intervals. On a straight line, each doubling adds as many points."),
        slide("Does the encoder that gains most also score highest?", "", "Let the room predict."),
        slide("The scores behind the gains", picture(charts.scores(means, plan)),
              "A gain can be large because the score without the intermediate task is low."),
        slide("Limits", points(
            f"Encoders: from {first} to {last}.",
            f"Up to {frozen} lower layers were not trained." if frozen else "All layers trained.",
            f"{tested}; {int(runs['collapsed'].sum())} of {len(runs)} runs collapsed (learned next"
            " to nothing).",
            "Other encoders, tasks and languages may behave differently.",
        ), "Which of these limits would you remove first?"),
        slide("Conclusion", f"<p>{html.escape(sentence)}</p>",
              "The sentence was written by rules that were fixed before the study ran."),
        slide("References", "<ol>" + "".join(
            f"<li>{html.escape(title)}. arXiv {number}</li>" for title, number in LINKS.items()
        ) + "</ol>"),
    ]  # fmt: skip


if __name__ == "__main__":
    theme.enable()
    try:
        study = Study.load(*sys.argv[1:3])
        path = study.folder / "slides.html"
        text = PAGE.read_text(encoding="utf-8").replace("SLIDES", "\n".join(slides(study)))
        path.write_text(text, encoding="utf-8")
        print(path)
    except (StudyError, comparison.ComparisonError) as error:
        sys.exit(str(error))
