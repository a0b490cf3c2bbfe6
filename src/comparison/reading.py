"""What a study has made so far: its finished runs as tables, and the runs that are missing."""

from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from helpers.study import NONE, RUN, Run, Study
from helpers.study.files import read_json
from helpers.study.study import REPETITION

RUNS = [
    "metric",
    "collapsed",
    "collapsed_in",
    "validation_score",
    "wall_seconds",
    "train_flops",
    "repeats",
]
MADE_ON = ["precision", "processor", "gpu", "torch", "transformers"]
"""What a run was computed with; columns of the table of runs."""
PREDICTIONS = ["language", "id", "credit", "out_of", "group"]
CURVES = ["phase", "step", "loss", "validation_score"]


def finished_runs(study: Study) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of the runs that are finished under the study's present parameters.

    Returns
    -------
    runs
        One row a run: size, intermediate, target, seed, metric, collapsed, collapsed_in,
        validation_score, wall_seconds, train_flops, repeats, and `MADE_ON`. A run has collapsed if
        its own training has or the intermediate one that it builds on; collapsed_in says which
        ("target", "intermediate", or ""). Time and cost include the intermediate training; repeats
        is the seed of the collapsed run that this one repeats, if any.
    predictions
        size, intermediate, target, seed, language, id, credit, out_of, group (may be missing).
    curves
        size, intermediate, target, seed, phase, step, loss, validation_score.
    """
    runs, tables, curves = [], [], []
    for run in study.runs():
        before, fallen = _intermediate_record(study, run)
        for folder in _finished_folders(study, run):
            scores, record = read_json(folder / "scores.json"), read_json(folder / "run.json")
            named = run._replace(seed=record["seed"])._asdict()
            repeats = run.seed if folder.name == REPETITION else None
            runs.append(named | _row(scores, record, before, fallen) | {"repeats": repeats})
            with parquet.ParquetFile(folder / "predictions.parquet") as file:
                tables.append(file.read(columns=PREDICTIONS))
            for phase, log in (("intermediate", before.get("log", [])), ("target", record["log"])):
                curves += [named | {"phase": phase} | line for line in log]
    named = pd.DataFrame(runs, columns=[*RUN, *RUNS, *MADE_ON])
    return named, _together(named[RUN], tables), pd.DataFrame(curves, columns=[*RUN, *CURVES])


def _together(names: pd.DataFrame, tables: list[pyarrow.Table]) -> pd.DataFrame:
    """One table of all runs' predictions, in which every row says the name of its run."""
    if not tables:
        return pd.DataFrame(columns=[*RUN, *PREDICTIONS])
    whole = pyarrow.concat_tables(tables, promote_options="permissive")
    of = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    predictions = whole.to_pandas(ignore_metadata=True).reindex(columns=PREDICTIONS)
    return names.take(of).reset_index(drop=True).join(predictions)


def _row(scores: dict, record: dict, before: dict, fallen: bool) -> dict:
    """What the table of runs says of one, but its names; ``before`` is the intermediate record."""
    selection = scores["selection"]
    made = record | record.get("hardware", {}) | record.get("versions", {})
    return {
        "metric": scores["metric"],
        "collapsed": fallen or bool(selection["collapsed"]),
        "collapsed_in": "intermediate" if fallen else "target" if selection["collapsed"] else "",
        "validation_score": selection["score"],
        **{cost: record[cost] + before.get(cost, 0) for cost in ("wall_seconds", "train_flops")},
        **{name: made.get(name) for name in MADE_ON},
    }


def shared_hours(study: Study, runs: pd.DataFrame) -> float:
    """Hours of intermediate training that runs share; each alone would have taken them anew."""
    names = ["size", "intermediate", "seed"]
    own = runs[(runs["intermediate"] != NONE) & runs["repeats"].isna()]
    seconds = 0.0
    for key, count in own.value_counts(names).items():
        record = read_json(study.encoder_folder(*key).parent / "run.json")
        seconds += (count - 1) * record.get("wall_seconds", 0.0)
    return seconds / 3600


def missing_runs(study: Study) -> pd.DataFrame:
    """Planned runs that are not finished under the present parameters, by the names in `RUN`."""
    missing = [run for run in study.runs() if not _finished_folders(study, run)]
    return pd.DataFrame(missing, columns=RUN)


def _finished_folders(study: Study, run: Run) -> list[Path]:
    """The folder of a run if it is finished, and then that of its repetition if there is one."""
    settings = study.settings(*run[:3])

    def finished(folder: Path) -> bool:
        complete = (folder / "scores.json").exists() and (folder / "predictions.parquet").exists()
        return complete and read_json(folder / "run.json").get("parameters") == settings

    folder = study.run_folder(run)
    return list(takewhile(finished, (folder, folder / REPETITION)))


def _intermediate_record(study: Study, run: Run) -> tuple[dict, bool]:
    """`run.json` of the intermediate training that a run builds on, and whether it collapsed."""
    if run.intermediate == NONE:
        return {}, False
    folder = study.encoder_folder(run.size, run.intermediate, run.seed).parent
    selection = read_json(folder / "scores.json").get("selection", {})
    return read_json(folder / "run.json"), bool(selection.get("collapsed"))


def parameters(study: Study) -> dict[str, int]:
    """Parameters of each size without embeddings, as phase 1 counted them, where it has run."""
    records = {size: read_json(study.encoder_folder(size) / "run.json") for size in study.sizes}
    key = "parameters_without_embeddings"
    return {size: record[key] for size, record in records.items() if key in record}
