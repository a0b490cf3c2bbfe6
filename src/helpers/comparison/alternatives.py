"""What the same computing would buy: a larger encoder, an intermediate task, examples, seeds."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from helpers.comparison.contrasts import ALL
from helpers.comparison.estimates import ANALYSES
from helpers.comparison.power import detectable
from helpers.study import NONE, ZERO_SHOT, Study

COLUMNS = ["at", "instead of none", "petaFLOPs a run", "points", "low", "high", "what it buys"]


def alternatives(
    study: Study,
    runs: pd.DataFrame,
    effects: pd.DataFrame,
    results: pd.DataFrame,
    parameters: Mapping[str, float],
) -> pd.DataFrame:
    """Beside the baseline of each size: what else costs computing, how much, and what it brings.

    Columns: at (a size), instead of none, petaFLOPs a run (of training, more than the baseline's;
    of seeds: that every condition has one more, over the runs), points (of the zero-shot score,
    mean over targets), low, high (95 %), what it buys (in words, where no score says it).
    """
    target = ALL if len(study.targets) > 1 else study.targets[0].task
    rows = effects[(effects["language"] == ZERO_SHOT) & (effects["analysis"] == ANALYSES[0])]
    rows = rows.dropna(subset=["estimate"])
    spent = runs.groupby(["size", "intermediate"])["train_flops"].mean() / 1e15
    found = [
        *_encoders(rows[rows["target"] == target], spent),
        *_examples(study, rows, runs),
        *_seeds(study, runs, results, parameters),
    ]
    order = {size: number for number, size in enumerate(study.sizes)}
    return pd.DataFrame(found, columns=COLUMNS).sort_values(
        "at", key=lambda sizes: sizes.map(order), kind="stable", ignore_index=True
    )


def _encoders(rows: pd.DataFrame, spent: pd.Series) -> Iterator[tuple]:
    """An intermediate task, or the next size without one."""
    for row in rows[rows["quantity"].isin(["gain", "step"])].itertuples():
        larger, _, size = row.size.rpartition(" - ")
        where = (larger, NONE) if larger else (size, row.intermediate)
        if row.intermediate != ALL and {where, (size, NONE)} <= set(spent.index):
            what = f"encoder {larger}" if larger else f"intermediate task {row.intermediate}"
            more = spent[where] - spent[size, NONE]
            yield size, what, more, row.estimate, row.low, row.high, ""


def _examples(study: Study, rows: pd.DataFrame, runs: pd.DataFrame) -> Iterator[tuple]:
    """More English examples of a target, where the study has it under several names."""
    none = rows[(rows["quantity"] == "score") & (rows["intermediate"] == NONE)]
    scores = none.set_index(["size", "target"])["estimate"]
    flops = runs[runs["intermediate"] == NONE].groupby(["size", "target"])["train_flops"].mean()
    targets = [target.task for target in study.targets if target.task in study.variants]
    for size in study.sizes:
        sized = {
            t: study.hyperparameters("target", size, t).train_examples or np.inf for t in targets
        }
        few, *more = sorted(sized, key=sized.__getitem__) or [""]
        for name in more:
            if {(size, few), (size, name)} <= set(scores.index):
                amount = "all" if sized[name] == np.inf else f"{sized[name]:,.0f}"
                what = f"{amount} examples, not {sized[few]:,.0f}"
                cost = (flops[size, name] - flops[size, few]) / 1e15
                points = scores[size, name] - scores[size, few]
                yield size, what, cost, points, np.nan, np.nan, ""


def _seeds(study: Study, runs, results, parameters) -> Iterator[tuple]:
    """One more seed of everything: no point, but a smaller effect that can be seen."""
    now = {kind: len(study.seeds_of(kind)) for kind in (NONE, "others")}
    after = {kind: count + 1 for kind, count in now.items()}
    for size, own in runs.groupby("size", sort=False):
        seen = [detectable(study, s, results, parameters).get(f"gain {size}") for s in (now, after)]
        if None not in seen:
            cost = own["train_flops"].mean() / 1e15 / now["others"]
            buys = f"gains of {seen[1]:.1f} points seen, not of {seen[0]:.1f}"
            yield size, "one more seed", cost, np.nan, np.nan, np.nan, buys
