"""Figures of other people beside a study's own."""

from pathlib import Path

import pandas as pd

from comparison.estimates import UNASKED, UNFINISHED, at_home
from comparison.plan import RUN, ZERO_SHOT, ComparisonError, Plan

PUBLISHED = Path(__file__).with_name("published.csv")
EVERY = "every"
"""In the place of a language: the mean over all languages, those of training among them."""
_SAME = ["encoder", "intermediate", "target", "language", "languages"]
"""What two scores must have in common to stand beside each other."""


def published(extra: str | Path | None = None) -> pd.DataFrame:
    """Figures of other people, with source; those of a file ``extra`` too, if it is there.

    Columns: encoder, intermediate, target, language, languages, quantity, value, source, note (the
    protocol). ``languages`` is how many a mean is over; "zero-shot" has no English, "every" has.

    Raises
    ------
    ComparisonError
        The file lacks a column.
    """
    figures = pd.read_csv(PUBLISHED)
    if extra is None or not Path(extra).exists():
        return figures
    more = pd.read_csv(extra)
    lacking = [name for name in figures.columns if name not in more]
    if lacking:
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
    every = single.groupby(RUN, as_index=False).agg(**sums).assign(language=EVERY)
    targets = plan.targets.items()
    abroad = [name for name, t in targets if t.languages and not {*t.languages} & {*t.trained_in}]
    every = every[every["home"] | every["target"].isin(abroad)]
    others = single[~single["home"]].groupby(RUN, as_index=False).agg(**sums)
    both = pd.concat([single, every, others.assign(language=ZERO_SHOT)])
    ours = both.groupby([*RUN[:3], "language", "languages"], as_index=False)
    ours = ours.agg(ours=("score", "mean"), seeds=("seed", "nunique"))
    whole = {name: size.encoder for name, size in plan.sizes.items() if size.layers is None}
    names = {name: encoder.rstrip("/").split("/")[-1] for name, encoder in whole.items()}
    ours["encoder"] = [names.get(size, "") for size in ours["size"]]
    ours = ours.astype(dict.fromkeys(_SAME[:-1], str))  # an empty table has no type of its own
    theirs = published(extra).query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    theirs = theirs.merge(ours[["encoder", "target"]].drop_duplicates())
    beside = theirs.merge(ours, on=_SAME, how="left")
    asked = {(names[run[0]], *run[1:3]) for run in plan.runs if run[0] in names}
    finished = set(ours[_SAME[:3]].itertuples(index=False, name=None))
    status = []
    for condition in beside[_SAME[:3]].itertuples(index=False, name=None):
        unlike = "evaluated in other languages" if condition in finished else UNFINISHED
        status.append(unlike if condition in asked else UNASKED)
    status = pd.Series(status, beside.index, dtype=str)
    return beside.assign(status=status.where(beside["ours"].isna(), ""))
