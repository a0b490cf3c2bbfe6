"""What a study has made so far: `study.json` and the results of its finished runs, as tables."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile
from pydantic import TypeAdapter

from comparison.plan import NONE, RUN, ComparisonError, Plan

LAYOUT = "0.3"
COSTS = ["wall_seconds", "cpu_seconds"]
MADE_ON = ["precision", "processor", "gpu", "torch", "transformers"]
"""What a run was computed with."""
RUNS = ["metric", "collapsed", "collapsed_in", "validation_score", *COSTS, "repeats", *MADE_ON]
PREDICTIONS = ["language", "id", "credit", "out_of", "group"]
CURVES = ["phase", "step", "loss", "validation_score"]
LAYERS = ["language", "layer", "centred", "accuracy"]
SELECTIONS = {"best": [""], "last": ["-last"], "average": ["-average"]}
SELECTIONS["oracle"] = ["", "-last", "-average"]
"""Of which weights predictions are, and how the names of their files end."""
CROSSED = ["intermediate_seed", "target_seed", "draw"]


class Results(NamedTuple):
    """A study's plan and the tables of its finished runs."""

    plan: Plan
    runs: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    layers: pd.DataFrame


def read_study(folder: str | Path, selection: str = "best") -> Results:
    """The plan of a study and its finished runs.

    A result counts only if its `run.json` has the settings that `study.json` has. Each table begins
    with size, intermediate, target, seed; `runs` has RUNS, `predictions` PREDICTIONS (group may be
    missing), `curves` CURVES, `layers` LAYERS (retrieval: accuracy in percent; centred: each
    language's mean vector was removed). A run has collapsed if its own training has or the
    intermediate one that it builds on; collapsed_in says which ("target", "intermediate", or "").
    Costs include the intermediate training. repeats is the seed of the collapsed run that this one
    repeats, if any. Predictions are those of the weights that are "best" on English validation
    data, of the "last", or of the "average" of all evaluated; runs without them are left out.
    "oracle" takes the ones of highest zero-shot score, which looks at target-language labels.
    Raises ComparisonError without study.json of this layout, or if there is no such selection.
    """
    if selection not in SELECTIONS:
        expected = ", ".join(SELECTIONS)
        raise ComparisonError(f"selection: found {selection}; expected one of {expected}")
    folder = Path(folder)
    record = _json(folder / "study.json")
    if record.get("layout") != LAYOUT:
        seen = f"layout {record['layout']}" if "layout" in record else "no study.json with a layout"
        raise ComparisonError(f"{folder}: found {seen}; expected study.json with layout {LAYOUT}")

    @cache  # an intermediate training serves several runs
    def finished(condition: str, place: str) -> dict:
        return _finished(folder / condition / place, record["settings"].get(condition))

    plan, rows, curves, layers = _plan(folder, record), [], [], []
    tables = [pd.DataFrame(columns=[*RUN, *PREDICTIONS])]
    planned = plan.runs if selection == "best" or record.get("compare_selections") else []
    for size, task, target, seed in planned:
        is_taught = plan.controls.get(task, task) not in (NONE, None)
        before = finished(f"{size}/{task}", f"seed-{seed}") if is_taught else {}
        if is_taught and not before:
            continue
        condition, trained_in = f"{size}/{task}/{target}", plan.targets[target].trained_in
        for place, repeats in ((f"seed-{seed}", None), (f"seed-{seed}/retry", seed)):
            made = finished(condition, place)
            predictions = _predictions(folder / condition / place, made, selection, trained_in)
            if predictions is None:
                break
            names = dict(zip(RUN, (size, task, target, made["seed"]), strict=True))
            rows.append(_facts(made, before) | names | {"repeats": repeats})
            tables.append(predictions.assign(**names))
            layers += [names | line for line in made.get("layers", [])]
            for phase, training in (("intermediate", before), ("target", made)):
                curves += [names | {"phase": phase} | line for line in training.get("log", [])]
    predictions = pd.concat(tables[1:] or tables, ignore_index=True)
    predictions = predictions.reindex(columns=[*RUN, *PREDICTIONS])
    lists = ((rows, RUNS), (curves, CURVES), (layers, LAYERS))
    runs, *more = (pd.DataFrame(lines, columns=[*RUN, *names]) for lines, names in lists)
    return Results(plan, runs, predictions, *more)


def read_crossed(folder: str | Path) -> pd.DataFrame:
    """Predictions of finished runs whose seeds and draws of training data are crossed.

    Columns: size, intermediate, target, intermediate_seed, target_seed, draw, PREDICTIONS.
    """
    names, record = [*RUN[:3], *CROSSED], _json(Path(folder) / "study.json")
    tables = [pd.DataFrame(columns=[*names, *PREDICTIONS])]
    for run in record.get("crossed", []):
        home, condition = Path(folder) / run["folder"], "/".join(run[name] for name in RUN[:3])
        made = _finished(home, record["settings"].get(condition))
        predictions = _predictions(home, made, "best")
        if predictions is not None:
            tables.append(predictions.assign(**{name: run[name] for name in names}))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def missing_runs(plan: Plan, runs: pd.DataFrame) -> pd.DataFrame:
    """Planned runs that are not finished under the present settings, by the names in `RUN`."""
    finished = set(runs[RUN].itertuples(index=False, name=None))
    return pd.DataFrame([run for run in plan.runs if run not in finished], columns=RUN)


def _plan(folder: Path, record: dict) -> Plan:
    """The plan that a study recorded, with what phase 1 found out about its encoders."""
    sizes = {}
    for name, size in record["sizes"].items():
        made = _json(folder / name / "encoder/run.json")
        parameters, fertility = made.get("parameters_without_embeddings"), made.get("fertility", {})
        sizes[name] = size | {"parameters": parameters, "fertility": fertility}
    if all(size["parameters"] for size in sizes.values()):
        sizes = dict(sorted(sizes.items(), key=lambda item: item[1]["parameters"]))
    runs = [tuple(run[name] for name in RUN) for run in record["runs"]]
    return TypeAdapter(Plan).validate_python(record | {"sizes": sizes, "runs": runs})


def _finished(home: Path, settings: dict | None) -> dict:
    """run.json and scores.json of one training; empty if one is missing or has other settings."""
    made, scores = (_json(home / name) for name in ("run.json", "scores.json"))
    return made | scores if scores and made.get("settings") == settings else {}


def _predictions(
    home: Path, made: dict, selection: str, trained_in: tuple[str, ...] = ()
) -> pd.DataFrame | None:
    """A run's predictions, if they are there; where nothing was trained no weights are chosen."""
    endings = SELECTIONS[selection] if made.get("log") else [""]
    files = [home / f"predictions{ending}.parquet" for ending in endings]
    if not made or not all(file.exists() for file in files):
        return None
    tables = []
    for file in files:
        try:
            with ParquetFile(file) as opened:
                tables.append(opened.read(columns=PREDICTIONS).to_pandas(ignore_metadata=True))
        except (ArrowException, OSError) as error:
            raise ComparisonError(f"{file}: cannot be read ({error}); delete it") from None

    def zero_shot(table: pd.DataFrame) -> float:
        others = table[~table["language"].isin(trained_in)]
        sums = others.groupby("language")[["credit", "out_of"]].sum()
        return (sums["credit"] / sums["out_of"]).mean()

    return max(tables, key=zero_shot) if len(tables) > 1 else tables[0]


def _facts(made: dict, before: dict) -> dict:
    """What a run's files say of it and of the intermediate training `before`, if there was one."""
    collapsed_in = "target" if made["selection"]["collapsed"] else ""
    if before and before["selection"].get("collapsed"):
        collapsed_in = "intermediate"
    costs = {cost: (made.get(cost) or 0) + (before.get(cost) or 0) for cost in COSTS}
    own = {"collapsed": collapsed_in != "", "collapsed_in": collapsed_in}
    own |= {"validation_score": made["selection"]["score"]}
    return made | made.get("hardware", {}) | made.get("versions", {}) | costs | own


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise ComparisonError(f"{path}: found text that is no JSON ({error}); delete it") from None
