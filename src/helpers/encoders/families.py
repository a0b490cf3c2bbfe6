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
from transformers import MT5EncoderModel, PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from helpers.encoders import hardware
from helpers.study import Hyperparameters, StudyError
from helpers.study.architectures import FAMILIES, Family
from helpers.study.catalogue import unknown

CLASSES = {"mt5": MT5EncoderModel}
"""Classes of architectures whose ``AutoModel`` has a decoder too."""


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
    """An encoder's word embeddings (tokens, hidden)."""
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


def longest(encoder: PreTrainedModel) -> float:
    """Tokens of the longest text that an encoder has positions for; inf where it learned none."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = [] if module.padding_idx is None else range(module.padding_idx + 1)  # RoBERTa
            return module.num_embeddings - len(unused)
    return math.inf


def check(encoder: PreTrainedModel, settings: Hyperparameters, where: str) -> None:
    """Raise :class:`StudyError` where hyperparameters ask for more than an encoder has."""
    known = {"max_length": longest(encoder), "frozen_layers": len(layers(encoder))}
    for key, most in known.items():
        if (found := getattr(settings, key)) > most:
            raise StudyError(f"{where}: {key}: found {found}, expected at most {most}")


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


def checkpoint_gradients(encoder: PreTrainedModel) -> None:
    """Have an encoder's layers compute their states anew for the gradients, and keep only inputs.

    The library would also have the embeddings' output ask for gradients, which only reentrant
    checkpoints need and which would send them through frozen layers.
    """
    encoder.activation_checkpointing_enable({"use_reentrant": False})
    encoder.disable_input_require_grads()


def choose_attention(encoder: PreTrainedModel, length: int) -> None:
    """Have an encoder use the fastest attention for sequences of ``length`` tokens.

    That is FlashAttention on a GPU where it is installed and products are in bf16, SDPA on any
    other GPU and for long sequences on a processor; of these what the architecture has.
    """
    gpu, kind = torch.cuda.is_available(), "eager"
    if (gpu or length >= hardware.CROSSOVER) and encoder._supports_sdpa:
        kind = "sdpa"
    if is_flash_attn_2_available() and torch.is_autocast_enabled("cuda"):  # it has no float32
        kind = "flash_attention_2" if encoder._supports_flash_attn else kind
    if encoder.config._attn_implementation != kind:
        encoder.set_attn_implementation(kind)


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
    own = list(layers(encoder))
    set_layers(encoder, new)
    try:
        yield
    finally:
        set_layers(encoder, own)


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
