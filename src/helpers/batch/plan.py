"""What a study takes, before anything runs: ``python -m helpers.batch.plan params/STUDY.yaml``.

Counts what is known, estimates the rest from the figures stated here, and names the data that is
missing on this machine. Nothing is downloaded.
"""

import math
import os
from collections import defaultdict
from pathlib import Path

import pandas as pd

from helpers import comparison
from helpers.batch import fetch, memory
from helpers.study import NONE, RUN, Study, Task, command, rules
from helpers.study.files import read_json
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
EARLIER = pd.DataFrame(columns=[*RUN, "language", "score", "n"])
"""The results of a study that has none."""
_PHASES = ["encoder", "intermediate", "target", "sweep"]
_COUNTS = ["runs", "examples", "tokens", "hours"]
_ROW = "{:14}{:>8,.0f}{:>22,.0f}{:>20,.0f}{:>12,.1f}"


def plan(study: Study) -> pd.DataFrame:
    """What a phase takes: runs, examples, tokens, GPU-hours, bytes, minutes of the longest run."""
    rows = []
    for path in study.results():
        size, *names = path.relative_to(study.folder).parts[:-2]
        lora = study.sizes[size].tuning == "lora"
        layers, words, adapters = memory.parameters(study, study.sizes[size])
        disk, predicted = 4 * (adapters if lora and names else layers + words), 0
        if len(names) == 3:
            disk = 0
        elif len(names) == 2:
            task = study.tasks[names[1]]
            items = _items(task, study.languages(task.name))
            predicted = items * _tokens(study, "target", size, task.name, task.name)
            for pool in (study.tasks[name] for name in task.candidates):
                length = _tokens(study, "target", size, pool.name, task.name)
                predicted += _items(pool, pool.languages) * length
            disk = 200 * items + 4 * layers * study.keeps_model(task.name)  # frozen ones too
        examples, tokens = _training(study, size, *names[-2:]) if names else (0, 0)
        training = TRAINING - 2 * lora + 2 * study.sizes[size].gradient_checkpointing
        seconds = START + layers * (training * tokens + PREDICTION * predicted) / GPU_FLOPS
        phase, hours = _PHASES[len(names)], seconds / 3600
        rows.append((phase, 1, examples, tokens, hours, disk, 60 * hours))
    table = pd.DataFrame(rows, columns=["phase", *_COUNTS, "disk", "longest"]).groupby("phase")
    phases = table.sum().assign(longest=table["longest"].max())
    phases = phases.reindex(_PHASES if study.sweep else _PHASES[:-1])
    return phases.fillna({"longest": START / 60}).fillna(0)


def _items(task: Task, languages: list[str]) -> int:
    """Evaluated items of a task, in all of these languages."""
    together = "{language}" in str(task.where)  # one source has them all
    return task.sizes.get(task.evaluate, PREDICTED) * (1 if together else len(languages))


def _training(study: Study, size: str, name: str, target: str | None = None) -> tuple[int, int]:
    """Examples and tokens of one training: stages one after the other, each on tasks at once."""
    stages = [[task] for task in study.train_on(target)] if target else [study.components(name)]
    phase: Phase = "target" if target else "intermediate"
    name = target or name
    settings, mixture = study.hyperparameters(phase, size, name), study.mixtures.get(name)
    limit = min(settings.train_examples or math.inf, mixture.cap if mixture else math.inf)
    examples = tokens = 0
    for tasks in stages:
        rows = {task: int(min(_rows(study, task) or 0, limit)) for task in tasks}
        if cells := mixture.texts(study.tasks) if mixture else []:
            text = cells[0][0]
            rows[text] = int(min((_rows(study, text) or 0) * len(cells), limit))
        if total := sum(rows.values()):
            batches = settings.total_steps(total) * settings.gradient_accumulation
            shares = mixture.shares(rows) if mixture else {task: 1 for task in tasks}
            for task, share in shares.items():
                own = task if mixture and task in tasks else name
                length = _tokens(study, phase, size, task, own)
                seen = batches * settings.batch_size * share
                examples, tokens = examples + round(seen), tokens + round(seen * length)
    return examples, tokens


def _rows(study: Study, name: str) -> int | None:
    """Training rows as the catalogue says, else as counted when the study's data was read."""
    entry = study.tasks[name]
    counts = [study.tasks[part].sizes.get("train") for part in entry.parts or [name]]
    if None in counts:
        read = read_json(study.folder / "data" / "summary.json").get("splits", {})
        counts = [read.get(f"{name}/train/{code}", {}).get("rows") for code in entry.trained_in]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _tokens(study: Study, phase: Phase, size: str, task: str, name: str) -> int:
    """Tokens of an example of ``task``, cut as the hyperparameters of ``name`` say."""
    entry, limit = study.tasks[task], study.hyperparameters(phase, size, name).max_length
    sides = len({"source", "target"} & entry.columns.keys()) or 1
    sequences = len(entry.labels) if entry.format == "multiple_choice" else sides
    return min(TOKENS.get(entry.metric, TOKENS[entry.format]), limit) * sequences


def detectable(study: Study) -> list[str]:
    """What the study can find as planned and with more seeds, as lines of text."""
    kept = study.folder / "results.parquet"
    earlier = pd.read_parquet(kept) if kept.exists() else EARLIER
    counts = comparison.parameters(study) or {
        name: memory.parameters(study, size)[0]
        for name, size in study.sizes.items()
        if size.encoder in memory.ENCODERS
    }
    planned = {name: len(study.seeds_of(name)) for name in (NONE, "others")}
    more = [{NONE: none, "others": others} for none, others in ((5, 3), (5, 5), (10, 5))]
    more = [seeds for seeds in more if seeds != planned]
    rows = [comparison.detectable(study, seeds, earlier, counts) for seeds in (planned, *more)]
    if not rows[0]:
        return []
    names = [f"{seeds[NONE]} / {seeds['others']}" for seeds in (planned, *more)]
    table = pd.DataFrame(rows, index=names).T.rename_axis(columns="seeds of none / of the others")
    source = "as the last results have it" if len(earlier) else "assumed"
    title = "smallest true effect found with 80 % power, points (zero-shot, mean over all"
    return [f"\n{title}; spread of seeds {source})", table.to_string(float_format="{:.1f}".format)]


def missing(study: Study) -> list[str]:
    """What this machine does not have: own files, and hub data in no mirror or cache of it."""
    given = os.environ.get("DATA_DIR") or study.data_dir
    folder, note = Path(given or "."), "" if given else " (no data_dir is given)"
    users: dict[str, dict[str, bool]] = defaultdict(dict)
    for name, source, split, code in fetch.read(study):
        file = (source.files or "").format(language=code, split=source.splits.get(split, split))
        if source.files and not (given and (folder / file).is_file()):
            users[f"file {folder / file}{note}"][name] = True
        elif source.hub and not _is_here(source.hub, "datasets"):
            users[f"data set {source.hub}"][name] = True
    encoders = [name for name in fetch.models(study) if not _is_here(name, "models")]
    users |= {f"encoder {name}": {} for name in encoders}
    for name in (name for name in study.intermediate if name in study.mixtures):
        mlm = study.mixtures[name].mlm
        for path in [folder / file for file in mlm.files] if mlm else []:
            if not path.is_file():
                users[f"file {path}"][name] = True
    own = {name for what, by in users.items() if what.startswith("file ") for name in by}
    obtain = {study.tasks[name].obtain for name in own & study.tasks.keys()} - {""}
    absent = [f"{what}: {', '.join(by)}" if by else what for what, by in users.items()]
    return absent + [f"to get: {where}" for where in sorted(obtain)]


def _is_here(repository: str, kind: str) -> bool:
    """Whether the mirror has a repository of the hub; without one, whether a cache has it."""
    if mirror := os.environ.get("HUB_MIRROR"):
        return (Path(mirror) / repository).is_dir()
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    cached = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    return cached.is_dir() or (home / "datasets" / repository.replace("/", "___").lower()).is_dir()


def show(study: Study, phases: pd.DataFrame) -> str:
    """The plan as a page of text."""
    head = f"{'phase':14}{'runs':>8}{'examples trained on':>22}{'tokens trained on':>20}"
    table = [f"{head}{'GPU-hours':>12}{'longest run':>14}   asked of a cluster"]
    notes, total = [], phases.sum()
    encoders = {size.encoder for size in study.sizes.values()} - memory.ENCODERS.keys()
    unknown = [f"encoder {name} (counted as XLM-R base)" for name in sorted(encoders)]
    trained = dict.fromkeys(task for task, split, _ in study.needed() if split == "train")
    unknown += [task for task in trained if _rows(study, task) is None]
    if unknown:
        names = ", ".join(unknown)
        notes.append(f"sizes that the catalogue does not say are not counted: {names}")
    for phase, row in phases.iterrows():
        needs = study.needs("target" if phase == "sweep" else phase)
        longest = f"{row['longest']:,.0f}"
        asked = f"{needs.gpus} GPU, {needs.memory_gb:g} GB, {needs.minutes:,} min"
        table.append(f"{_ROW.format(phase, *row[_COUNTS])}{longest:>10} min   {asked}")
        if row["runs"] and row["longest"] > needs.minutes:
            wrong = f"found {needs.minutes:,}, expected at least {longest}"
            notes.append(f"warning: cluster.{phase}.minutes: {wrong}")
    table.append(_ROW.format("all", *total[_COUNTS]))
    absent = missing(study)
    sizes = {name: memory.parameters(study, size)[0] for name, size in study.sizes.items()}
    lines = [
        f"{study.name}: {study.description}\n",
        *table,
        f"\ndisk: about {total['disk'] / 1e9:,.0f} GB of encoders and predictions",
        f"estimated with {GPU_FLOPS:.2g} FLOP/s a GPU (40 % of an A100 in bf16), "
        f"{START:.0f} s a run beside training,",
        f"{TRAINING} FLOP a parameter of the layers and token, and tokens a sequence of "
        + ", ".join(f"{count} ({name})" for name, count in TOKENS.items()),
        *notes,
        *rules.order(study, sizes),
        f"\n{memory.show(study)}",
        *detectable(study),
        "\nmissing on this machine:" if absent else "\nnothing is missing on this machine",
        *(f"  {what}" for what in absent),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    command.run("helpers.batch.plan", __doc__, lambda study: [show(study, plan(study))])
