"""Features into batches: sorted by length, within a budget of tokens, padded, as tensors."""

from collections.abc import Iterator

import torch
from torch.nn.utils.rnn import pad_sequence

from helpers.formats.labels import IGNORED

TOKEN_BUDGET = {"cpu": 1024, "cuda": 16384}
"""The most tokens, padding included, in a batch of predictions: they fit into a core's share of the
cache, or keep a GPU busy."""
TRAINING_BUDGET = {"cpu": 1024, "cuda": 65536}
"""The most tokens, padding included, that go through the model at once in training. A larger batch
is split into micro-batches, which stay in the cache; their gradients add up (docs/cost.md)."""
SEGMENTS = "token_type_ids"
"""The feature of models that tell the two texts of a pair apart by segments (BERT)."""


def collate(features: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """A model's inputs: all sequences padded to the longest, (sequences, tokens) each.

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
    """Labels (features); lists of labels as (sequences, longest), padded with ``IGNORED``."""
    if not isinstance(features[0]["labels"], list):
        return torch.tensor([feature["labels"] for feature in features])
    return _padded([marks for feature in features for marks in feature["labels"]], IGNORED)


def _padded(rows: list, fill: int) -> torch.Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


def single_sequences(feature: dict) -> list[dict]:
    """A feature for each sequence of a feature, with that sequence's labels."""
    read = ("input_ids", SEGMENTS, "labels")  # a format may add more
    names = [name for name in read if isinstance(feature.get(name), list)]
    count = len(feature["input_ids"])
    return [{name: [feature[name][i]] for name in names} for i in range(count)]


def training_items(features: list[dict]) -> list[dict]:
    """Features as training draws them: each sequence with labels of its own is one item."""
    items = []
    for feature in features:
        has_lists = isinstance(feature["labels"], list)
        items += single_sequences(feature) if has_lists else [feature]
    return items


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
