"""The sweep: which learning rate a size is trained with, chosen on English validation data.

If one size is tuned worse than another, that looks like an effect of scale. So every target is
trained from the pretrained encoder with each rate, with seeds that the study does not use. The
rate with the best mean score is used in all trainings of that size. No other language is read.
"""

from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

from helpers.study.catalogue import NONE, StudyError
from helpers.study.condition import Condition
from helpers.study.files import read_json, write_json

SCORE = "English validation"
"""A column: the mean over targets and seeds, in points."""


def file(study, size: str) -> Path:
    """The choice for a size: its rate, what was tried, and the scores."""
    return study.folder / size / "sweep" / "sweep.json"


def trials(study, size: str, join: bool = True) -> list[Condition]:
    """The trainings that the sweep makes for one size: a condition for each rate and target."""
    if not study.sweep:
        raise StudyError(f"{study.path}: sweep: found none, expected learning rates to try")
    tried, conditions = _tried(study, size), []
    study = study.model_copy(update={"retry_collapsed": False, "keep_models": False})
    for rate, target in product(tried["learning_rates"], tried["targets"]):
        condition = study.condition(size, NONE, target, join)
        folder = condition.folder.parents[1] / "sweep" / f"{rate:g}" / target
        values = condition.hyperparameters.model_copy(update={"learning_rate": rate})
        trial = replace(condition, folder=folder, hyperparameters=values, seeds=tried["seeds"])
        conditions.append(replace(trial, languages=[]))  # nothing is evaluated
    return conditions


def _tried(study, size: str) -> dict[str, list]:
    rates = study.sweep.sizes.get(size, study.sweep.learning_rates)
    targets = [task for phase, task in study.trainings() if phase == "target"]
    return {"learning_rates": rates, "targets": targets, "seeds": study.sweep.seeds}


def chosen(study, size: str) -> float | None:
    """The rate that was chosen for a size; None before the study's rates have been tried."""
    record = read_json(file(study, size))
    return record["learning_rate"] if record.get("tried") == _tried(study, size) else None


def choose(study, size: str, conditions: list[Condition]) -> None:
    """Choose the rate with the best mean score (the smallest if equal), and write sweep.json."""
    selections = defaultdict(list)
    for condition, seed in ((one, seed) for one in conditions for seed in one.seeds):
        scores = read_json(condition.seed_folder(seed) / "scores.json")
        selections[condition.hyperparameters.learning_rate].append(scores["selection"])
    rows = []
    for rate, tried in sorted(selections.items()):
        mean = sum(selection["score"] for selection in tried) / len(tried)
        collapsed = sum(selection["collapsed"] for selection in tried)
        rows.append({"learning_rate": rate, SCORE: mean, "collapsed": collapsed})
    best = max(rows, key=lambda row: row[SCORE])["learning_rate"]
    content = {"learning_rate": best, "tried": _tried(study, size), "scores": rows}
    write_json(file(study, size), content)


def choices(study) -> list[dict]:
    """Every size and rate with its mean score in points, and which was chosen."""
    rows = []
    for size in study.sizes if study.sweep else []:
        record = read_json(file(study, size))
        for row in record.get("scores", []):
            is_chosen = row["learning_rate"] == record["learning_rate"]
            rows.append({"size": size, **row, "chosen": is_chosen})
    return rows


def recipes(study) -> list[dict]:
    """The hyperparameters of every size in every training."""
    rows = []
    for (phase, task), (name, size) in product(study.trainings(), study.sizes.items()):
        values = study.hyperparameters(phase, name, task).model_dump(exclude_none=True)
        rows.append({"phase": phase, "task": task, "size": name, "tuning": size.tuning, **values})
    return rows
