"""Rows for charts: every planned cell of a study, with its estimate or without.

Charts draw what is here and decide nothing; a missing run is a row that says so, not a row that is not there.
"""

import itertools
import json

import pandas as pd

from helpers.comparison import sentence

POOLED = "zero-shot"
NAMES = sentence.languages().set_index("language")["name"].to_dict()
KEYS = ["size", "intermediate", "target", "language", "analysis"]
VALUES = ["estimate", "low", "high", "p", "p_corrected", "comparisons", "seeds", "n"]
CURVE_POINTS = 40  # per run and measure: enough for the eye at 200 pixels, little enough for 1,000 runs in one page


def language_label(code: str) -> str:
    """English name of a language code with the code behind it, such as `Swahili (sw)`."""
    if code == POOLED:
        return "zero-shot mean"
    return f"{NAMES[code]} ({code})" if code in NAMES else str(code)


def tasks(study) -> list[str]:
    """Intermediate tasks without the baseline."""
    return [name for name in study.intermediate if name != "none"]


def contrasts(study) -> list[str]:
    """What has a gain: the intermediate tasks, and before them `all`, their mean, when there are several."""
    return ["all", *tasks(study)] if len(tasks(study)) > 1 else tasks(study)


def targets(study) -> list[str]:
    """Target tasks; before them `all`, their mean, when there are several."""
    names = [target.task for target in study.targets]
    return ["all", *names] if len(names) > 1 else names


def complete(study, effects: pd.DataFrame, results: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """One row per planned cell of a quantity.

    Args:
        effects, results: tables of `helpers.comparison`; both may be empty.
        quantity: "score", "gain", "scale_effect" or "transfer_gap".

    Returns:
        The columns of `effects` (points; estimate is missing where there is no run), and `collapsed`: a collapsed run
        of the cell, or of the cell that it is compared with, enters the estimate.
    """
    some = (
        effects[effects["quantity"] == quantity]
        if len(effects)
        else pd.DataFrame(columns=[*KEYS, *VALUES])
    )
    sizes = list(study.sizes)
    if quantity == "scale_effect":
        sizes = ["large - base"] * ({"base", "large"} <= set(sizes))
    names = contrasts(study) if quantity in ("gain", "scale_effect") else study.intermediate
    analyses = sorted(some["analysis"].unique()) or ["all runs"]
    plan = [
        (size, name, target, language, analysis)
        for size in sizes
        for name in names
        for target in targets(study)
        for language in (
            [POOLED] if quantity == "transfer_gap" else _languages(study, target, some)
        )
        for analysis in analyses
    ]
    frame = pd.DataFrame(plan, columns=KEYS).merge(some[[*KEYS, *VALUES]], on=KEYS, how="left")
    return mark_collapsed(study, frame.assign(quantity=quantity), results).drop(columns="quantity")


def mark_collapsed(study, effects: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The same rows with `collapsed`: whether a collapsed run enters the estimate, be it as the baseline."""
    fallen = _collapsed(results)
    marks = []
    for row in effects.itertuples():
        sizes = [row.size] if row.size in study.sizes else study.sizes
        names = tasks(study) if row.intermediate == "all" else [row.intermediate]
        if row.quantity in ("gain", "scale_effect", "error_reduction"):
            names = [*names, "none"]
        over = [target.task for target in study.targets] if row.target == "all" else [row.target]
        enters = any(run in fallen for run in itertools.product(sizes, names, over))
        marks.append(enters and row.analysis != "without collapsed")
    return effects.assign(collapsed=pd.Series(marks, index=effects.index, dtype=bool))


def _languages(study, target: str, some: pd.DataFrame) -> list[str]:
    if target != "all":
        return [POOLED, *study.languages(target)]
    found = some.loc[some["target"] == "all", "language"].unique()
    return [POOLED, *sorted(set(found) - {POOLED})]


def _collapsed(results: pd.DataFrame) -> set[tuple[str, str, str]]:
    if not len(results):
        return set()
    rows = results[results["collapsed"].fillna(False).astype(bool)]
    return set(zip(rows["size"], rows["intermediate"], rows["target"], strict=True))


def order(frame: pd.DataFrame) -> list[str]:
    """Languages, the pooled one first, then by falling mean estimate: fixed, whatever is selected."""
    means = (
        frame.groupby("language")["estimate"]
        .mean()
        .sort_values(ascending=False, na_position="last")
    )
    return [POOLED, *(code for code in means.index if code != POOLED)]


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores twice per panel: without (`stage` none) and with the intermediate task (`stage` after)."""
    after = frame[frame["intermediate"] != "none"].assign(
        stage="after", panel=lambda f: f["intermediate"]
    )
    names = after["panel"].drop_duplicates()
    before = (
        frame[frame["intermediate"] == "none"]
        .assign(stage="none")
        .merge(names.to_frame(), how="cross")
    )
    return pd.concat([before, after], ignore_index=True)


def curves(study, log: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Training logs in long form: size, panel, phase, target, run, step, measure, value, last, collapsed."""
    columns = ["size", "intermediate", "target", "seed", "phase", "step", "measure", "value"]
    parts = [
        log[["size", "intermediate", "target", "seed", "phase", "step"]].assign(measure=measure, value=log[column])
        for measure, column in (("loss", "loss"), ("validation score", "validation_score"))
    ] if len(log) else []  # fmt: skip
    frame = pd.concat([pd.DataFrame(columns=columns), *parts]).dropna(subset=["value"])
    frame["target"] = frame["target"].where(frame["phase"] == "target", "").fillna("")
    frame["run"] = [f"{r.size} {r.intermediate} {r.target} {r.seed}" for r in frame.itertuples()]
    frame = frame.drop_duplicates(["run", "phase", "measure", "step"]).sort_values(
        ["run", "measure", "step"]
    )
    frame = _thin(frame)
    frame["panel"] = [
        f"intermediate: {r.intermediate}"
        if r.phase == "intermediate"
        else f"{r.intermediate} → {r.target}"
        for r in frame.itertuples()
    ]
    down = (
        runs[runs["collapsed"].astype(bool)]
        if len(runs)
        else pd.DataFrame(columns=[*KEYS[:3], "seed"])
    )
    down = {f"{r.size} {r.intermediate} {r.target} {r.seed}" for r in down.itertuples()}
    frame["collapsed"] = [
        run in down and phase == "target"
        for run, phase in zip(frame["run"], frame["phase"], strict=True)
    ]
    frame["last"] = ~frame.duplicated(["run", "phase", "measure"], keep="last")
    planned = [f"intermediate: {name}" for name in tasks(study)]
    planned += [
        f"{name} → {target.task}" for target in study.targets for name in study.intermediate
    ]
    rank = {panel: i for i, panel in enumerate(planned)}
    return frame.sort_values("panel", key=lambda c: c.map(rank), kind="stable").reset_index(
        drop=True
    )


def _thin(frame: pd.DataFrame) -> pd.DataFrame:
    place = frame.groupby(["run", "phase", "measure"]).cumcount()
    count = frame.groupby(["run", "phase", "measure"])["step"].transform("size")
    every = (count // CURVE_POINTS).clip(lower=1).astype(int)
    return frame[(place % every == 0) | (place == count - 1)] if len(frame) else frame


def cost(study, runs: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Zero-shot scores beside what a run cost, twice: minutes of wall time and petaFLOPs (10^15) of training.

    What a run cost includes the intermediate training that it builds on. `price` says what one point of gain costs
    against no intermediate task.
    """
    frame = complete(study, effects, results, "score")
    frame = frame[frame["language"] == POOLED].drop(columns="language")
    parts = []
    for measure, column, unit in (
        ("minutes", "wall_seconds", 60),
        ("petaFLOPs", "train_flops", 1e15),
    ):
        spent = _spent(runs, column, targets(study)) / unit
        index = pd.MultiIndex.from_frame(frame[["size", "intermediate", "target"]])
        parts.append(frame.assign(measure=measure, cost=spent.reindex(index).to_numpy()))
    frame = pd.concat(parts, ignore_index=True)
    same = ["size", "target", "analysis", "measure"]
    none = frame.loc[frame["intermediate"] == "none", [*same, "estimate", "cost"]]
    frame = frame.merge(
        none.rename(columns={"estimate": "score_none", "cost": "cost_none"}), on=same, how="left"
    )
    gain, extra = frame["estimate"] - frame["score_none"], frame["cost"] - frame["cost_none"]
    frame["price"] = [
        "–"
        if task == "none" or pd.isna(g) or pd.isna(e)
        else "no gain"
        if g <= 0
        else f"{e / g:.3g} {measure}"
        for task, g, e, measure in zip(
            frame["intermediate"], gain, extra, frame["measure"], strict=True
        )
    ]
    frame = frame.dropna(subset=["estimate", "cost"])
    return _apart(frame)


def _apart(frame: pd.DataFrame, share: float = 0.045) -> pd.DataFrame:
    """With `label_at`: where along the score a label stands so that it does not cover another of its size."""
    frame = frame.sort_values("estimate").assign(label_at=frame["estimate"])
    for _, rows in frame.groupby(["target", "analysis", "measure"]):
        gap = share * (rows["estimate"].max() - rows["estimate"].min())
        for _, column in rows[rows["intermediate"] != "none"].groupby("size"):
            free = -float("inf")
            for index, score in column["estimate"].items():
                frame.loc[index, "label_at"] = free = max(score, free + gap)
    return frame


def _spent(runs: pd.DataFrame, column: str, names: list[str]) -> pd.Series:
    by = ["size", "intermediate", "target"]
    if not len(runs) or column not in runs:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], [], []], names=by))
    mean = runs.groupby(by)[column].mean().rename("amount")
    if "all" not in names:
        return mean
    pooled = mean.groupby(by[:2]).mean().to_frame().assign(target="all")
    return pd.concat([mean, pooled.set_index("target", append=True)["amount"]])


def options(study, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What can be selected: for each shared parameter its values and their labels, the default first."""
    languages = dict.fromkeys(
        code for target in study.targets for code in study.languages(target.task)
    )
    analyses = sorted(set(frame["analysis"])) if "analysis" in frame else []
    # A single target is the default: a mean over targets has few languages or none that all of them share.
    names = [
        *(name for name in targets(study) if name != "all"),
        *targets(study)[: len(study.targets) > 1],
    ]
    return {
        "language": {
            code: language_label(code) for code in [POOLED, *sorted(languages, key=language_label)]
        },
        "target": {name: "all targets" if name == "all" else name for name in names},
        "size": {name: name for name in reversed(study.sizes)},
        "analysis": {name: name for name in analyses or ["all runs"]},
        "measure": {name: name for name in ("loss", "validation score")},
        "cost": {name: name for name in ("minutes", "petaFLOPs")},
    }


def notes(study, frame: pd.DataFrame) -> list[str]:
    """Lines under a title: seeds, sizes and whether they stand in for XLM-R, gaps, collapsed runs."""
    sizes = "; ".join(f"{name}: {size.title}" for name, size in study.sizes.items())
    said = all(
        "xlm-roberta" in str(size.encoder) or "stand-in" in size.title
        for size in study.sizes.values()
    )
    count = len(study.seeds)
    lines = [f"{count} seed{'s' * (count > 1)}; {sizes}{'' if said else ' (stand-ins for XLM-R)'}"]
    marks = ["×: with a collapsed run"] if frame["collapsed"].any() else []
    if "estimate" in frame and frame["estimate"].isna().any():
        marks.append("“no run”: planned, not finished")
    return lines + ["; ".join(marks)] * bool(marks)


def records(frame: pd.DataFrame) -> list[dict]:
    """Rows as JSON has them: no NaN, numbers to four decimals."""
    return json.loads(frame.to_json(orient="records", double_precision=4))
