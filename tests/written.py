"""A study that never ran, as files: what `comparison.read_study` reads."""

import json
from pathlib import Path

import pandas as pd

RUN = ["size", "intermediate", "target", "seed"]
LOG = [{"step": step, "loss": 10 / step} for step in (10, 20, 30)]
LOG += [{"step": 30, "validation_score": 60.0}]


def write_outputs(
    folder: Path, predictions: pd.DataFrame, runs: pd.DataFrame, planned: pd.DataFrame, **changes
) -> Path:
    """Write `study.json` for the runs of `planned` and results for those of `runs`."""
    known = {"format": "sentence_pair", "metric": "accuracy", "trained_in": ["en"]}
    known |= {"variant_of": None, "train_examples": None}
    targets = {}
    for name, rows in predictions.groupby("target", sort=False):
        targets[name] = {**known, "languages": sorted(rows["language"].unique())}
    sizes = {n: {"title": f"{n} of the test", "encoder": n} for n in planned["size"].unique()}
    conditions = planned[RUN[:3]].drop_duplicates().astype(str).agg("/".join, axis=1)
    names = {*conditions, *(name.rpartition("/")[0] for name in conditions)}
    record = {
        "layout": "0.3",
        "name": folder.name,
        "description": "made up",
        "margin": 1.0,
        "sizes": sizes,
        "intermediate": list(planned["intermediate"].unique()),
        "targets": targets,
        "runs": planned[RUN].to_dict("records"),
        "settings": {name: {"of": name} for name in names},
        "recipes": [{"phase": "target", "size": "base", "learning_rate": 2e-5}],
    }
    write(folder / "study.json", record | changes)
    for i, size in enumerate(sizes):
        count = {"parameters_without_embeddings": 10_000_000 * 2**i}
        write(folder / size / "encoder/run.json", count)
    tables = predictions.groupby(RUN)
    for run in runs.to_dict("records"):
        names = [str(run[name]) for name in RUN[:3]]
        home = folder.joinpath(*names) / f"seed-{run['seed']}"
        result(home, "/".join(names), run, bool(run["collapsed"]))
        columns = ["language", "id", "credit", "out_of"]
        table = tables.get_group(tuple(run[name] for name in RUN))
        table[columns].to_parquet(home / "predictions.parquet")
        if run["intermediate"] != "none":
            before = folder.joinpath(*names[:2]) / f"seed-{run['seed']}"
            result(before, "/".join(names[:2]), run, False)
    return folder


def result(folder: Path, condition: str, run: dict, collapsed: bool, **more) -> None:
    """Write `run.json` and `scores.json` of one training."""
    costs = {name: run[name] for name in ("wall_seconds", "cpu_seconds")}
    made = {"settings": {"of": condition}, "seed": run["seed"], "log": LOG, "precision": "fp32"}
    selection = {"score": 60.0, "collapsed": collapsed}
    write(folder / "run.json", made | costs | more)
    write(folder / "scores.json", {"metric": "accuracy", "selection": selection})


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
