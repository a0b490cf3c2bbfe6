"""An encoder with a head, and its predictions: what every format trains and evaluates."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from helpers.encoders import families
from helpers.encoders.batches import SEGMENTS, TOKEN_BUDGET, batches, collate, single_sequences


class Head(nn.Module):
    """Logits over sequences or tokens: pooled state, dropout, linear.

    With ``cls`` pooling, RoBERTa's dense layer comes first (Liu et al. 2019). The level ``vector``
    gives the pooled state itself.
    """

    def __init__(
        self, encoder: PreTrainedModel, level: str, width: int, pooling: str, dropout: float
    ):
        super().__init__()
        config, hidden = encoder.config, encoder.config.hidden_size
        self.level, self.width, self.pooling = level, width, pooling
        if level == "vector":
            return
        dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.Tanh())
        self.dense = dense if pooling == "cls" and level == "sequence" else nn.Identity()
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, width))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=getattr(config, "initializer_range", 0.02))
                nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (sequences, width) or (sequences, tokens, width): the least of all at padding.

        ``states`` are (sequences, tokens, hidden), ``attention_mask`` (sequences, tokens).
        """
        if self.level == "vector":
            return pool(states, attention_mask, self.pooling)
        if self.level == "sequence":
            return self.output(self.dense(pool(states, attention_mask, self.pooling)))
        logits, is_padding = self.output(states), attention_mask.unsqueeze(-1) == 0
        return logits.masked_fill(is_padding, torch.finfo(logits.dtype).min)  # no answer is there


class MaskedHead(nn.Module):
    """Logits over the vocabulary: a transform that begins as the identity, then the embeddings.

    ELECTRA's embeddings are narrower than its states: there it begins by cutting states to their
    width.
    """

    def __init__(self, encoder: PreTrainedModel):
        super().__init__()
        config, self.words = encoder.config, families.words(encoder)
        tokens, width = self.words.shape
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", 1e-5))
        self.bias = nn.Parameter(torch.zeros(tokens))
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Logits (chosen tokens, vocabulary) of states (sequences, tokens, hidden)."""
        states = self.norm(functional.gelu(self.dense(states[chosen])))
        return functional.linear(states, self.words, self.bias)


class Heads(nn.Module):
    """The heads of a mixture's components; ``component`` says which one is in use."""

    def __init__(self, heads: dict[str, nn.Module]):
        super().__init__()
        self.names, self.heads = list(heads), nn.ModuleList(heads.values())
        self.component = self.names[0]

    def forward(self, states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The logits of the head in use."""
        return self.heads[self.names.index(self.component)](states, chosen)


class EncoderModel(nn.Module):
    """An encoder, whose lowest layers may be frozen, and a head that reads its states.

    Without a ``head`` it gives the states, or with ``layer`` those after so many layers.
    ``precision`` is the one that the encoder was adapted to. ``cached_states`` are saved states of
    frozen layers, if there are any.
    """

    _keys_to_ignore_on_save = None
    """The Trainer asks its model for this when a checkpoint lacks weights (those not trained)."""

    def __init__(
        self, encoder: PreTrainedModel, head: nn.Module | None = None, layer: int | None = None
    ):
        super().__init__()
        self.encoder, self.head, self.layer = encoder, head, layer
        self.precision = getattr(encoder, "precision", "fp32")
        self.cached_states: Any = None
        self.frozen_layers = 0

    def freeze(self, layers: int) -> None:
        """Freeze the embeddings and the lowest ``layers``, and switch off their dropout."""
        self.frozen_layers = layers
        if layers:
            for parameter in families.lower_parameters(self.encoder, layers).values():
                parameter.requires_grad_(False)

    def train(self, mode: bool = True):
        """Set the mode of all modules but the frozen ones, which stay in evaluation."""
        super().train(mode)
        if self.frozen_layers:
            self.encoder.eval()
            for module in families.upper(self.encoder, self.frozen_layers):
                module.train(mode)
        return self

    def autocast(self) -> AbstractContextManager:
        """A context in which matrix products have the model's precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, dtype=torch.bfloat16)

    def states(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """States (sequences, tokens, hidden) of the layer that is read."""
        if self.layer is not None:  # without what follows the last, such as a norm
            return families.states_after(self.encoder, self.layer, **inputs)
        kept = self.cached_states
        if kept is not None and (states := kept.find(**inputs)) is not None:
            return families.states_from(self.encoder, kept.depth, states, **inputs)
        return self.encoder(**inputs).last_hidden_state

    def forward(self, input_ids, attention_mask, token_type_ids=None, chosen=None) -> torch.Tensor:
        """States, or the head's logits: (sequences, width) or (sequences, tokens, width), float32.

        All inputs are (sequences, tokens); ``chosen`` are the tokens that the head reads.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:  # not every model takes them
            inputs[SEGMENTS] = token_type_ids
        families.choose_attention(self.encoder, input_ids.shape[1], self.precision == "bf16")
        with self.autocast():
            states = self.states(inputs)
            if self.head is not None:
                states = self.head(states, attention_mask if chosen is None else chosen)
        return states.float()


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector per sequence from states (sequences, tokens, hidden): their mean, or the first."""
    if pooling == "cls":
        return states[:, 0]
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def retrieval_layer(depth: int, size: int | None = None, task: int | None = None) -> int:
    """The layer after which an encoder of ``depth`` layers is read to find translations.

    The size's choice, else the task's, else that of jiant, the code of Phang et al. (2020): 8 of
    12, 14 of 24. XTREME's script reads Tatoeba there too.
    """
    return size or min(task or depth // 2 + 2, depth)


def predict(model: EncoderModel, features: list[dict], pad: int) -> list[np.ndarray]:
    """Logits of every feature, in the order given.

    Each is (sequences, width) or (sequences, tokens, width), padded to the longest of its batch.
    """
    is_vector = getattr(model.head, "level", None) == "vector"
    if is_vector and any(len(f["input_ids"]) > 1 for f in features):
        single = [one for feature in features for one in single_sequences(feature)]
        rows = iter(predict(model, single, pad))  # each is read alone
        return [np.concatenate([next(rows) for _ in f["input_ids"]]) for f in features]
    device, training = next(model.parameters()).device, model.training
    by_index: dict[int, np.ndarray] = {}
    model.eval()
    with torch.inference_mode(), model.autocast():  # one context: weights are rounded once
        parted = list(batches(features, TOKEN_BUDGET[device.type]))
        for batch in tqdm(parted, desc="predicting", leave=False, delay=2):
            inputs = collate([features[i] for i in batch], pad)
            logits = model(**{name: value.to(device) for name, value in inputs.items()})
            counts = [len(features[i]["input_ids"]) for i in batch]
            parts = logits.float().cpu().split(counts)
            by_index |= {i: part.numpy() for i, part in zip(batch, parts, strict=True)}
    model.train(training)
    return [by_index[i] for i in range(len(features))]


def embed(
    encoder: PreTrainedModel, tokenizer, texts: list[str], pooling: str = "mean"
) -> np.ndarray:
    """Unit vectors (1 + layers, texts, hidden): a text's embeddings, then each layer's states."""
    parts = []
    with torch.inference_mode(), EncoderModel(encoder).eval().autocast():
        for at in range(0, len(texts), 32):
            cut = tokenizer(texts[at : at + 32], truncation=True, max_length=128, padding=True)
            inputs = cut.convert_to_tensors("pt").to(encoder.device)
            states = encoder(**inputs, output_hidden_states=True).hidden_states
            mask = inputs["attention_mask"]
            parts.append(torch.stack([pool(layer, mask, pooling).float() for layer in states]))
    return functional.normalize(torch.cat(parts, dim=1), dim=-1).cpu().numpy()
