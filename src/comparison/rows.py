"""Rows for charts: everything that a study planned, with its estimate or without.

Charts draw what is here and decide nothing; a missing run is a row that says so, not a row that is
not there.
"""

import json
from itertools import product

import numpy as np
import pandas as pd

from helpers import comparison
from helpers.comparison.contrasts import ALL, DOUBLING, TESTED
from helpers.comparison.estimates import ANALYSES
from helpers.study import NONE, RUN, ZERO_SHOT, Study

LANGUAGES = comparison.languages().set_index("language")["name"].to_dict()
KEYS = ["size", "intermediate", "target", "language", "analysis"]
VALUES = ["estimate", "low", "high", "p", "p_corrected", "comparisons", "seeds", "n"]
COSTS = {"minutes": ("wall_seconds", 60), "petaFLOPs": ("train_flops", 1e15)}
"""Unit -> column of the runs, and how much of it makes a unit."""
CURVE_POINTS, CURVE_SHAPE, CURVE_ROWS = 40, 16, 40_000
"""Points of a line, at most and, before lines are left out, at least; of all, bounded by a page."""
LINE = ["run", "phase", "measure"]
LABEL_SHARE = 0.045
"""Room of a label in the chart of costs, as a share of its height."""


def language_label(code: str) -> str:
    """English name of a language code with the code behind it, such as `Swahili (sw)`."""
    if code == ZERO_SHOT:
        return "zero-shot mean"
    return f"{LANGUAGES[code]} ({code})" if code in LANGUAGES else str(code)


def tasks(study: Study) -> list[str]:
    """Intermediate tasks without the baseline."""
    return [name for name in study.intermediate if name != NONE]


def contrasts(study: Study) -> list[str]:
    """What has a gain: `all`, the mean, if there are several tasks, and the intermediate tasks."""
    return [ALL, *tasks(study)] if len(tasks(study)) > 1 else tasks(study)


def targets(study: Study) -> list[str]:
    """Target tasks; before them `all`, their mean, when there are several."""
    names = [target.task for target in study.targets]
    return [ALL, *names] if len(names) > 1 else names


def changes(effects: pd.DataFrame) -> list[str]:
    """What is said of sizes: a doubling of the parameters first, then one size to another."""
    rows = effects[effects["quantity"].isin(["scale_effect", "slope"])]
    return sorted(rows["size"].unique(), key=lambda name: name != DOUBLING)


def complete(
    study: Study, effects: pd.DataFrame, results: pd.DataFrame, quantity: str
) -> pd.DataFrame:
    """Every planned row of a quantity: "score", "gain", "transfer_gap", or "change" over sizes.

    Returns
    -------
    The columns of `effects` (points; estimate is missing where there is no run), and those of
    `mark_collapsed`.
    """
    of = ["scale_effect", "slope"] if quantity == "change" else [quantity]
    some = effects[effects["quantity"].isin(of)]
    sizes = changes(effects) if quantity == "change" else list(study.sizes)
    names = study.intermediate if quantity in ("score", "transfer_gap") else contrasts(study)
    in_mean = some.loc[some["target"] == ALL, "language"]
    places = []
    for target in targets(study):
        codes = sorted(set(in_mean)) if target == ALL else study.languages(target)
        codes = [code for code in codes if code != ZERO_SHOT and quantity != "transfer_gap"]
        places += [(target, code) for code in [ZERO_SHOT, *codes]]
    analyses = sorted(some["analysis"].unique()) or ANALYSES[:1]
    rows = product(sizes, names, places, analyses)
    plan = [(size, name, *place, analysis) for size, name, place, analysis in rows]
    frame = pd.DataFrame(plan, columns=KEYS).merge(some[[*KEYS, *VALUES]], on=KEYS, how="left")
    return mark_collapsed(study, frame.assign(quantity=of[0]), results).drop(columns="quantity")


def mark_collapsed(study: Study, effects: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The same rows with `collapsed`: a collapsed run enters the estimate, be it as baseline."""
    fallen = results.loc[results["collapsed"].astype(bool), RUN[:3]].drop_duplicates()
    reached = set()
    for size, intermediate, target in fallen.itertuples(index=False, name=None):
        names = [name for name in effects["size"].unique() if _contains(name, size)]
        reached |= set(product(names, (intermediate, ALL), (target, ALL)))

    def enters(names) -> pd.Series:
        runs = zip(effects["size"], names, effects["target"], strict=True)
        return pd.Series([run in reached for run in runs], index=effects.index, dtype=bool)

    baseline = effects["quantity"].isin(TESTED) & enters([NONE] * len(effects))
    counted = effects["analysis"] != ANALYSES[1]
    return effects.assign(collapsed=(enters(effects["intermediate"]) | baseline) & counted)


def _contains(name: str, size: str) -> bool:
    """Whether what is said of `name` takes in a size."""
    return name == DOUBLING or size in name.split(" - ")


def order(frame: pd.DataFrame) -> list[str]:
    """Languages, their mean first, then by falling estimate: fixed, whatever is selected."""
    means = frame.groupby("language")["estimate"].mean().sort_values(ascending=False)
    return [ZERO_SHOT, *(code for code in means.index if code != ZERO_SHOT)]


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores twice per panel: without (`stage` none) and with the intermediate task (after)."""
    none = frame["intermediate"] == NONE
    after = frame[~none].assign(stage="after", panel=frame.loc[~none, "intermediate"])
    panels = after[["panel"]].drop_duplicates()
    before = frame[none].assign(stage="none").merge(panels, how="cross")
    return pd.concat([before, after], ignore_index=True)


def curves(study: Study, log: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Training logs in long form, thinned: fewer points, and of very many runs fewer seeds.

    Columns: size, intermediate, target, seed, phase, step, measure, value, run, panel, collapsed,
    last.
    """
    measures = ["loss", "validation_score"]
    frame = log.melt([*RUN, "phase", "step"], measures, var_name="measure").dropna(subset=["value"])
    frame["measure"] = frame["measure"].str.replace("_", " ")
    of_target = frame["phase"] == "target"
    panels = (frame["intermediate"] + " → " + frame["target"]).where(of_target)
    frame["panel"] = panels.fillna("intermediate: " + frame["intermediate"])
    frame["target"] = frame["target"].where(of_target, "")
    frame["run"] = _run(frame)
    frame["collapsed"] = frame["run"].isin(_run(runs[runs["collapsed"].astype(bool)]))
    frame = frame.drop_duplicates([*LINE, "step"]).sort_values(["run", "measure", "step"])
    frame["last"] = ~frame.duplicated(LINE, keep="last")
    frame = _spread(frame)
    place, count = frame.groupby(LINE).cumcount(), frame.groupby(LINE)["step"].transform("size")
    points = min(CURVE_POINTS, max(2, CURVE_ROWS // max(1, frame["last"].sum())))
    every = (count // points).clip(lower=1)
    frame = frame[(place % every == 0) | frame["last"]]
    planned = [f"intermediate: {name}" for name in tasks(study)]
    planned += [f"{i} → {target.task}" for target in study.targets for i in study.intermediate]
    frame["rank"] = frame["panel"].map({panel: i for i, panel in enumerate(planned)})
    return frame.sort_values("rank", kind="stable", ignore_index=True).drop(columns="rank")


def _spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Of too many lines some seeds, from the lowest last value to the highest; collapsed apart."""
    ends = frame[frame["last"]]
    alike = ends.groupby(["size", "panel", "phase", "measure", "collapsed"])["value"]
    rank, count = alike.rank(method="first") - 1, alike.transform("size")
    room = max(2, CURVE_ROWS // CURVE_SHAPE // max(1, alike.ngroups))
    apart = ((count - 1) / (room - 1)).clip(lower=1)
    return frame.merge(ends.loc[rank == np.rint(np.rint(rank / apart) * apart), LINE])


def _run(frame: pd.DataFrame) -> pd.Series:
    """A run's name; an intermediate training, which has no target, is that of no run."""
    size, *names = (frame[column].astype(str) for column in RUN)
    return size.str.cat(names, sep=" ")


def cost(
    study: Study, runs: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame
) -> pd.DataFrame:
    """Zero-shot scores beside what a run cost: minutes of wall time, petaFLOPs (10^15) of training.

    What a run cost includes the intermediate training that it builds on. `price` says what one
    point of gain costs against no intermediate task; `label_at` where along the score a label
    stands so that it does not cover another of its size.
    """
    key = RUN[:3]
    spent = runs.groupby(key)[[column for column, _ in COSTS.values()]].mean().reset_index()
    mean = spent.drop(columns="target").groupby(key[:2]).mean().reset_index().assign(target=ALL)
    spent = pd.concat([spent, mean])
    for unit, (column, amount) in COSTS.items():
        spent[unit] = spent[column] / amount
    spent = spent.melt(key, list(COSTS), var_name="measure", value_name="cost")
    frame = complete(study, effects, results, "score")
    frame = frame[frame["language"] == ZERO_SHOT].drop(columns="language").merge(spent, on=key)
    same = ["size", "target", "analysis", "measure"]
    none = frame.loc[frame["intermediate"] == NONE, [*same, "estimate", "cost"]]
    frame = frame.merge(none, on=same, how="left", suffixes=("", "_none"))
    frame = frame.dropna(subset=["estimate", "cost"])
    frame["price"] = [_price(row) for row in frame.itertuples()]
    return _apart(frame)


def _price(row) -> str:
    gain, extra = row.estimate - row.estimate_none, row.cost - row.cost_none
    if row.intermediate == NONE or pd.isna(gain) or pd.isna(extra):
        return "–"
    return "no gain" if gain <= 0 else f"{extra / gain:.3g} {row.measure}"


def _apart(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.sort_values("estimate").assign(label_at=frame["estimate"])
    for _, rows in frame.groupby(["target", "analysis", "measure"]):
        gap = LABEL_SHARE * (rows["estimate"].max() - rows["estimate"].min())
        for _, column in rows[rows["intermediate"] != NONE].groupby("size"):
            free = -float("inf")
            for index, score in column["estimate"].items():
                frame.loc[index, "label_at"] = free = max(score, free + gap)
    return frame


def options(study: Study, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What can be selected: for each parameter its values and their labels, the default first."""
    codes = {code for target in study.targets for code in study.languages(target.task)}
    languages = [ZERO_SHOT, *sorted(codes, key=language_label)]
    # A single target is the default: few languages or none are shared by all.
    names = [name for name in targets(study) if name != ALL]
    names += [ALL] * (len(names) > 1)
    analyses = sorted(set(frame["analysis"])) if "analysis" in frame else []
    return {
        "language": {code: language_label(code) for code in languages},
        "target": {name: "all targets" if name == ALL else name for name in names},
        "size": {name: name for name in reversed(study.sizes)},
        "analysis": {name: name for name in analyses or ANALYSES[:1]},
        "measure": {name: name for name in ("loss", "validation score")},
        "cost": {name: name for name in COSTS},
        "show": {name: name for name in ("gain", "score", "transfer gap")},
        "change": {name: name for name in frame.get("change", [])} or {DOUBLING: DOUBLING},
    }


def notes(study: Study, frame: pd.DataFrame) -> list[str]:
    """Lines under a title: seeds, sizes and whether they stand in for XLM-R, gaps, collapses."""
    sizes = "; ".join(f"{name}: {size.title}" for name, size in study.sizes.items())
    said = all(
        "xlm-roberta" in str(size.encoder) or "stand-in" in size.title
        for size in study.sizes.values()
    )
    none, others = (len(study.seeds_of(name)) for name in (NONE, ""))
    seeds = f"{others} seed{'s' * (others > 1)}"
    seeds += f" ({none} of none)" * (none != others)
    lines = [f"{seeds}; {sizes}{'' if said else ' (stand-ins for XLM-R)'}"]
    marks = ["×: with a collapsed run"] if frame["collapsed"].any() else []
    if "estimate" in frame and frame["estimate"].isna().any():
        marks.append("“no run”: planned, not finished")
    return lines + ["; ".join(marks)] * bool(marks)


def records(frame: pd.DataFrame) -> list[dict]:
    """Rows as JSON has them: no NaN, numbers to four decimals."""
    return json.loads(frame.to_json(orient="records", double_precision=4))
