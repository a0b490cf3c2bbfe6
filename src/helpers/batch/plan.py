"""What a study takes, before anything runs: ``python -m helpers.batch.plan params/STUDY.yaml``.

Counts runs, examples and tokens, estimates GPU-hours and disk from stated figures, and names the
data that is missing on this machine. Nothing is downloaded. Figures that are estimates say so.
"""

import math
import os
from pathlib import Path

import pandas as pd

from helpers.batch import fetch
from helpers.study import NONE, Study, command
from helpers.study.files import read_json

GPU_FLOPS = 1.2e14
"""Assumed rate of training on one GPU: 40 % of an A100's 312 TFLOP/s in bf16."""
TRAINING, PREDICTION = 6, 3
"""FLOP a parameter of the layers and token."""
START = 60.0
"""Assumed seconds that a run takes to start, load and write."""
TOKENS = {
    "sentence_pair": 50,
    "multiple_choice": 40,
    "span_extraction": 250,
    "tagging": 30,
    "retrieval": 20,
}
"""Assumed tokens of a sequence; long texts are cut at the study's length."""
ENCODERS = {
    "FacebookAI/xlm-roberta-base": (85_054_464, 768),
    "FacebookAI/xlm-roberta-large": (302_309_376, 1024),
}
"""Parameters of the layers and hidden size of known encoders; others are counted as the first."""
VOCABULARY = {True: 150_000, False: 250_002}
"""Rows of a vocabulary, trimmed (assumed for a study of many languages) and XLM-R's whole one."""
PREDICTED = 5_000
"""Assumed evaluated items of a language where the catalogue does not say."""
_ROW = "{:14}{:>8,.0f}{:>22,.0f}{:>20,.0f}{:>12,.1f}"
_SUMS = ["runs", "examples", "tokens", "hours", "disk"]


def plan(study: Study) -> pd.DataFrame:
    """What every phase of a study takes.

    Runs, examples and tokens that are trained on, GPU-hours, bytes of disk, minutes of the longest
    run.
    """
    table = _runs(study)
    table["hours"] = (table["seconds"] + START) / 3600
    table[_SUMS[1:]] = table[_SUMS[1:]].mul(table["runs"], axis=0)
    phases = table.groupby("phase")[_SUMS].sum()
    phases["longest"] = (table.groupby("phase")["seconds"].max() + START) / 60
    phases = phases.reindex(["encoder", "intermediate", "target"])
    return phases.fillna({"longest": START / 60}).fillna(0)


def unknown(study: Study) -> list[str]:
    """What the plan cannot count, since the catalogue does not say how large it is."""
    encoders = [size.encoder for size in study.sizes.values() if size.encoder not in ENCODERS]
    names = [f"encoder {name} (counted as XLM-R base)" for name in encoders]
    trained = [task for task, split, _ in study.needed() if split == "train"]
    return list(dict.fromkeys(names + [t for t in trained if _rows(study, t) is None]))


def _runs(study: Study) -> pd.DataFrame:
    """What one run of a (phase, size, task) takes, and how many such runs there are."""
    rows, seeds = [], len(study.seeds)
    for size, entry in study.sizes.items():
        layers, hidden = ENCODERS.get(entry.encoder, ENCODERS["FacebookAI/xlm-roberta-base"])
        stored = 4 * (layers + hidden * VOCABULARY[study.trim])
        rows.append(("encoder", 1, 0, 0, 0.0, stored))
        for name in study.intermediate:
            if name != NONE:
                stages = [study.components(name)]
                examples, tokens = _training(study, "intermediate", size, name, stages)
                seconds = TRAINING * layers * tokens / GPU_FLOPS
                rows.append(("intermediate", seeds, examples, tokens, seconds, stored))
        for name in (target.task for target in study.targets):
            task, stages = study.tasks[name], [[task] for task in study.train_on(name)]
            items = task.sizes.get(task.evaluate, PREDICTED)
            items *= 1 if task.where else len(study.languages(name))
            predicted = items * _tokens(study, name, "target", size, name)
            examples, tokens = _training(study, "target", size, name, stages)
            seconds = layers * (TRAINING * tokens + PREDICTION * predicted) / GPU_FLOPS
            runs = seeds * len(study.intermediate)
            rows.append(("target", runs, examples, tokens, seconds, 200 * items))
    return pd.DataFrame(rows, columns=["phase", "runs", "examples", "tokens", "seconds", "disk"])


def _training(study: Study, phase: str, size: str, name: str, stages: list) -> tuple[int, int]:
    """Examples and tokens of one training: stages one after the other, each on tasks at once."""
    settings, mixture = study.hyperparameters(phase, size, name), study.mixtures.get(name)
    limit = min(settings.train_examples or math.inf, mixture.cap if mixture else math.inf)
    examples = tokens = 0
    for tasks in stages:
        rows = {task: min(_rows(study, task) or 0, limit) for task in tasks}
        if total := sum(rows.values()):
            batches = settings.total_steps(total) * settings.gradient_accumulation
            for task in tasks:
                share = batches * settings.batch_size * rows[task] / total
                length = _tokens(study, task, phase, size, task if mixture else name)
                examples, tokens = examples + round(share), tokens + round(share * length)
    return examples, tokens


def _rows(study: Study, name: str) -> int | None:
    """Training rows as the catalogue says, else as counted when the study's data was read."""
    entry = study.tasks[name]
    counts = [study.tasks[part].sizes.get("train") for part in entry.parts or [name]]
    if None in counts or entry.where:  # there the source's size is that of all its languages
        read = read_json(study.folder / "data" / "summary.json").get("splits", {})
        splits = [read.get(f"{name}/train/{language}", {}) for language in entry.trained_in]
        counts = [split.get("rows") for split in splits]
    return None if None in counts else sum(counts)


def _tokens(study: Study, task: str, phase: str, size: str, name: str) -> int:
    """Tokens of an example of ``task``, cut as the hyperparameters of ``name`` say."""
    entry, limit = study.tasks[task], study.hyperparameters(phase, size, name).max_length
    sequences = len(entry.labels) if entry.format == "multiple_choice" else 1
    return min(TOKENS[entry.format], limit) * sequences


def missing(study: Study) -> list[str]:
    """What this machine does not have: own files, and hub data in no mirror or cache of it."""
    given = os.environ.get("DATA_DIR") or study.data_dir
    folder, note = Path(given or "."), "" if given else " (no data_dir is given)"
    users: dict[str, list[str]] = {}
    for name, source, split, code in fetch.read(study):
        file = (source.files or "").format(language=code, split=source.splits.get(split, split))
        if source.files and not (given and (folder / file).is_file()):
            users.setdefault(f"file {folder / file}{note}", []).append(name)
        elif source.hub and not _is_here(source.hub, "datasets"):
            users.setdefault(f"data set {source.hub}", []).append(name)
    encoders = [name for name in fetch.models(study) if not _is_here(name, "models")]
    users |= {f"encoder {name}": [] for name in encoders}
    for name in set(study.intermediate) & set(study.mixtures):
        mlm = study.mixtures[name].mlm
        for path in [folder / file for file in mlm.files] if mlm else []:
            if not path.is_file():
                users.setdefault(f"file {path}", []).append(name)
    return [what + ": " * bool(by) + ", ".join(dict.fromkeys(by)) for what, by in users.items()]


def _is_here(repository: str, kind: str) -> bool:
    """Whether the mirror has a repository of the hub; without one, whether a cache has it."""
    if mirror := os.environ.get("HUB_MIRROR"):
        return (Path(mirror) / repository).is_dir()
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    cached = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    return cached.is_dir() or (home / "datasets" / repository.replace("/", "___").lower()).is_dir()


def show(study: Study, phases: pd.DataFrame) -> str:
    """The plan as a page of text."""
    lines = [
        f"{study.name}: {study.description}\n",
        f"{'phase':14}{'runs':>8}{'examples trained on':>22}{'tokens trained on':>20}"
        f"{'GPU-hours':>12}{'longest run':>14}   asked of a cluster",
    ]
    warnings, total = [], phases.sum()
    for phase, row in phases.iterrows():
        needs, longest = study.needs(phase), f"{row['longest']:,.0f}"
        asked = f"{needs.gpus} GPU, {needs.memory_gb:g} GB, {needs.minutes:,} min"
        lines.append(f"{_ROW.format(phase, *row[_SUMS[:4]])}{longest:>10} min   {asked}")
        if row["runs"] and row["longest"] > needs.minutes:
            wrong = f"found {needs.minutes:,}, expected at least {longest}"
            warnings.append(f"warning: cluster.{phase}.minutes: {wrong}")
    tokens = ", ".join(f"{count} ({name})" for name, count in TOKENS.items())
    lines += [
        f"{_ROW.format('all', *total[_SUMS[:4]])}\n",
        f"disk: about {total['disk'] / 1e9:,.0f} GB of encoders and predictions",
        f"estimated with {GPU_FLOPS:.2g} FLOP/s a GPU (40 % of an A100 in bf16), "
        f"{START:.0f} s a run beside training,",
        f"{TRAINING} FLOP a parameter of the layers and token, and tokens a sequence of {tokens}",
    ]
    if names := unknown(study):
        lines.append(f"sizes that the catalogue does not say are not counted: {', '.join(names)}")
    absent = missing(study)
    title = "missing on this machine:" if absent else "nothing is missing on this machine"
    return "\n".join([*lines, *warnings, f"\n{title}", *(f"  {what}" for what in absent)])


if __name__ == "__main__":
    command.run("helpers.batch.plan", __doc__, lambda study: [show(study, plan(study))])
