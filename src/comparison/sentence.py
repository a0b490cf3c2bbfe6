"""The study in a few short sentences.

The rules behind them were fixed before any study ran; they stand in docs/statistics.md.
"""

import pandas as pd

from comparison import contrasts
from comparison.checking import completed
from comparison.estimates import ANALYSES, headline
from comparison.plan import ALL, NONE, ZERO_SHOT, Plan
from comparison.reading import missing_runs


def summary_sentence(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None) -> str:
    """What the study says of its question.

    The headline is one number, over all intermediate tasks and targets, with all runs: from three
    sizes on, what a doubling in size adds to the zero-shot gain; of two, what the larger one adds;
    of one, its gain. It is called a difference only if its interval leaves out zero, there are two
    seeds or more, and it is found without collapsed runs too.
    """
    plan = plan or Plan.of(runs)
    found = effects[headline(effects, plan)].dropna(subset=["estimate"])
    by_analysis = {row["analysis"]: row for _, row in found.iterrows()}
    row, without = map(by_analysis.get, ANALYSES)
    missing = len(missing_runs(plan, runs))
    unfinished = f"{missing} of {len(plan.runs)} runs are not finished" if missing else ""
    if row is None:
        if unfinished:
            return f"There is no answer yet: {unfinished}, and the mean needs all runs."
        needs = f"`{NONE}`, an intermediate task on other data than the target's"
        untrained = "a language that the target was not trained in"
        return f"The study has no zero-shot gain: it needs {needs}, and {untrained}."
    alike = _where_the_headline_is(effects, plan)
    alike = alike[alike["intermediate"] == row["intermediate"]]
    runs = completed(runs)
    runs = runs[runs["repeats"].isna()]
    collapsed = runs[runs["collapsed"]]
    own = "counted" if plan.same_data_in_headline else "left out"
    own = f"{own} as the target's own data: {', '.join(plan.same_data)}" if plan.same_data else ""
    notes = [_without_collapsed(collapsed, len(runs), without), _bend(alike), own, unfinished]
    notes = "; ".join(note for note in notes if note)
    sentences = [_estimate(alike, row, plan), _verdict(row, without, len(collapsed), plan)]
    sentences += [notes[0].upper() + notes[1:]] if notes else []
    return " ".join(f"{sentence}." for sentence in sentences)


def beside_sentence(effects: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None = None) -> str:
    """What is left of the gains beside those in English and beside those of controls.

    It says where gains elsewhere are not seen to exceed those in English, what gains are over each
    control, and where they are not seen above zero, with collapsed runs or without. Empty if there
    is nothing to say.
    """
    plan = plan or Plan.of(runs)
    if contrasts.headline(plan) is None:
        return ""
    here = _where_the_headline_is(effects, plan).dropna(subset=["estimate"])
    without = _where_the_headline_is(effects, plan, ANALYSES[1])
    lows = without.set_index(["quantity", "intermediate", "size"])["low"]
    is_english = all(target.trained_in == ("en",) for target in plan.targets.values())
    home = "English" if is_english else "those of training"
    controls = [name for name, task in plan.controls.items() if task is None]
    trained = [name for name in plan.targets if all(plan.asks(one, name) for one in controls)]
    where = "Of these gains" if len(trained) == len(plan.targets) else f"On {_listed(trained)}"
    sentences = []
    for (quantity, task), rows in here.groupby(["quantity", "intermediate"], sort=False):
        at_sizes = _listed([f"{_points(row)} at {row['size']}" for _, row in rows.iterrows()])
        unseen = list(rows.loc[rows["low"] <= 0, "size"])
        notes = [f"not seen above zero at {_listed(unseen)}"] if unseen else []
        gone = [size for size in rows["size"] if not lows.get((quantity, task, size), 1) > 0]
        if gone := [size for size in gone if size not in unseen]:
            notes.append(f"above zero at {_listed(gone)} only if collapsed runs count")
        unseen = f" ({'; '.join(notes)})" if notes else ""
        if (quantity, task) == ("gap_change", plan.gained[0]) and (rows["high"] >= 0).any():
            sizes = list(rows.loc[rows["high"] >= 0, "size"])
            at = "" if len(sizes) == len(rows) else f" at {_listed(sizes)}"
            text = f"Other languages are not seen to gain more than {home}{at}"
            sentences.append(f"{text} ({home} minus others: {at_sizes})")
        elif (quantity, task) == ("gain_over_longer", plan.gained[0]):
            text = f"{where}, {at_sizes} remain over more steps on the target alone"
            sentences.append(text + unseen)
        elif quantity == "gain_over_placebo":
            placebo = "its placebo (the same texts, labels shuffled)"
            sentences.append(f"{task} minus {placebo}: {at_sizes}{unseen}")
    return " ".join(f"{sentence}." for sentence in sentences)


def _where_the_headline_is(
    effects: pd.DataFrame, plan: Plan, analysis: str = ANALYSES[0]
) -> pd.DataFrame:
    """All rows of the headline's target and language in one analysis."""
    place = [plan.judged[0], ZERO_SHOT, analysis]
    return effects[(effects[["target", "language", "analysis"]] == place).all(axis=1)]


def _estimate(alike: pd.DataFrame, row: pd.Series, plan: Plan) -> str:
    titles = [size.title for size in plan.sizes.values()]
    what = f"intermediate training on {_over(row['intermediate'], plan.tasks, 'tasks')}"
    targets = [name for name in plan.targets if plan.transfer(name)]
    where = _over(row["target"], targets, "targets")
    if row["quantity"] == "gain":
        return f"With {titles[0]}, {what} gains {_points(row)} zero-shot on {where}"
    gains = alike[alike["quantity"] == "gain"].set_index("size")["estimate"]
    gains = ", ".join(f"{_number(gains[size], '+')} at {size}" for size in plan.sizes)
    each = " for each doubling in size" if row["quantity"] == "slope" else ""
    change = f"the zero-shot gain from {what} changes by {_points(row)}{each}"
    return f"From {titles[0]} to {titles[-1]}, {change} on {where} (gains: {gains})"


def _over(name: str, names: list[str], kind: str) -> str:
    return f"{len(names)} {kind} ({', '.join(names)})" if name == ALL else name


def _points(row: pd.Series) -> str:
    """An estimate with its interval."""
    ends = f"[{_number(row['low'])}, {_number(row['high'])}]"
    return f"{_number(row['estimate'], '+')} points {ends}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}z.1f}".replace("-", "−")


def _conclusion(row: pd.Series, margin: float = 0.0) -> str:
    """Difference (zero is not in the 95 % interval, which is p < 0.05); equivalence, by two
    one-sided tests at 5 %; or neither.
    """
    if row["low"] > 0:
        return "more"
    if row["high"] < 0:
        return "less"
    varies = row["high_90"] - row["low_90"] > 1e-6  # where nothing does, nothing is known
    is_small = varies and -margin < row["low_90"] and row["high_90"] < margin
    return "small" if is_small else "open"


def _verdict(row: pd.Series, without: pd.Series | None, collapsed: int, plan: Plan) -> str:
    if row["seeds"] < 2:
        return "At least one condition has a single seed, so this is only a hint"
    margin = plan.margin
    conclusion = _conclusion(row, margin)
    too_few = without is None or without["seeds"] < 2
    holds = not collapsed or (not too_few and conclusion == _conclusion(without, margin))
    if conclusion != "open" and not holds:
        return "This holds only if collapsed runs are counted, so nothing follows from it"
    ends = f"90 % interval [{_number(row['low_90'])}, {_number(row['high_90'])}]"
    small = f"is smaller than {margin:g} point{'' if margin == 1 else 's'} either way ({ends})"
    unclear = "This is not distinguishable from zero"
    verdicts = {
        "more": "The larger size gains more",
        "less": "The larger size gains less",
        "small": f"The difference {small}",
        "open": f"{unclear}: the larger size may gain more or less",
    }
    if not plan.parameters:  # nobody said which size is the larger one
        verdicts |= {"more": "The gain grows", "less": "The gain shrinks"}
        verdicts["open"] = f"{unclear}: the gain may grow or shrink"
    if row["quantity"] == "gain":  # of a single size
        verdicts = {"more": "It helps", "less": "It harms", "small": f"The gain {small}"}
        verdicts["open"] = unclear
    return verdicts[conclusion]


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _without_collapsed(collapsed: pd.DataFrame, count: int, without: pd.Series | None) -> str:
    if collapsed.empty:
        return ""
    note = f"{len(collapsed)} of {count} runs collapsed"
    if early := (collapsed["collapsed_in"] == "intermediate").sum():
        note += f" ({early} in the intermediate training)"
    if without is None:
        return f"{note}, and without them too few remain to tell"
    left_out = "it" if len(collapsed) == 1 else "them"
    return f"{note}, and leaving {left_out} out gives {_points(without)}"


def _bend(alike: pd.DataFrame) -> str:
    for _, bend in alike[alike["quantity"] == "bend"].dropna(subset=["estimate"]).iterrows():
        change = _conclusion(bend)
        if change == "open":
            return f"we see no difference between the first and the last doubling ({_points(bend)})"
        return f"the last doubling brings {change} than the first ({_points(bend)})"
    return ""
