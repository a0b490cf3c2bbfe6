"""The study in at most three short sentences.

The rules behind them were fixed before any study ran; they stand in docs/statistics.md.
"""

import pandas as pd

from comparison.estimates import ANALYSES, headline
from comparison.plan import ALL, NONE, ZERO_SHOT, Plan
from comparison.reading import missing_runs
from comparison.variance import ASSUMED_SEED_SD


def summary_sentence(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None) -> str:
    """What the study says of its question.

    The headline is one number, over all intermediate tasks and targets, with all runs: from three
    sizes on, what a doubling of the parameters adds to the zero-shot gain; of two, what the larger
    one adds; of one, its gain. It is called a difference only if its interval leaves out zero,
    there are two seeds or more, and it is found without collapsed runs too.
    """
    plan = plan or Plan.of(runs)
    rows = effects[headline(effects)].dropna(subset=["estimate"]).set_index("analysis")
    missing = len(missing_runs(plan, runs))
    unfinished = f"{missing} of {len(plan.runs)} runs are not finished" if missing else ""
    if ANALYSES[0] not in rows.index:
        return _no_answer(plan, unfinished)
    row = rows.loc[ANALYSES[0]]
    without = rows.loc[ANALYSES[1]] if ANALYSES[1] in rows.index else None
    notes = []
    collapsed = int(runs.get("collapsed", pd.Series(dtype=bool)).astype(bool).sum())
    if collapsed:
        notes.append(_without_collapsed(collapsed, runs, without))
    if row["quantity"] == "slope":
        notes.append(_bend(effects, row))
    notes.append(unfinished)
    sentences = [_estimate(effects, row, plan), _verdict(row, without, collapsed, plan.margin)]
    third = "; ".join(note for note in notes if note)
    if third:
        sentences.append(third[0].upper() + third[1:])
    return " ".join(f"{sentence}." for sentence in sentences)


def _estimate(effects: pd.DataFrame, row: pd.Series, plan: Plan) -> str:
    """The headline with its interval, and each size's gain."""
    titles = [size.title for size in plan.sizes.values()]
    where = f"on {_over(row['target'], list(plan.targets), 'targets')}"
    what = f"intermediate training on {_over(row['intermediate'], plan.tasks, 'tasks')}"
    if row["quantity"] == "gain":
        return f"With {titles[0]}, {what} gains {_points(row, sign=True)} zero-shot {where}"
    gains = _gains(effects, row, plan)
    ends = f"From {titles[0]} to {titles[-1]}"
    more = "more" if row["estimate"] >= 0 else "fewer"
    each = ", for each doubling of the parameters" if row["quantity"] == "slope" else ""
    return f"{ends}, {what} gains {_points(row, more)} zero-shot {where}{each} (gains: {gains})"


def _over(name: str, names: list[str], kind: str) -> str:
    """A task by its name, or how many and which."""
    return f"{len(names)} {kind} ({', '.join(names)})" if name == ALL else name


def _gains(effects: pd.DataFrame, row: pd.Series, plan: Plan) -> str:
    same = effects["analysis"] == row.name
    for column in ("intermediate", "target", "language"):
        same &= effects[column] == row[column]
    gains = effects[same & (effects["quantity"] == "gain")].set_index("size")["estimate"]
    return ", ".join(f"{_number(gains[size], sign=True)} at {size}" for size in plan.sizes)


def _points(row: pd.Series, more: str = "", sign: bool = False) -> str:
    """An estimate with its interval; with "more" or "fewer" it is turned to count that way."""
    turn = -1 if more == "fewer" else 1
    low, high = sorted((turn * row["low"], turn * row["high"]))
    estimate = _number(turn * row["estimate"], sign)
    return f"{estimate} {more + ' ' if more else ''}points [{_number(low)}, {_number(high)}]"


def _number(value: float, sign: bool = False) -> str:
    return f"{value:+z.1f}".replace("-", "−") if sign else f"{value:z.1f}".replace("-", "−")


def differs(row: pd.Series) -> bool:
    """Whether the 95 % interval leaves out zero, which is p < 0.05."""
    return bool(row["low"] > 0 or row["high"] < 0)


def is_small(row: pd.Series, margin: float) -> bool:
    """Equivalence: the 90 % interval lies within the margin (two one-sided tests at 5 %)."""
    return bool(row["seeds"] > 1 and -margin < row["low_90"] and row["high_90"] < margin)


def _verdict(row: pd.Series, without: pd.Series | None, collapsed: int, margin: float) -> str:
    """Difference, equivalence by two one-sided tests at 5 %, or neither."""
    if row["seeds"] < 2:
        return f"With one seed this is only a hint: {ASSUMED_SEED_SD:g} points of noise are assumed"
    conclusion = _conclusion(row, margin)
    if collapsed and conclusion != "open":
        other = "open" if without is None else _conclusion(without, margin)
        if other != conclusion:
            return "This holds only if collapsed runs are counted, so nothing follows from it"
    unit = f"{margin:g} point{'' if margin == 1 else 's'}"
    one_size = row["quantity"] == "gain"
    if conclusion == "small":
        return f"{'The gain' if one_size else 'The difference'} is smaller than {unit} either way"
    if conclusion == "open":
        return "This is not distinguishable from zero" + (
            "" if one_size else ": the larger encoder may gain more or less"
        )
    if one_size:
        return "It helps" if conclusion == "more" else "It harms"
    return f"The larger encoder gains {conclusion}"


def _conclusion(row: pd.Series, margin: float) -> str:
    if differs(row):
        return "more" if row["estimate"] > 0 else "less"
    return "small" if is_small(row, margin) else "open"


def _without_collapsed(collapsed: int, runs: pd.DataFrame, without: pd.Series | None) -> str:
    """How many runs collapsed, and what the headline is without them."""
    note = f"{collapsed} of {len(runs)} runs collapsed"
    early = int((runs.get("collapsed_in", pd.Series(dtype=str)) == "intermediate").sum())
    if early:
        note += f" ({early} in the intermediate training)"
    if without is None:
        return f"{note}, and without them too few remain to tell"
    left_out = "it" if collapsed == 1 else "them"
    return f"{note}, and leaving {left_out} out gives {_points(without, sign=True)}"


def _bend(effects: pd.DataFrame, row: pd.Series) -> str:
    """Whether the curve bends."""
    same = (effects["quantity"] == "bend") & (effects["analysis"] == row.name)
    for column in ("intermediate", "target", "language"):
        same &= effects[column] == row[column]
    for _, bend in effects[same].dropna(subset=["estimate"]).iterrows():
        if differs(bend):
            more = "more" if bend["estimate"] > 0 else "less"
            return f"the last doubling brings {more} than the first ({_points(bend, sign=True)})"
        points = _points(bend, sign=True)
        return f"we see no difference between the first and the last doubling ({points})"
    return ""


def _no_answer(plan: Plan, unfinished: str) -> str:
    """Why there is no answer."""
    if unfinished:
        return f"There is no answer yet: {unfinished}, and a mean is formed only of all its runs."
    needs = f"`{NONE}`, an intermediate task and a language that the target was not trained in"
    return f"The study has no {ZERO_SHOT} gain: that takes {needs}."
