"""What a study has made so far: `study.json` and the results of its finished runs, as tables."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pyarrow import parquet

from comparison.plan import NONE, RUN, ComparisonError, Plan, Size, Target

LAYOUT = "0.3"
COSTS = ["wall_seconds", "cpu_seconds"]
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

    A result counts only if its `run.json` has the settings that `study.json` has. Each table begins
    with size, intermediate, target, seed; `runs` has RUNS, `predictions` PREDICTIONS (group may be
    missing), `curves` CURVES. A run has collapsed if its own training has or the intermediate one
    that it builds on; collapsed_in says which ("target", "intermediate", or ""). Costs include the
    intermediate training. repeats is the seed of the collapsed run that this one repeats, if any.

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
    plan, rows, curves = _plan(folder, record), [], []
    tables = [pd.DataFrame(columns=[*RUN, *PREDICTIONS])]

    @cache
    def result(condition: str, place: str) -> dict:
        """What one training left, if it is whole and has the settings of its condition."""
        made, scores = (_json(folder / condition / place / f) for f in ("run.json", "scores.json"))
        same = made.get("settings") == record["settings"].get(condition)
        return made | {"scores": scores} if same and scores else {}

    for size, task, target, seed in plan.runs:
        before = {} if task == NONE else result(f"{size}/{task}", f"seed-{seed}")
        if task != NONE and not before:
            continue
        condition = f"{size}/{task}/{target}"
        for place, repeats in ((f"seed-{seed}", None), (f"seed-{seed}/retry", seed)):
            made = result(condition, place)
            table = folder / condition / place / "predictions.parquet"
            if not made or not table.exists():
                break
            names = dict(zip(RUN, (size, task, target, made["seed"]), strict=True))
            rows.append(names | _row(made, before) | {"repeats": repeats})
            with parquet.ParquetFile(table) as file:
                predictions = file.read(columns=PREDICTIONS).to_pandas(ignore_metadata=True)
            tables.append(predictions.assign(**names))
            for phase, training in (("intermediate", before), ("target", made)):
                curves += [names | {"phase": phase} | line for line in training.get("log", [])]
    runs = pd.DataFrame(rows, columns=[*RUN, *RUNS])
    predictions = pd.concat(tables[1:] or tables, ignore_index=True)
    predictions = predictions.reindex(columns=[*RUN, *PREDICTIONS])
    return Results(plan, runs, predictions, pd.DataFrame(curves, columns=[*RUN, *CURVES]))


def _plan(folder: Path, record: dict) -> Plan:
    sizes, targets = {}, {}
    for name, entry in record["sizes"].items():
        count = _json(folder / name / "encoder/run.json").get("parameters_without_embeddings")
        sizes[name] = Size(entry["title"], entry["encoder"], entry.get("layers"), count)
    for name, entry in record["targets"].items():
        languages, trained = tuple(entry["languages"]), tuple(entry["trained_in"])
        variant, amounts = entry.get("variant_of"), entry.get("train_examples")
        targets[name] = Target(entry["metric"], languages, trained, variant, amounts)
    runs = [tuple(run[key] for key in RUN) for run in record["runs"]]
    fields = ("name", "description", "margin", "recipes", "sweep")
    more = {key: record[key] for key in fields if key in record}
    return Plan(sizes, record["intermediate"], targets, runs, **more)


def _row(made: dict, before: dict) -> dict:
    """What the table of runs says of one, apart from its names."""
    selection = made["scores"]["selection"]
    collapsed_in = "target" if selection["collapsed"] else ""
    if before and before["scores"]["selection"].get("collapsed"):
        collapsed_in = "intermediate"
    facts = made | made.get("hardware", {}) | made.get("versions", {})
    return {
        "metric": made["scores"]["metric"],
        "collapsed": collapsed_in != "",
        "collapsed_in": collapsed_in,
        "validation_score": selection["score"],
        **{cost: (made.get(cost) or 0) + (before.get(cost) or 0) for cost in COSTS},
        **{name: facts.get(name) for name in MADE_ON},
    }


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
