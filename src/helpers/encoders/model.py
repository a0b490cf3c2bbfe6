"""An encoder with a head, and its predictions: what every format trains and evaluates."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from helpers.encoders import families
from helpers.encoders.batches import TOKEN_BUDGET, batches, collate


class Head(nn.Module):
    """Logits over sequences or tokens: pooled state, dropout, linear.

    Pooling by ``cls`` has RoBERTa's dense layer before (Liu et al. 2019). The level ``vector`` has
    no parameters: it gives a sequence's pooled state.
    """

    def __init__(
        self, config: PretrainedConfig, level: str, width: int, pooling: str, dropout: float
    ):
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
                nn.init.normal_(layer.weight, std=getattr(config, "initializer_range", 0.02))
                nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, width) or (sequences, tokens, width).

        ``states`` are (sequences, tokens, hidden), ``attention_mask`` (sequences, tokens).
        """
        if self.level == "vector":
            return pool(states, attention_mask, self.pooling)
        if self.level == "sequence":
            states = self.dense(pool(states, attention_mask, self.pooling))
        return self.output(states)


class EncoderModel(nn.Module):
    """An encoder whose lowest layers may be frozen; the base of models with one head or several.

    ``precision`` is ``fp32`` or ``bf16``, the type of matrix products (autocast).
    ``cached_states``, where set, finds the states of sequences after the lowest layers
    (:class:`helpers.encoders.hidden_states.States`), which are then not computed again.
    """

    def __init__(self, encoder: PreTrainedModel):
        super().__init__()
        self.encoder, self.precision = encoder, "fp32"
        self.cached_states: Any = None
        self._frozen: list[nn.Module] = []

    def freeze(self, layers: int) -> None:
        """Leave the embeddings and the lowest ``layers`` as they are, without dropout too.

        Whatever is trained above sees them as they are read in evaluation.
        """
        self._frozen = families.freeze(self.encoder, layers)

    def train(self, mode: bool = True):
        """Set the mode of all modules but the frozen ones, which stay in evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def autocast(self) -> AbstractContextManager:
        """A context in which matrix products have the model's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, dtype=torch.bfloat16)

    def states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The encoder's last hidden state (sequences, tokens, hidden)."""
        families.choose_attention(self.encoder, input_ids.shape[1])
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.cached_states is not None:
            found = self.cached_states.find(**inputs)
            if found is not None:
                return families.states_from(self.encoder, self.cached_states.depth, found, **inputs)
        return self.encoder(**inputs).last_hidden_state


class EncoderWithHead(EncoderModel):
    """An encoder and one head over its last hidden state, or over that of ``layer`` (from 1)."""

    def __init__(
        self,
        encoder: PreTrainedModel,
        level: str,
        width: int,
        pooling: str,
        dropout: float,
        layer: int | None = None,
    ):
        super().__init__(encoder)
        self.layer = layer
        self.head = Head(encoder.config, level, width, pooling, dropout)

    @property
    def shape(self) -> tuple[str, int]:
        """What ``head`` of a format says: the head's level and width."""
        return self.head.level, self.head.width

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, width) or (sequences, tokens, width) in float32."""
        with self.autocast():
            if self.layer is None:
                states = self.states(input_ids, attention_mask)
            else:
                states = hidden_state(self.encoder, self.layer, input_ids, attention_mask)
            return self.head(states, attention_mask).float()


def hidden_state(
    encoder: PreTrainedModel, layer: int, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """States (sequences, tokens, hidden) of one layer, counted from 1; -1 is the last."""
    families.choose_attention(encoder, input_ids.shape[1])
    out = encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
    return out.hidden_states[layer]


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a sequence from states (sequences, tokens, hidden): their mean, or the first."""
    if pooling == "cls":
        return states[:, 0]
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def predict(
    model: EncoderModel,
    features: list[dict],
    pad: int,
    advance: Callable[[int], object] | None = None,
) -> list[np.ndarray]:
    """Logits of every feature, in the order given, in one pass over batches of like length.

    Each is (sequences, width) or (sequences, tokens, width), tokens as many as the batch's longest.
    ``advance`` is told how many features are done.
    """
    device, training = next(model.parameters()).device, model.training
    out: list = [None] * len(features)
    model.eval()
    with torch.inference_mode(), model.autocast():
        for batch in batches(features, TOKEN_BUDGET[device.type]):
            inputs = collate([features[i] for i in batch], pad)
            logits = model(**{name: value.to(device) for name, value in inputs.items()})
            counts = [len(features[i]["input_ids"]) for i in batch]
            for index, rows in zip(batch, logits.float().cpu().split(counts), strict=True):
                out[index] = rows.numpy()
            if advance:
                advance(len(batch))
    model.train(training)
    return out


class _AllLayers(EncoderModel):
    """Pooled states (sequences, 1 + layers, hidden) of an encoder, embeddings first."""

    pooling: str

    def forward(self, **inputs) -> torch.Tensor:
        families.choose_attention(self.encoder, inputs["input_ids"].shape[1])
        states = self.encoder(**inputs, output_hidden_states=True).hidden_states
        return torch.stack([pool(s, inputs["attention_mask"], self.pooling) for s in states], 1)


def embed(
    encoder: PreTrainedModel, tokenizer, texts: list[str], pooling: str = "mean"
) -> np.ndarray:
    """Unit vectors (1 + layers, texts, hidden): a text's embeddings, then each layer's states."""
    model = _AllLayers(encoder)
    model.pooling = pooling
    cut = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    rows = predict(model, [{"input_ids": [ids]} for ids in cut], tokenizer.pad_token_id)
    vectors = np.concatenate(rows).swapaxes(0, 1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
