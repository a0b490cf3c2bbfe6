"""Rows for charts, out of the tables of effects, runs and curves."""

import numpy as np
import pandas as pd

from comparison.contrasts import DOUBLING
from comparison.estimates import CROSSED, SAME_DATA
from comparison.languages import language_label
from comparison.plan import ALL, NONE, RUN, ZERO_SHOT, Plan

COLUMNS = ["size", "intermediate", "target", "language", "analysis", "estimate", "low", "high"]
COLUMNS += ["p_corrected", "seeds", "n", "status", "note"]
CURVE_POINTS = 40
"""Points of a training's line, about."""


def of(effects: pd.DataFrame, *quantities: str) -> pd.DataFrame:
    """The rows of some quantities, with a column `mark`: what is drawn beside an estimate."""
    rows = effects.loc[effects["quantity"].isin(quantities), ["quantity", *COLUMNS]]
    crosses = np.where(rows["status"] == CROSSED, "×", "")
    return rows.assign(mark=crosses + np.where(rows["note"] == SAME_DATA, "=", ""))


def languages(frame: pd.DataFrame) -> list[str]:
    """Languages, their mean first, then by falling estimate: fixed, whatever is selected."""
    means = frame.groupby("language")["estimate"].mean().sort_values(ascending=False)
    return [ZERO_SHOT, *(code for code in means.index if code != ZERO_SHOT)]


def trainings(curves: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Training logs in long form, with fewer points, intermediate trainings first.

    Columns: size, intermediate, target, seed, phase, step, measure, value, line, panel, mark, last.
    """
    frame = curves.merge(runs[[*RUN, "collapsed"]], on=RUN)
    is_target = frame["phase"] == "target"
    frame["mark"] = np.where(frame["collapsed"] & is_target, "×", "")
    frame["target"] = frame["target"].where(is_target, "")  # several targets share a training
    after = frame["intermediate"] + " → " + frame["target"]
    frame["panel"] = after.where(is_target, "intermediate: " + frame["intermediate"])
    frame["line"] = frame["size"] + " " + frame["panel"] + " " + frame["seed"].astype(str)
    keys = [*RUN, "phase", "step", "panel", "line", "mark"]
    frame = frame.melt(keys, ["loss", "validation_score"], var_name="measure").dropna()
    frame["measure"] = frame["measure"].str.replace("_", " ")
    lines = ["line", "measure"]
    frame = frame.drop_duplicates([*lines, "step"]).sort_values([*lines, "step"])
    frame["last"] = ~frame.duplicated(lines, keep="last")
    place, count = frame.groupby(lines).cumcount(), frame.groupby(lines)["step"].transform("size")
    frame = frame[(place % (count // CURVE_POINTS).clip(lower=1) == 0) | frame["last"]]
    return frame.sort_index().sort_values("phase", kind="stable")


def costs(effects: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Zero-shot scores beside the minutes of one run, the intermediate training included.

    Columns of `of`, measure and cost. Runs that say nothing of a time have no row for it.
    """
    condition = ["size", "intermediate", "target"]
    times = {"cpu_seconds": "processor minutes", "wall_seconds": "minutes of wall-clock time"}
    spent = runs.reindex(columns=[*condition, *times]).rename(columns=times)
    spent = spent.melt(condition, var_name="measure", value_name="cost").query("cost > 0")
    spent["cost"] /= 60
    each = spent.groupby([*condition, "measure"], as_index=False, sort=False)["cost"].mean()
    every = each.groupby([*condition[:2], "measure"], as_index=False, sort=False)["cost"].mean()
    scores = of(effects, "score").query("language == @ZERO_SHOT").dropna(subset=["estimate"])
    return scores.merge(pd.concat([each, every.assign(target=ALL)]), on=condition)


def options(plan: Plan, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What can be selected: for each parameter its values and their labels, the default first."""
    codes = set(frame.get("language", [])) - {ZERO_SHOT}
    values = {name: list(dict.fromkeys(frame.get(name, []))) for name in ("measure", "show")}
    # A single target is the default: few languages or none are shared by all.
    values["target"] = [*plan.targets, ALL] if len(plan.targets) > 1 else list(plan.targets)
    values["size"] = list(reversed(plan.sizes))
    values["analysis"] = sorted(set(frame.get("analysis", [])))
    values["change"] = sorted(dict.fromkeys(frame.get("change", [])), key=lambda n: n != DOUBLING)
    labels = {name: dict(zip(each, each, strict=True)) for name, each in values.items()}
    names = [ZERO_SHOT, *sorted(codes, key=language_label)]
    return labels | {"language": {code: language_label(code) for code in names}}


def caption(text: str, plan: Plan, frame: pd.DataFrame) -> list[str]:
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
