"""Predict every language of a target in one pass, and score the predictions."""

import math

import pandas as pd
from scipy.stats import binomtest
from tqdm.auto import tqdm

from helpers import data, tasks
from helpers.encoders.model import predict
from helpers.study import ENGLISH, Study
from helpers.training import Training

COLLAPSE_ALPHA = 0.05


def zero_shot(study: Study, target: str, trained: Training) -> pd.DataFrame:
    """Predictions for every evaluated item and language, with predictions.parquet's columns."""
    task, tokenizer = study.tasks[target], trained.tokenizer
    splits = [task.threshold, task.evaluate] if task.threshold else [task.evaluate]
    examples = [
        {**row, "language": language, "split": split, "prefix": trained.prefix}
        for language in study.languages(target)
        for split in splits
        for row in data.examples(study, target, split, language)
    ]
    cache = data.token_cache(study)
    features = data.tokenise(task, examples, tokenizer, trained.max_length, cache)
    with tqdm(total=len(features), desc=f"predicting {target}", leave=False, mininterval=1) as bar:
        logits = predict(trained.model, features, tokenizer.pad_token_id, bar.update)
    table = pd.DataFrame(tasks.of(task).decode(task, examples, features, logits))
    ids = [row["id"] if task.parallel else f"{row['language']}/{row['id']}" for row in examples]
    table.insert(0, "language", [row["language"] for row in examples])
    table.insert(1, "id", ids)
    return table[[row["split"] == task.evaluate for row in examples]].reset_index(drop=True)


def scores(study: Study, target: str, predictions: pd.DataFrame, selection: dict) -> dict:
    """What scores.json says: English validation, every language, and the mean without English."""
    by_language = {}
    for language, rows in predictions.groupby("language", sort=False):
        score = tasks.score([rows["credit"].sum()], [rows["out_of"].sum()])
        by_language[language] = {"score": score, "n": len(rows)}
        if "exact_match" in rows:
            by_language[language]["exact_match"] = 100 * rows["exact_match"].mean()
    others = [row["score"] for language, row in by_language.items() if language != ENGLISH]
    return {
        "metric": study.tasks[target].metric,
        "selection": with_collapse(selection),
        "languages": by_language,
        "zero_shot": sum(others) / len(others) if others else math.nan,
    }


def with_collapse(selection: dict) -> dict:
    """A selection with ``collapsed``: no better than the majority class on its validation data."""
    trained = selection["n"] > 0  # retrieval is scored without training
    collapsed = trained and is_collapsed(selection["score"], selection["n"], selection["majority"])
    return {**selection, "collapsed": bool(collapsed)}


def is_collapsed(score: float, n: int, majority: float) -> bool:
    """Whether a training learned no more than the majority class, by English validation data alone.

    A one-sided exact binomial test of ``score`` (points, over ``n`` items) against ``majority``
    (points) does not reject at ``COLLAPSE_ALPHA``. Scores that are no counts (F1) are rounded to
    the nearest count.
    """
    correct = round(score / 100 * n)
    test = binomtest(correct, n, majority / 100, alternative="greater")
    return bool(test.pvalue > COLLAPSE_ALPHA)
