"""The sweep: which learning rate a size is trained with, chosen on English validation data.

A size that is tuned worse looks like an effect of scale. So every target is trained from the
pretrained encoder with each rate, under seeds of the sweep's own; the rate with the best mean
score is the size's in all its trainings. No text in another language is read.
"""

import itertools
from pathlib import Path

import pandas as pd

from helpers.study.catalogue import NONE
from helpers.study.files import read_json, write_json
from helpers.study.params import Run

SCORE = "English validation"
"""A column: the mean over targets and seeds, in points."""


def file(study, size: str) -> Path:
    """The choice for a size: its rate, what was tried, and the scores."""
    return study.folder / size / "sweep.json"


def trials(study, size: str | None = None) -> list[tuple]:
    """Every training of the sweep, or of its share of one size: a study and its run."""
    found = []
    for name in ([size] if size else study.sizes) if study.sweep else []:
        tried = _tried(study, name)
        for rate, target, seed in itertools.product(*tried.values()):
            found.append((study.at(rate), Run(name, NONE, target, seed)))
    return found


def _tried(study, size: str) -> dict[str, list]:
    rates = study.sweep.sizes.get(size, study.sweep.learning_rates)
    targets = [task for phase, task in study.trainings() if phase == "target"]
    return {"learning_rates": rates, "targets": targets, "seeds": study.sweep.seeds}


def chosen(study, size: str) -> float | None:
    """The rate that was chosen for a size among those that the study names; None before."""
    record = read_json(file(study, size))
    return record["learning_rate"] if record.get("tried") == _tried(study, size) else None


def choose(study, size: str) -> None:
    """Write the choice, the smallest of rates that are equally good, from the trials' scores."""
    rows = []
    for tried, run in trials(study, size):
        selection = read_json(tried.run_folder(run) / "scores.json")["selection"]
        rows.append((tried.rate, selection["score"], selection["collapsed"]))
    table = pd.DataFrame(rows, columns=["learning_rate", SCORE, "collapsed"])
    means = table.groupby("learning_rate").agg({SCORE: "mean", "collapsed": "sum"})
    best = means[SCORE].idxmax()
    scores = means.reset_index().to_dict("records")
    content = {"learning_rate": best, "tried": _tried(study, size), "scores": scores}
    write_json(file(study, size), content)


def choices(study) -> pd.DataFrame:
    """Every size and rate with its mean score in points, and which was chosen."""
    rows = []
    for size in study.sizes:
        record = read_json(file(study, size))
        for row in record.get("scores", []):
            chosen = row["learning_rate"] == record["learning_rate"]
            shown = {"learning rate": f"{row.pop('learning_rate'):g}", **row}
            rows.append({"size": size, **shown, "chosen": chosen})
    return pd.DataFrame(rows)


def recipes(study) -> pd.DataFrame:
    """The hyperparameters of every size in every training."""
    rows = []
    for (phase, task), (name, size) in itertools.product(study.trainings(), study.sizes.items()):
        used = study.hyperparameters(phase, name, task).model_dump()
        rows.append({"phase": phase, "task": task, "size": name, "tuning": size.tuning, **used})
    return pd.DataFrame(rows).dropna(axis=1, how="all").astype(str)
