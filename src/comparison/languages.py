"""What is known of languages, and whether gains go with it: exploratory."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import spearmanr

from comparison.plan import ZERO_SHOT, ComparisonError, Plan

LANGUAGES = Path(__file__).with_name("languages.csv")
FEWEST_LANGUAGES = 5
FIGURES = {
    "pretraining_gib": "pretraining data (log)",
    "syntactic_distance": "syntactic distance to English",
}


def languages(path: str | Path = LANGUAGES) -> pd.DataFrame:
    """Per language: name, GiB of pretraining text and syntactic distance to English, if known.

    The shipped table: text of CC-100 (Conneau et al. 2020, arXiv 1911.02116, table 6) and one minus
    the cosine of URIEL's syntactic features (Littell et al. 2017). docs/statistics.md says more.

    Raises
    ------
    ComparisonError
        A table that lacks a column.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    needed = ["language", *FIGURES]
    lacking = [column for column in needed if column not in table]
    if lacking:
        raise ComparisonError(
            f"{path}: found no column {', '.join(lacking)}; expected {', '.join(needed)}"
        )
    return table


def language_label(code: str) -> str:
    """English name of a language code with the code behind it, such as `Swahili (sw)`."""
    name = _NAMES.get(code)
    return f"{name} ({code})" if name else str(code)


_NAMES = languages().set_index("language")["name"].to_dict()


def explain_gains(
    effects: pd.DataFrame, languages: pd.DataFrame, plan: Plan | None = None
) -> pd.DataFrame:
    """Exploratory: Spearman correlation over languages of gains and scale effects with figures.

    Columns: quantity, size, intermediate, target, analysis, figure, rho, low, high, p, n
    (languages). The 95 % interval takes the languages as a sample and their gains as exact.
    Languages that a target was trained in are left out (English without a plan), and so is a
    correlation over fewer than five languages (nan). A Spearman correlation is the same for an
    amount and its logarithm.
    """
    trained = {"en"}
    if plan:
        trained = {code for target in plan.targets.values() for code in target.trained_in}
    tested = effects["quantity"].isin(["gain", "scale_effect"])
    rows = effects[tested & ~effects["language"].isin([*trained, ZERO_SHOT])]
    rows = rows.merge(languages[["language", *FIGURES]], on="language", how="left")
    keys = ["quantity", "size", "intermediate", "target", "analysis"]
    explained = []
    for key, group in rows.groupby(keys, sort=False):
        for column, figure in FIGURES.items():
            both = group[["estimate", column]].dropna()
            explained.append((*key, figure, *_correlation(*both.to_numpy().T), len(both)))
    return pd.DataFrame(explained, columns=[*keys, "figure", "rho", "low", "high", "p", "n"])


def _correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Spearman's rho, its interval by Fisher's z with the variance of Bonett and Wright (2000), p.

    All are nan for too few languages, or where one side does not vary.
    """
    if len(a) < FEWEST_LANGUAGES or min(len(np.unique(a)), len(np.unique(b))) < 2:
        return (np.nan,) * 4
    rho, p = spearmanr(a, b)
    z = np.arctanh(np.clip(rho, -0.99, 0.99))  # a perfect order of few languages is no certainty
    low, high = np.tanh(z + ndtri([0.025, 0.975]) * np.sqrt((1 + rho**2 / 2) / (len(a) - 3)))
    return rho, low, high, p
