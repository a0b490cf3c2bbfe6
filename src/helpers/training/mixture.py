"""Train one encoder on several tasks at once: a head per task, every batch from one task, an update from several.

A batch's task is drawn with probability proportional to the task's size up to a cap (Phang et al. 2020: 2^17). Masked
language modelling over text files may be one more component (Devlin et al. 2019: 15 % of the pieces, of which 80 % are
hidden, 10 % replaced and 10 % left).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from helpers import data, tasks
from helpers.encoders.model import (
    Head,
    choose_attention,
    collate,
    collate_labels,
    length,
    micro_batches,
    predict,
    training_items,
)
from helpers.study import Hyperparameters, Study, StudyError
from helpers.tasks.labels import IGNORED
from helpers.training.training_set import TrainingSet, score, selection

MLM = "masked language modelling"
MASKED = 0.15
_GROUP = 50
"""Batches whose examples are sorted by length together."""


class MaskedHead(nn.Module):
    """Logits over the vocabulary at chosen pieces: a transform that begins as the identity, then the embeddings."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """(pieces, hidden) to (pieces, vocabulary)."""
        return functional.linear(
            self.norm(functional.gelu(self.dense(states))), embeddings, self.bias
        )


class EncoderWithHeads(nn.Module):
    """An encoder and a head per component; ``component`` says which one is in use."""

    def __init__(self, encoder: PreTrainedModel, heads: dict[str, nn.Module]):
        super().__init__()
        self.encoder, self.component = encoder, next(iter(heads))
        self.names = {name: f"head_{i}" for i, name in enumerate(heads)}
        self.heads = nn.ModuleDict({self.names[name]: head for name, head in heads.items()})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        chosen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of the component's head; with ``chosen`` (sequences, pieces), of those pieces over the vocabulary."""
        choose_attention(self.encoder, input_ids.shape[1])
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        head = self.heads[self.names[self.component]]
        if chosen is not None:
            return head(states[chosen], self.encoder.get_input_embeddings().weight)
        return head(states, attention_mask)


class Batches(Sequence):
    """Batches in the order that a training takes them: item i is ready to be turned into tensors."""

    def __init__(
        self, plan: list[tuple[str, np.ndarray]], items: dict[str, list[dict]], mask, seed: int
    ):
        self.plan, self.items, self.mask, self.seed = plan, items, mask, seed

    def __len__(self):
        return len(self.plan)

    def __getitem__(self, index):
        if index >= len(self.plan):
            raise IndexError(index)
        component, chosen = self.plan[index]
        batch = [self.items[component][i] for i in chosen]
        if component == MLM:  # the same pieces are hidden when a training resumes here
            generator = np.random.default_rng([self.seed, index])
            batch = [self.mask(item, generator) for item in batch]
        return {"component": component, "batch": batch}


def shares(sizes: dict[str, int], cap: int) -> dict[str, float]:
    """Probability of each component: proportional to its size, up to ``cap``."""
    capped = {name: min(size, cap) for name, size in sizes.items()}
    return {name: size / sum(capped.values()) for name, size in capped.items()}


def model(
    study: Study, name: str, encoder: PreTrainedModel, pooling: str, dropout: float
) -> EncoderWithHeads:
    """The encoder with a new head for every component of the mixture ``name``."""
    mixture, heads = study.mixtures[name], {}
    for component in mixture.tasks:
        task = data.labelled(study, component)
        heads[component] = Head(encoder.config, *tasks.of(task).head(task), pooling, dropout)
    if mixture.mlm:
        heads[MLM] = MaskedHead(encoder.config)
    return EncoderWithHeads(encoder, heads)


def material(
    study: Study,
    size: str,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    settings: Hyperparameters,
    seed: int,
) -> TrainingSet:
    """What a training on the mixture ``name`` draws from.

    Lengths and validation data are those of each task; batch size and duration are the mixture's.

    Raises
    ------
    StudyError
        A text file is missing, or the tokenizer has no mask.
    """
    mixture, own = study.mixtures[name], study.mixtures[name].tasks
    lengths = {task: study.hyperparameters("intermediate", size, task).max_length for task in own}
    train = {
        task: data.sample(data.trained_on(study, task, "train"), settings.train_examples, seed)
        for task in own
    }
    if mixture.mlm:
        train[MLM] = _lines(study, mixture.mlm.files, tokenizer)
        lengths[MLM] = settings.max_length
    sizes = {component: len(rows) for component, rows in train.items()}
    examples = sum(min(count, mixture.cap) for count in sizes.values())
    count = settings.total_steps(examples) * settings.gradient_accumulation
    generator = np.random.default_rng([seed, count])
    order = generator.choice(list(sizes), size=count, p=list(shares(sizes, mixture.cap).values()))
    items = {}
    for component, rows in train.items():
        drawn = max(1, int((order == component).sum())) * settings.batch_size
        rows = data.sample(rows, drawn, seed)  # more would be cut into pieces and never seen
        items[component] = _items(study, component, rows, tokenizer, lengths[component])
    streams = {
        component: _stream(items[component], settings.batch_size, generator) for component in items
    }
    plan = [(str(component), next(streams[component])) for component in order]
    seen = [items[component][i] for component, chosen in plan for i in chosen]
    pad, held_out, about = tokenizer.pad_token_id, {}, []
    for component in own:
        task = data.labelled(study, component)
        rows = data.sample(
            data.trained_on(study, component, "validation"), settings.validation_examples, 0
        )
        held_out[component] = (
            task,
            rows,
            data.tokenise(task, rows, tokenizer, lengths[component], data.token_cache(study)),
        )
        about.append(selection(task, rows))
    return TrainingSet(
        name=name,
        items=Batches(plan, items, lambda item, generator: _mask(item, tokenizer, generator), seed),
        lengths=None,
        batch_size=1,
        split=lambda given: [
            {**given[0], "batch": part} for part in micro_batches(given[0]["batch"])
        ],
        collate=lambda given: _collate(given, pad),
        loss=lambda model, batch: _loss(
            model, batch, {c: tasks.of(study.tasks[c]).loss for c in own}
        ),
        validate=lambda model: _validate(model, held_out, pad),
        selection={
            **{
                "task": name,
                "split": "validation",
                "language": "en",
                "n": sum(part["n"] for part in about),
            },
            "majority": float(np.mean([part["majority"] for part in about])),
        },
        examples=examples,
        pieces=sum(len(ids) for item in seen for ids in item["input_ids"]) / len(seen),
        sequences=sum(len(item["input_ids"]) for item in seen) / len(seen),
    )


def _items(study: Study, component: str, rows: list, tokenizer, max_length: int) -> list[dict]:
    if component == MLM:
        cut = tokenizer(rows, truncation=True, max_length=max_length)["input_ids"]
        return [{"input_ids": [ids], "labels": 0, "length": len(ids)} for ids in cut]
    task = data.labelled(study, component)
    return training_items(data.tokenise(task, rows, tokenizer, max_length, data.token_cache(study)))


def _lines(study: Study, files: list[str], tokenizer) -> list[str]:
    if tokenizer.mask_token_id is None:
        raise StudyError(
            f"{study.path}: mixtures.mlm: the tokenizer has no mask; expected one for masked language models"
        )
    lines, folder = [], data.data_dir(study) or Path()
    for file in files:
        if not (folder / file).is_file():
            raise StudyError(
                f"{study.path}: mixtures.mlm.files: no such file {folder / file}; expected a line of text a line"
            )
        lines += [
            line.strip()
            for line in (folder / file).read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
    return lines


def _stream(items: list[dict], size: int, generator: np.random.Generator):
    """Endless batches of item numbers: epoch after epoch in a new order, items of like length together."""
    while True:
        order, batches = generator.permutation(len(items)), []
        for low in range(0, len(order), size * _GROUP):
            group = sorted(order[low : low + size * _GROUP], key=lambda i: -length(items[i]))
            batches += [np.array(group[at : at + size]) for at in range(0, len(group), size)]
        for at in generator.permutation(len(batches)):
            yield batches[at]


def _mask(item: dict, tokenizer, generator: np.random.Generator) -> dict:
    """A line with pieces hidden, and the hidden pieces as labels."""
    ids = np.array(item["input_ids"][0])
    free = ~np.isin(ids, tokenizer.all_special_ids)
    chosen = free & (generator.random(len(ids)) < MASKED)
    if free.any() and not chosen.any():
        chosen[generator.choice(np.flatnonzero(free))] = True
    labels, draw = np.where(chosen, ids, IGNORED), generator.random(len(ids))
    ids = np.where(chosen & (draw < 0.8), tokenizer.mask_token_id, ids)
    ids = np.where(chosen & (draw >= 0.9), generator.integers(len(tokenizer), size=len(ids)), ids)
    return {"input_ids": [ids], "labels": [labels.tolist()]}


def _collate(given: dict, pad: int) -> dict:
    labels = collate_labels(given["batch"])
    return {**collate(given["batch"], pad), "labels": labels, "component": given["component"]}


def _loss(model: nn.Module, batch: dict, losses: dict) -> torch.Tensor:
    inputs, labels = (batch["input_ids"], batch["attention_mask"]), batch["labels"]
    model.component = batch["component"]
    if batch["component"] == MLM:
        chosen = labels != IGNORED
        return functional.cross_entropy(model(*inputs, chosen).float(), labels[chosen])
    return losses[batch["component"]](model(*inputs), labels)


def _validate(model: EncoderWithHeads, held_out: dict, pad: int) -> float:
    """The mean of the tasks' scores: every task counts the same, whatever its size."""
    scores = []
    for component, (task, rows, features) in held_out.items():
        model.component = component
        scores.append(score(task, rows, features, predict(model, features, pad)))
    return float(np.mean(scores))
