"""What may be wrong with tables that somebody brings, found before anything is computed."""

import numpy as np
import pandas as pd

from comparison.plan import ALL, RUN, ZERO_SHOT, ComparisonError, Plan, Target

MEANS = {"intermediate": ALL, "target": ALL, "language": ZERO_SHOT}
"""Names that stand for a mean."""
NO_NUMBERS = ("string", "mixed", "mixed-integer", "decimal", "complex")
_ROUNDING = 1e-6


def checked(
    predictions: pd.DataFrame, runs: pd.DataFrame, plan: Plan | None
) -> tuple[pd.DataFrame, Plan]:
    """Runs that were asked for, with every column that the comparison needs, and the plan.

    Raises ComparisonError if a table lacks a column or a value, or has one that cannot be, if a run
    is there twice or in one table alone, or if languages are not those of the plan.
    """
    _check_columns("predictions", predictions, [*RUN, "language", "id", "credit", "out_of"])
    _check_columns("runs", runs, RUN)
    _check_credit(predictions)
    for run in runs.loc[runs.duplicated(RUN), RUN].itertuples(index=False, name=None):
        raise ComparisonError(f"runs: {run_name(*run)} is there twice; expected once")
    listed, answered = (
        set(table[RUN].drop_duplicates().itertuples(index=False, name=None))
        for table in (runs, predictions)
    )
    for run in sorted(listed ^ answered, key=str):
        lacking = "predictions" if run in listed else "runs"
        raise ComparisonError(f"{lacking}: found no row of run {run}; expected one in both tables")
    runs = completed(runs)
    plan = plan or Plan.of(runs[runs["repeats"].isna()])
    if not plan.targets:
        raise ComparisonError("runs: found none; expected one or more")
    same_data = [name for target in plan.targets.values() for name in target.same_data]
    for name in {*plan.controls, *same_data} - {*plan.intermediate}:
        expected = ", ".join(plan.intermediate)
        raise ComparisonError(f"plan: found '{name}' in controls or same_data; expected {expected}")
    asked = {run[:3] for run in plan.runs}
    runs = runs[pd.MultiIndex.from_frame(runs[RUN[:3]]).isin(asked)]
    for target, seen in predictions.groupby("target")["language"].unique().items():
        if target in plan.targets:
            _check_languages(str(target), seen, plan.targets[target])
    return runs, plan


def completed(runs: pd.DataFrame) -> pd.DataFrame:
    """A table of runs with the optional columns that it lacks."""
    optional = {"metric": "score", "collapsed": False, "collapsed_in": "", "repeats": np.nan}
    runs = pd.DataFrame(optional, runs.index).assign(**runs)
    collapsed = runs["collapsed"].astype(object).where(runs["collapsed"].notna(), False)
    for value in collapsed[~collapsed.isin([True, False])]:
        raise ComparisonError(f"runs: collapsed: found {value!r}; expected true or false")
    return runs.assign(collapsed=collapsed.astype(bool))


def run_name(size: str, intermediate: str, target: str, seed: int) -> str:
    """A run as messages name it."""
    return f"{size}/{intermediate}/{target}/seed-{seed}"


def _check_columns(name: str, table: pd.DataFrame, columns: list[str]) -> None:
    lacking = ", ".join(column for column in columns if column not in table)
    if lacking:
        raise ComparisonError(f"{name}: found no column {lacking}; expected {', '.join(columns)}")
    for column in table.columns[table.columns.duplicated()]:
        raise ComparisonError(f"{name}: found column {column} twice; expected each once")
    for column in columns:
        if lost := table[column].isna().sum():
            wrong = f"found {lost} of {len(table)} rows without a value; expected one in each"
            raise ComparisonError(f"{name}: {column}: {wrong}")
        if column in ("size", *MEANS) and pd.api.types.is_numeric_dtype(table[column]):
            raise ComparisonError(f"{name}: {column}: found {table[column].iat[0]}; expected texts")
        if column in MEANS and (table[column] == MEANS[column]).any():
            wrong = f"found '{MEANS[column]}', which stands for a mean; expected another name"
            raise ComparisonError(f"{name}: {column}: {wrong}")


def _check_credit(predictions: pd.DataFrame) -> None:
    for name in ("credit", "out_of"):
        if pd.api.types.infer_dtype(predictions[name]) in NO_NUMBERS:
            raise ComparisonError(f"predictions: {name}: found texts or decimals; expected numbers")
    credit, out_of = predictions["credit"], predictions["out_of"]
    is_right = (credit >= -_ROUNDING) & (credit <= out_of + _ROUNDING) & (out_of < np.inf)
    for row in predictions[~is_right].head(1).to_dict("records"):
        place = f"{run_name(*(row[key] for key in RUN))}, language {row['language']}"
        wrong = f"id {row['id']}: found credit {row['credit']:g} out of {row['out_of']:g}"
        raise ComparisonError(f"predictions of {place}, {wrong}; expected it from 0 to out_of")


def _check_languages(name: str, seen: list[str], target: Target) -> None:
    if target.languages and {*seen} != {*target.languages}:
        wrong = f"found {', '.join(sorted(seen))}; expected {', '.join(sorted(target.languages))}"
        raise ComparisonError(f"predictions of {name}: languages: {wrong}, as planned")
    trained_in = {code.lower(): code for code in target.trained_in}
    for code in seen:
        is_english = code.lower().startswith(("en-", "en_", "en ", "eng"))
        known = "en" if is_english and "en" not in seen else code.lower()
        if trained_in.get(known, code) != code:
            wrong = f"found {code}; expected {trained_in[known]}, as in trained_in"
            raise ComparisonError(f"predictions of {name}: language: {wrong}")
