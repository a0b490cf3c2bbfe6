"""Write the results of a finished study as a page for docs.

Usage: ``python docs/write_results.py params/STUDY.yaml [OUTPUTS]``, or ``make results``. Writes
docs/results/NAME.md and, in docs/results/NAME/, its tables as CSV and its charts as SVG. What
somebody wrote about the study stands on the page too: docs/results/NAME/in-short.md first,
notes.md last.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import vl_convert

import comparison
from comparison import Plan, charts
from comparison.contrasts import DOUBLING
from comparison.estimates import CROSSED
from comparison.plan import ALL, NONE, ZERO_SHOT
from comparison.reading import MADE_ON
from helpers.study import Study, StudyError
from helpers.study.files import write_text

RESULTS = Path(__file__).parent / "results"
MARK = "<!-- Written by docs/write_results.py; run `make results` anew instead of editing. -->"
SELECTIONS = ("last", "average", "oracle")
ENDS = ["estimate", "low", "high"]
CHARTS = {
    "gains": charts.gains,
    "controls": charts.controls,
    "at_home": charts.at_home,
    "scaling": charts.scaling,
    "learning_curve": charts.learning,
    "heat_map": charts.heat_map,
}


def write(folder: Path, results_folder: Path = RESULTS) -> Path:
    """Write page, tables and charts of the study in ``folder``.

    Raises
    ------
    StudyError
        No run is finished, or a page of this name was written by hand.
    """
    plan, runs, predictions, _, layers = comparison.read_study(folder)
    if runs.empty:
        raise StudyError(f"{folder}: found no finished run; run `make study` first")
    path = results_folder / f"{plan.name}.md"
    if path.exists() and not path.read_text(encoding="utf-8").startswith(MARK):
        raise StudyError(f"{path}: found a page that was written by hand; expected none: move it")
    effects = comparison.effects(predictions, runs, plan)
    tables = {"results": comparison.results(predictions, runs, plan), "effects": effects}
    others = {name: comparison.read_study(folder, name).predictions for name in SELECTIONS}
    tables["sensitivity"] = comparison.sensitivity(predictions, runs, plan, others)
    tables["layers"] = comparison.layer_gains(layers)
    tables["noise"] = comparison.variance_table(comparison.read_crossed(folder))
    for name, table in tables.items():
        if table.empty:
            continue
        write_text(results_folder / plan.name / f"{name}.csv", table.round(4).to_csv(index=False))
    pictures = []
    drawn = {name: draw(effects, plan) for name, draw in CHARTS.items()}
    for name, chart in {**drawn, "layers": charts.layers(tables["layers"], plan)}.items():
        if chart is not None:
            svg = vl_convert.vegalite_to_svg(json.dumps(chart.to_dict()))
            write_text(results_folder / plan.name / f"{name}.svg", svg)
            pictures.append(f"![{name.replace('_', ' ')}]({plan.name}/{name}.svg)")
    in_short, notes = (written(path.with_suffix("") / n) for n in ("in-short.md", "notes.md"))
    parts = [MARK, f"# {plan.name}", in_short, *opening(effects, runs, plan)]
    parts += [*cells(effects, plan), *further(tables, plan), "## Charts", *pictures, notes]
    parts = [part for part in parts if part]
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def written(path: Path) -> str:
    """What somebody wrote for the page, if anybody did."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def opening(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> list[str]:
    """The answer, and what it comes from."""
    sizes = "; ".join(f"{name}: {size.title}" for name, size in plan.sizes.items())
    finished = len(plan.runs) - len(comparison.missing_runs(plan, runs))
    made = [one.dropna() for _, one in runs[MADE_ON].drop_duplicates().iterrows()]
    made = "; ".join(", ".join(f"{k} {v}" for k, v in one.items()) for one in made)
    return [
        f"**{comparison.summary_sentence(effects, runs, plan)}**",
        comparison.beside_sentence(effects, runs, plan),
        f"*{plan.description}*",
        f"{finished} of {len(plan.runs)} runs are finished. Encoders: {sizes}. Made with {made}.",
    ]


def cells(effects: pd.DataFrame, plan: Plan) -> list[str]:
    """A table of scores and gains for each target; every figure is one of ``effects``."""
    rows = effects[(effects["analysis"] == "all runs") & (effects["language"] == ZERO_SHOT)]
    parts = [
        "Zero-shot scores in percent and gains in points with 95 % intervals; * p < 0.05 after "
        "correction for all comparisons of its kind; × a collapsed run enters; = the same data as "
        "the target, not counted in means over tasks."
    ]
    for target in plan.judged:
        name = "Mean of all targets" if target == ALL else target
        tasks = plan.gained if target == ALL else plan.compared  # not every target has each control
        parts += [f"## {name}", _table(rows[rows["target"] == target], plan, tasks)]
    return parts


def further(tables: dict[str, pd.DataFrame], plan: Plan) -> list[str]:
    """What the answer depends on, controls, retrieval by layer, and where the noise comes from."""
    effects, parts = tables["effects"], []
    over = {"gain_over_placebo": "its placebo", "gain_over_longer": "longer"}
    rows = effects[effects["quantity"].isin(over) & (effects["analysis"] == "all runs")]
    rows = rows[(rows["language"] == ZERO_SHOT) & rows["target"].isin([*plan.targets])]
    rows = rows.dropna(subset=["estimate"])
    has_collapsed = (rows["status"] == CROSSED).map({True: "×", False: ""})
    rows = rows.assign(minus=rows["quantity"].map(over), note=rows["note"] + has_collapsed)
    controls = rows[["size", "target", "intermediate", "minus", *ENDS, "note"]]
    for title, table in (
        ("Gains minus those of the controls", controls),
        ("What the answer depends on", tables["sensitivity"]),
        ("Where the noise comes from", tables["noise"]),
    ):
        if not table.empty:
            parts += [f"## {title}", _markdown(table)]
    if found := comparison.layers_sentence(tables["layers"]):
        parts += ["## Retrieval, layer by layer", found]
    return parts


def _markdown(table: pd.DataFrame) -> str:
    """A table with its numbers rounded, an estimate and its interval in one column."""
    if set(ENDS) <= set(table):
        intervals = [_interval(row, "+") for _, row in table.iterrows()]
        table = table.assign(estimate=intervals).drop(columns=["low", "high"])
        table = table.rename(columns={"estimate": "estimate and 95 % interval"})
    lines = [[*table.columns], ["---"] * len(table.columns)]
    for row in table.fillna("").to_numpy():
        lines.append([f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(row: pd.Series, sign: str) -> str:
    """An estimate with its interval, if it has one."""
    digits = 2 if row.get("unit") == "log odds" else 1
    ends = "" if pd.isna(row["low"]) else f" [{row['low']:z.{digits}f}, {row['high']:z.{digits}f}]"
    return (f"{row['estimate']:{sign}z.{digits}f}" + ends).replace("-", "−")


def _table(rows: pd.DataFrame, plan: Plan, tasks: list[str]) -> str:
    """Baseline and gains of a target, a row per size; below, what size does to the gain."""
    head = ["", NONE, *(f"after {task}" for task in tasks)]
    lines = [head, ["---"] * len(head)]
    for size in plan.sizes:
        gains = [_cell(rows, "gain", size, task) for task in tasks]
        lines.append([size, _cell(rows, "score", size, NONE), *gains])
    changes = rows[rows["quantity"].isin(["scale_effect", "slope"])]
    for quantity, size in changes[["quantity", "size"]].drop_duplicates().to_numpy():
        name = f"gain {DOUBLING} of the parameters" if size == DOUBLING else f"gain, {size}"
        lines.append([name, "", *(_cell(rows, quantity, size, task) for task in tasks)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(rows: pd.DataFrame, quantity: str, size: str, task: str) -> str:
    """An estimate with its interval, or the words that say why it is missing."""
    names = [quantity, size, task]
    chosen = rows[(rows[["quantity", "size", "intermediate"]] == names).all(axis=1)]
    if chosen.empty:
        return "not asked for"
    row = chosen.iloc[0]
    if pd.isna(row["estimate"]):
        return row["status"]
    star = " *" if row["p_corrected"] < 0.05 else ""
    cross = " ×" if row["status"] == CROSSED else ""
    same = " =" if row["note"] == "same data" else ""
    return _interval(row, "" if quantity == "score" else "+") + star + cross + same


if __name__ == "__main__":
    try:
        print(write(Study.load(*sys.argv[1:3]).folder))
    except (StudyError, comparison.ComparisonError) as error:
        sys.exit(str(error))
