"""Texts are tokenised once: what a format makes of a task's examples is kept beside the data.

Tokenising takes some four microseconds a token on one core, a minute for MNLI, and every run on the
same data would do it again. What is kept is found by a digest of all that it depends on, the
format's code included.
"""

import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import tasks
from helpers.study import Task
from helpers.study.files import write_whole
from helpers.tasks import texts

if TYPE_CHECKING:  # reading rows should not wait for transformers
    from transformers import PreTrainedTokenizerFast

_SHAPES = {"offsets": (-1, 2)}
"""Of the arrays that have more than one number a token; parquet holds them flat."""


def tokenise(
    task: Task,
    examples: list[dict],
    tokenizer: "PreTrainedTokenizerFast",
    max_length: int,
    cache: Path | None = None,
) -> list[dict]:
    """What ``features`` of the task's format gives.

    ``cache`` is a folder where they are looked for, and put when they are not there; a feature then
    is a number, or an array for each of its sequences: (tokens,), for ``offsets`` (tokens, 2).
    """
    if cache is None or not examples:
        return tasks.of(task).features(task, examples, tokenizer, max_length)
    path = cache / f"{_digest(task, examples, tokenizer, max_length)}.parquet"
    if not path.exists():
        found = tasks.of(task).features(task, examples, tokenizer, max_length)
        write_whole(path, _shaped(pd.DataFrame(found), {}).to_parquet)
    return _shaped(pd.read_parquet(path), _SHAPES).to_dict("records")


def _digest(
    task: Task, examples: list[dict], tokenizer: "PreTrainedTokenizerFast", max_length: int
) -> str:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state |= {"truncation": None, "padding": None}  # as its last call left them
    on = [
        inspect.getsource(tasks.of(task)),
        inspect.getsource(texts),
        task.labels,
        max_length,
        examples,
        state,
    ]
    return hashlib.sha256(json.dumps(on).encode()).hexdigest()[:32]


def _shaped(frame: pd.DataFrame, shapes: dict[str, tuple]) -> pd.DataFrame:
    """Features with these shapes of a sequence's array, flat where none is given."""
    for name in frame.select_dtypes(object):
        shape = shapes.get(name, -1)
        frame[name] = [
            [np.asarray(numbers, np.int32).reshape(shape) for numbers in sequences]
            for sequences in frame[name]
        ]
    return frame
