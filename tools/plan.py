"""What a study takes, before anything runs: ``python tools/plan.py params/STUDY.yaml``.

Counts what is known, estimates the rest from the figures below (docs/cost.md derives them), and
names the data that is missing on this machine. Nothing is downloaded.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import command
import fetch
import pandas as pd

from helpers.study import NONE, Size, Study, Task
from helpers.study.files import read_json

GPU_FLOPS = 1.2e14
"""Assumed rate of training on one GPU: 40 % of an A100's 312 TFLOP/s in bf16."""
TRAINING, PREDICTION = 6, 3
"""FLOP a parameter of the layers and token. Weights that are not trained need 2 less, layers whose
states are computed twice 2 more."""
START = 60.0
"""Assumed seconds that a training takes to start, load and write."""
TOKENS = {"sentence_pair": 50, "multiple_choice": 40, "span_extraction": 250, "tagging": 30}
TOKENS |= {"retrieval": 20, "plain_text": 128, "map_20": 100}
"""Assumed tokens of a sequence (map_20: of retrieval that is trained for)."""
PREDICTED = 5_000
"""Assumed evaluated items of a language where the catalogue does not say."""
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
"""Layers, hidden size, and a layer's weights as a multiple of the hidden size squared: 4 of
attention, the rest feed-forward (twice 4; mmBERT's has three matrices of 1,152 units)."""
VOCABULARY = {True: 150_000, False: 250_002}
"""Rows of a vocabulary, trimmed (assumed for a study of many languages) and XLM-R's whole one."""
CARDS, USABLE = (24, 40, 80), 0.9
"""GB of usual GPUs, and the share of them that a training can use."""
STATES, BETWEEN = 50, 4
"""Bytes a token and hidden unit that a layer keeps for the gradients, and of its input alone."""


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
        counts = {task: rows(study, task) or 0 for task in study.components(stage)}
        for text, *_ in mixture.texts(study.tasks) if mixture else []:
            counts[text] = counts.get(text, 0) + (rows(study, text) or 0)
        counts = {task: int(min(count, limit)) for task, count in counts.items()}
        if total := sum(counts.values()):
            batch = settings.batch_size * settings.gradient_accumulation
            shares = mixture.shares(counts) if mixture else {stage: 1}
            for task, share in shares.items():
                drawn = settings.total_steps(total) * batch * share
                examples += round(drawn)
                cut_as = task if mixture and task in mixture.tasks else name
                length = study.hyperparameters(phase, size, cut_as).max_length
                tokens += round(drawn * tokens_of(study.tasks[task], length))
    return examples, tokens


def evaluated(study: Study, size: str, target: str) -> tuple[int, int]:
    """Items of a target in all languages, and the tokens of these and of their candidates."""
    task, limit = study.tasks[target], study.hyperparameters("target", size, target).max_length
    items = _items(task, study.languages(target))
    tokens = items * tokens_of(task, limit)
    for pool in (study.tasks[name] for name in task.candidates):
        tokens += _items(pool, pool.languages) * tokens_of(pool, limit)
    return items, tokens


def _items(task: Task, languages: list[str]) -> int:
    together = "{language}" in str(task.where)  # one source has all languages
    return task.sizes.get(task.evaluate, PREDICTED) * (1 if together else len(languages))


def phases(study: Study) -> pd.DataFrame:
    """What each phase takes: runs, examples, tokens, GPU-hours, bytes, minutes of a training."""
    table = []
    for name, size in study.sizes.items():
        inner, words, adapters = parameters(study, size)
        lora, again = size.tuning == "lora", size.gradient_checkpointing
        flops = inner * (TRAINING - 2 * lora + 2 * again)

        def row(phase: str, runs: int, examples: int, tokens: int, predicted: int, disk: float):
            seconds = START + (flops * tokens + inner * PREDICTION * predicted) / GPU_FLOPS  # noqa: B023
            table.append(
                (
                    phase,
                    runs,
                    *(runs * n for n in (examples, tokens, seconds / 3600, disk)),
                    seconds / 60,
                )
            )

        row("encoder", 1, 0, 0, 0, 4 * (inner + words))
        for task in (task for task in study.intermediate if task != NONE):
            kept = 4 * (adapters if lora else inner + words)
            seen = trained(study, "intermediate", name, task)
            row("intermediate", len(study.seeds_of(task)), *seen, 0, kept)
        for target in (target.task for target in study.targets):
            items, predicted = evaluated(study, name, target)
            seen = trained(study, "target", name, target)
            kept = 200 * items + 4 * inner * (study.keep_models and bool(study.train_on(target)))
            runs = sum(len(study.seeds_of(task)) for task in study.intermediate)
            row("target", runs, *seen, predicted, kept)
            if study.sweep and study.train_on(target):
                rates = study.sweep.sizes.get(name, study.sweep.learning_rates)
                row("sweep", len(rates) * len(study.sweep.seeds), *seen, 0, 0)
    columns = ["phase", "runs", "examples", "tokens", "hours", "disk", "longest"]
    grouped = pd.DataFrame(table, columns=columns).groupby("phase", sort=False)
    return grouped.sum().assign(longest=grouped["longest"].max())


def memory(study: Study) -> pd.DataFrame:
    """GB of weights, of gradients with Adam's two moments, and of states, by size and phase.

    Phase 1 takes them of the main memory, trainings of a GPU in bf16; the longest texts count.
    """
    from helpers.encoders.batches import TRAINING_BUDGET

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
                tokens = min(tokens, TRAINING_BUDGET["cuda"])
            table.append((name, phase, weights, 12 * updated, tokens * hidden * kept))
    frame = pd.DataFrame(table, columns=["size", "phase", "weights", "optimiser", "states"])
    frame = frame.groupby(["size", "phase"], sort=False).max() / 1e9
    return frame.assign(total=frame.sum(axis=1)).reset_index()


def detectable(study: Study) -> pd.DataFrame:
    """The smallest true effects that the study finds as planned, and with other seeds."""
    from comparison import plan, power

    targets = {}
    for name in (target.task for target in study.targets):
        trained_in = {
            code for task in study.train_on(name) for code in study.tasks[task].trained_in
        }
        targets[name] = plan.Target(
            languages=tuple(study.languages(name)), trained_in=tuple(trained_in or {"en"})
        )
    sizes = {
        name: plan.Size(size.title, parameters=parameters(study, size)[0] if shape(size) else None)
        for name, size in study.sizes.items()
    }
    runs = [tuple(run) for run in study.runs()]
    planned = plan.Plan(sizes, study.intermediate, targets, runs)
    used = [study.tasks[name] for name in targets]
    items = {task.name: task.sizes.get(task.evaluate, power.ITEMS) for task in used}
    parallel = {task.name: task.parallel for task in used}
    file = study.folder / "results.parquet"
    earlier = pd.read_parquet(file) if file.exists() else None
    columns = {}
    own = len(study.seeds_of(NONE)), len(study.seeds_of("others"))
    for none, others in dict.fromkeys([own, (5, 3), (5, 5), (10, 5)]):
        seeds = {NONE: none, "others": others}
        effects = power.detectable(planned, seeds, items, parallel, earlier)
        columns[f"{none} / {others}"] = effects
    return pd.DataFrame(columns).rename_axis(columns="seeds of none / of the others")


def missing(study: Study) -> list[str]:
    """What this machine does not have: own files, and hub data in no mirror or cache of it."""
    folder = study.files_folder or Path()
    users: dict[str, dict[str, None]] = defaultdict(dict)
    for name, source, split, code in fetch.sources(study):
        file = (source.files or "").format(language=code, split=source.splits.get(split, split))
        if source.files and not (folder / file).is_file():
            users[f"file {folder / file}"][name] = None
        elif source.hub and not _is_here(source.hub, "datasets"):
            users[f"data set {source.hub}"][name] = None
    for name in fetch.models(study):
        if not _is_here(name, "models"):
            users[f"encoder {name}"] = {}
    for name, mixture in study.mixtures.items():
        for file in mixture.mlm.files if mixture.mlm and name in study.intermediate else []:
            if not (folder / file).is_file():
                users[f"file {folder / file}"][name] = None
    absent = [f"{what}: {', '.join(by)}" if by else what for what, by in users.items()]
    names = {name for what, by in users.items() if what.startswith("file ") for name in by}
    obtain = {study.tasks[name].obtain for name in names & study.tasks.keys()} - {""}
    return absent + [f"to get: {where}" for where in sorted(obtain)]


def _is_here(repository: str, kind: str) -> bool:
    """Whether the mirror has a repository of the hub; without one, whether a cache has it."""
    if mirror := os.environ.get("HUB_MIRROR"):
        return (Path(mirror).expanduser() / repository).is_dir()
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    cached = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    return cached.is_dir() or (home / "datasets" / repository.replace("/", "___").lower()).is_dir()


def warnings(study: Study, table: pd.DataFrame) -> Iterator[str]:
    """What is not known, and what does not fit."""
    for size in study.sizes.values():
        if not shape(size):
            yield f"warning: encoder {size.encoder}: size unknown, counted as XLM-R base"
    names = [task for task, split, _ in study.needed() if split == "train"]
    if unknown := [name for name in dict.fromkeys(names) if rows(study, name) is None]:
        yield f"warning: not counted, for their number of rows is unknown: {', '.join(unknown)}"
    for phase, row in table.iterrows():
        asked = study.needs("target" if phase == "sweep" else phase).minutes
        if row["longest"] > asked:
            expected = f"expected at least {row['longest']:,.0f}"
            yield f"warning: cluster.{phase}.minutes: found {asked:,}, {expected}"


def show(study: Study) -> Iterator[str]:
    """The plan as lines of text."""
    yield f"{study.name}: {study.description}\n"
    table = phases(study)
    shown = pd.concat([table, table.sum().to_frame("all").T])
    shown["disk"] /= 1e9
    shown.loc["all", "longest"] = shown["longest"][:-1].max()
    shown = shown.rename(
        columns={"hours": "GPU-hours", "disk": "disk, GB", "longest": "longest seed, min"}
    )
    digits = [f"{{:,.{n}f}}".format for n in (0, 0, 0, 1, 1, 0)]
    yield shown.to_string(formatters=dict(zip(shown, digits, strict=True)))
    yield f"estimated with {GPU_FLOPS:.2g} FLOP/s a GPU (40 % of an A100 in bf16)"
    yield from warnings(study, table)
    needs = memory(study)
    cards = [[str(card) for card in CARDS if total <= USABLE * card] for total in needs["total"]]
    needs["fits a GPU of, GB"] = [", ".join(some) or "none of these" for some in cards]
    needs.loc[needs["phase"] == "encoder", "fits a GPU of, GB"] = "main memory"
    yield "\nGB of memory (optimiser: with the gradients):"
    yield needs.to_string(index=False, float_format="{:,.1f}".format)
    yield "\nsmallest true effects found with 80 % power, in points (zero-shot, mean over all):"
    yield detectable(study).to_string(float_format="{:.1f}".format)
    absent = missing(study)
    yield "\nmissing on this machine:" if absent else "\nnothing is missing on this machine"
    yield from (f"  {line}" for line in absent)


if __name__ == "__main__":
    command.run(__doc__, show)
