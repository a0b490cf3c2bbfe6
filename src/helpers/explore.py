"""In: a finished study. Out: what its explorer shows: answers beside their texts, and what kept
models say of sentences that somebody types.
"""

from functools import lru_cache
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast

from helpers import data, encoders, tasks, training
from helpers.encoders import families
from helpers.encoders.model import predict
from helpers.study import Run, Size, Study, StudyError, Task
from helpers.training import Training

__all__ = ["answers", "reader", "say"]

FIELDS = {"sentence_pair": ["text_a", "text_b"], "multiple_choice": ["context"]}
"""What a person types, by format; of choices, one for every label too."""


def answers(study: Study, run: Run) -> pd.DataFrame:
    """A finished run's predictions, each beside the texts of its item.

    Raises
    ------
    StudyError
        The run is not finished.
    """
    file = study.run_folder(run) / "predictions.parquet"
    if not file.exists():
        raise StudyError(f"{file}: not there; expected a finished run")
    found, items = pd.read_parquet(file), data.evaluated(study, run.target)
    new = items.columns.difference(found.columns.union(["labels"]), sort=False)
    return found.merge(items[["language", "id", *new]], on=["language", "id"])


def reader(study: Study, run: Run) -> Training:
    """A finished run's model with the whole vocabulary of its encoder, for texts of any kind.

    A trimmed model would cut a word that the study never met into single characters. Rows of tokens
    that it did meet are the run's own.

    Raises
    ------
    StudyError
        The study keeps no models, or the run is not finished.
    """
    trained = training.finished(study, run)
    if (kept := encoders.kept_ids(study.encoder_folder(run.size))) is not None:
        encoder: Any = trained.model.encoder
        whole, trained.tokenizer = _vocabulary(study.sizes[run.size].encoder)
        own = families.words(encoder).detach()
        rows = whole.to(own, copy=True)
        rows[kept] = own
        encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
    return trained


@lru_cache(maxsize=1)
def _vocabulary(encoder: str) -> tuple[torch.Tensor, PreTrainedTokenizerFast]:
    """A pretrained encoder's word embeddings (tokens, hidden), and its tokenizer."""
    model, tokenizer = encoders.pretrained(Size(encoder=encoder, title=encoder, pooling="mean"))
    return families.words(model).detach(), tokenizer


def say(trained: Training, task: Task, texts: list[str]) -> tuple[dict[str, float], list[str]]:
    """Probabilities of the task's labels for one item, and notes on what was not read of it.

    ``texts`` are the two sentences of a pair, or a context and its choices.

    Raises
    ------
    StudyError
        The task has another format, or a text is empty.
    """
    if task.format not in FIELDS:
        raise StudyError(f"task {task.name}: format {task.format}; expected {' or '.join(FIELDS)}")
    names, shape, tokenizer = FIELDS[task.format], tasks.of(task), trained.tokenizer
    row = dict(zip(names, texts, strict=False), choices=texts[len(names) :])
    try:
        item = shape.normalise(task, {"id": "typed", "label": task.labels[0], **row})
    except ValueError as error:
        raise StudyError(f"task {task.name}: {error}") from None
    features = shape.features(task, [item], tokenizer, trained.max_length)
    logits = predict(trained.model, features, tokenizer.pad_token_id)
    (found,) = shape.decode(task, [item], features, logits)
    notes = []
    if any(len(ids) >= trained.max_length for ids in features[0]["input_ids"]):
        notes.append(f"cut after {trained.max_length} tokens")
    for text in texts:
        cut = tokenizer(text, add_special_tokens=False)
        if unknown := cut["input_ids"].count(tokenizer.unk_token_id):
            notes.append(f"{unknown} of {len(cut['input_ids'])} tokens of {text!r} are unknown")
    return dict(zip(task.labels, found["probabilities"], strict=True)), notes
