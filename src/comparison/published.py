"""Figures of other people beside a study's own."""

from pathlib import Path

import pandas as pd

from helpers.study import ENGLISH, RUN, ZERO_SHOT, StudyError

PUBLISHED = Path(__file__).with_name("published.csv")
_SAME = ["encoder", "intermediate", "target", "language", "languages"]
"""What two scores must have in common to stand beside each other."""


def published(own: Path | None = None) -> pd.DataFrame:
    """Figures of other people, with source; those of a file ``own`` too, if it is there.

    Columns: encoder, intermediate, target, language, languages, quantity, value, source, note (the
    protocol). Language "zero-shot" is a mean without English, "every" one over all languages,
    English among them; ``languages`` is how many it is over, where the source says so.

    Raises
    ------
    StudyError
        The file lacks a column.
    """
    figures = pd.read_csv(PUBLISHED)
    if own is None or not own.exists():
        return figures
    more = pd.read_csv(own)
    for name in figures.columns.difference(more.columns, sort=False):
        raise StudyError(f"{own}: found no column '{name}'; expected {', '.join(figures)}")
    return pd.concat([figures, more[list(figures)]], ignore_index=True)


def beside_published(
    results: pd.DataFrame, encoders: dict[str, str], own: Path | None = None
) -> pd.DataFrame:
    """Published scores of this study's encoders and targets beside its mean over seeds.

    `encoders` names the pretrained model of each size, as the study does. Columns of `published`
    and size, ours, seeds, collapsed (how many of the seeds), differs. A mean counts only where the
    study has as many languages, and a mean over every language where English is among them; where
    nothing counts, ``ours`` is missing and ``differs`` says what stands against it.
    """
    single = results[results["language"] != ZERO_SHOT].assign(languages=1)
    with_english = single.groupby(RUN).filter(lambda run: ENGLISH in set(run["language"]))
    means = [(with_english, "every"), (single[single["language"] != ENGLISH], ZERO_SHOT)]
    both = pd.concat([single, *(_mean(rows).assign(language=name) for rows, name in means)])
    ours = both.groupby([*RUN[:3], "language", "languages"]).agg(
        ours=("score", "mean"), seeds=("seed", "nunique"), collapsed=("collapsed", "sum")
    )
    ours = ours.reset_index()
    names = {size: encoder.rstrip("/").split("/")[-1] for size, encoder in encoders.items()}
    ours["encoder"] = [names.get(size, "") for size in ours["size"]]
    ours = ours.astype(dict.fromkeys(_SAME[:-1], str))  # pandas takes none for numbers
    theirs = published(own).query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    theirs = theirs.merge(ours[["encoder", "target"]].drop_duplicates())
    found = theirs.merge(ours, on=_SAME, how="left")
    found["differs"] = [_differs(row, ours) for row in found.itertuples()]
    return found


def _mean(rows: pd.DataFrame) -> pd.DataFrame:
    runs = rows.groupby([*RUN, "collapsed"])
    return runs.agg(score=("score", "mean"), languages=("language", "size")).reset_index()


def _differs(theirs, ours: pd.DataFrame) -> str:
    """Why a published score has none of ours beside it; nothing if it has."""
    ours = ours[(ours["encoder"] == theirs.encoder) & (ours["target"] == theirs.target)]
    counts = ours.loc[ours["language"] == theirs.language, "languages"]
    if theirs.languages in set(counts) and theirs.intermediate in set(ours["intermediate"]):
        return ""
    if theirs.intermediate not in set(ours["intermediate"]):
        return f"no run after {theirs.intermediate}"
    if counts.empty:
        return "English is not evaluated" if theirs.language == "every" else "not evaluated"
    if pd.isna(theirs.languages):
        return "the source does not say over how many languages"
    return f"over {theirs.languages:.0f} languages, ours over {counts.max()}"
