"""What a study needs, before anything runs: ``python tools/plan.py STUDY.yaml [--gpu NAME]``.

Counts what is known, estimates the rest by figures.py, and names the data that is missing on this
machine. NAME is a GPU of figures.py, or `here` for this machine. Nothing is downloaded.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator

import command
import fetch
import figures
import pandas as pd

from comparison import Plan, Target, detectable, power
from comparison import Size as Measured
from helpers.study import NONE, Condition, Study, sweeps
from helpers.study.files import read_json


def counts(study: Study) -> dict[str, dict]:
    """What data/summary.json says or will say: rows of every task, split and language as they were
    read or, before that, as the catalogue has them.
    """
    known, cells = read_json(study.data / "summary.json"), {}
    for name, split, language in study.needed():
        sizes = [study.tasks[part].sizes.get(split) for part in study.tasks[name].parts or [name]]
        rows = figures.ROWS if None in sizes else sum(sizes)
        cells[f"{name}/{split}/{language}"] = {"rows": rows, "is_assumed": None in sizes}
    texts = defaultdict(lambda: {"lines": figures.ROWS}, known.get("texts", {}))
    return {"cells": cells | known.get("cells", {}), "texts": texts}


def trained(study: Study, part: Condition, known: dict) -> tuple[int, int]:
    """Examples and tokens that one training sees."""
    values, seen, tokens = part.hyperparameters, 0, 0.0
    for stage, steps in zip(part.stages, part.steps(known), strict=True):
        drawn = steps * values.batch_size * values.gradient_accumulation
        rows: Counter[str] = Counter()
        for task, split, language in stage.cells:
            if split == "train":
                rows[task.name] += known["cells"][f"{task.name}/train/{language}"]["rows"]
        seen += drawn
        shares = stage.mixture.shares(rows) if stage.mixture else {stage.name: 1.0}
        for name, share in shares.items():
            length = stage.max_lengths.get(name, values.max_length)
            tokens += drawn * share * figures.tokens_of(study.tasks[name], length)
    return seen, round(tokens)


def trainings(study: Study) -> pd.DataFrame:
    """For each condition its runs, and what one of them takes: examples and tokens of its training,
    FLOP of the training and in all, and the bytes that stay.
    """
    known, table = counts(study), []
    parts = [("target" if part.target else "intermediate", part) for part in study.conditions()]
    for name, size in study.sizes.items():
        inner, words, _ = figures.parameters(study, size)
        table.append(("encoder", None, 1, 0, 0, 0, 0, 4 * (inner + words)))
        parts += [("sweep", trial) for trial in sweeps.trials(study, name)] if study.sweep else []
    for phase, part in parts:
        size, items, predicted = study.sizes[part.size], 0, 0
        inner, words, adapters = figures.parameters(study, size)
        for task, split, language in part.evaluated_cells:
            rows = known["cells"][f"{task.name}/{split}/{language}"]["rows"]
            items += rows if task.name == part.target else 0
            predicted += rows * figures.tokens_of(task, part.hyperparameters.max_length)
        examples, tokens = trained(study, part, known)
        flops = tokens * figures.flops_per_token(study, part.size)
        whole = flops + figures.PREDICTION * inner * predicted * (3 if part.compares else 1)
        kept = figures.ROW * items + 4 * inner * part.keeps_model
        if phase == "intermediate":
            kept = 4 * (adapters if size.tuning == "lora" else inner + words)
        runs = len(part.seeds) + len(part.crossed_attempts())
        table.append((phase, part, runs, examples, tokens, flops, whole, kept))
    columns = ["phase", "condition", "runs", "examples", "tokens", "training", "FLOP", "bytes"]
    return pd.DataFrame(table, columns=columns)


def phases(study: Study, on: figures.Machine) -> pd.DataFrame:
    """Runs, examples, hours and GB of each phase."""
    table = trainings(study)
    runs, seconds = table["runs"], figures.START + table["FLOP"] / on.rate
    columns = {"phase": table["phase"], "runs": runs, "examples": runs * table["examples"]}
    columns |= {"hours": runs * seconds / 3600, "disk, GB": runs * table["bytes"] / 1e9}
    return pd.DataFrame(columns).groupby("phase", sort=False).sum()


def memory(study: Study, on: figures.Machine) -> pd.DataFrame:
    """GB of each size's largest training, and whether ``on`` has room for it: weights, gradients
    and Adam's two moments; with the states of a batch; with those of one example, checkpointed.
    """
    table = {}
    for name, size in study.sizes.items():
        layers, hidden, _ = figures.shape(size) or figures.BASE
        fixed, batch, one = figures.fixed_memory(study, size), 0, 0
        for part in study.conditions(name):
            values = part.hyperparameters
            for task in (task for stage in part.stages for task in stage.tasks.values()):
                example = figures.sequences(task) * values.max_length
                whole = values.batch_size * example
                if task.format == "retrieval":  # a pair needs all others
                    example = whole
                one = max(one, example)
                batch = max(batch, example, min(whole, figures.AT_ONCE[on.is_gpu]))
        least = hidden * (layers * figures.BETWEEN + figures.STATES)
        kept = least if size.gradient_checkpointing else hidden * layers * figures.STATES
        needs = [fixed / 1e9, (fixed + batch * kept) / 1e9, (fixed + one * least) / 1e9]
        room = figures.USABLE * on.memory
        fits = "yes" if needs[1] <= room else "yes, in smaller steps" if needs[2] <= room else "no"
        table[name] = [*needs, fits]
    columns = ["weights and Adam", "whole batch", "least", "it fits"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns)


def effects(study: Study) -> pd.DataFrame:
    """The smallest true effects that the study detects as planned, and with other seeds."""
    targets, items, parallel = {}, {}, {}
    for name in (target.task for target in study.targets):
        task, trained_in = study.tasks[name], tuple(study.trained_in(name))
        targets[name] = Target(languages=tuple(study.languages(name)), trained_in=trained_in)
        parallel[name] = task.parallel
        if task.evaluate in task.sizes:
            items[name] = task.sizes[task.evaluate]
    sizes = {}
    for name, size in study.sizes.items():
        count = figures.parameters(study, size)[0] if figures.shape(size) else None
        sizes[name] = Measured(size.title, parameters=count)
    planned = Plan(sizes, study.intermediate, targets, study.runs(), controls=study.controls)
    columns = {}
    seeds = len(study.seeds.none), len(study.seeds.others)
    for none, others in dict.fromkeys([seeds, (5, 3), (5, 5), (10, 5)]):
        numbers = {NONE: none, "others": others}
        columns[f"{none} / {others}"] = detectable(planned, numbers, items, parallel)
    return pd.DataFrame(columns).rename_axis(columns="seeds of none / of the others")


def disk(study: Study) -> str:
    """One line where the disk has less room than what is still to be written; else nothing."""
    table = trainings(study)
    checkpoint = max(figures.fixed_memory(study, size) for size in study.sizes.values())
    needed = ((table["runs"] * table["bytes"]).sum() + checkpoint) / 1e9
    needed -= sum(path.stat().st_size for path in study.folder.rglob("*") if path.is_file()) / 1e9
    above = [study.folder.absolute(), *study.folder.absolute().parents]
    free = shutil.disk_usage(next(folder for folder in above if folder.exists())).free / 1e9
    wrong = f"found {free:.1f} GB of free disk, expected {needed:.1f} for what is not written yet"
    return f"{study.folder}: {wrong}" if free < needed else ""


def finished_rate(study: Study) -> float:
    """FLOP/s of the trainings that have ended with the present hyperparameters; 0 without any."""
    flops = seconds = 0.0
    for row in trainings(study).dropna(subset="condition").itertuples():
        part, values = row.condition, row.condition.hyperparameters.model_dump(mode="json")
        for record in map(read_json, part.folder.glob("seed-*/run.json")):
            own = record.get("settings", {}).get("target" if part.target else "intermediate", {})
            if "train_seconds" in record and own.get("hyperparameters") == values:
                flops += row.training
                seconds += record["train_seconds"]
    return flops / seconds if seconds else 0.0


def warnings(study: Study) -> Iterator[str]:
    """One line for everything that is unknown or does not fit."""
    for size in study.sizes.values():
        if not figures.shape(size):
            yield f"encoder {size.encoder}: size unknown, planned as XLM-R base"
    cells = counts(study)["cells"].items()
    if assumed := [cell for cell, rows in cells if "/train/" in cell and rows.get("is_assumed")]:
        yield f"number of rows unknown, planned as {figures.ROWS:,}: {', '.join(assumed)}"
    yield from filter(None, [disk(study)])


def show(study: Study, gpu: str = "") -> Iterator[str]:
    """The plan as lines of text."""
    on, rate = figures.machine(gpu or "A100"), 0.0 if gpu else finished_rate(study)
    on = on._replace(rate=rate, share="as the finished trainings ran") if rate else on
    yield f"{study.name}: {study.description}\n"
    table = phases(study, on)
    table.loc["all"] = table.sum()
    digits = [f"{{:,.{n}f}}".format for n in (0, 0, 1, 1)]
    hours = "GPU-hours" if on.is_gpu and not rate else "hours"
    yield table.rename(columns={"runs": "count", "hours": hours}).to_string(formatters=digits)
    yield f"with {on.rate / 1e12:.3g} TFLOP/s, {on.share}"
    yield from (f"warning: {line}" for line in warnings(study))
    yield f"\nmemory in GB at {on.name}, which has {on.memory:.0f}:"
    yield memory(study, on).to_string(float_format="{:,.1f}".format)
    yield "\nsmallest effects it detects with 80 % power, in points (zero-shot, mean over all):"
    yield effects(study).to_string(float_format="{:.1f}".format)
    known = [target.task for target in study.targets if target.task in power.KNOWN_SEED_SD]
    yield f"noise between seeds known at base size: {', '.join(known) or 'none'}; else assumed"
    absent = fetch.missing(study)
    yield "\nmissing on this machine:" if absent else "\nnothing is missing on this machine"
    yield from (f"  {line}" for line in absent)


if __name__ == "__main__":
    command.run(__doc__, show, gpu="a GPU of figures.py, or here")
