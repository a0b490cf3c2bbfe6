"""Write what a training leaves: predictions.parquet, scores.json, run.json, an encoder to go on
from.
"""

import importlib.metadata
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

from helpers import encoders
from helpers.encoders import hardware
from helpers.evaluation.zero_shot import scores
from helpers.study import Attempt, Condition
from helpers.study.condition import MODEL, REPETITION
from helpers.study.files import read_json, write_json, write_whole
from helpers.training import Training, trained_weights

_PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "papermill")


def write_intermediate(condition: Condition, attempt: Attempt, trained: Training) -> dict:
    """Write the encoder for later trainings, run.json and scores.json; returns the scores."""
    kept = encoders.kept_ids(condition.home)
    encoder, tokenizer = trained.model.encoder, trained.tokenizer
    folder = attempt.folder / "encoder"
    result = {"selection": trained.selection}
    if attempt.repeats is not None:
        result["repeats"] = read_json(attempt.folder / "scores.json")["selection"]
    write_whole(folder, lambda path: encoders.save(encoder, tokenizer, path, kept))
    _write_records(condition, attempt, trained, result)
    return result


def write_trial(condition: Condition, attempt: Attempt, trained: Training) -> dict:
    """Write run.json and scores.json of a training of the sweep; returns the scores."""
    result = {"selection": trained.selection}
    _write_records(condition, attempt, trained, result)
    return result


def write_run(
    condition: Condition, attempt: Attempt, trained: Training, predictions: pd.DataFrame
) -> dict:
    """Write a run's three files, scores.json last, and its model if kept; returns the scores."""
    folder, result = attempt.folder, scores(condition, predictions, trained.selection)
    shutil.rmtree(folder / REPETITION, ignore_errors=True)  # of an earlier training that collapsed
    write_whole(folder / "predictions.parquet", partial(predictions.to_parquet, index=False))
    (folder / MODEL).unlink(missing_ok=True)
    if condition.keeps_model:
        write_whole(folder / MODEL, partial(save_file, trained_weights(trained.model)))
    _write_records(condition, attempt, trained, result)
    return result


def _write_records(condition: Condition, attempt: Attempt, trained: Training, result: dict) -> None:
    """Write run.json, which is needed to trust and repeat a training, and then scores.json."""
    folder = attempt.folder
    (folder / "scores.json").unlink(missing_ok=True)  # of other settings than the new run.json
    wall, cpu = trained.clock.seconds()
    repeats = {} if attempt.repeats is None else {"repeats": attempt.repeats}
    record = {
        "settings": condition.settings,
        **repeats,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
        "hardware": hardware.describe(),
        "peak_memory_bytes": hardware.peak_memory(),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        **trained.record,
        "log": trained.log,
    }
    write_json(folder / "run.json", record)
    write_json(folder / "scores.json", result)
    if trained.checkpoints:
        trained.checkpoints.remove()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def finished(condition: Condition, seeds: list[int] | None = None) -> dict[int, dict]:
    """What the finished trainings of a condition left: by seed, run.json and scores.json together.

    A repetition has the seed that it was trained with.
    """
    results = {}
    for seed in condition.chosen(seeds):
        folder = condition.seed_folder(seed)
        for place in (folder, folder / REPETITION):
            if condition.is_finished(place):
                record = read_json(place / "run.json")
                results[record["seed"]] = record | read_json(place / "scores.json")
    return results
