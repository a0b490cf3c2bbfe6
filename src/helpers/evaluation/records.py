"""Write what a training leaves: predictions.parquet, scores.json, run.json, an encoder to go on
from.
"""

import importlib.metadata
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

from helpers import encoders
from helpers.encoders import hardware
from helpers.evaluation.zero_shot import scores, with_collapse
from helpers.study import Run, Study
from helpers.study.files import write_json, write_whole
from helpers.study.study import MODEL, REPETITION
from helpers.training import Training, checkpoints

_PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "papermill")


def write_intermediate(
    study: Study, size: str, task: str, seed: int, trained: Training, collapsed: dict | None = None
) -> dict:
    """Write the encoder for later trainings, run.json and scores.json; returns the scores.

    ``collapsed`` is the selection of the training that this one repeats, if it does.
    """
    folder, encoder = study.encoder_folder(size, task, seed, new=True), trained.model.encoder
    kept = encoders.kept_ids(study.encoder_folder(size))
    write_whole(folder, lambda path: encoders.save(encoder, trained.tokenizer, path, kept))
    return _write_selection(folder.parent, study.settings(size, task), trained, collapsed)


def write_trial(study: Study, run: Run, trained: Training) -> dict:
    """Write run.json and scores.json of a training of the sweep; returns the scores."""
    return _write_selection(study.run_folder(run), study.settings(*run[:3]), trained)


def _write_selection(
    folder: Path, settings: dict, trained: Training, collapsed: dict | None = None
) -> dict:
    result = {"selection": with_collapse(trained.selection)}
    result |= {"repeats": collapsed} if collapsed else {}
    _write_records(folder, settings, trained, result)
    shutil.rmtree(folder / REPETITION, ignore_errors=True)
    checkpoints.remove(folder)
    return result


def write_run(study: Study, run: Run, trained: Training, predictions: pd.DataFrame) -> dict:
    """Write a run's three files, scores.json last, and its model if kept; returns the scores.

    A training under another seed than the run's is the repetition of a collapsed run. It is written
    before the run itself, into the folder ``retry`` beside the run's own results: both are shown.
    """
    own, repeated = study.run_folder(run), study.run_folder(run) / REPETITION
    folder = own if trained.seed == run.seed else repeated
    result = scores(study, run.target, predictions, trained.selection)
    if folder == own and not (study.retry_collapsed and result["selection"]["collapsed"]):
        shutil.rmtree(repeated, ignore_errors=True)  # of a run that had collapsed, made again
    write_whole(folder / "predictions.parquet", partial(predictions.to_parquet, index=False))
    (folder / MODEL).unlink(missing_ok=True)  # of an earlier training
    if study.keeps_model(run.target):
        weights = checkpoints.trained(trained.model)
        write_whole(folder / MODEL, partial(save_file, weights))
    _write_records(folder, study.settings(*run[:3]), trained, result)
    if folder == own:
        checkpoints.remove(repeated)
        checkpoints.remove(own)
    return result


def _write_records(folder: Path, settings: dict, trained: Training, result: dict) -> None:
    """Write run.json, which is needed to trust and repeat a training, and then scores.json."""
    record = {
        "parameters": settings,
        "seed": trained.seed,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": _commit(),
        "hardware": hardware.describe(),
        "wall_seconds": time.time() - trained.started,
        "train_seconds": trained.seconds,
        "train_flops": trained.flops,
        "examples_per_second": trained.examples / trained.seconds,
        "tokens_per_second": trained.tokens / trained.seconds,
        "peak_memory_bytes": hardware.peak_memory(),
        **trained.notes,
        "log": trained.log,
    }
    write_json(folder / "run.json", record)
    write_json(folder / "scores.json", result)


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
