"""What one result of a study takes: known from its parameters, or estimated from these figures."""

import math

from helpers.batch import memory
from helpers.study import Study, Task, prepared
from helpers.study.params import Phase

GPU_FLOPS = 1.2e14
"""Assumed rate of training on one GPU: 40 % of an A100's 312 TFLOP/s in bf16."""
TRAINING, PREDICTION = 6, 3
"""FLOP a parameter of the layers and token. Weights that are not trained need 2 less, layers whose
states are computed twice 2 more."""
START = 60.0
"""Assumed seconds that a run takes to start, load and write."""
TOKENS = {
    "sentence_pair": 50,
    "multiple_choice": 40,
    "span_extraction": 250,
    "tagging": 30,
    "retrieval": 20,
    "plain_text": 128,
    "map_20": 100,
}
"""Assumed tokens of a sequence (map_20: of retrieval that is trained for); long texts are cut at
the study's length."""
PREDICTED = 5_000
"""Assumed evaluated items of a language where the catalogue does not say."""


def result(study: Study, size: str, *names: str) -> tuple[int, int, float, int, int]:
    """Examples and tokens trained on, hours, bytes kept and tokens predicted of one result."""
    lora = study.sizes[size].tuning == "lora"
    layers, words, adapters = memory.parameters(study, study.sizes[size])
    disk, predicted = 4 * (adapters if lora and names else layers + words), 0
    if len(names) == 3:
        disk = 0
    elif len(names) == 2:
        items, predicted = evaluated(study, size, names[1])
        disk = 200 * items + 4 * layers * study.keeps_model(names[1])  # frozen ones too
    examples, tokens = trained(study, size, *names[-2:]) if names else (0, 0)
    training = TRAINING - 2 * lora + 2 * study.sizes[size].gradient_checkpointing
    seconds = START + layers * (training * tokens + PREDICTION * predicted) / GPU_FLOPS
    return examples, tokens, seconds / 3600, disk, predicted


def evaluated(study: Study, size: str, target: str) -> tuple[int, int]:
    """Items of a target in all languages, and the tokens of these and of their candidates."""
    task = study.tasks[target]
    items = _items(task, study.languages(target))
    tokens = items * tokens_of(study, "target", size, target, target)
    for pool in (study.tasks[name] for name in task.candidates):
        length = tokens_of(study, "target", size, pool.name, target)
        tokens += _items(pool, pool.languages) * length
    return items, tokens


def _items(task: Task, languages: list[str]) -> int:
    """Evaluated items of a task, in all of these languages."""
    together = "{language}" in str(task.where)  # one source has them all
    return task.sizes.get(task.evaluate, PREDICTED) * (1 if together else len(languages))


def texts(study: Study, size: str, name: str, phase: Phase = "target") -> int:
    """Tokens of a task's training texts, each once; of a target's evaluated ones too."""
    target = phase == "target"
    total = evaluated(study, size, name)[1] if target else 0
    for task in study.train_on(name) if target else study.components(name):
        length = tokens_of(study, phase, size, task, name if target else task)
        total += length * (rows(study, task) or 0)
    return total


def trained(study: Study, size: str, name: str, target: str | None = None) -> tuple[int, int]:
    """Examples and tokens of one training: stages one after the other, each on tasks at once."""
    stages = [[task] for task in study.train_on(target)] if target else [study.components(name)]
    phase: Phase = "target" if target else "intermediate"
    name = target or name
    settings, mixture = study.hyperparameters(phase, size, name), study.mixtures.get(name)
    limit = min(settings.train_examples or math.inf, mixture.cap if mixture else math.inf)
    examples = tokens = 0
    for tasks in stages:
        counts = {task: int(min(rows(study, task) or 0, limit)) for task in tasks}
        if cells := mixture.texts(study.tasks) if mixture else []:
            text = cells[0][0]
            counts[text] = int(min((rows(study, text) or 0) * len(cells), limit))
        if total := sum(counts.values()):
            batches = settings.total_steps(total) * settings.gradient_accumulation
            shares = mixture.shares(counts) if mixture else {task: 1 for task in tasks}
            for task, share in shares.items():
                own = task if mixture and task in tasks else name
                length = tokens_of(study, phase, size, task, own)
                seen = batches * settings.batch_size * share
                examples, tokens = examples + round(seen), tokens + round(seen * length)
    return examples, tokens


def rows(study: Study, name: str) -> int | None:
    """Training rows as the catalogue says, else as counted when the study's data was read."""
    entry = study.tasks[name]
    counts = [study.tasks[part].sizes.get("train") for part in entry.parts or [name]]
    if None in counts:
        read = prepared.summary(study).get("splits", {})
        counts = [read.get(f"{name}/train/{code}", {}).get("rows") for code in entry.trained_in]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def tokens_of(study: Study, phase: Phase, size: str, task: str, name: str) -> int:
    """Tokens of an example of ``task``, cut as the hyperparameters of ``name`` say."""
    entry, limit = study.tasks[task], study.hyperparameters(phase, size, name).max_length
    return min(TOKENS.get(entry.metric, TOKENS[entry.format]), limit) * memory.sequences(entry)
