"""Figures of other people beside a study's own."""

from pathlib import Path

import pandas as pd

from comparison.estimates import at_home
from comparison.plan import RUN, ZERO_SHOT, ComparisonError, Plan

PUBLISHED = Path(__file__).with_name("published.csv")
EVERY = "every"
"""In the place of a language: the mean over all languages, those of training among them."""
_SAME = ["encoder", "intermediate", "target", "language", "languages"]
"""What two scores must have in common to stand beside each other."""


def published(extra: str | Path | None = None) -> pd.DataFrame:
    """Figures of other people, with source; those of a file ``extra`` too, if it is there.

    Columns: encoder, intermediate, target, language, languages, quantity, value, source, note (the
    protocol). Language "zero-shot" is a mean without English, "every" one over all languages,
    English among them; ``languages`` is how many it is over, where the source says so.

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

    Sizes whose encoder was cut have none. Columns of `published` and size, ours, seeds, collapsed
    (how many of the seeds), differs. A mean counts only where the study has as many languages, and
    a mean over every language where those of training are among them; where nothing counts,
    ``ours`` is missing and ``differs`` says what stands against it.
    """
    single = results[results["language"] != ZERO_SHOT].assign(languages=1)
    home = pd.Series(at_home(single, plan), single.index)
    with_home = home.groupby([single[name] for name in RUN]).transform("any")
    sums = {"score": ("score", "mean"), "languages": ("language", "size")}
    every, others = (
        single[rows].groupby([*RUN, "collapsed"], as_index=False).agg(**sums)
        for rows in (with_home, ~home)
    )
    both = [single, every.assign(language=EVERY), others.assign(language=ZERO_SHOT)]
    ours = (
        pd.concat(both)
        .groupby([*RUN[:3], "language", "languages"], as_index=False)
        .agg(ours=("score", "mean"), seeds=("seed", "nunique"), collapsed=("collapsed", "sum"))
    )
    names = {
        name: size.encoder.rstrip("/").split("/")[-1]
        for name, size in plan.sizes.items()
        if size.layers is None
    }
    ours["encoder"] = [names.get(size, "") for size in ours["size"]]
    ours = ours.astype(dict.fromkeys(_SAME[:-1], str))  # an empty table has no type of its own
    theirs = published(extra).query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    theirs = theirs.merge(ours[["encoder", "target"]].drop_duplicates())
    beside = theirs.merge(ours, on=_SAME, how="left")
    beside["differs"] = [_differs(row, ours) for row in beside.itertuples()]
    return beside


def _differs(theirs, ours: pd.DataFrame) -> str:
    """Why a published score has none of ours beside it; nothing if it has."""
    ours = ours[(ours["encoder"] == theirs.encoder) & (ours["target"] == theirs.target)]
    counts = ours.loc[ours["language"] == theirs.language, "languages"]
    if theirs.languages in set(counts) and theirs.intermediate in set(ours["intermediate"]):
        return ""
    if theirs.intermediate not in set(ours["intermediate"]):
        return f"no run after {theirs.intermediate}"
    if counts.empty:
        missing = "the language of training" if theirs.language == EVERY else "it"
        return f"{missing} is not evaluated in this study"
    if pd.isna(theirs.languages):
        return "the source does not say over how many languages"
    return f"over {theirs.languages:.0f} languages, ours over {counts.max()}"
