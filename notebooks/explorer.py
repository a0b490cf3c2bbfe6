"""What notebook 5 shows of a finished study: answers beside their texts, and the answers of kept
models to typed sentences.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython import get_ipython
from safetensors.torch import load_file

from helpers import data, encoders, formats
from helpers.encoders import families, hardware
from helpers.encoders.model import predict
from helpers.study import Condition, Size, StudyError, Task
from helpers.study.condition import MODEL
from helpers.training import Training, build
from helpers.training.fine_tuning import untrained

FIELDS = {"sentence_pair": ["text_a", "text_b"], "multiple_choice": ["context"]}
"""The texts that a person types, by format; with choices, also one per label."""


def answers(condition: Condition, seed: int) -> pd.DataFrame:
    """A finished run's predictions, each beside the texts of its item, or a StudyError."""
    file = condition.seed_folder(seed) / "predictions.parquet"
    if not file.exists() or condition.evaluated is None:
        raise StudyError(f"{file}: not there; expected a finished run")
    predictions = pd.read_parquet(file)
    items = data.evaluated(condition.study.data, condition.evaluated, condition.languages)
    new = items.columns.difference(predictions.columns.union(["labels"]), sort=False)
    return predictions.merge(items[["language", "id", *new]], on=["language", "id"])


def reader(condition: Condition, seed: int) -> Training:
    """A finished run's kept model, with the whole vocabulary of its encoder for texts of any kind.

    A trimmed model would cut new words into single characters. Tokens of the study keep the run's
    own rows. Raises StudyError if no model was kept (``keep_models``).
    """
    encoder, tokenizer = encoders.start(condition.home, condition.start(seed), 0.0)
    if condition.stages:
        file = condition.seed_folder(seed) / MODEL
        if not file.is_file():
            keep = "set keep_models: true in the study and run it again"
            raise StudyError(f"{file}: not there; expected trained layers: {keep}")
        model = build(condition, condition.stages[-1], encoder)
        model.load_state_dict(load_file(file), strict=False)
    else:
        model = untrained(condition, encoder)
    if (kept := encoders.kept_ids(condition.home)) is not None:
        words, tokenizer = _vocabulary(condition.encoder.encoder)
        trained = families.words(encoder).detach()
        rows = words.to(trained, copy=True)
        rows[kept] = trained
        encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
    return Training(model.to(hardware.device()), tokenizer)


@lru_cache(maxsize=1)
def _vocabulary(encoder: str) -> tuple[torch.Tensor, Any]:
    """A pretrained encoder's word embeddings (tokens, hidden), and its tokenizer."""
    whole, tokenizer = encoders.pretrained(Size(encoder=encoder, title=encoder, pooling="mean"))
    return families.words(whole).detach(), tokenizer


def say(
    trained: Training, task: Task, texts: list[str], max_length: int
) -> tuple[dict[str, float], list[str]]:
    """Probabilities of the task's labels for one item, and notes on what was cut off.

    ``texts`` are the two sentences of a pair, or a context and its choices. Raises StudyError for
    another format, another number of texts, or an empty text.
    """
    if task.format not in FIELDS:
        raise StudyError(f"task {task.name}: format {task.format}; expected {' or '.join(FIELDS)}")
    names, shape, tokenizer = FIELDS[task.format], formats.of(task), trained.tokenizer
    if task.format == "sentence_pair" and "text_b" not in task.columns:
        names = ["text_a"]
    expected = len(names) + (len(task.labels) if task.format == "multiple_choice" else 0)
    if len(texts) != expected or not all(text.strip() for text in texts):
        filled = sum(bool(text.strip()) for text in texts)
        raise StudyError(f"task {task.name}: found {filled} texts; expected {expected}")
    row = dict(zip(names, texts, strict=False), choices=texts[len(names) :])
    try:
        item = shape.normalise(task, {"id": "typed", "label": task.labels[0], **row})
    except ValueError as error:
        raise StudyError(f"task {task.name}: {error}") from None
    features = shape.features(task, [item], tokenizer, max_length)
    logits = predict(trained.model, features, tokenizer.pad_token_id)
    (answer,) = shape.decode(task, [item], features, logits)
    notes = []
    if any(len(ids) >= max_length for ids in features[0]["input_ids"]):
        notes.append(f"cut after {max_length} tokens")
    for text in texts:
        cut = tokenizer(text, add_special_tokens=False)["input_ids"]
        if unknown := cut.count(tokenizer.unk_token_id):
            notes.append(f"{unknown} of {len(cut)} tokens of {text!r} are unknown")
    return dict(zip(task.labels, answer["probabilities"], strict=True)), notes


def is_interactive() -> bool:
    """Whether a person runs this notebook: the kernel's client can answer ``input()``."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and kernel.get_parent()["content"]["allow_stdin"]


def cka(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two representations (texts, hidden) of the same texts, 0..1.

    Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414).
    """
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norms = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    return float(np.linalg.norm(one.T @ other) ** 2 / norms)
