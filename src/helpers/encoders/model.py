"""An encoder with one head, and its predictions: what every format trains and evaluates."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

from helpers.encoders import hardware
from helpers.tasks.labels import IGNORED

TOKEN_BUDGET = {"cpu": 1024, "cuda": 16384}
"""Pieces, padding included, that one batch of predictions holds at the most: what a core's share of the cache holds
(larger batches took 15 % longer with two jobs side by side), and what keeps a GPU busy."""
TRAINING_BUDGET = {"cpu": 512, "cuda": 65536}
"""Pieces, padding included, that go through the model at once in training. A larger batch goes in parts whose gradients
add up to its own. On two cores XLM-R base's shape learns 1.4 times as fast in parts of 512 pieces as in parts of 2,048,
with 1.4 GB less: what is in use stays in the cache, and no memory is asked of the system anew."""


class Head(nn.Module):
    """Logits over sequences or pieces: pooled (mean, or first piece with RoBERTa's dense layer), dropout, linear.

    The level ``vector`` has no parameters: it gives a sequence's pooled state.
    """

    def __init__(self, config, level: str, width: int, pooling: str, dropout: float):
        super().__init__()
        hidden = config.hidden_size
        self.level, self.width, self.pooling = level, width, pooling
        if level == "vector":
            return
        dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.Tanh())
        self.dense = dense if pooling == "cls" and level == "sequence" else nn.Identity()
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, width))
        for layer in [*self.dense.modules(), *self.output.modules()]:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=config.initializer_range)
                nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, width) or (sequences, pieces, width) of states (sequences, pieces, hidden)."""
        if self.level == "vector":
            return pool(states, attention_mask, self.pooling)
        if self.level == "sequence":
            states = self.dense(pool(states, attention_mask, self.pooling))
        return self.output(states)


class EncoderWithHead(nn.Module):
    """An encoder and one head over its last hidden state, or over that of ``layer`` (counted from 1).

    ``known``, where set, finds the states of sequences after the lowest layers (:class:`helpers.encoders.hidden_states.States`), which
    are then not computed again.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        level: str,
        width: int,
        pooling: str,
        dropout: float,
        layer: int | None = None,
    ):
        super().__init__()
        self.encoder, self.layer, self.cached_states = encoder, layer, None
        self.head = Head(encoder.config, level, width, pooling, dropout)

    @property
    def shape(self) -> tuple[str, int]:
        """What ``head`` of a format says: the head's level and width."""
        return self.head.level, self.head.width

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, width) or (sequences, pieces, width)."""
        choose_attention(self.encoder, input_ids.shape[1])
        if (
            self.cached_states is not None
            and (states := self.cached_states.find(input_ids, attention_mask)) is not None
        ):
            return self.head(
                run_layers(self.encoder, states, attention_mask, self.cached_states.depth),
                attention_mask,
            )
        deep = self.layer is not None
        out = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=deep
        )
        return self.head(
            out.hidden_states[self.layer] if deep else out.last_hidden_state, attention_mask
        )


class Lower(nn.Module):
    """An encoder's first ``depth`` layers: the state of every piece after them."""

    def __init__(self, encoder: PreTrainedModel, depth: int):
        super().__init__()
        self.encoder, self.depth = encoder, depth

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """States (sequences, pieces, hidden)."""
        return run_layers(
            self.encoder,
            self.encoder.embeddings(input_ids=input_ids),
            attention_mask,
            0,
            self.depth,
        )


def choose_attention(encoder: PreTrainedModel, length: int) -> None:
    """Have an encoder use the attention that is fastest for sequences of ``length`` pieces."""
    if encoder.config._attn_implementation != (kind := hardware.attention(length)):
        encoder.set_attn_implementation(kind)


def run_layers(
    encoder: PreTrainedModel,
    states: torch.Tensor,
    attention_mask: torch.Tensor,
    first: int,
    last: int | None = None,
) -> torch.Tensor:
    """States (sequences, pieces, hidden) after layers ``first`` to ``last``, the latter excluded, of an encoder."""
    mask = create_bidirectional_mask(encoder.config, states, attention_mask)
    for layer in encoder.encoder.layer[first:last]:
        states = layer(states, mask)
    return states


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a sequence from states (sequences, pieces, hidden): their mean, or the first one."""
    if pooling == "cls":
        return states[:, 0]
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def collate(features: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """Stack the sequences of all features, padded to the longest: input_ids and attention_mask (sequences, pieces)."""
    sequences = [ids for feature in features for ids in feature["input_ids"]]
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def collate_labels(features: list[dict]) -> torch.Tensor:
    """Labels (features) of a batch; where every sequence has a list, (sequences, longest), filled with ``IGNORED``."""
    if not isinstance(features[0]["labels"], list):
        return torch.tensor([feature["labels"] for feature in features])
    rows = [marks for feature in features for marks in feature["labels"]]
    out = torch.full((len(rows), max(map(len, rows))), IGNORED, dtype=torch.long)
    for row, marks in enumerate(rows):
        out[row, : len(marks)] = torch.tensor(marks)
    return out


def training_items(features: list[dict]) -> list[dict]:
    """Features as a training draws them: where every sequence has labels of its own, it is an item of its own."""
    items = []
    for feature in features:
        if isinstance(feature["labels"], list):
            pairs = zip(feature["input_ids"], feature["labels"], strict=True)
            items += [{"input_ids": [ids], "labels": [marks]} for ids, marks in pairs]
        else:
            items.append({"input_ids": feature["input_ids"], "labels": feature["labels"]})
    for item in items:
        item["length"] = length(item)
    return items


def length(feature: dict) -> int:
    """Pieces of a feature's longest sequence."""
    return max(map(len, feature["input_ids"]))


def batches(features: list[dict], budget: int) -> Iterator[list[int]]:
    """Indices of features of like length, longest first, each batch within ``budget`` padded pieces."""
    batch, rows, longest = [], 0, 0
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


def micro_batches(items: list[dict]) -> list[list[dict]]:
    """A training batch in parts of like length within the budget of the device; a batch within it as it is."""
    found = list(batches(items, TRAINING_BUDGET[hardware.device().type]))
    return [[items[i] for i in part] for part in found] if len(found) > 1 else [items]


def predict(
    model: EncoderWithHead,
    features: list[dict],
    pad: int,
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Logits of every feature, in the order given: arrays (sequences, width) or (sequences, pieces, width)."""
    device, out = next(model.parameters()).device, [None] * len(features)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast():
        for batch in batches(features, TOKEN_BUDGET[device.type]):
            inputs = {
                k: v.to(device) for k, v in collate([features[i] for i in batch], pad).items()
            }
            logits = model(**inputs).float().cpu().numpy()
            at = 0
            for index in batch:
                count = len(features[index]["input_ids"])
                out[index] = logits[at : at + count]
                at += count
            if advance:
                advance(len(batch))
    model.train(training)
    return out


def autocast():
    """bf16 where the hardware has it, nothing elsewhere."""
    return (
        torch.autocast(hardware.device().type, dtype=torch.bfloat16)
        if hardware.bf16()
        else nullcontext()
    )
