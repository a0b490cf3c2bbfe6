"""Train one encoder on several tasks at once: a head a task, each batch from one, updates from
many.

A batch's task is drawn with probability proportional to the task's size up to a cap (Phang et al.
2020: 2^17). Masked language modelling over text files may be one more component (Devlin et al.
2019: 15 % of the tokens, of which 80 % are hidden, 10 % replaced and 10 % left).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from helpers import data, tasks
from helpers.encoders.batches import (
    collate,
    collate_labels,
    length,
    micro_batches,
    training_items,
)
from helpers.encoders.model import EncoderModel, Head
from helpers.study import Hyperparameters, Study, StudyError
from helpers.tasks.labels import IGNORED
from helpers.training import training_set
from helpers.training.training_set import TrainingSet, Validation

MLM = "masked language modelling"
MASKED = 0.15
_GROUP = 50
"""Batches whose examples are sorted by length together."""


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


@dataclass
class Batches(Sequence):
    """Batches in the order that a training takes them: (component, item numbers) each."""

    plan: list[tuple[str, np.ndarray]]
    items: dict[str, list[dict]]
    tokenizer: PreTrainedTokenizerFast
    seed: int

    def __len__(self):
        return len(self.plan)

    def __getitem__(self, index):
        component, chosen = self.plan[index]
        batch = [self.items[component][i] for i in chosen]
        if component == MLM:  # the same tokens are hidden when a training resumes here
            generator = np.random.default_rng([self.seed, index])
            batch = [_mask(item, self.tokenizer, generator) for item in batch]
        return {"component": component, "batch": batch}


def shares(sizes: dict[str, int], cap: int) -> dict[str, float]:
    """Probability of each component: proportional to its size, up to ``cap``."""
    capped = {name: min(size, cap) for name, size in sizes.items()}
    return {name: size / sum(capped.values()) for name, size in capped.items()}


def model(
    study: Study, name: str, encoder: PreTrainedModel, pooling: str, dropout: float
) -> EncoderWithHeads:
    """The encoder with a new head for every component of the mixture ``name``."""
    heads: dict[str, nn.Module] = {}
    for component in study.mixtures[name].tasks:
        task = data.labelled(study, component)
        heads[component] = Head(encoder.config, *tasks.of(task).head(task), pooling, dropout)
    if study.mixtures[name].mlm:
        heads[MLM] = MaskedHead(encoder.config)
    return EncoderWithHeads(encoder, heads)


def of_mixture(
    study: Study,
    size: str,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    settings: Hyperparameters,
    seed: int,
) -> TrainingSet:
    """The training set of the mixture ``name``.

    Lengths and validation data are those of each task; batch size and duration are the mixture's.

    Raises
    ------
    StudyError
        A text file is missing, or the tokenizer has no mask.
    """
    mixture, own = study.mixtures[name], study.mixtures[name].tasks
    lengths = {task: study.hyperparameters("intermediate", size, task).max_length for task in own}
    train: dict[str, list] = {task: training_set.drawn(study, task, settings, seed) for task in own}
    if mixture.mlm:
        train[MLM], lengths[MLM] = _lines(study, mixture.mlm.files, tokenizer), settings.max_length
    examples = sum(min(len(rows), mixture.cap) for rows in train.values())
    order, generator = _order(train, mixture.cap, settings, examples, seed)
    items = {}
    for component, rows in train.items():
        most = max(1, int((order == component).sum())) * settings.batch_size
        rows = data.sample(rows, most, seed)  # more would be tokenised and never seen
        items[component] = _items(study, component, rows, tokenizer, lengths[component])
    streams = {c: _stream(rows, settings.batch_size, generator) for c, rows in items.items()}
    plan = [(str(component), next(streams[component])) for component in order]
    tokens, sequences = training_set.means([items[c][i] for c, chosen in plan for i in chosen])
    held_out = {}
    for task in own:
        rows = training_set.held_out(study, task, settings)
        more = tokenizer, lengths[task], data.token_cache(study)
        held_out[task] = Validation(data.labelled(study, task), rows, *more)
    selections = [validation.selection for validation in held_out.values()]
    losses, pad = {c: tasks.of(study.tasks[c]).loss for c in own}, tokenizer.pad_token_id
    return TrainingSet(
        name=name,
        items=Batches(plan, items, tokenizer, seed),
        lengths=None,
        batch_size=1,
        split=_split,
        collate=lambda given: {
            **collate(given["batch"], pad),
            "labels": collate_labels(given["batch"]),
            "component": given["component"],
        },
        loss=lambda model, batch: _loss(model, batch, losses),
        validate=lambda model: _validate(model, held_out),
        selection={
            "task": name,
            "split": "validation",
            "language": "en",
            "n": sum(selection["n"] for selection in selections),
            "majority": float(np.mean([selection["majority"] for selection in selections])),
        },
        examples=examples,
        tokens=tokens,
        sequences=sequences,
    )


def _order(train: dict[str, list], cap: int, settings: Hyperparameters, examples: int, seed: int):
    """The component of every batch, and the generator that goes on to draw their items."""
    count = settings.total_steps(examples) * settings.gradient_accumulation
    generator = np.random.default_rng([seed, count])
    chances = shares({name: len(rows) for name, rows in train.items()}, cap)
    return generator.choice(list(chances), size=count, p=list(chances.values())), generator


def _items(study: Study, component: str, rows: list, tokenizer, max_length: int) -> list[dict]:
    if component == MLM:
        cut = tokenizer(rows, truncation=True, max_length=max_length)["input_ids"]
        return [{"input_ids": [ids], "labels": 0, "length": len(ids)} for ids in cut]
    task = data.labelled(study, component)
    return training_items(data.tokenise(task, rows, tokenizer, max_length, data.token_cache(study)))


def _lines(study: Study, files: list[str], tokenizer) -> list[str]:
    where = f"{study.path}: mixtures.mlm"
    if tokenizer.mask_token_id is None:
        raise StudyError(
            f"{where}: the tokenizer has no mask; expected one for masked language models"
        )
    lines: list[str] = []
    for path in (Path(data.data_dir(study) or "") / file for file in files):
        if not path.is_file():
            raise StudyError(f"{where}.files: no such file {path}; expected a line of text a line")
        lines += [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def _stream(items: list[dict], size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of item numbers: each epoch in a new order, like lengths together."""
    while True:
        order, batches = generator.permutation(len(items)), []
        for low in range(0, len(order), size * _GROUP):
            group = sorted(order[low : low + size * _GROUP], key=lambda i: -length(items[i]))
            batches += [np.array(group[at : at + size]) for at in range(0, len(group), size)]
        for at in generator.permutation(len(batches)):
            yield batches[at]


def _mask(item: dict, tokenizer, generator: np.random.Generator) -> dict:
    """A line with tokens hidden, and the hidden tokens as labels."""
    ids = np.array(item["input_ids"][0])
    free = ~np.isin(ids, tokenizer.all_special_ids)
    chosen = free & (generator.random(len(ids)) < MASKED)
    if free.any() and not chosen.any():
        chosen[generator.choice(np.flatnonzero(free))] = True
    labels, draw = np.where(chosen, ids, IGNORED), generator.random(len(ids))
    ids = np.where(chosen & (draw < 0.8), tokenizer.mask_token_id, ids)
    ids = np.where(chosen & (draw >= 0.9), generator.integers(len(tokenizer), size=len(ids)), ids)
    return {"input_ids": [ids], "labels": [labels.tolist()]}


def _split(given: list[dict]) -> list[dict]:
    return [{**given[0], "batch": part} for part in micro_batches(given[0]["batch"])]


def _loss(model: EncoderWithHeads, batch: dict, losses: dict) -> torch.Tensor:
    inputs, labels = (batch["input_ids"], batch["attention_mask"]), batch["labels"]
    model.component = batch["component"]
    if batch["component"] == MLM:
        chosen = labels != IGNORED
        return functional.cross_entropy(model(*inputs, chosen), labels[chosen])
    return losses[batch["component"]](model(*inputs), labels)


def _validate(model: EncoderWithHeads, held_out: dict[str, Validation]) -> float:
    """The mean of the tasks' scores: every task counts the same, whatever its size."""
    scores = []
    for model.component, validation in held_out.items():
        scores.append(validation.score(model))
    return float(np.mean(scores))
