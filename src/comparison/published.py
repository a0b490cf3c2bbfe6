"""Figures of other people beside a study's own."""

from pathlib import Path

import numpy as np
import pandas as pd

from comparison.estimates import UNASKED, UNFINISHED, at_home
from comparison.plan import RUN, ZERO_SHOT, ComparisonError, Plan

_CONDITION = ["encoder", "intermediate", "target"]
_SAME = [*_CONDITION, "language", "languages"]
"""What two scores must have in common to stand beside each other."""


def published(extra: str | Path | None = None) -> pd.DataFrame:
    """Figures of other people, with source; those of a file ``extra`` too, if it is there.

    Columns: encoder, intermediate, target, language, languages, quantity, value, source, note (the
    protocol). ``languages`` is how many a mean is over; "zero-shot" has no English, "every" has.
    Raises ComparisonError if the file lacks a column.
    """
    figures = pd.read_csv(Path(__file__).with_name("published.csv"))
    if extra is None or not Path(extra).exists():
        return figures
    more = pd.read_csv(extra)
    if lacking := [name for name in figures if name not in more]:
        expected = ", ".join(figures)
        raise ComparisonError(f"{extra}: found no column '{lacking[0]}'; expected {expected}")
    return pd.concat([figures, more[list(figures)]], ignore_index=True)


def beside_published(
    results: pd.DataFrame, plan: Plan, extra: str | Path | None = None
) -> pd.DataFrame:
    """Published scores of this study's encoders and targets beside its mean over seeds.

    Sizes whose encoder was cut have none. Columns of `published` and size, ours, seeds, status.
    `ours` is missing where a mean is over other languages: another number, or without those of
    training (unless the target has none: English is no language of Tatoeba). `status` says why it
    is missing.
    """
    single = results[results["language"] != ZERO_SHOT]
    single = single.assign(languages=1, home=at_home(single, plan))
    sums = {"score": ("score", "mean"), "languages": ("language", "size"), "home": ("home", "any")}
    every = single.groupby(RUN, as_index=False).agg(**sums).assign(language="every")
    targets = plan.targets.items()
    abroad = [name for name, t in targets if t.languages and not {*t.languages} & {*t.trained_in}]
    every = every[every["home"] | every["target"].isin(abroad)]
    others = single[~single["home"]].groupby(RUN, as_index=False).agg(**sums)
    both = pd.concat([single, every, others.assign(language=ZERO_SHOT)])
    ours = both.groupby([*RUN[:3], "language", "languages"], as_index=False)
    ours = ours.agg(ours=("score", "mean"), seeds=("seed", "nunique"))
    names = {n: Path(size.encoder).name for n, size in plan.sizes.items() if size.layers is None}
    ours["encoder"] = [names.get(size, "") for size in ours["size"]]
    ours = ours.astype(dict.fromkeys(_SAME[:-1], str))  # an empty table has no type of its own
    theirs = published(extra).query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    theirs = theirs.merge(ours[["encoder", "target"]].drop_duplicates())
    beside = theirs.merge(ours, on=_SAME, how="left")
    asked = {(names[run[0]], *run[1:3]) for run in plan.runs if run[0] in names}
    finished, wanted = (pd.MultiIndex.from_frame(table[_CONDITION]) for table in (ours, beside))
    status = np.where(wanted.isin(finished), "evaluated in other languages", UNFINISHED)
    status = np.where(wanted.isin(asked), status, UNASKED)
    return beside.assign(status=np.where(beside["ours"].isna(), status, ""))
