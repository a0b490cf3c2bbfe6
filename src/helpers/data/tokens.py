"""Texts cut into pieces once: what a format makes of a task's examples is kept beside the study's data.

Cutting takes some four microseconds a piece on one core, a minute for MNLI, and every run on the same data would do it
again. What is kept is found by a digest of all that it depends on, the format's code included.
"""

import hashlib
import inspect
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from helpers import tasks
from helpers.study import Task
from helpers.study.files import write_whole


def tokenise(
    task: Task,
    examples: list[dict],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    keep: Path | None = None,
) -> list[dict]:
    """What ``features`` of the task's format gives.

    ``keep`` is a folder where they are looked for, and put when they are not there; sequences of numbers are then
    arrays.
    """
    if keep is None or not examples:
        return tasks.of(task).features(task, examples, tokenizer, max_length)
    path = keep / f"{_digest(task, examples, tokenizer, max_length)}.parquet"
    if not path.exists():
        found = tasks.of(task).features(task, examples, tokenizer, max_length)
        table = pa.table({name: _pack([feature[name] for feature in found]) for name in found[0]})
        write_whole(path, lambda beside: pq.write_table(table, beside))
    table = pq.read_table(path)
    columns = [
        column.to_pylist() if pa.types.is_integer(column.type) else _unpack(column.combine_chunks())
        for column in table.columns
    ]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _digest(
    task: Task, examples: list[dict], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> str:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state |= {"truncation": None, "padding": None}  # as its last call left them
    on = [inspect.getsource(tasks.of(task)), task.labels, max_length, examples, state]
    return hashlib.sha256(json.dumps(on).encode()).hexdigest()[:32]


def _pack(values: list) -> pa.Array:
    """Numbers, or lists and arrays of them however deep, as one Arrow array."""
    if not len(values) or np.isscalar(values[0]):
        return pa.array(values, pa.int32())
    ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    if all(isinstance(value, np.ndarray) for value in values):
        flat = np.concatenate(values)
        inner = pa.array(flat.ravel(), pa.int32())
        inner = pa.FixedSizeListArray.from_arrays(inner, flat.shape[1]) if flat.ndim == 2 else inner
    else:
        inner = _pack([item for value in values for item in value])
    return pa.ListArray.from_arrays(ends, inner)


def _unpack(array: pa.Array):
    """The reverse of :func:`_pack`: views of the innermost numbers, in lists."""
    if pa.types.is_list(array.type):
        inner = _unpack(array.values)
        return [inner[begin:end] for begin, end in pairwise(array.offsets.to_numpy())]
    if pa.types.is_fixed_size_list(array.type):
        return array.values.to_numpy().reshape(-1, array.type.list_size)
    return array.to_numpy()
