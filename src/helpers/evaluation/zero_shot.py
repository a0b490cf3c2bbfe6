"""Predict every language of a target in one pass."""

from dataclasses import dataclass

import pandas as pd

from helpers import data, formats
from helpers.encoders.model import predict as predict_logits
from helpers.study import Condition, Task
from helpers.training import Training
from helpers.training.checkpoints import copy


@dataclass
class Items:
    """What a target is evaluated on, in all languages, and the features that a model reads."""

    task: Task
    trained_on: Task
    """The task whose labels the model's outputs have."""
    examples: list[dict]
    features: list[dict]


def items(condition: Condition, tokenizer) -> Items:
    """Every item that a condition evaluates; for retrieval also the candidates."""
    task = condition.evaluated
    assert task is not None
    prefix = condition.encoder.retrieval_prefix
    examples = [
        {**row, "task": entry.name, "language": code, "split": split, "prefix": prefix}
        for entry, split, code in condition.evaluated_cells
        for row in data.examples(condition.study.data, entry, split, code)
    ]
    length = condition.hyperparameters.max_length
    last = list(condition.stages[-1].tasks.values())[-1] if condition.stages else task
    return Items(task, last, examples, formats.of(task).features(task, examples, tokenizer, length))


def predict_others(trained: Training, evaluated: Items) -> dict[str, pd.DataFrame]:
    """Predictions with the last weights and with their average, if the study compares them."""
    tables, best = {}, copy(trained.model)
    for name, weights in trained.others.items():
        trained.model.load_state_dict(weights, strict=False)
        tables[name] = predict(trained, evaluated)
    trained.model.load_state_dict(best, strict=False)
    return tables


def predict(trained: Training, evaluated: Items) -> pd.DataFrame:
    """Predictions for every evaluated item and language, with predictions.parquet's columns."""
    task, examples = evaluated.task, evaluated.examples
    pad = trained.tokenizer.pad_token_id
    logits = predict_logits(trained.model, evaluated.features, pad)
    logits = formats.reorder(evaluated.trained_on, task, logits)
    table = pd.DataFrame(formats.of(task).decode(task, examples, evaluated.features, logits))
    ids = [row["id"] if task.parallel else f"{row['language']}/{row['id']}" for row in examples]
    table.insert(0, "language", [row["language"] for row in examples])
    table.insert(1, "id", ids)
    if task.group:
        table["group"] = [row["group"] for row in examples]
    is_shown = [(row["task"], row["split"]) == (task.name, task.evaluate) for row in examples]
    return table[is_shown].reset_index(drop=True)
