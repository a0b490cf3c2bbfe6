"""The study in one sentence, and beside what others know: pretraining data, typology, scores.

The rules behind the sentence were fixed before any study ran; they stand in docs/statistics.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from helpers.comparison.estimates import ALL, ANALYSES, headline
from helpers.comparison.resampling import ASSUMED_SEED_SD
from helpers.study import ENGLISH, NONE, RUN, ZERO_SHOT, Study, StudyError

LANGUAGES = Path(__file__).with_name("languages.csv")
PUBLISHED = Path(__file__).with_name("published.csv")
FEWEST_LANGUAGES = 5
FIGURES = {
    "pretraining_gib": "pretraining data (log)",
    "syntactic_distance": "syntactic distance to English",
}


def summary_sentence(study: Study, effects: pd.DataFrame, runs: pd.DataFrame) -> str:
    """What the study says of its question, in at most four short sentences.

    The headline is one number: the scale effect on the zero-shot score, over all intermediate tasks
    and targets, with all runs. It is called a difference only if its interval leaves out zero,
    p < 0.05 and there are two seeds or more.
    """
    planned, there = study.runs(), set(runs[RUN].itertuples(index=False, name=None))
    missing = sum(run not in there for run in planned)
    gap = f"The study is incomplete ({missing} of {len(planned)} runs missing)." if missing else ""
    titles = {size: own.title for size, own in study.sizes.items()}
    base, large = (titles.get(size, size) for size in ("base", "large"))
    rows = effects[headline(effects)].dropna(subset=["estimate"]).set_index("analysis")
    if ANALYSES[0] not in rows.index:
        return (
            f"{gap or 'The study is incomplete.'} Whether English intermediate training helps more "
            f"at {large} than at {base} stays open: a mean is formed only when all its runs are "
            "there."
        )
    row = rows.loc[ANALYSES[0]]
    before, after = (_gain(effects, row, size) for size in ("base", "large"))
    sentences = [
        f"From {base} to {large}, the zero-shot gain from English intermediate training on "
        f"{_over(runs, row, 'intermediate')} for {_over(runs, row, 'target')} changed by "
        f"{_points(row)}, from {before} to {after}: {_verdict(row)}."
    ]
    if row["seeds"] < 2:
        noise = f"a noise of {ASSUMED_SEED_SD:g} points between seeds"
        sentences.append(f"There is one seed only, so the interval assumes {noise}.")
    if down := int(runs["collapsed"].astype(bool).sum()):
        other = "no such mean can be formed"
        if ANALYSES[1] in rows.index:
            other = f"it is {_points(rows.loc[ANALYSES[1]])}: {_verdict(rows.loc[ANALYSES[1]])}"
        counted = f"{down} collapsed run{'s' * (down > 1)} of {len(runs)}"
        sentences.append(f"This counts {counted}; without, {other}.")
    return " ".join([*sentences, gap]).strip()


def _verdict(row: pd.Series) -> str:
    if not (row["p"] < 0.05 and (row["low"] > 0 or row["high"] < 0)):
        return "not distinguishable from zero"
    if row["seeds"] < 2:
        return "no more than a hint"
    return f"{'higher' if row['estimate'] > 0 else 'lower'} at the larger encoder"


def _points(row: pd.Series) -> str:
    text = f"{row['estimate']:+z.1f} points [{row['low']:z.1f}, {row['high']:z.1f}]"
    return text.replace("-", "−")


def _gain(effects: pd.DataFrame, row: pd.Series, size: str) -> str:
    """A size's gain over what the headline is over."""
    same = ["intermediate", "target", "language"]
    gains = effects[effects["quantity"] == "gain"].set_index(["analysis", "size", *same])
    return f"{gains['estimate'][row.name, size, *row[same]]:+z.1f}".replace("-", "−")


def _over(runs: pd.DataFrame, row: pd.Series, column: str) -> str:
    """What the headline is over: the one task, or how many and which."""
    if row[column] != ALL:
        return row[column]
    names = [name for name in runs[column].unique() if name != NONE]
    return f"{len(names)} {'targets' if column == 'target' else 'tasks'} ({', '.join(names)})"


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
    rho, p = spearmanr(a, b)
    z = np.arctanh(np.clip(rho, -0.99, 0.99))  # a perfect order of few languages is no certainty
    low, high = np.tanh(z + norm.ppf([0.025, 0.975]) * np.sqrt((1 + rho**2 / 2) / (len(a) - 3)))
    return rho, low, high, p


def published() -> pd.DataFrame:
    """Figures of other people, with source.

    Columns: encoder, intermediate, target, language, quantity, value, source, note. Language
    "zero-shot" is a mean without English, "every" one over all languages, English among them.
    """
    return pd.read_csv(PUBLISHED)


def beside_published(results: pd.DataFrame, encoders: dict[str, str]) -> pd.DataFrame:
    """Published scores beside this study's mean over seeds, where there are both; for reference.

    `encoders` names the pretrained model of each size, as the study does. Columns of `published`
    and size, ours, seeds, collapsed (how many of the seeds). A mean over every language counts only
    where the study has English.
    """
    single = results[results["language"] != ZERO_SHOT]
    with_english = single.groupby(RUN).filter(lambda run: ENGLISH in set(run["language"]))
    every = with_english.groupby([*RUN, "collapsed"])["score"].mean().reset_index()
    both = pd.concat([results, every.assign(language="every")])
    ours = both.groupby([*RUN[:3], "language"]).agg(
        ours=("score", "mean"), seeds=("seed", "nunique"), collapsed=("collapsed", "sum")
    )
    ours = ours.reset_index()
    ours["encoder"] = ours["size"].map(encoders).astype(str).str.rstrip("/").str.split("/").str[-1]
    theirs = published().query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    return theirs.merge(ours, on=["encoder", "intermediate", "target", "language"])
