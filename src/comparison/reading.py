"""What a study has made so far: `study.json` and the results of its finished runs, as tables."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from comparison.plan import NONE, RUN, ComparisonError, Plan, Size, Target

LAYOUT = "0.3"
COSTS = ["wall_seconds", "cpu_seconds", "train_flops"]
MADE_ON = ["precision", "processor", "gpu", "torch", "transformers"]
"""What a run was computed with."""
RUNS = ["metric", "collapsed", "collapsed_in", "validation_score", *COSTS, "repeats", *MADE_ON]
PREDICTIONS = ["language", "id", "credit", "out_of", "group"]
CURVES = ["phase", "step", "loss", "validation_score"]


class Results(NamedTuple):
    """A study's plan and the tables of its finished runs."""

    plan: Plan
    runs: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame


def read_study(folder: str | Path) -> Results:
    """The plan of a study and its finished runs.

    A result counts only if its `run.json` has the settings that `study.json` has.

    Returns
    -------
    plan
        What the study planned.
    runs
        One row a run: size, intermediate, target, seed, metric, collapsed, collapsed_in,
        validation_score, wall_seconds, cpu_seconds, train_flops, repeats, and what it was made on.
        A run has collapsed if its own training has or the intermediate one that it builds on;
        collapsed_in says which ("target", "intermediate", or ""). Costs include the intermediate
        training. repeats is the seed of the collapsed run that this one repeats, if any.
    predictions
        size, intermediate, target, seed, language, id, credit, out_of, group (may be missing).
    curves
        size, intermediate, target, seed, phase, step, loss, validation_score.

    Raises
    ------
    ComparisonError
        There is no study.json, or it has another layout.
    """
    folder = Path(folder)
    record = _json(folder / "study.json")
    if record.get("layout") != LAYOUT:
        seen = f"layout {record['layout']}" if "layout" in record else "no study.json with a layout"
        raise ComparisonError(f"{folder}: found {seen}; expected study.json with layout {LAYOUT}")
    settings = record["settings"]
    plan = _plan(folder, record)
    rows, tables, curves = [], [], []
    trained = _Trainings(folder, settings)
    for run in plan.runs:
        size, intermediate, target, seed = run
        home = folder / size / intermediate / target / f"seed-{seed}"
        before = trained.intermediate(size, intermediate, seed)
        if before is None:
            continue
        for place in (home, home / "retry"):
            made = _json(place / "run.json")
            if made.get("settings") != settings.get(f"{size}/{intermediate}/{target}"):
                break
            scores, table = _json(place / "scores.json"), place / "predictions.parquet"
            if not scores or not table.exists():
                break
            names = dict(zip(RUN, (size, intermediate, target, made["seed"]), strict=True))
            repeats = None if place == home else seed
            rows.append(names | _row(scores, made, before) | {"repeats": repeats})
            with parquet.ParquetFile(table) as file:
                tables.append(file.read(columns=PREDICTIONS))
            for phase, log in (("intermediate", before.get("log", [])), ("target", made["log"])):
                curves += [names | {"phase": phase} | line for line in log]
    runs = pd.DataFrame(rows, columns=[*RUN, *RUNS])
    curves = pd.DataFrame(curves, columns=[*RUN, *CURVES])
    return Results(plan, runs, _together(runs[RUN], tables), curves)


def _plan(folder: Path, record: dict) -> Plan:
    sizes = {}
    for name, entry in record["sizes"].items():
        made = _json(folder / name / "encoder" / "run.json")
        count = made.get("parameters_without_embeddings")
        sizes[name] = Size(entry["title"], entry["encoder"], count, entry.get("layers"))
    targets = {
        name: Target(
            metric=entry["metric"],
            languages=tuple(entry["languages"]),
            trained_in=tuple(entry["trained_in"]),
            variant_of=entry.get("variant_of"),
            train_examples=entry.get("train_examples"),
            labels=tuple(entry.get("labels") or ()),
        )
        for name, entry in record["targets"].items()
    }
    return Plan(
        sizes=sizes,
        intermediate=record["intermediate"],
        targets=targets,
        runs=[tuple(run[key] for key in RUN) for run in record["runs"]],
        name=record["name"],
        description=record.get("description", ""),
        margin=record.get("margin", 1.0),
        recipes=record.get("recipes", []),
        sweep=record.get("sweep", []),
    )


class _Trainings:
    """Records of intermediate trainings, each read once."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.records: dict[tuple, dict | None] = {}

    def intermediate(self, size: str, task: str, seed: int) -> dict | None:
        """`run.json` with "collapsed"; empty for `none`; None where it has other settings."""
        if task == NONE:
            return {}
        key = (size, task, seed)
        if key not in self.records:
            home = self.folder / size / task / f"seed-{seed}"
            made = _json(home / "run.json")
            selection = _json(home / "scores.json").get("selection", {})
            same = made.get("settings") == self.settings.get(f"{size}/{task}")
            made["collapsed"] = bool(selection.get("collapsed"))
            self.records[key] = made if same and selection else None
        return self.records[key]


def _row(scores: dict, made: dict, before: dict) -> dict:
    """What the table of runs says of one, apart from its names."""
    selection = scores["selection"]
    collapsed_in = "target" if selection["collapsed"] else ""
    if before.get("collapsed"):
        collapsed_in = "intermediate"
    facts = made | made.get("hardware", {}) | made.get("versions", {})
    return {
        "metric": scores["metric"],
        "collapsed": collapsed_in != "",
        "collapsed_in": collapsed_in,
        "validation_score": selection["score"],
        **{cost: (made.get(cost) or 0) + (before.get(cost) or 0) for cost in COSTS},
        **{name: facts.get(name) for name in MADE_ON},
    }


def _together(names: pd.DataFrame, tables: list[pyarrow.Table]) -> pd.DataFrame:
    """One table of all runs' predictions, in which every row says the name of its run."""
    if not tables:
        return pd.DataFrame(columns=[*RUN, *PREDICTIONS])
    whole = pyarrow.concat_tables(tables, promote_options="permissive")
    run = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    predictions = whole.to_pandas(ignore_metadata=True).reindex(columns=PREDICTIONS)
    return names.take(run).reset_index(drop=True).join(predictions)


def missing_runs(plan: Plan, runs: pd.DataFrame) -> pd.DataFrame:
    """Planned runs that are not finished under the present settings, by the names in `RUN`."""
    finished = set(runs[RUN].itertuples(index=False, name=None))
    return pd.DataFrame([run for run in plan.runs if run not in finished], columns=RUN)


def _json(path: Path) -> dict:
    """What a file holds; nothing if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ComparisonError(f"{path}: found text that is no JSON ({error}); delete it") from None
