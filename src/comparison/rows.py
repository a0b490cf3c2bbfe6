"""Rows for charts, out of the tables of effects, runs and curves."""

import json

import numpy as np
import pandas as pd

from comparison.contrasts import DOUBLING
from comparison.estimates import ANALYSES, CROSSED
from comparison.languages import language_label
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan

VALUES = ["estimate", "low", "high", "p", "p_corrected", "comparisons", "seeds", "n", "status"]
KEYS = ["size", "intermediate", "target", "language", "analysis"]
COSTS = {"processor": "cpu_seconds", "wall-clock": "wall_seconds"}
"""Kind of time -> column of the runs."""
CURVE_POINTS = 40
"""Points of a training's line, at most."""


def of(effects: pd.DataFrame, *quantities: str) -> pd.DataFrame:
    """The rows of some quantities, with a column `collapsed` for those that a cross marks."""
    rows = effects.loc[effects["quantity"].isin(quantities), [*KEYS, *VALUES]]
    return rows.assign(collapsed=rows["status"] == CROSSED)


def changes(effects: pd.DataFrame) -> list[str]:
    """What is said of sizes: a doubling of the parameters first, then one size to another."""
    rows = effects[effects["quantity"].isin(["scale_effect", "slope"])]
    return sorted(rows["size"].unique(), key=lambda name: name != DOUBLING)


def languages(frame: pd.DataFrame) -> list[str]:
    """Languages, their mean first, then by falling estimate: fixed, whatever is selected."""
    means = frame.groupby("language")["estimate"].mean().sort_values(ascending=False)
    return [ZERO_SHOT, *(code for code in means.index if code != ZERO_SHOT)]


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Training logs in long form, with fewer points.

    Columns: size, intermediate, target, seed, phase, step, measure, value, line, panel, collapsed,
    last.
    """
    measures = ["loss", "validation_score"]
    frame = curves.melt([*RUN, "phase", "step"], measures, var_name="measure")
    frame = frame.dropna(subset=["value"]).infer_objects()
    frame["measure"] = frame["measure"].str.replace("_", " ")
    after = frame["phase"] == "target"
    panels = (frame["intermediate"] + " → " + frame["target"]).where(after)
    frame["panel"] = panels.fillna("intermediate: " + frame["intermediate"])
    frame["target"] = frame["target"].where(after, "")  # runs on several targets share a training
    names = ["size", "intermediate", "target", "seed"]
    frame["line"] = frame[names].astype(str).agg(" ".join, axis=1) if len(frame) else ""
    fallen = runs.loc[runs["collapsed"].astype(bool), RUN]
    fallen = {" ".join(map(str, run)) for run in fallen.itertuples(index=False, name=None)}
    frame["collapsed"] = frame["line"].isin(fallen)
    line = ["line", "measure"]
    frame = frame.drop_duplicates([*line, "step"]).sort_values([*line, "step"])
    frame["last"] = ~frame.duplicated(line, keep="last")
    place, count = frame.groupby(line).cumcount(), frame.groupby(line)["step"].transform("size")
    frame = frame[(place % (count // CURVE_POINTS).clip(lower=1) == 0) | frame["last"]]
    panels = [f"intermediate: {name}" for name in plan.tasks]
    panels += [f"{name} → {target}" for target in plan.targets for name in plan.intermediate]
    rank = frame["panel"].map({panel: i for i, panel in enumerate(panels)})
    return frame.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


def costs(effects: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Zero-shot scores beside what one run cost, the intermediate training included.

    Columns of `of`, measure and cost. Runs that say nothing of a cost have no row for it.
    """
    condition = ["size", "intermediate", "target"]
    tables = []
    for kind, column in COSTS.items():
        known = runs[runs[column] > 0] if column in runs else runs.head(0)
        if known.empty:
            continue
        name, unit = _unit(known[column].median())
        spent = known.groupby(condition)[column].mean().div(unit).rename("cost").reset_index()
        mean = spent.groupby(condition[:2])["cost"].mean().reset_index().assign(target=ALL)
        tables.append(pd.concat([spent, mean]).assign(measure=f"{kind} {name}"))
    if not tables:
        return pd.DataFrame()
    frame = of(effects, "score").query("language == @ZERO_SHOT").dropna(subset=["estimate"])
    return frame.merge(pd.concat(tables), on=condition)


def _unit(seconds: float) -> tuple[str, int]:
    """The unit in which a time has one to three digits, and its seconds."""
    if seconds < 120:
        return "seconds", 1
    return ("minutes", 60) if seconds < 7200 else ("hours", 3600)


def options(plan: Plan, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What can be selected: for each parameter its values and their labels, the default first."""
    codes = set(frame["language"]) - {ZERO_SHOT} if "language" in frame else set()
    languages = [ZERO_SHOT, *sorted(codes, key=language_label)]
    # A single target is the default: few languages or none are shared by all.
    targets = [*plan.targets] + [ALL] * (len(plan.targets) > 1)
    analyses = sorted(set(frame["analysis"])) if "analysis" in frame else []
    return {
        "language": {code: language_label(code) for code in languages},
        "target": {name: name for name in targets},
        "size": {name: name for name in reversed(plan.sizes)},
        "analysis": {name: name for name in analyses or ANALYSES[:1]},
        "measure": {name: name for name in frame.get("measure", [])},
        "show": {name: name for name in ("gain", "score", "transfer gap")},
        "change": {name: name for name in frame.get("change", [])},
    }


def caption(text: str, plan: Plan, frame: pd.DataFrame) -> list[str]:
    """Lines under a title: what is drawn; seeds and sizes; what crosses and words mean."""
    sizes = "; ".join(f"{name}: {size.title}" for name, size in plan.sizes.items())
    none, others = plan.seeds(baseline=True), plan.seeds(baseline=False)
    seeds = f"{others or none} seed{'' if (others or none) == 1 else 's'}"
    if none and others and none != others:
        seeds += f" ({none} of {NONE})"
    lines = [text, f"{seeds}; {sizes}"]
    if "collapsed" in frame and frame["collapsed"].any():
        lines.append("×: with a collapsed run")
    return lines


def records(frame: pd.DataFrame) -> list[dict]:
    """Rows as JSON has them: no NaN, numbers to four decimals."""
    return json.loads(frame.to_json(orient="records", double_precision=4))
