"""Write the results of a training: run.json, scores.json, and predictions or an encoder."""

import importlib.metadata
import math
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_file

from helpers import encoders, formats
from helpers.encoders import hardware
from helpers.evaluation.probe import by_layer
from helpers.study import Attempt, Condition
from helpers.study.condition import MODEL, REPETITION
from helpers.study.files import read_json, write_json, write_whole
from helpers.training import Training, trained_weights
from helpers.training.checkpoints import Checkpoints

_PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "papermill")


def write(
    condition: Condition,
    attempt: Attempt,
    trained: Training,
    predictions: pd.DataFrame | None = None,
    others: dict[str, pd.DataFrame] | None = None,
) -> dict:
    """Write the results of a training, scores.json last; returns the scores, in points.

    For a target these are its ``predictions``, those of its ``others`` weights, and the model if it
    is kept; for an intermediate task, the encoder; for the sweep, only the selection scores.
    """
    folder, checkpoints = attempt.folder, trained.checkpoints
    scores: dict[str, Any] = {"selection": trained.selection}
    assert checkpoints is not None
    if condition.target is None and attempt.repeats is not None:
        scores["repeats"] = read_json(folder / "scores.json")["selection"]
        crossed = f"crossed/intermediate-{attempt.repeats}-*"
        for built_on in (f"{folder.name}/**", crossed):  # they start from the encoder that goes
            for other in condition.folder.glob(f"*/{built_on}/scores.json"):
                other.unlink()
    (folder / "scores.json").unlink(missing_ok=True)  # it does not describe what is written now
    if predictions is not None and condition.evaluated:
        languages: dict[str, dict] = {}
        for language, rows in predictions.groupby("language", sort=False):
            points = formats.score([rows["credit"].sum()], [rows["out_of"].sum()])
            languages[language] = {"score": points, "n": len(rows)}
            if "exact_match" in rows:
                languages[language]["exact_match"] = 100 * rows["exact_match"].mean()
        abroad = [
            row["score"] for code, row in languages.items() if code not in condition.trained_in
        ]
        scores |= {"metric": condition.evaluated.metric, "languages": languages}
        scores["zero_shot"] = sum(abroad) / len(abroad) if abroad else math.nan
        if condition.evaluated.format == "retrieval" and condition.evaluated.metric != "map_20":
            scores["layers"] = by_layer(condition, trained).to_dict("records")
        tables = {f"predictions-{name}": table for name, table in (others or {}).items()}
        _write_predictions(condition, folder, trained, {"predictions": predictions, **tables})
    elif condition.target is None:
        parts, kept = (trained.model.encoder, trained.tokenizer), encoders.kept_ids(condition.home)
        write_whole(folder / "encoder", lambda beside: encoders.save(*parts, beside, kept))
    write_json(folder / "run.json", _record(condition, attempt, trained, checkpoints))
    write_json(folder / "scores.json", scores)
    checkpoints.remove()
    return scores


def _write_predictions(
    condition: Condition, folder: Path, trained: Training, tables: dict[str, pd.DataFrame]
) -> None:
    shutil.rmtree(folder / REPETITION, ignore_errors=True)  # of an earlier training that collapsed
    for name, table in tables.items():
        write_whole(folder / f"{name}.parquet", partial(table.to_parquet, index=False))
    (folder / MODEL).unlink(missing_ok=True)
    if condition.keeps_model:
        write_whole(folder / MODEL, partial(save_file, trained_weights(trained.model)))


def _record(
    condition: Condition, attempt: Attempt, trained: Training, checkpoints: Checkpoints
) -> dict:
    """What is needed to trust and repeat a training."""
    wall, cpu = checkpoints.seconds()
    return {
        "settings": condition.settings,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
        "hardware": hardware.describe(),
        "peak_memory_bytes": hardware.peak_memory(),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        **trained.record,
        "log": trained.log,
        "repeats": attempt.repeats,
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def finished(condition: Condition, seeds: list[int] | None = None) -> dict[int, dict]:
    """run.json and scores.json, merged, of a condition's finished trainings, by seed."""
    results = {}
    for seed in condition.chosen(seeds):
        folder = condition.seed_folder(seed)
        for place in (folder, folder / REPETITION):
            if condition.is_finished(place):
                record = read_json(place / "run.json")
                results[record["seed"]] = record | read_json(place / "scores.json")
    return results
