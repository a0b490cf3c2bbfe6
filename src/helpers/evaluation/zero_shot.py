"""Predict every language of a target in one pass; write predictions.parquet, scores.json and run.json."""

import importlib.metadata
import math
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from helpers import data, encoders, tasks, training
from helpers.encoders import hardware
from helpers.encoders.model import TOKEN_BUDGET, batches, collate, pool, predict
from helpers.evaluation.collapse import is_collapsed
from helpers.study import ENGLISH, Run, Study
from helpers.study.files import write_json, write_whole
from helpers.study.study import REPETITION
from helpers.training import checkpoints
from helpers.training.fine_tuning import Training

_PACKAGES = ("torch", "transformers", "datasets", "evaluate", "numpy", "papermill")


def zero_shot(study: Study, target: str, trained: Training, max_length: int) -> pd.DataFrame:
    """Predictions for every evaluated item of every language: one row each, columns as predictions.parquet has them."""
    task, shape = study.tasks[target], tasks.of(study.tasks[target])
    splits = [task.threshold, task.evaluate] if task.threshold else [task.evaluate]
    examples = [
        {**row, "language": language, "split": split, "prefix": trained.prefix}
        for language in study.languages(target)
        for split in splits
        for row in data.examples(study, target, split, language)
    ]
    features = data.tokenise(task, examples, trained.tokenizer, max_length, data.token_cache(study))
    with tqdm(total=len(features), desc=f"predicting {target}", leave=False, mininterval=1) as bar:
        logits = predict(trained.model, features, trained.tokenizer.pad_token_id, bar.update)
    table = pd.DataFrame(shape.decode(task, examples, features, logits))
    table.insert(0, "language", [row["language"] for row in examples])
    table.insert(
        1,
        "id",
        [row["id"] if task.parallel else f"{row['language']}/{row['id']}" for row in examples],
    )
    return table[[row["split"] == task.evaluate for row in examples]].reset_index(drop=True)


def scores(study: Study, target: str, predictions: pd.DataFrame, selection: dict) -> dict:
    """What scores.json says: English validation, every language, and the zero-shot score (English left out)."""
    by_language = {}
    for language, rows in predictions.groupby("language", sort=False):
        by_language[language] = {
            "score": 100 * rows["credit"].sum() / (rows["out_of"].sum() or 1),
            "n": len(rows),
        }
        if "exact_match" in rows:
            by_language[language]["exact_match"] = 100 * rows["exact_match"].mean()
    others = [cell["score"] for language, cell in by_language.items() if language != ENGLISH]
    return {
        "metric": study.tasks[target].metric,
        "selection": with_collapse(selection),
        "languages": by_language,
        "zero_shot": sum(others) / len(others) if others else math.nan,
    }


def with_collapse(selection: dict) -> dict:
    """A selection with whether the run collapsed: not better than the majority class on English validation data."""
    trained = selection["n"] > 0  # retrieval is scored without training
    collapsed = trained and is_collapsed(selection["score"], selection["n"], selection["majority"])
    return {**selection, "collapsed": bool(collapsed)}


def write_intermediate(study: Study, size: str, task: str, seed: int, trained: Training) -> None:
    """Hand the encoder on: its folder, scores.json and run.json, each whole or not at all."""
    folder = study.encoder_folder(size, task, seed)
    kept = encoders.kept_ids(study.encoder_folder(size))
    write_whole(
        folder, lambda path: encoders.save(trained.model.encoder, trained.tokenizer, path, kept)
    )
    write_json(folder.parent / "run.json", provenance(study.settings(size, task), seed, trained))
    write_json(folder.parent / "scores.json", {"selection": with_collapse(trained.selection)})
    checkpoints.remove(folder.parent)


def write_run(study: Study, run: Run, trained: Training, predictions: pd.DataFrame) -> dict:
    """Write a run's three files, scores.json last; returns the scores.

    Where the run collapsed and the study says ``retry_collapsed``, it is repeated once under the next seed before, and
    what the repetition gives lies in the folder ``retry`` beside the run's own results: both are shown.
    """
    folder = study.run_folder(run)
    if study.retry_collapsed and with_collapse(trained.selection)["collapsed"]:
        seed = study.next_seed(run.seed)
        again = training.target(study, run, seed)
        repeated = zero_shot(
            study, run.target, again, study.hyperparameters("target", *run[::2]).max_length
        )
        _write(study, run, seed, again, repeated, folder / REPETITION)
    else:  # of a run that collapsed before it was made again
        shutil.rmtree(folder / REPETITION, ignore_errors=True)
    result = _write(study, run, run.seed, trained, predictions, folder)
    checkpoints.remove(folder / REPETITION)
    checkpoints.remove(folder)
    return result


def _write(
    study: Study, run: Run, seed: int, trained: Training, predictions: pd.DataFrame, folder: Path
) -> dict:
    result = scores(study, run.target, predictions, trained.selection)
    write_whole(
        folder / "predictions.parquet", lambda path: predictions.to_parquet(path, index=False)
    )
    write_json(folder / "run.json", provenance(study.settings(*run[:3]), seed, trained))
    write_json(folder / "scores.json", result)
    return result


def provenance(settings: dict, seed: int, trained: Training) -> dict:
    """What is needed to trust and repeat a run."""
    return {
        "parameters": settings,
        "seed": seed,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": _commit(),
        "hardware": hardware.describe(),
        "wall_seconds": time.time() - trained.begun,
        "train_seconds": trained.seconds,
        "train_flops": trained.flops,
        "examples_per_second": trained.examples / trained.seconds,
        "tokens_per_second": trained.pieces / trained.seconds,
        "peak_memory_bytes": hardware.peak_memory(),
        **trained.notes,
        "log": trained.log,
    }


def embed(
    model, tokenizer, texts: list[str], layer: int | None = None, pooling: str = "mean"
) -> np.ndarray:
    """Unit vectors (texts, hidden) from a hidden state: ``layer`` counts from 1, None is the last."""
    features = [
        {"input_ids": [ids]}
        for ids in tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    ]
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for batch in batches(features, TOKEN_BUDGET[model.device.type]):
            inputs = collate([features[i] for i in batch], tokenizer.pad_token_id)
            states = model(**inputs, output_hidden_states=True).hidden_states[
                -1 if layer is None else layer
            ]
            vectors[batch] = torch.nn.functional.normalize(
                pool(states, inputs["attention_mask"], pooling), dim=-1
            )
    return vectors


def retrieval_accuracy(source: np.ndarray, target: np.ndarray) -> float:
    """Share, in %, of source sentences whose nearest target is their own translation (same row).

    Both are unit vectors (sentences, hidden), so that products are cosines.
    """
    nearest = (source @ target.T).argmax(axis=1)
    return 100 * float((nearest == np.arange(len(source))).mean())


def retrieval_probe(study: Study, size: str) -> dict[str, float]:
    """Retrieval accuracy to English over a study's parallel items, before any training, by language.

    A target's items are parallel where languages share their ids; each item's first text is the sentence.
    """
    model, tokenizer = encoders.load(study.encoder_folder(size))
    probe = {}
    for target in study.targets:
        entry = study.tasks[target.task]
        if ENGLISH not in (languages := study.languages(target.task)) or not entry.parallel:
            continue
        sentences = {}
        for language in languages:
            rows = data.examples(study, target.task, entry.evaluate, language)
            first = {row["id"]: tasks.of(entry).texts(row)[0] for row in rows}
            sentences[language] = first
        once = {
            text: i for i, text in reversed(sentences[ENGLISH].items())
        }  # a repeated sentence has no one translation
        sentences[ENGLISH] = {i: text for text, i in once.items()}
        english = _vectors(model, tokenizer, study, size, sentences[ENGLISH])
        for language in languages:
            if language != ENGLISH and sentences[language].keys() >= sentences[ENGLISH].keys():
                other = _vectors(
                    model,
                    tokenizer,
                    study,
                    size,
                    {i: sentences[language][i] for i in sentences[ENGLISH]},
                )
                probe[f"{target.task} {language}"] = retrieval_accuracy(other, english)
    return probe


def _vectors(model, tokenizer, study, size, sentences: dict[str, str]) -> np.ndarray:
    chosen = study.sizes[size]
    return embed(model, tokenizer, list(sentences.values()), chosen.retrieval_layer, chosen.pooling)


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
