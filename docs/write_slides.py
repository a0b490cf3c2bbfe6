"""Slides of a finished study as one HTML file that needs no network.

Usage: ``python docs/write_slides.py params/STUDY.yaml [OUTPUTS]``, or ``make slides``. Arrow keys
turn the slides, ``n`` shows the speaker's notes, and a browser prints one slide a page.
"""

import html
import json
import sys
from pathlib import Path

import vl_convert

import comparison
from comparison import charts, theme
from helpers import data
from helpers.study import NONE, Study, StudyError

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
    """A chart without its caption, its letters large enough for the back of a room."""
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


def example(study: Study) -> str:
    """One test item of the first target, in English and in another language."""
    name = study.targets[0].task
    task, codes = study.labelled(name), study.languages(name)
    rows = [data.examples(study.data, task, task.evaluate, code)[0] for code in codes[:2]]
    table = data.table(rows, task).drop(columns=["id", "group", "tag"], errors="ignore")
    table.insert(0, "language", codes[:2])
    return table.to_html(index=False, border=0)


def slides(study: Study) -> list[str]:
    """The slides of a study, with numbers of its finished runs."""
    plan, runs, predictions, *_ = comparison.read_study(study.folder)
    if runs.empty:
        raise StudyError(f"{study.folder}: no finished run; run `make study STUDY={study.path}`")
    effects = comparison.effects(predictions, runs, plan)
    sentence = comparison.summary_sentence(effects, runs, plan)
    means = effects[effects["language"] == "zero-shot"]
    task, target = plan.tasks[0], next(iter(plan.targets))
    seeds = runs.groupby(["size", "intermediate", "target"]).size()
    items = predictions.groupby(["target", "language"])["id"].nunique()
    frozen = max(recipe["frozen_layers"] for recipe in plan.recipes)
    first, *_, last = [size.title for size in plan.sizes.values()]
    way = ["pretrained encoder", f"intermediate task: {task}", f"target task: {target}"]
    boxes = [f"<div>{html.escape(text)}</div>" for text in [*way, "test in every language"]]
    return [
        slide("When an encoder grows, does English help it more?", points(study.description)),
        slide("Why ask?", points(
            "Labels exist in English, for most other languages they do not.",
            "A multilingual encoder that learns a task in English can do it in others: zero-shot.",
            "Another English task first may help. Does it still help when the encoder is larger?",
        ), "Zero-shot: the model has seen no label in the language that it is tested in."),
        slide("What is known", points(
            "Phang et al. 2020: nine English tasks before XTREME's targets, with XLM-R large;"
            " sentence retrieval gains much, question answering moderately.",
            "Pruksachatkun et al. 2020: tasks that need inference help most often, in English.",
            "One size of encoder each: how the gain changes with size was not asked.",
        )),
        slide("One item of the target", example(study),
              "Ask the room for the label before you show the next slide."),
        slide("Method", f'<div class="way">{"→".join(boxes)}</div>' + points(
            f"Gain: the score with the intermediate task minus the score without ({NONE}).",
            "Scale effect: the gain of the larger encoder minus the gain of the smaller.",
            "Slope: the change of the gain for each doubling of the parameters.",
        ), "Draw the same way without the second box: that is the baseline."),
        slide("What an interval says", points(
            f"Seeds: {seeds.min()} to {seeds.max()} trainings of each kind, with another head and"
            " another order of examples.",
            f"Items: {items.min()} test items or more in each language.",
            "The 95 % interval allows for both. If it includes zero, we claim no difference.",
        )),
        slide("Which task helps, and which size most?", "", "Let the room predict."),
        slide("Gains (points)", picture(charts.gains(effects, plan)),
              "A red cross marks an estimate that a collapsed run enters."),
        slide("Does the gain grow with the encoder?", "", "Let the room predict."),
        slide("Gain by size", picture(charts.scaling(effects, plan))),
        slide("Where the gain comes from: the scores", picture(charts.scores(means, plan)),
              "A gain can be large because the baseline is low."),
        slide("Limits", points(
            f"The encoders: {first}, to {last}.",
            f"Up to {frozen} lower layers were not trained." if frozen else "All layers trained.",
            f"{len(plan.targets)} target(s), {len(items.index.unique('language'))} languages,"
            f" {int(runs['collapsed'].sum())} of {len(runs)} runs collapsed (learned nothing).",
        )),
        slide("Conclusion", f"<p>{html.escape(sentence)}</p>"),
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
