"""Train one encoder on several tasks at once: a head a task, each batch from one, updates from
many.

A batch's task is drawn with probability proportional to the task's size up to a cap (Phang et al.
2020: 2^17), which a temperature may flatten. Masked language modelling may be one more component
(Devlin et al. 2019: 15 % of the tokens, of which 80 % are hidden, 10 % replaced and 10 % left).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from helpers import data
from helpers.encoders.batches import length, training_items
from helpers.study import Hyperparameters, Study, StudyError, prepared
from helpers.study.params import Mixture
from helpers.tasks.labels import IGNORED
from helpers.training.training_set import MLM, TrainingSet, Validation, means

MASKED = 0.15
_GROUP = 50
"""Batches whose examples are sorted by length together."""


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
    rows: dict[str, list] = {task: data.drawn(study, task, settings, seed) for task in own}
    if mixture.mlm:
        rows[MLM], lengths[MLM] = _lines(study, mixture, tokenizer), settings.max_length
    examples = sum(min(len(some), mixture.cap) for some in rows.values())
    sizes = {component: len(some) for component, some in rows.items()}
    order, generator = _order(mixture.shares(sizes), settings, examples, seed)
    items = {}
    for component, some in rows.items():
        most = max(1, int((order == component).sum())) * settings.batch_size
        some = data.sample(some, most, seed)  # more would be tokenised and never seen
        items[component] = _items(study, component, some, tokenizer, lengths[component])
    streams = {c: _stream(some, settings.batch_size, generator) for c, some in items.items()}
    plan = [(str(component), next(streams[component])) for component in order]
    return TrainingSet(
        name=name,
        items=Batches(plan, items, tokenizer, seed),
        held_out={task: _held_out(study, task, tokenizer, settings, lengths[task]) for task in own},
        pad=tokenizer.pad_token_id,
        examples=examples,
        **means([items[c][i] for c, chosen in plan for i in chosen]),
    )


def _held_out(
    study: Study, name: str, tokenizer, settings: Hyperparameters, length: int
) -> Validation:
    rows, cache = data.held_out(study, name, settings), data.token_cache(study)
    return Validation(data.labelled(study, name), rows, tokenizer, length, cache)


def _order(shares: dict[str, float], settings: Hyperparameters, examples: int, seed: int):
    """The component of every batch, and the generator that goes on to draw their items."""
    count = settings.total_steps(examples) * settings.gradient_accumulation
    generator = np.random.default_rng([seed, count])
    return generator.choice(list(shares), size=count, p=list(shares.values())), generator


def _items(study: Study, component: str, rows: list, tokenizer, max_length: int) -> list[dict]:
    if component == MLM:
        cut = tokenizer(rows, truncation=True, max_length=max_length)["input_ids"]
        return [{"input_ids": [ids], "labels": 0, "length": len(ids)} for ids in cut]
    task = data.labelled(study, component)
    return training_items(data.tokenise(task, rows, tokenizer, max_length, data.token_cache(study)))


def _lines(study: Study, mixture: Mixture, tokenizer) -> list[str]:
    where = f"{study.path}: mixtures.mlm"
    if tokenizer.mask_token_id is None:
        raise StudyError(
            f"{where}: the tokenizer has no mask; expected one for masked language models"
        )
    lines: list[str] = []
    for cell in mixture.texts(study.tasks):
        lines += [row["text"] for row in data.examples(study, *cell)]
    files = mixture.mlm.files if mixture.mlm else []
    for path in (Path(prepared.data_dir(study) or "") / file for file in files):
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
