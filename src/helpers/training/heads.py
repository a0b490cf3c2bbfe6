"""An encoder with a head for every component of a mixture."""

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

from helpers import data, tasks
from helpers.encoders.model import EncoderModel, Head
from helpers.study import Study

MLM = "masked language modelling"


class MaskedHead(nn.Module):
    """Logits over the vocabulary: a transform that begins as the identity, then the embeddings."""

    def __init__(self, config: PretrainedConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=getattr(config, "layer_norm_eps", 1e-5))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """(tokens, hidden) to (tokens, vocabulary)."""
        states = self.norm(functional.gelu(self.dense(states)))
        return functional.linear(states, embeddings, self.bias)


class EncoderWithHeads(EncoderModel):
    """An encoder and a head per component; ``component`` says which one is in use."""

    def __init__(self, encoder: PreTrainedModel, heads: dict[str, nn.Module]):
        super().__init__(encoder)
        self.component = next(iter(heads))
        self.names = {name: f"head_{i}" for i, name in enumerate(heads)}
        self.heads = nn.ModuleDict({self.names[name]: head for name, head in heads.items()})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        chosen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of the component's head in float32.

        With ``chosen`` (sequences, tokens), those of these tokens over the vocabulary.
        """
        with self.autocast():
            states = self.states(input_ids, attention_mask)
            head = self.heads[self.names[self.component]]
            if chosen is None:
                return head(states, attention_mask).float()
            return head(states[chosen], self.encoder.get_input_embeddings().weight).float()


def of_mixture(
    study: Study, name: str, encoder: PreTrainedModel, pooling: str, dropout: float
) -> EncoderWithHeads:
    """The encoder with a new head for every component of the mixture ``name``."""
    heads: dict[str, nn.Module] = {}
    for component in study.mixtures[name].tasks:
        task = data.labelled(study, component)
        level, width = tasks.of(task).head(task)
        heads[component] = Head(encoder.config, level, width, pooling, dropout)
    if study.mixtures[name].mlm:
        heads[MLM] = MaskedHead(encoder.config)
    return EncoderWithHeads(encoder, heads)
