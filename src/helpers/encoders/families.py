"""What the package knows about encoders' architectures; no other module looks inside a model.

A model is called unchanged. To leave out layers, its list of layers is exchanged for that call, so
that masks, positions and the part after the last layer stay the model's own.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from helpers.study import StudyError
from helpers.study.architectures import FAMILIES, Family
from helpers.study.catalogue import unknown

CROSSOVER = 256
"""From this many tokens on, SDPA is the faster attention on a processor (docs/cost.md)."""


def family(config: PretrainedConfig) -> Family:
    """The architecture of a model; raises :class:`StudyError` for one that is not supported."""
    if config.model_type not in FAMILIES:
        wrong = unknown("architecture", config.model_type, FAMILIES)
        raise StudyError(f"{wrong} (the package knows their layers)")
    return FAMILIES[config.model_type]


def layers(encoder: PreTrainedModel) -> nn.ModuleList:
    """An encoder's layers, the lowest first."""
    return cast(nn.ModuleList, encoder.get_submodule(family(encoder.config).layers))


def words(encoder: PreTrainedModel) -> nn.Parameter:
    """An encoder's word embeddings (tokens, size of an embedding)."""
    return encoder.get_input_embeddings().get_parameter("weight")


def set_layers(encoder: PreTrainedModel, new: list[nn.Module]) -> None:
    """Give an encoder other layers."""
    parent, _, name = family(encoder.config).layers.rpartition(".")
    setattr(encoder.get_submodule(parent), name, nn.ModuleList(new))
    encoder.config.num_hidden_layers = len(new)  # EuroBERT runs this many


def keep_lower(encoder: PreTrainedModel, count: int) -> None:
    """Keep an encoder's lowest ``count`` layers."""
    set_layers(encoder, list(layers(encoder))[:count])
    if getattr(encoder.config, "layer_types", None):
        encoder.config.layer_types = encoder.config.layer_types[:count]


def upper(encoder: PreTrainedModel, count: int) -> list[nn.Module]:
    """The layers above the lowest ``count``, and the part after the last one."""
    after = family(encoder.config).after
    return [*layers(encoder)[count:], *([encoder.get_submodule(after)] if after else [])]


def lower_parameters(encoder: PreTrainedModel, count: int) -> dict[str, nn.Parameter]:
    """All parameters but those of ``upper``: the embeddings are among them, and what layers share,
    such as relative positions.
    """
    others = {id(p) for module in upper(encoder, count) for p in module.parameters()}
    return {name: p for name, p in encoder.named_parameters() if id(p) not in others}


def longest(encoder: PreTrainedModel) -> float:
    """The most tokens that an encoder has positions for; inf if it learned none."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa
            return module.num_embeddings - unused
    return math.inf


def choose_attention(encoder: PreTrainedModel, length: int, bf16: bool) -> None:
    """Make an encoder use its fastest attention for sequences of ``length`` tokens."""
    gpu = torch.cuda.is_available()
    fastest = "sdpa" if gpu or length >= CROSSOVER else "eager"
    if gpu and bf16 and is_flash_attn_2_available():  # it has no float32
        fastest = "flash_attention_2"
    if getattr(encoder, "attention", None) == fastest:
        return
    encoder.attention = fastest
    for kind in (fastest, "sdpa", "eager"):
        with suppress(ValueError, ImportError):  # not every architecture has every kind
            encoder.set_attn_implementation(kind)
            return


class _Stand(nn.Module):
    """Stands in for layers: records the states that reach it, or returns those it was given."""

    def __init__(self, encoder: PreTrainedModel, states: torch.Tensor | None = None):
        super().__init__()
        self.states, self.more = states, family(encoder.config).outputs - 1
        self.attention_type = getattr(layers(encoder)[0], "attention_type", None)  # ModernBERT asks

    def forward(self, states: torch.Tensor, *_, **__):
        if self.states is None:
            self.states = states
        return (self.states, *[None] * self.more) if self.more else self.states


@contextmanager
def _exchanged(encoder: PreTrainedModel, new: list[nn.Module]) -> Iterator[None]:
    before = list(layers(encoder))
    set_layers(encoder, new)
    try:
        yield
    finally:
        set_layers(encoder, before)


def states_after(encoder: PreTrainedModel, depth: int, **inputs) -> torch.Tensor:
    """States (sequences, tokens, hidden) after an encoder's lowest ``depth`` layers."""
    stand = _Stand(encoder)
    with _exchanged(encoder, [*layers(encoder)[:depth], stand]):
        encoder(**inputs)
    return cast(torch.Tensor, stand.states)


def states_from(encoder: PreTrainedModel, depth: int, states: torch.Tensor, **inputs):
    """An encoder's last hidden state, given the states after its lowest ``depth`` layers."""
    with _exchanged(encoder, [_Stand(encoder, states), *layers(encoder)[depth:]]):
        return encoder(**inputs).last_hidden_state
