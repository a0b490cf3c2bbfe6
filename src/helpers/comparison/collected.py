"""What a study has made so far: finished runs as tables, runs that are missing, results made under other parameters."""

from pathlib import Path

import pandas as pd

from helpers.study import NONE, RUN, Run, Study
from helpers.study.files import read_json
from helpers.study.study import REPETITION

_OF_A_RUN = ["metric", "collapsed", "validation_score", "wall_seconds", "train_flops", "repeats"]


def finished_runs(study: Study) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of the runs that are finished under the study's present parameters.

    Returns
    -------
    runs
        One row a run: size, intermediate, target, seed, metric, collapsed, validation_score, wall_seconds,
        train_flops, repeats. Time and cost include the intermediate training that the run builds on; repeats is
        the seed of the collapsed run that this one repeats, if it does.
    predictions
        size, intermediate, target, seed, language, id, credit, out_of.
    curves
        size, intermediate, target, seed, phase, step, loss, validation_score.
    """
    runs, predictions, curves = [], [], []
    for run in study.runs():
        if not _current(study, study.run_folder(run), run):
            continue
        before = {}
        if run.intermediate != NONE:
            before = read_json(
                study.encoder_folder(run.size, run.intermediate, run.seed).parent / "run.json"
            )
        for folder in (study.run_folder(run), study.run_folder(run) / REPETITION):
            if not _current(study, folder, run):
                continue
            scores, record = read_json(folder / "scores.json"), read_json(folder / "run.json")
            cell = {**dict(zip(RUN, run, strict=True)), "seed": record["seed"]}
            runs.append(
                {
                    **cell,
                    "metric": scores["metric"],
                    "collapsed": scores["selection"]["collapsed"],
                    "validation_score": scores["selection"]["score"],
                    "wall_seconds": record["wall_seconds"] + before.get("wall_seconds", 0),
                    "train_flops": record["train_flops"] + before.get("train_flops", 0),
                    "repeats": run.seed if folder.name == REPETITION else None,
                }
            )
            table = pd.read_parquet(
                folder / "predictions.parquet", columns=["language", "id", "credit", "out_of"]
            )
            predictions.append(table.assign(**cell))
            for phase, log in (("intermediate", before.get("log", [])), ("target", record["log"])):
                curves += [
                    {**cell, "phase": phase, "loss": None, "validation_score": None, **line}
                    for line in log
                ]
    return (
        pd.DataFrame(
            runs,
            columns=[
                *RUN,
                "metric",
                "collapsed",
                "validation_score",
                "wall_seconds",
                "train_flops",
                "repeats",
            ],
        ),
        pd.concat(predictions, ignore_index=True)
        if predictions
        else pd.DataFrame(columns=[*RUN, "language", "id", "credit", "out_of"]),
        pd.DataFrame(curves, columns=[*RUN, "phase", "step", "loss", "validation_score"]),
    )


def missing_runs(study: Study) -> pd.DataFrame:
    """Planned runs without a result under the present parameters: size, intermediate, target, seed."""
    return pd.DataFrame(
        [run for run in study.runs() if not _current(study, study.run_folder(run), run)],
        columns=RUN,
    )


def _current(study: Study, folder: Path, run: Run) -> bool:
    complete = (folder / "scores.json").exists() and (folder / "predictions.parquet").exists()
    return complete and read_json(folder / "run.json").get("parameters") == study.settings(*run[:3])
