"""What is known of languages, and whether gains go with it: exploratory."""

from pathlib import Path

import pandas as pd

from comparison.plan import ZERO_SHOT, ComparisonError

LANGUAGES = Path(__file__).with_name("languages.csv")
FEWEST_LANGUAGES = 5
FIGURES = ["pretraining_gib", "syntactic_distance"]


def languages(path: str | Path = LANGUAGES) -> pd.DataFrame:
    """Per language: name, GiB of pretraining text and syntactic distance to English, if known.

    The shipped table: text of CC-100 (Conneau et al. 2020, arXiv 1911.02116, table 6) and one minus
    the cosine of URIEL's syntactic features (Littell et al. 2017). docs/comparison.md says more.
    """
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    needed = ["language", *FIGURES]
    lacking = ", ".join(column for column in needed if column not in table)
    if lacking:
        raise ComparisonError(f"{path}: found no column {lacking}; expected {', '.join(needed)}")
    return table


_NAMES = languages().set_index("language")["name"].to_dict()


def language_label(code: str) -> str:
    """English name of a language code with the code behind it, such as `Swahili (sw)`."""
    return f"{_NAMES[code]} ({code})" if code in _NAMES else str(code)


def explain_gains(effects: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    """Exploratory: Spearman correlation over languages of gains and scale effects with figures.

    Columns: quantity, size, intermediate, target, analysis, figure, rho, p, n (languages). English
    is left out, and so is a correlation over fewer than five languages.
    """
    from scipy.stats import spearmanr  # here: half a second that charts do not need

    rows = effects.query("quantity in ('gain', 'scale_effect')").merge(languages, on="language")
    rows = rows[~rows["language"].isin(["en", ZERO_SHOT])]
    keys, explained = ["quantity", "size", "intermediate", "target", "analysis"], []
    for key, group in rows.groupby(keys, sort=False):
        for figure in FIGURES:
            both = group[["estimate", figure]].dropna()
            if len(both) >= FEWEST_LANGUAGES and both.nunique().min() > 1:
                rho, p = spearmanr(both["estimate"], both[figure])
                explained.append((*key, figure, rho, p, len(both)))
    return pd.DataFrame(explained, columns=[*keys, "figure", "rho", "p", "n"])
