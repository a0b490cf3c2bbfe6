"""A study whose runs are all made up, as files: what collect reads, without any training."""

import json
from pathlib import Path

from simulated import simulated_study

from helpers.study import NONE, Run, Study


def write_finished(
    path: Path, outputs: Path, without=lambda run: False, collapsed: int = 0, items: int = 30
) -> Study:
    """Write the results of every run of the study file, but those to leave out."""
    study = Study.load(path, outputs)
    predictions, runs = simulated_study(
        {t.task: tuple(study.languages(t.task)) for t in study.targets},
        tuple(study.intermediate), tuple(study.sizes), len(study.seeds), items, collapsed=collapsed,
    )  # fmt: skip
    seeds = dict(enumerate(study.seeds, 1))
    tables = predictions.groupby(["size", "intermediate", "target", "seed"])
    log = [{"step": step, "loss": 10 / step} for step in (10, 20, 30)] + [
        {"step": 30, "validation_score": 60.0}
    ]
    for row in runs.itertuples():
        run = Run(row.size, row.intermediate, row.target, seeds[row.seed])
        if without(run):
            continue
        folder = study.run_folder(run)
        folder.mkdir(parents=True)
        table = tables.get_group((row.size, row.intermediate, row.target, row.seed))
        table[["language", "id", "credit", "out_of"]].to_parquet(folder / "predictions.parquet")
        selection = {"score": 60.0, "n": 100, "majority": 33.3, "collapsed": bool(row.collapsed)}
        scores = {"metric": "accuracy", "selection": selection}
        record = {
            "seed": run.seed,
            "wall_seconds": row.wall_seconds,
            "train_flops": row.train_flops,
            "log": log,
        }
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "run.json").write_text(
            json.dumps(record | {"parameters": study.settings(*run[:3])})
        )
        if run.intermediate != NONE:
            before = study.encoder_folder(run.size, run.intermediate, run.seed).parent / "run.json"
            before.parent.mkdir(parents=True, exist_ok=True)
            before.write_text(
                json.dumps(record | {"parameters": study.settings(run.size, run.intermediate)})
            )
    return study
