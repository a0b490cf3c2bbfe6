"""The study in one sentence, and beside what others know: pretraining data, typology, scores.

The rules behind the sentence were fixed before any study ran; they stand in docs/statistics.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from helpers.comparison.contrasts import ALL
from helpers.comparison.estimates import ANALYSES, headline
from helpers.comparison.samples import ASSUMED_SEED_SD
from helpers.study import ENGLISH, NONE, RUN, ZERO_SHOT, Study, StudyError

LANGUAGES = Path(__file__).with_name("languages.csv")
FEWEST_LANGUAGES = 5
FIGURES = {
    "pretraining_gib": "pretraining data (log)",
    "syntactic_distance": "syntactic distance to English",
}


def summary_sentence(study: Study, effects: pd.DataFrame, runs: pd.DataFrame) -> str:
    """What the study says of its question, in a few short sentences.

    The headline is one number, over all intermediate tasks and targets, with all runs: from three
    sizes on, what a doubling of the parameters adds to the zero-shot gain; of two, what the larger
    one adds; of one, its gain. It is called a difference only if its interval leaves out zero,
    p < 0.05, there are two seeds or more, and it is found without collapsed runs too.
    """
    planned, there = study.runs(), set(runs[RUN].itertuples(index=False, name=None))
    missing = sum(run not in there for run in planned)
    gap = f"The study is incomplete ({missing} of {len(planned)} runs missing)." if missing else ""
    titles = [size.title for size in study.sizes.values()]
    rows = effects[headline(effects)].dropna(subset=["estimate"]).set_index("analysis")
    if len(titles) > 1:  # a gain would be that of the only size with runs
        rows = rows[rows["quantity"] != "gain"]
    if ANALYSES[0] not in rows.index:
        return _open(titles, gap)
    row = rows.loc[ANALYSES[0]]
    down = int(runs["collapsed"].astype(bool).sum())
    verdict = _judged(rows, study.margin) if down else _verdict(row, study.margin)
    sentences = [f"{_estimate(effects, runs, row, titles)}: {verdict}."]
    if row["seeds"] < 2:
        noise = f"a noise of {ASSUMED_SEED_SD:g} points between seeds"
        sentences.append(f"There is one seed only, so the interval assumes {noise}.")
    if down:
        sentences.append(_collapsed(down, runs, rows, study.margin))
    if row["quantity"] == "slope":
        sentences.append(_bend(effects, row))
    return " ".join(filter(None, [*sentences, gap]))


def _estimate(effects: pd.DataFrame, runs: pd.DataFrame, row: pd.Series, titles: list[str]) -> str:
    """The headline with its interval, and each size's gain."""
    what = f"the zero-shot gain from English intermediate training on {_over(runs, row)}"
    if row["quantity"] == "gain":
        return f"With {titles[0]}, {what} was {_points(row)}"
    gains, ends = _gains(effects, row), f"From {titles[0]} to {titles[-1]}"
    if row["quantity"] == "slope":
        said = f"{ends}, each doubling of the parameters changed {what} by {_points(row)}"
        return f"{said} (gains {', '.join(gains)})"
    return f"{ends}, {what} changed by {_points(row)}, from {gains[0]} to {gains[-1]}"


def _open(titles: list[str], gap: str) -> str:
    """Why there is no answer."""
    if not gap:
        takes = "`none`, an intermediate task and a language other than English"
        return f"The study has no zero-shot gain: that takes {takes}."
    helps = f"helps more from {titles[0]} to {titles[-1]}" if len(titles) > 1 else "helps"
    return (
        f"{gap} Whether English intermediate training {helps} stays open: a mean is formed only "
        "when all its runs are there."
    )


def _collapsed(down: int, runs: pd.DataFrame, rows: pd.DataFrame, margin: float) -> str:
    """What the headline is without collapsed runs."""
    counted = f"{down} collapsed run{'s' * (down > 1)} of {len(runs)}"
    early = int((runs.get("collapsed_in", pd.Series(dtype=str)) == "intermediate").sum())
    counted += f" ({early} in the intermediate training)" * bool(early)
    other = "no such mean can be formed"
    if ANALYSES[1] in rows.index:
        row = rows.loc[ANALYSES[1]]
        other = f"it is {_points(row)}: {_verdict(row, margin)}"
    return f"This counts {counted}; without, {other}."


def _judged(rows: pd.DataFrame, margin: float) -> str:
    """The verdict on all runs, unless it says something that it does not without collapsed ones."""
    row = rows.loc[ANALYSES[0]]
    said, other = (_verdict(rows.loc[a], margin) if a in rows.index else "" for a in ANALYSES)
    if said == other or not (_differs(row) or _is_small(row, margin)):
        return said
    found = "a difference" if _differs(row) else f"within {_unit(margin)} of zero"
    return f"{found} only with collapsed runs counted, so nothing to build on"


def _bend(effects: pd.DataFrame, row: pd.Series) -> str:
    """Whether the curve bends."""
    same = ["intermediate", "target", "language", "analysis"]
    bends = effects[effects["quantity"] == "bend"].set_index(same)
    key = (*row[same[:3]], row.name)
    if key not in bends.index or pd.isna(bends.loc[key, "estimate"]):
        return ""
    bend = bends.loc[key]
    if not _differs(bend):
        return f"The curve is not seen to bend ({_points(bend)} a doubling, last less first)."
    return f"The curve bends {'up' if bend['estimate'] > 0 else 'down'} by {_points(bend)}."


def _differs(row: pd.Series) -> bool:
    return bool(row["p"] < 0.05 and (row["low"] > 0 or row["high"] < 0))


def _verdict(row: pd.Series, margin: float) -> str:
    """Difference, equivalence by two one-sided tests at 5 %, or neither."""
    if _differs(row):
        if row["seeds"] < 2:
            return "no more than a hint"
        if row["quantity"] == "gain":
            return "it helps" if row["estimate"] > 0 else "it harms"
        return f"{'higher' if row['estimate'] > 0 else 'lower'} at the larger encoder"
    if _is_small(row, margin):
        return f"not distinguishable from zero, and within {_unit(margin)} of it either way"
    return f"not distinguishable from zero, nor shown to lie within {_unit(margin)} of it"


def _is_small(row: pd.Series, margin: float) -> bool:
    return bool(row["seeds"] > 1 and -margin < row["low_90"] and row["high_90"] < margin)


def _unit(margin: float) -> str:
    return f"{margin:g} point{'s' * (margin != 1)}"


def _points(row: pd.Series) -> str:
    text = f"{row['estimate']:+z.1f} points [{row['low']:z.1f}, {row['high']:z.1f}]"
    return text.replace("-", "−")


def _gains(effects: pd.DataFrame, row: pd.Series) -> list[str]:
    """Each size's gain over what the headline is over, in order."""
    same = (
        effects[["intermediate", "target", "language"]]
        == row[["intermediate", "target", "language"]].to_list()
    )
    gains = effects[same.all(axis=1) & (effects["quantity"] == "gain")]
    gains = gains[gains["analysis"] == row.name]
    return [f"{gain:+z.1f}".replace("-", "−") for gain in gains["estimate"]]


def _over(runs: pd.DataFrame, row: pd.Series) -> str:
    """What the headline is over: tasks and targets, each by its name or how many and which."""
    said = []
    for column, kind in (("intermediate", "tasks"), ("target", "targets")):
        names = [name for name in runs[column].unique() if name != NONE]
        many = row[column] == ALL
        said.append(f"{len(names)} {kind} ({', '.join(names)})" if many else row[column])
    return " for ".join(said)


def languages(path: str | Path = LANGUAGES) -> pd.DataFrame:
    """Per language: name, GiB of pretraining text and syntactic distance to English, if known.

    The shipped table: text of CC-100 (Conneau et al. 2020, arXiv 1911.02116, table 6) and one minus
    the cosine of URIEL's syntactic features (Littell et al. 2017). docs/statistics.md says more.

    Raises
    ------
    StudyError
        A table that lacks a column.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    needed = ["language", *FIGURES]
    if lacking := [column for column in needed if column not in table]:
        found = f"found no column {', '.join(lacking)}"
        raise StudyError(f"{path}: {found}; expected {', '.join(needed)}")
    return table


def explain_gains(effects: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    """Exploratory: Spearman correlation over languages of gains and scale effects with figures.

    Columns: quantity, size, intermediate, target, analysis, figure, rho, low, high, p, n
    (languages), label. The 95 % interval takes the languages as a sample and their gains as exact.
    English is left out, and so is a correlation over fewer than five languages (nan). A Spearman
    correlation is the same for an amount and its logarithm.
    """
    tested = effects["quantity"].isin(["gain", "scale_effect"])
    per = effects[tested & ~effects["language"].isin([ENGLISH, ZERO_SHOT])]
    per = per.merge(languages[["language", *FIGURES]], on="language", how="left")
    keys = ["quantity", "size", "intermediate", "target", "analysis"]
    rows = []
    for key, group in per.groupby(keys, sort=False):
        for column, figure in FIGURES.items():
            both = group[["estimate", column]].dropna()
            rows.append((*key, figure, *_correlation(*both.to_numpy().T), len(both), "exploratory"))
    return pd.DataFrame(rows, columns=[*keys, "figure", "rho", "low", "high", "p", "n", "label"])


def _correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Spearman's rho, its interval by Fisher's z with the variance of Bonett and Wright (2000), p.

    All are nan for too few languages, or where one side does not vary.
    """
    if len(a) < FEWEST_LANGUAGES or min(len(np.unique(a)), len(np.unique(b))) < 2:
        return (np.nan,) * 4
    from scipy.stats import spearmanr  # here, for its import takes half a second

    rho, p = spearmanr(a, b)
    z = np.arctanh(np.clip(rho, -0.99, 0.99))  # a perfect order of few languages is no certainty
    low, high = np.tanh(z + ndtri([0.025, 0.975]) * np.sqrt((1 + rho**2 / 2) / (len(a) - 3)))
    return rho, low, high, p
