"""What the package needs to know of an encoder's architecture; nothing else looks inside a model.

A model is only ever called as it is. Where some of its layers are to be left out, their list is
exchanged for the call, so that masks, positions and what follows the last layer stay the model's
own.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from helpers.study import Hyperparameters, StudyError
from helpers.study.architectures import FAMILIES, Family
from helpers.study.catalogue import unknown

CROSSOVER = 256
"""Tokens from which SDPA is the faster attention on a processor: a forward and backward pass with
eager attention took 0.99 times as long as one with SDPA at 16 tokens, 1.03 at 128, 1.08 at 256 and
1.54 at 512 (docs/cost.md)."""


def family(config: PretrainedConfig) -> Family:
    """The architecture of a model; raises :class:`StudyError` for one that is not supported."""
    if config.model_type not in FAMILIES:
        wrong = unknown("architecture", config.model_type, FAMILIES)
        raise StudyError(f"{wrong}, where the package knows the layers")
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
    encoder.config.num_hidden_layers = len(new)  # EuroBERT runs so many


def keep_lower(encoder: PreTrainedModel, count: int) -> None:
    """Keep an encoder's lowest ``count`` layers."""
    set_layers(encoder, list(layers(encoder))[:count])
    if getattr(encoder.config, "layer_types", None):
        encoder.config.layer_types = encoder.config.layer_types[:count]


def _upper(encoder: PreTrainedModel, count: int) -> list[nn.Module]:
    """The layers above the lowest ``count`` and what follows the last one."""
    after = family(encoder.config).after
    return [*layers(encoder)[count:], *([encoder.get_submodule(after)] if after else [])]


def lower_parameters(encoder: PreTrainedModel, count: int) -> dict[str, nn.Parameter]:
    """All parameters but those of the layers above the lowest ``count`` and of what follows them.

    The embeddings are among them, and so is what layers share, such as relative positions.
    """
    upper = {id(p) for module in _upper(encoder, count) for p in module.parameters()}
    return {name: p for name, p in encoder.named_parameters() if id(p) not in upper}


def freeze(encoder: PreTrainedModel, count: int) -> list[nn.Module]:
    """Train neither the embeddings nor the lowest ``count`` layers; returns these modules."""
    if not count:
        return []
    for parameter in lower_parameters(encoder, count).values():
        parameter.requires_grad_(False)
    around = family(encoder.config).layers  # a path; what is on it holds upper layers too
    upper = {id(m) for module in _upper(encoder, count) for m in module.modules()}
    modules = encoder.named_modules()
    return [m for name, m in modules if not around.startswith(name) and id(m) not in upper]


def longest(encoder: PreTrainedModel) -> float:
    """Tokens of the longest text that an encoder has positions for; inf where it learned none."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa
            return module.num_embeddings - unused
    return math.inf


def check(encoder: PreTrainedModel, settings: Hyperparameters, where: str) -> None:
    """Raise :class:`StudyError` where hyperparameters ask for more than an encoder has."""
    most = {"max_length": longest(encoder), "frozen_layers": len(layers(encoder))}
    for key, limit in most.items():
        if (value := getattr(settings, key)) > limit:
            raise StudyError(f"{where}: {key}: found {value}, expected at most {limit}")


def checkpoint_gradients(encoder: PreTrainedModel) -> None:
    """Have an encoder's layers compute their states anew for the gradients, and keep only inputs.

    The library would also have the embeddings' output ask for gradients, which only reentrant
    checkpoints need and which would send them through frozen layers.
    """
    encoder.activation_checkpointing_enable({"use_reentrant": False})
    encoder.disable_input_require_grads()


def choose_attention(encoder: PreTrainedModel, length: int, bf16: bool) -> None:
    """Have an encoder use the fastest attention that it has for sequences of ``length`` tokens.

    FlashAttention on a GPU where it is installed (it has no float32), else SDPA, which on a
    processor pays for long sequences only.
    """
    kind = "eager"
    if torch.cuda.is_available():
        kind = "flash_attention_2" if bf16 and is_flash_attn_2_available() else "sdpa"
    elif length >= CROSSOVER:
        kind = "sdpa"
    if getattr(encoder, "attention", None) == kind:
        return
    for next_best in dict.fromkeys([kind, "sdpa", "eager"]):
        try:
            encoder.set_attn_implementation(next_best)
            break
        except (ValueError, ImportError):  # not every architecture has every kind
            continue
    encoder.attention = kind


class _Stand(nn.Module):
    """In place of layers: remembers the states that reach it, or gives those that it was given."""

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
    assert stand.states is not None
    return stand.states


def states_from(encoder: PreTrainedModel, depth: int, states: torch.Tensor, **inputs):
    """An encoder's last hidden state, given the states after its lowest ``depth`` layers."""
    with _exchanged(encoder, [_Stand(encoder, states), *layers(encoder)[depth:]]):
        return encoder(**inputs).last_hidden_state
