"""What is known of languages, and whether gains go with it: exploratory."""

from pathlib import Path

import pandas as pd

from comparison.plan import ALL, ZERO_SHOT, Plan

KINDS = {"script": "Latin", "family": "Indo-European"}
"""What languages are grouped by, and what English is."""


def languages() -> pd.DataFrame:
    """Per language: name, GiB of pretraining text, syntactic distance to English, script, family.

    Text of CC-100 (Conneau et al. 2020, arXiv 1911.02116, table 6) and one minus the cosine of
    URIEL's syntactic features (Littell et al. 2017). docs/comparison.md says more.
    """
    table = Path(__file__).with_name("languages.csv")
    return pd.read_csv(table, keep_default_na=False, na_values=[""])


_NAMES = languages().set_index("language")["name"].to_dict()


def language_label(code: str) -> str:
    """English name of a language code with the code behind it, such as `Swahili (sw)`."""
    return f"{_NAMES[code]} ({code})" if code in _NAMES else str(code)


def fertility(plan: Plan) -> pd.DataFrame:
    """Tokens of a text relative to the target's English: target, language, fertility.

    The mean over sizes; of target "all", over the targets that have English texts.
    """
    rows = [
        (target, code, count / counts["en"])
        for size in plan.sizes.values()
        for target, counts in size.fertility.items()
        for code, count in counts.items()
        if "en" in counts
    ]
    rows += [(ALL, *row[1:]) for row in rows]
    table = pd.DataFrame(rows, columns=["target", "language", "fertility"])
    return table.groupby(["target", "language"], as_index=False)["fertility"].mean()


def explain_gains(
    effects: pd.DataFrame, languages: pd.DataFrame, fertility: pd.DataFrame
) -> pd.DataFrame:
    """Exploratory: Spearman correlation over languages of gains and scale effects with figures.

    Figures are those of the tables `languages` and `fertility`, and whether a language shares
    English's script and family (0 or 1). Columns: quantity, size, intermediate, target, analysis,
    figure, rho, p, n (languages: without English, five at least).
    """
    from scipy.stats import spearmanr  # here: half a second that charts do not need

    rows = _single(effects, languages, ["gain", "scale_effect"]).merge(fertility, how="left")
    shared = {f"{english} {kind}": 1.0 * (rows[kind] == english) for kind, english in KINDS.items()}
    keys, explained = ["quantity", "size", "intermediate", "target", "analysis"], []
    for key, group in rows.assign(**shared).groupby(keys, sort=False):
        for figure in ("pretraining_gib", "syntactic_distance", "fertility", *shared):
            both = group[["estimate", figure]].dropna()
            if len(both) >= 5 and both.nunique().min() > 1:
                rho, p = spearmanr(both["estimate"], both[figure])
                explained.append((*key, figure, rho, p, len(both)))
    return pd.DataFrame(explained, columns=[*keys, "figure", "rho", "p", "n"])


def mean_gains(effects: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    """Exploratory: unweighted mean gains (points) of languages of one script, and of one family.

    Columns: size, intermediate, target, analysis, by, group, gain, n (languages). Without English.
    """
    rows = _single(effects, languages, ["gain"]).dropna(subset=["estimate"])
    keys = ["size", "intermediate", "target", "analysis", "by", "group"]
    long = pd.concat([rows.assign(by=kind, group=rows[kind]) for kind in KINDS])
    means = long.groupby(keys, sort=False, as_index=False)
    return means.agg(gain=("estimate", "mean"), n=("language", "size"))


def _single(effects: pd.DataFrame, languages: pd.DataFrame, quantities: list[str]) -> pd.DataFrame:
    """Effects in single languages other than English, with what is known of these."""
    rows = effects[effects["quantity"].isin(quantities)]
    return rows[~rows["language"].isin(["en", ZERO_SHOT])].merge(languages, on="language")
