"""What a study needs, before anything runs: ``python tools/plan.py params/STUDY.yaml``.

Counts what is known, estimates the rest from the figures below (docs/cost.md derives them), and
names the data that is missing on this machine. Nothing is downloaded.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import command
import fetch
import pandas as pd

from comparison import Plan, Target, detectable
from comparison import Size as Measured
from helpers.study import NONE, Size, Study, Task
from helpers.study.files import read_json

GPU_FLOPS = 1.2e14
"""Assumed rate of training on one GPU: 40 % of an A100's 312 TFLOP/s in bf16."""
TRAINING, PREDICTION = 6, 3
"""FLOP per token and parameter of the layers. Weights that are not trained need 2 less, layers
whose states are computed twice 2 more."""
START = 60.0
"""Assumed seconds that a training takes to start, load and write."""
TOKENS = {"sentence_pair": 50, "multiple_choice": 40, "span_extraction": 250, "tagging": 30}
TOKENS |= {"retrieval": 20, "plain_text": 128, "map_20": 100}
"""Assumed tokens of a sequence (map_20: trained retrieval)."""
ITEMS = 5_000
"""Assumed number of evaluated items in a language, if the catalogue does not say."""
ENCODERS = {
    "FacebookAI/xlm-roberta-base": (12, 768, 12),
    "FacebookAI/xlm-roberta-large": (24, 1024, 12),
    "facebook/xlm-roberta-xl": (36, 2560, 12),
    "facebook/xlm-roberta-xxl": (48, 4096, 12),
    "intfloat/multilingual-e5-base": (12, 768, 12),
    "intfloat/multilingual-e5-large": (24, 1024, 12),
    "jhu-clsp/mmBERT-small": (22, 384, 13),
    "jhu-clsp/mmBERT-base": (22, 768, 8.5),
}
"""Layers, hidden size, and a layer's weights as a multiple of the hidden size squared: 4 for
attention, the rest feed-forward (twice 4; mmBERT's has three matrices of 1,152 units)."""
VOCABULARY = {True: 150_000, False: 250_002}
"""Rows of the vocabulary: trimmed (assumed, for many languages), and XLM-R's whole one."""
CARDS, USABLE, AT_ONCE = (24, 40, 80), 0.9, 65_536
"""GB of usual GPUs, the share of them that a training can use, and the most tokens that it sends
through the model at once (helpers.encoders.batches)."""
STATES, BETWEEN = 50, 4
"""Bytes per token and hidden unit: all that a layer keeps for the gradients; its input alone."""


def shape(size: Size) -> tuple[int, int, float] | None:
    """Layers, hidden size and weights of a layer by hidden size squared, where they are known."""
    known = ENCODERS.get(size.encoder)
    if config := read_json(Path(size.encoder).expanduser() / "config.json"):
        hidden, layers = config.get("hidden_size", 768), config.get("num_hidden_layers", 12)
        known = (layers, hidden, 4 + 2 * config.get("intermediate_size", 4 * hidden) / hidden)
    return (size.layers or known[0], *known[1:]) if known else None


def parameters(study: Study, size: Size) -> tuple[int, int, int]:
    """Parameters of a size's layers, of its word embeddings, and of adapters in all its layers."""
    layers, hidden, multiple = shape(size) or ENCODERS["FacebookAI/xlm-roberta-base"]
    inner = layers * hidden * int(multiple * hidden + 13)
    return inner, hidden * VOCABULARY[study.trim], layers * 18 * hidden * size.lora.rank


def rows(study: Study, name: str) -> int | None:
    """Training rows as the catalogue says, else as counted when the study's data was read."""
    task = study.tasks[name]
    counts = [study.tasks[part].sizes.get("train") for part in task.parts or [name]]
    if None in counts:
        cells = read_json(study.data / "summary.json").get("cells", {})
        counts = [cells.get(f"{name}/train/{code}", {}).get("rows") for code in task.trained_in]
    return None if None in counts else sum(counts)


def sequences(task: Task) -> int:
    """Sequences that an example of a task has: one a choice, one a side of a retrieval pair."""
    if task.format == "multiple_choice":
        return len(task.labels)
    return len({"source", "target"} & task.columns.keys()) or 1


def tokens_of(task: Task, max_length: int) -> int:
    """Tokens of an example."""
    return min(TOKENS.get(task.metric, TOKENS[task.format]), max_length) * sequences(task)


def trained(study: Study, phase, size: str, name: str) -> tuple[int, int]:
    """Examples and tokens that one training sees: its stages one after the other."""
    settings, examples, tokens = study.hyperparameters(phase, size, name), 0, 0
    for stage in study.train_on(name) if phase == "target" else [name]:
        mixture = study.mixtures.get(stage)
        limit = min(settings.train_examples or math.inf, mixture.cap if mixture else math.inf)
        text = mixture.mlm.task if mixture and mixture.mlm else None
        texts = [text] if text else []
        counts = dict.fromkeys([*study.components(stage), *texts], 0)
        for task in [*study.components(stage), *texts]:
            counts[task] = int(min(counts[task] + (rows(study, task) or 0), limit))
        if total := sum(counts.values()):
            drawn = (
                settings.total_steps(total) * settings.batch_size * settings.gradient_accumulation
            )
            for task, share in (mixture.shares(counts) if mixture else {stage: 1}).items():
                length = study.hyperparameters(
                    phase, size, task if mixture and task not in texts else name
                ).max_length
                examples += round(drawn * share)
                tokens += round(drawn * share * tokens_of(study.tasks[task], length))
    return examples, tokens


def evaluated(study: Study, size: str, target: str) -> tuple[int, int]:
    """Items of a target in all languages, and the tokens of these and of their candidates."""
    task, limit = study.tasks[target], study.hyperparameters("target", size, target).max_length
    pools = [(task, study.languages(target))]
    pools += [(study.tasks[name], study.tasks[name].languages) for name in task.candidates]
    counts, tokens = [], 0
    for pool, languages in pools:
        together = "{language}" in str(pool.where)  # one source has all languages
        counts.append(pool.sizes.get(pool.evaluate, ITEMS) * (1 if together else len(languages)))
        tokens += counts[-1] * tokens_of(pool, limit)
    return counts[0], tokens


def phases(study: Study) -> pd.DataFrame:
    """What each phase takes: runs, examples, tokens, GPU-hours, bytes, minutes of a training."""
    table = []
    for name, size in study.sizes.items():
        inner, words, adapters = parameters(study, size)
        lora = size.tuning == "lora"
        flops = TRAINING - 2 * lora + 2 * size.gradient_checkpointing
        table.append(("encoder", 1, 0, 0, START, 4 * (inner + words)))
        for task in (task for task in study.intermediate if task != NONE):
            examples, tokens = trained(study, "intermediate", name, task)
            seconds = START + inner * flops * tokens / GPU_FLOPS
            kept, runs = 4 * (adapters if lora else inner + words), len(study.seeds_of(task))
            table.append(("intermediate", runs, examples, tokens, seconds, kept))
        for target in (target.task for target in study.targets):
            items, predicted = evaluated(study, name, target)
            examples, tokens = trained(study, "target", name, target)
            seconds = START + inner * (flops * tokens + PREDICTION * predicted) / GPU_FLOPS
            kept = 200 * items + 4 * inner * (study.keep_models and bool(study.train_on(target)))
            runs = sum(len(study.seeds_of(task)) for task in study.intermediate)
            table.append(("target", runs, examples, tokens, seconds, kept))
            if study.sweep and study.train_on(target):
                rates = study.sweep.sizes.get(name, study.sweep.learning_rates)
                runs = len(rates) * len(study.sweep.seeds)
                table.append(("sweep", runs, examples, tokens, seconds, 0))
    columns = ["phase", "runs", "examples", "tokens", "GPU-hours", "disk, GB"]
    frame = pd.DataFrame(table, columns=columns).assign(longest=lambda t: t["GPU-hours"] / 60)
    frame[columns[2:]] = frame[columns[2:]].mul(frame["runs"], axis=0)
    grouped = frame.groupby("phase", sort=False)
    result = grouped.sum().assign(longest=grouped["longest"].max())
    return result.assign(
        **{"GPU-hours": result["GPU-hours"] / 3600, "disk, GB": result["disk, GB"] / 1e9}
    )


def memory(study: Study) -> pd.DataFrame:
    """GB of weights, of gradients with Adam's two moments, and of states, by size and phase.

    Phase 1 uses main memory; trainings use a GPU in bf16. All texts count as the longest.
    """
    table = []
    for name, size in study.sizes.items():
        layers, hidden, _ = shape(size) or ENCODERS["FacebookAI/xlm-roberta-base"]
        inner, words, adapters = parameters(study, size)
        table.append((name, "encoder", 4 * (inner + hidden * VOCABULARY[False]), 0, 0))
        updated, weights = inner + words, 6 * inner + 4 * words  # 2 of the 6 are autocast's copies
        if size.tuning == "lora":
            updated, weights = adapters, 2 * inner + 4 * (words + adapters)
        kept = BETWEEN * layers + STATES if size.gradient_checkpointing else STATES * layers
        for phase, task in study.trainings():
            settings = study.hyperparameters(phase, name, task)
            names = study.components(task) if phase == "intermediate" else study.train_on(task)
            used = [study.tasks[other] for other in names]
            tokens = settings.batch_size * max(map(sequences, used)) * settings.max_length
            if not any(other.format == "retrieval" for other in used):  # a pair needs all others
                tokens = min(tokens, AT_ONCE)
            table.append((name, phase, weights, 12 * updated, tokens * hidden * kept))
    frame = pd.DataFrame(table, columns=["size", "phase", "weights", "optimiser", "states"])
    frame = frame.groupby(["size", "phase"], sort=False).max() / 1e9
    return frame.assign(total=frame.sum(axis=1)).reset_index()


def effects(study: Study) -> pd.DataFrame:
    """The smallest true effects that the study detects as planned, and with other seeds."""
    targets, items, parallel = {}, {}, {}
    for name in (target.task for target in study.targets):
        task, trained_in = study.tasks[name], set()
        for other in study.train_on(name):
            trained_in.update(study.tasks[other].trained_in)
        languages = tuple(study.languages(name))
        targets[name] = Target(languages=languages, trained_in=tuple(trained_in or {"en"}))
        parallel[name] = task.parallel
        items |= {name: task.sizes[task.evaluate]} if task.evaluate in task.sizes else {}
    sizes = {
        name: Measured(size.title, parameters=parameters(study, size)[0] if shape(size) else None)
        for name, size in study.sizes.items()
    }
    planned = Plan(sizes, study.intermediate, targets, [tuple(run) for run in study.runs()])
    file = study.folder / "results.parquet"
    earlier = pd.read_parquet(file) if file.exists() else None
    columns = {}
    seeds = len(study.seeds_of(NONE)), len(study.seeds_of("others"))
    for none, others in dict.fromkeys([seeds, (5, 3), (5, 5), (10, 5)]):
        numbers = {NONE: none, "others": others}
        columns[f"{none} / {others}"] = detectable(planned, numbers, items, parallel, earlier)
    return pd.DataFrame(columns).rename_axis(columns="seeds of none / of the others")


def missing(study: Study) -> list[str]:
    """What this machine lacks: own files, and hub data that no mirror or cache here has."""
    folder, users = study.files_folder or Path(), {}
    for name, source, split, code in fetch.sources(study):
        file = (source.files or "").format(language=code, split=source.splits.get(split, split))
        if source.files and not (folder / file).is_file():
            users.setdefault(f"file {folder / file}", {})[name] = study.tasks[name].obtain
        elif source.hub and not _is_here(source.hub):
            users.setdefault(f"data set {source.hub}", {})[name] = ""
    users |= {f"encoder {name}": {} for name in fetch.models(study) if not _is_here(name)}
    lines = [f"{what}: {', '.join(tasks)}" if tasks else what for what, tasks in users.items()]
    advice = {text for tasks in users.values() for text in tasks.values() if text}
    return lines + [f"to get: {text}" for text in sorted(advice)]


def _is_here(repository: str) -> bool:
    """Whether the mirror has a repository of the hub or, without a mirror, the cache."""
    if mirror := os.environ.get("HUB_MIRROR"):
        return (Path(mirror).expanduser() / repository).is_dir()
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    return any(home.glob(f"hub/*--{repository.replace('/', '--')}"))


def warnings(study: Study, table: pd.DataFrame) -> Iterator[str]:
    """One line for everything that is unknown or does not fit."""
    for size in study.sizes.values():
        if not shape(size):
            yield f"warning: encoder {size.encoder}: size unknown, planned as XLM-R base"
    names = dict.fromkeys(task for task, split, _ in study.needed() if split == "train")
    if unknown := [name for name in names if rows(study, name) is None]:
        yield f"warning: not planned, because their number of rows is unknown: {', '.join(unknown)}"
    for phase, longest in table["longest"].items():
        asked = study.needs("target" if phase == "sweep" else phase).minutes
        if longest > asked:
            expected = f"expected at least {longest:,.0f}"
            yield f"warning: cluster.{phase}.minutes: found {asked:,}, {expected}"


def show(study: Study) -> Iterator[str]:
    """The plan as lines of text."""
    yield f"{study.name}: {study.description}\n"
    table = phases(study)
    whole = pd.concat([table, table.sum().to_frame("all").T])
    whole.loc["all", "longest"] = table["longest"].max()
    digits = [f"{{:,.{n}f}}".format for n in (0, 0, 0, 1, 1, 0)]
    shown = whole.rename(columns={"longest": "longest seed, min"})
    yield shown.to_string(formatters=dict(zip(shown, digits, strict=True)))
    yield f"estimated with {GPU_FLOPS:.2g} FLOP/s per GPU (40 % of an A100 in bf16)"
    yield from warnings(study, table)
    needs = memory(study)
    cards = [[str(card) for card in CARDS if total <= USABLE * card] for total in needs["total"]]
    needs["fits a GPU of, GB"] = [", ".join(fitting) or "none of these" for fitting in cards]
    needs.loc[needs["phase"] == "encoder", "fits a GPU of, GB"] = "(main memory)"
    yield "\nmemory in GB (optimiser includes the gradients):"
    yield needs.to_string(index=False, float_format="{:,.1f}".format)
    yield "\nsmallest effects it detects with 80 % power, in points (zero-shot, mean over all):"
    yield effects(study).to_string(float_format="{:.1f}".format)
    absent = missing(study)
    yield "\nmissing on this machine:" if absent else "\nnothing is missing on this machine"
    yield from (f"  {line}" for line in absent)


if __name__ == "__main__":
    command.run(__doc__, show)
