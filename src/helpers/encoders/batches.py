"""Features into batches: sorted by length, within a budget of tokens, padded, as tensors."""

from collections.abc import Iterator

import torch
from torch.nn.utils.rnn import pad_sequence

from helpers.formats.labels import IGNORED

TOKEN_BUDGET = {"cpu": 1024, "cuda": 16384}
"""Tokens, padding included, that one batch of predictions holds at the most: what a core's share of
the cache holds (larger batches took 15 % longer with two jobs side by side), and what keeps a GPU
busy."""
TRAINING_BUDGET = {"cpu": 512, "cuda": 65536}
"""Tokens, padding included, that go through the model at once in training. A larger batch goes in
micro-batches whose gradients add up to its own. On two cores XLM-R base's shape learns 1.4 times as
fast in micro-batches of 512 tokens as in ones of 2,048, with 1.4 GB less: what is in use stays in
the cache, and no memory is asked of the system anew."""
SEGMENTS = "token_type_ids"
"""In features for models that tell the texts of a pair apart by segments (BERT)."""


def collate(features: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """All sequences, padded to the longest: what a model is called with, (sequences, tokens) each.

    ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where the features have them.
    """
    sequences = [ids for feature in features for ids in feature["input_ids"]]
    ids, lengths = _padded(sequences, pad), torch.tensor(list(map(len, sequences)))
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if SEGMENTS in features[0]:
        inputs[SEGMENTS] = _padded([ids for f in features for ids in f[SEGMENTS]], 0)
    return inputs


def collate_labels(features: list[dict]) -> torch.Tensor:
    """Labels (features); of sequences with a list each, (sequences, longest), rest ``IGNORED``."""
    if not isinstance(features[0]["labels"], list):
        return torch.tensor([feature["labels"] for feature in features])
    return _padded([marks for feature in features for marks in feature["labels"]], IGNORED)


def _padded(rows: list, fill: int) -> torch.Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


def single_sequences(features: list[dict]) -> list[dict]:
    """Features of one sequence each, with its labels if sequences have labels of their own."""
    names = [n for n in ("input_ids", SEGMENTS, "labels") if isinstance(features[0].get(n), list)]
    rows = (zip(*(feature[name] for name in names), strict=True) for feature in features)
    return [{n: [v] for n, v in zip(names, row, strict=True)} for some in rows for row in some]


def training_items(features: list[dict]) -> list[dict]:
    """Features as a training draws them: a sequence with labels of its own is an item."""
    if features and isinstance(features[0]["labels"], list):
        features = single_sequences(features)
    names = ("input_ids", SEGMENTS, "labels")
    return [{n: f[n] for n in names if n in f} | {"length": length(f)} for f in features]


def length(feature: dict) -> int:
    """Tokens of a feature's longest sequence."""
    return max(map(len, feature["input_ids"]))


def batches(features: list[dict], budget: int) -> Iterator[list[int]]:
    """Indices of features of like length, longest first; each batch within ``budget`` tokens."""
    batch: list[int] = []
    rows = longest = 0
    for index in sorted(range(len(features)), key=lambda i: -length(features[i])):
        sequences = len(features[index]["input_ids"])
        if batch and (rows + sequences) * longest > budget:
            yield batch
            batch, rows = [], 0
        longest = longest if batch else length(features[index])
        batch.append(index)
        rows += sequences
    if batch:
        yield batch
