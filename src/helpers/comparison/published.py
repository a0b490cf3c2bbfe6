"""Figures of other people beside a study's own."""

from pathlib import Path

import pandas as pd

from helpers.study import ENGLISH, RUN, ZERO_SHOT

PUBLISHED = Path(__file__).with_name("published.csv")


def published() -> pd.DataFrame:
    """Figures of other people, with source.

    Columns: encoder, intermediate, target, language, languages, quantity, value, source, note.
    Language "zero-shot" is a mean without English, "every" one over all languages, English among
    them; ``languages`` is how many it is over, where the source says so.
    """
    return pd.read_csv(PUBLISHED)


def beside_published(results: pd.DataFrame, encoders: dict[str, str]) -> pd.DataFrame:
    """Published scores beside this study's mean over seeds, where there are both; for reference.

    `encoders` names the pretrained model of each size, as the study does. Columns of `published`
    and size, ours, seeds, collapsed (how many of the seeds). A mean counts only where the study has
    as many languages, and a mean over every language where English is among them.
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
    theirs = published().query("quantity == 'score'")
    theirs = theirs.assign(encoder=theirs["encoder"].str.split("/").str[-1])
    return theirs.merge(ours, on=["encoder", "intermediate", "target", "language", "languages"])


def _mean(rows: pd.DataFrame) -> pd.DataFrame:
    runs = rows.groupby([*RUN, "collapsed"])
    return runs.agg(score=("score", "mean"), languages=("language", "size")).reset_index()
