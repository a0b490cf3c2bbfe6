"""Predict every language of a target in one pass, and score the predictions."""

import math

import pandas as pd
from tqdm.auto import tqdm

from helpers import data, tasks
from helpers.encoders.model import predict
from helpers.study import ENGLISH, Study
from helpers.training import Training

LEARNED = 0.1


def zero_shot(study: Study, target: str, trained: Training) -> pd.DataFrame:
    """Predictions for every evaluated item and language, with predictions.parquet's columns."""
    task, tokenizer = study.tasks[target], trained.tokenizer
    splits = [task.threshold, task.evaluate] if task.threshold else [task.evaluate]
    cells = [(target, split, code) for code in study.languages(target) for split in splits]
    for pool in (study.tasks[name] for name in task.candidates):
        cells += [(pool.name, pool.evaluate, code) for code in pool.languages]
    examples = [
        {**row, "task": name, "language": code, "split": split, "prefix": trained.prefix}
        for name, split, code in cells
        for row in data.examples(study, name, split, code)
    ]
    cache = data.token_cache(study)
    features = data.tokenise(task, examples, tokenizer, trained.max_length, cache)
    sequences, model = sum(len(feature["input_ids"]) for feature in features), trained.model
    model.asked = model.spared = 0
    with tqdm(total=sequences, desc=f"predicting {target}", leave=False, mininterval=1) as bar:
        logits = predict(model, features, tokenizer.pad_token_id, bar.update)
    trained.notes["prediction"] = {"token layers": model.asked, "not computed": model.spared}
    table = pd.DataFrame(tasks.of(task).decode(task, examples, features, logits))
    ids = [row["id"] if task.parallel else f"{row['language']}/{row['id']}" for row in examples]
    table.insert(0, "language", [row["language"] for row in examples])
    table.insert(1, "id", ids)
    if task.group:
        table["group"] = [row["group"] for row in examples]
    shown = [(row["task"], row["split"]) == (target, task.evaluate) for row in examples]
    return table[shown].reset_index(drop=True)


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
    """A selection with ``collapsed``; retrieval, which is scored without training, never is."""
    scores = [selection["score"], selection.get("last_score", selection["score"])]
    collapsed = selection["n"] > 0 and is_collapsed(sum(scores) / 2, selection["majority"])
    return {**selection, "collapsed": collapsed}


def is_collapsed(score: float, majority: float) -> bool:
    """Whether a training learned next to nothing, by English validation data alone (points).

    The mean of the selected and the last weights' scores makes less than a tenth (``LEARNED``) of
    the errors of the best constant answer good. It holds for accuracy and F1, and on a model that
    names one class only whatever the number of items; docs/statistics.md argues for it.
    """
    return score < majority + LEARNED * (100 - majority)
