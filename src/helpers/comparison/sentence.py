"""The study in one sentence, and beside what others know: pretraining data, typology, published figures.

The rules behind the sentence were fixed before any study ran; they stand in docs/statistics.md.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from helpers.comparison.estimates import ALL, ANALYSES, headline, missing
from helpers.comparison.resampling import ASSUMED_SEED_SD
from helpers.study import ENGLISH, NONE, ZERO_SHOT, StudyError

LANGUAGES = Path(__file__).with_name("languages.csv")
PUBLISHED = Path(__file__).with_name("published.csv")
FEWEST_LANGUAGES = 5
FIGURES = {
    "pretraining_gib": "pretraining data (log)",
    "syntactic_distance": "syntactic distance to English",
}


def summary_sentence(
    effects: pd.DataFrame,
    runs: pd.DataFrame,
    encoders: dict[str, str],
    planned: Iterable[tuple[str, str, str, int]] = (),
) -> str:
    """What the study says of its question, in at most four short sentences.

    The headline is one number: the scale effect on the zero-shot score, over all intermediate tasks and targets, with
    all runs. It is called a difference only if its interval leaves out zero, p < 0.05 and there are two seeds or more.
    `encoders` describes base and large, such as {"base": "6 layers of ..."}; `planned` is every run of the study.
    """
    planned = list(planned)
    absent = missing(planned, runs)
    gap = (
        f"The study is incomplete ({len(absent)} of {len(planned)} runs missing)."
        if len(absent)
        else ""
    )
    rows = effects[headline(effects)].set_index("analysis")
    names = {size: encoders.get(size, size) for size in ("base", "large")}
    if ANALYSES[0] not in rows.index or np.isnan(rows.loc[ANALYSES[0], "estimate"]):
        return (
            f"{gap or 'The study is incomplete.'} Whether English intermediate training helps more at "
            f"{names['large']} than at {names['base']} stays open: a mean is formed only when all its runs are there."
        )
    row = rows.loc[ANALYSES[0]]
    gains = {size: _gain(effects, row, size) for size in names}
    sentences = [
        f"From {names['base']} to {names['large']}, the zero-shot gain from English intermediate training on "
        f"{_tasks(runs, row)}{_targets(runs, row)} changed by {_points(row)}, from {gains['base']} to "
        f"{gains['large']}: {_verdict(row)}."
    ]
    if row["seeds"] < 2:
        sentences.append(
            f"There is one seed only, so the interval assumes a noise of {ASSUMED_SEED_SD:g} points between seeds."
        )
    down = int(runs["collapsed"].astype(bool).sum())
    if down:
        without = rows.loc[ANALYSES[1]] if ANALYSES[1] in rows.index else None
        formed = without is not None and not np.isnan(without["estimate"])
        other = (
            f"it is {_points(without)}: {_verdict(without)}"
            if formed
            else "no such mean can be formed"
        )
        verb = "run" if down == 1 else "runs"
        sentences.append(f"This counts {down} collapsed {verb} of {len(runs)}; without, {other}.")
    return " ".join([*sentences, gap]).strip()


def _verdict(row: pd.Series) -> str:
    if not (row["p"] < 0.05 and (row["low"] > 0 or row["high"] < 0)):
        return "not distinguishable from zero"
    if row["seeds"] < 2:
        return "no more than a hint"
    return f"{'higher' if row['estimate'] > 0 else 'lower'} at the larger encoder"


def _number(x: float, sign: str = "") -> str:
    return f"{round(x, 1) + 0.0:{sign}.1f}".replace("-", "−")


def _points(row: pd.Series) -> str:
    return f"{_number(row['estimate'], '+')} points [{_number(row['low'])}, {_number(row['high'])}]"


def _gain(effects: pd.DataFrame, row: pd.Series, size: str) -> str:
    same = (
        (effects["quantity"] == "gain")
        & (effects["size"] == size)
        & (effects["analysis"] == row.name)
    )
    for column in ("intermediate", "target", "language"):
        same &= effects[column] == row[column]
    return _number(effects.loc[same, "estimate"].iloc[0], "+")


def _tasks(runs: pd.DataFrame, row: pd.Series) -> str:
    names = [i for i in runs["intermediate"].unique() if i != NONE]
    return (
        row["intermediate"]
        if row["intermediate"] != ALL
        else f"{len(names)} tasks ({', '.join(names)})"
    )


def _targets(runs: pd.DataFrame, row: pd.Series) -> str:
    names = list(runs["target"].unique())
    return (
        f" for {row['target']}"
        if row["target"] != ALL
        else f" for {len(names)} targets ({', '.join(names)})"
    )


def languages(path: str | Path = LANGUAGES) -> pd.DataFrame:
    """Per language: name, GiB of pretraining text and syntactic distance to English; nan where no figure is known.

    The shipped table: text of CC-100 (Conneau et al. 2020, arXiv 1911.02116, table 6) and one minus the cosine of
    URIEL's syntactic features (Littell et al. 2017). docs/statistics.md says more.

    Raises
    ------
    StudyError
        A table that lacks a column.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    lacking = [column for column in ("language", *FIGURES) if column not in table]
    if lacking:
        raise StudyError(
            f"{path}: found no column {', '.join(lacking)}; expected language, {', '.join(FIGURES)}"
        )
    return table


def explain_gains(effects: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    """Exploratory: Spearman correlation, over languages, of gains and scale effects with each language's figures.

    Columns: quantity, size, intermediate, target, analysis, figure, rho, low, high, p, n (languages), label. The 95 %
    interval is Fisher's z with the variance of Bonett and Wright (2000); it takes the languages as a sample and their
    gains as exact. English is left out, and so is a correlation over fewer than five languages (nan).
    A Spearman correlation is the same for an amount and its logarithm.
    """
    per = effects[
        effects["quantity"].isin(["gain", "scale_effect"])
        & ~effects["language"].isin([ENGLISH, ZERO_SHOT])
    ]
    per = per.merge(languages[["language", *FIGURES]], on="language", how="left")
    keys = ["quantity", "size", "intermediate", "target", "analysis"]
    rows = []
    for key, group in per.groupby(keys, sort=False):
        for column, figure in FIGURES.items():
            both = group[["estimate", column]].dropna()
            row = dict(zip(keys, key, strict=True)) | {
                "figure": figure,
                "rho": np.nan,
                "low": np.nan,
                "high": np.nan,
            }
            row |= {"p": np.nan, "n": len(both), "label": "exploratory"}
            if len(both) >= FEWEST_LANGUAGES and both.nunique().min() > 1:
                rho, p = spearmanr(both["estimate"], both[column])
                row |= {"rho": rho, "p": p} | dict(
                    zip(("low", "high"), _interval(rho, len(both)), strict=True)
                )
            rows.append(row)
    return pd.DataFrame(rows, columns=[*keys, "figure", "rho", "low", "high", "p", "n", "label"])


def _interval(rho: float, n: int) -> np.ndarray:
    z = np.arctanh(np.clip(rho, -0.99, 0.99))  # a perfect order of few languages is no certainty
    return np.tanh(z + norm.ppf([0.025, 0.975]) * np.sqrt((1 + rho**2 / 2) / (n - 3)))


def published() -> pd.DataFrame:
    """Figures of other people, with source: encoder, intermediate, target, language, quantity, value, source, note.

    Language "zero-shot" is a mean without English, "every" one over all languages of the task, English among them.
    """
    return pd.read_csv(PUBLISHED)


def beside_published(results: pd.DataFrame, encoders: dict[str, str]) -> pd.DataFrame:
    """Published scores beside this study's mean over seeds, for the cells that both have; only for reference.

    `encoders` names the pretrained model of each size, as the study does. Columns of `published` and size, ours,
    seeds, collapsed (how many of the seeds). A mean over every language counts only where the study has English.
    """
    keys = ["size", "intermediate", "target", "seed"]
    with_english = (
        results[results["language"] != ZERO_SHOT]
        .groupby(keys)
        .filter(lambda r: ENGLISH in set(r["language"]))
    )
    every = (
        with_english.groupby([*keys, "collapsed"])["score"]
        .mean()
        .reset_index()
        .assign(language="every")
    )
    cells = pd.concat([results, every]).groupby(["size", "intermediate", "target", "language"])
    ours = cells.agg(
        ours=("score", "mean"), seeds=("seed", "nunique"), collapsed=("collapsed", "sum")
    ).reset_index()
    ours["encoder"] = (
        ours["size"].map(encoders).map(lambda name: str(name).rstrip("/").split("/")[-1])
    )
    theirs = published().query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    return theirs.merge(ours, on=["encoder", "intermediate", "target", "language"])
