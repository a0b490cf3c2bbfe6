"""Rows for charts, out of the tables of effects, runs and curves."""

import pandas as pd

from comparison.contrasts import DOUBLING
from comparison.estimates import CROSSED
from comparison.languages import language_label
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan

COLUMNS = ["size", "intermediate", "target", "language", "analysis", "estimate", "low", "high"]
COLUMNS += ["p_corrected", "seeds", "n", "status"]
CURVE_POINTS = 40
"""Points of a training's line, at most."""


def of(effects: pd.DataFrame, *quantities: str) -> pd.DataFrame:
    """The rows of some quantities, with a column `collapsed` for those that a cross marks."""
    rows = effects.loc[effects["quantity"].isin(quantities), COLUMNS]
    return rows.assign(collapsed=rows["status"] == CROSSED)


def languages(frame: pd.DataFrame) -> list[str]:
    """Languages, their mean first, then by falling estimate: fixed, whatever is selected."""
    means = frame.groupby("language")["estimate"].mean().sort_values(ascending=False)
    return [ZERO_SHOT, *(code for code in means.index if code != ZERO_SHOT)]


def trainings(curves: pd.DataFrame, runs: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Training logs in long form, with fewer points, in the order of the plan.

    Columns: size, intermediate, target, seed, phase, step, measure, value, line, panel, collapsed,
    last.
    """
    frame = curves.merge(runs[[*RUN, "collapsed"]], on=RUN)
    keys = [*RUN, "phase", "step", "collapsed"]
    frame = frame.melt(keys, ["loss", "validation_score"], var_name="measure").dropna()
    frame["measure"] = frame["measure"].str.replace("_", " ")
    last_phase = frame["phase"] == "target"
    frame["collapsed"] &= last_phase
    frame["target"] = frame["target"].where(last_phase, "")  # several targets share a training
    after = frame["intermediate"] + " → " + frame["target"]
    frame["panel"] = after.where(last_phase, "intermediate: " + frame["intermediate"])
    frame["line"] = frame["size"] + " " + frame["panel"] + " " + frame["seed"].astype(str)
    lines = ["line", "measure"]
    frame = frame.drop_duplicates([*lines, "step"]).sort_values([*lines, "step"])
    frame["last"] = ~frame.duplicated(lines, keep="last")
    place, count = frame.groupby(lines).cumcount(), frame.groupby(lines)["step"].transform("size")
    frame = frame[(place % (count // CURVE_POINTS).clip(lower=1) == 0) | frame["last"]]
    panels = [f"intermediate: {name}" for name in plan.tasks]
    panels += [f"{name} → {target}" for target in plan.targets for name in plan.intermediate]
    return frame.sort_values("panel", key=lambda p: p.map(panels.index), kind="stable")


def costs(effects: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Zero-shot scores beside the minutes of one run, the intermediate training included.

    Columns of `of`, measure and cost. Runs that say nothing of a time have no row for it.
    """
    condition, tables = ["size", "intermediate", "target"], []
    times = {"cpu_seconds": "processor minutes", "wall_seconds": "minutes of wall-clock time"}
    for column, measure in times.items():
        known = runs[runs[column] > 0] if column in runs else runs.assign(**{column: 0.0}).head(0)
        spent = known.groupby(condition)[column].mean().div(60).rename("cost").reset_index()
        mean = spent.groupby(condition[:2])["cost"].mean().reset_index().assign(target=ALL)
        tables.append(pd.concat([spent, mean]).assign(measure=measure))
    scores = of(effects, "score").query("language == @ZERO_SHOT").dropna(subset=["estimate"])
    return scores.merge(pd.concat(tables), on=condition)


def options(plan: Plan, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What can be selected: for each parameter its values and their labels, the default first."""
    codes = set(frame.get("language", [])) - {ZERO_SHOT}
    languages = [ZERO_SHOT, *sorted(codes, key=language_label)]
    # A single target is the default: few languages or none are shared by all.
    values = {"target": [*plan.targets] + [ALL] * (len(plan.targets) > 1)}
    values |= {
        "size": list(reversed(plan.sizes)),
        "analysis": sorted(set(frame.get("analysis", []))),
    }
    for name in ("measure", "show", "change"):
        values[name] = list(dict.fromkeys(frame.get(name, [])))
    values["change"].sort(key=lambda name: name != DOUBLING)
    labels = {name: {value: value for value in each} for name, each in values.items()}
    return labels | {"language": {code: language_label(code) for code in languages}}


def caption(text: str, plan: Plan, frame: pd.DataFrame) -> list[str]:
    """Lines under a title: what is drawn; seeds and sizes; what a cross means."""
    seeds = {kind: set() for kind in (True, False)}
    for _, task, _, seed in plan.runs:
        seeds[task == NONE].add(seed)
    none, others = len(seeds[True]), len(seeds[False])
    count = f"seeds: {others or none}"
    if none and others and none != others:
        count += f" ({none} of {NONE})"
    sizes = "; ".join(f"{name}: {size.title}" for name, size in plan.sizes.items())
    lines = [text, f"{count}; {sizes}"]
    if frame["collapsed"].any():
        lines.append("×: with a collapsed run")
    return lines
