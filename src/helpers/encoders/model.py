"""An encoder with a head, and its predictions: what every format trains and evaluates."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
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


class MaskedHead(nn.Module):
    """Logits over the vocabulary: a transform that begins as the identity, then the embeddings."""

    def __init__(self, encoder: PreTrainedModel):
        super().__init__()
        config, self.words = encoder.config, families.words(encoder)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=getattr(config, "layer_norm_eps", 1e-5))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Logits (chosen tokens, vocabulary) of states (sequences, tokens, hidden)."""
        states = self.norm(functional.gelu(self.dense(states[chosen])))
        return functional.linear(states, self.words, self.bias)


class EncoderModel(nn.Module):
    """An encoder whose lowest layers may be frozen; its states, or those after ``layer`` layers.

    ``precision`` is ``fp32`` or ``bf16``, the type of matrix products (autocast).
    ``cached_states``, where set, finds the states of sequences after the lowest layers
    (:class:`helpers.encoders.hidden_states.States`), which are then not computed again.
    ``shape`` is the level and width of its head, as a format's ``head`` says them.
    ``asked`` and ``spared`` count, in prediction, tokens times layers: what the texts have, and
    what of it was not computed because it was known, or is above ``layer``.
    """

    def __init__(self, encoder: PreTrainedModel, layer: int | None = None):
        super().__init__()
        self.encoder, self.layer, self.precision = encoder, layer, "fp32"
        self.cached_states: Any = None
        self.shape: tuple[str, int] | None = None
        self.asked = self.spared = 0
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

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """States (sequences, tokens, hidden) of the layer that is read."""
        families.choose_attention(self.encoder, input_ids.shape[1])
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        cached, layers = self.cached_states, len(families.layers(self.encoder))
        if self.layer is not None:  # without what follows the last, such as a norm
            self._spare(layers - self.layer, attention_mask)
            return families.states_after(self.encoder, self.layer, **inputs)
        if cached is not None and (found := cached.find(**inputs)) is not None:
            self._spare(cached.depth, attention_mask)
            return families.states_from(self.encoder, cached.depth, found, **inputs)
        return self.encoder(**inputs).last_hidden_state

    def _spare(self, layers: int, attention_mask: torch.Tensor) -> None:
        if not self.training:  # where a compiled model would be compiled anew for each count
            self.spared += layers * int(attention_mask.sum())


class EncoderWithHead(EncoderModel):
    """An encoder and one head over its states."""

    def __init__(
        self,
        encoder: PreTrainedModel,
        level: str,
        width: int,
        pooling: str,
        dropout: float,
        layer: int | None = None,
    ):
        super().__init__(encoder, layer)
        self.head = Head(encoder.config, level, width, pooling, dropout)
        self.shape = (level, width)

    def in_use(self) -> nn.Module:
        """The head that reads the states."""
        return self.head

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        chosen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits in float32: (sequences, width) or (sequences, tokens, width).

        ``chosen`` (sequences, tokens) are the tokens that the head reads, else all that are there.
        """
        with self.autocast():
            states = super().forward(input_ids, attention_mask)
            return self.in_use()(states, attention_mask if chosen is None else chosen).float()


class EncoderWithHeads(EncoderWithHead):
    """An encoder and a head per component of a mixture; ``component`` says which one is in use."""

    def __init__(self, encoder: PreTrainedModel, heads: dict[str, nn.Module]):
        EncoderModel.__init__(self, encoder)
        self.component = next(iter(heads))
        self.names = {name: f"head_{i}" for i, name in enumerate(heads)}
        self.heads = nn.ModuleDict({self.names[name]: head for name, head in heads.items()})

    def in_use(self) -> nn.Module:
        return self.heads[self.names[self.component]]


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
    """Logits of every feature, in the order given; a text that occurs several times runs once.

    Each is (sequences, width) or (sequences, tokens, width), tokens as many as the batch's longest.
    ``advance`` is told how many sequences are done.
    """
    apart = model.shape == ("vector", 0)  # there a feature's sequences know nothing of each other
    texts = [f["input_ids"] for f in features]
    places: dict[tuple, list[int]] = defaultdict(list)
    units = [[ids] for text in texts for ids in text] if apart else texts
    for at, text in enumerate(units):
        places[tuple(np.asarray(ids, np.int32).tobytes() for ids in text)].append(at)
    once = [{"input_ids": [np.frombuffer(ids, np.int32) for ids in text]} for text in places]
    copies, layers = list(places.values()), len(families.layers(model.encoder))
    found: dict[int, np.ndarray] = {}
    for index, logits in _logits(model, once, pad):
        same, sequences = copies[index], once[index]["input_ids"]
        found |= dict.fromkeys(same, logits)
        tokens = layers * sum(map(len, sequences))
        model.asked += len(same) * tokens
        model.spared += (len(same) - 1) * tokens
        if advance:
            advance(len(same) * len(sequences))
    rows = (found[at] for at in range(len(found)))
    return [np.concatenate([next(rows) for _ in text]) if apart else next(rows) for text in texts]


def _logits(model: EncoderModel, features: list[dict], pad: int) -> Iterator[tuple]:
    """(index, logits) of every feature, in batches of like length."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    for batch in batches(features, TOKEN_BUDGET[device.type]):
        inputs = collate([features[i] for i in batch], pad)
        with torch.inference_mode(), model.autocast():
            logits = model(**{name: value.to(device) for name, value in inputs.items()})
        counts = [len(features[i]["input_ids"]) for i in batch]
        yield from zip(batch, (x.numpy() for x in logits.float().cpu().split(counts)), strict=True)
    model.train(training)


class _AllLayers(EncoderModel):
    """Pooled states (sequences, 1 + layers, hidden) of an encoder, embeddings first."""

    pooling: str

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        families.choose_attention(self.encoder, input_ids.shape[1])
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        states = self.encoder(**inputs, output_hidden_states=True).hidden_states
        return torch.stack([pool(s, attention_mask, self.pooling) for s in states], 1)


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
