"""What a study needs, before anything runs: ``python tools/plan.py STUDY.yaml [--gpu NAME]``.

Counts what is known, estimates the rest by figures.py, and names the data that is missing on this
machine. NAME is a GPU of figures.py, or `here` for this machine. Nothing is downloaded.
"""

import math
import shutil
from collections.abc import Iterator
from itertools import product
from statistics import mean

import command
import fetch
import figures
import pandas as pd

from comparison import Plan, Target, detectable, power
from comparison import Size as Measured
from helpers.study import LONGER, NONE, Study
from helpers.study.files import read_json
from helpers.study.params import task_of


def rows(study: Study, name: str) -> int | None:
    """Training rows as counted when the study's data was read, else as the catalogue says."""
    task, known = study.tasks[name], figures.cells(study)
    counts = [known.get(f"{name}/train/{code}", {}).get("rows") for code in task.trained_in]
    if None in counts:
        counts = [study.tasks[part].sizes.get("train") for part in task.parts or [name]]
    return None if None in counts else sum(counts)


def trained(study: Study, phase, size: str, name: str) -> tuple[int, int]:
    """Examples and tokens that one training sees: its stages one after the other."""
    values, examples, tokens = study.hyperparameters(phase, size, name), 0, 0.0
    for stage in study.train_on(name) if phase == "target" else [task_of(name)]:
        mixture, counts, texts = study.mixtures.get(stage), {}, []
        if mixture and mixture.mlm and mixture.mlm.task:
            text = study.tasks[mixture.mlm.task]
            texts = [text.name] * len(mixture.mlm.languages or text.languages)
        for task in [*study.components(stage), *texts]:
            counts[task] = counts.get(task, 0) + (rows(study, task) or 0)
        limit = min(values.train_examples or math.inf, mixture.cap if mixture else math.inf)
        counts = {task: int(min(count, limit)) for task, count in counts.items()}
        if total := sum(counts.values()):
            drawn = values.total_steps(total) * values.batch_size * values.gradient_accumulation
            examples, most = examples + drawn, math.inf if mixture else values.max_length
            for task, share in (mixture.shares(counts) if mixture else {stage: 1.0}).items():
                tokens += drawn * share * figures.tokens_of(study.tasks[task], most)
    return examples, round(tokens)


def evaluated(study: Study, size: str, target: str) -> tuple[int, int]:
    """Items of a target in all languages, and the tokens of these and of their candidates."""
    task, limit = study.tasks[target], study.hyperparameters("target", size, target).max_length
    counts, tokens = [], 0
    for pool in [task, *(study.tasks[name] for name in task.candidates)]:
        languages = study.languages(target) if pool is task else pool.languages
        together = "{language}" in str(pool.where)  # one source has all languages
        items = pool.sizes.get(pool.evaluate, figures.ITEMS)
        counts.append(items * (1 if together else len(languages)))
        tokens += counts[-1] * figures.tokens_of(pool, limit)
    return counts[0], tokens


def steps(study: Study, phase, size: str, name: str) -> float:
    """Optimiser steps of one training."""
    values = study.hyperparameters(phase, size, name)
    examples, _ = trained(study, phase, size, name)
    return examples / values.batch_size / values.gradient_accumulation


def extra_steps(study: Study, size: str) -> float:
    """Steps that the control ``longer`` adds: the mean of the intermediate trainings'."""
    return mean(steps(study, "intermediate", size, task) for task in study.intermediate_tasks)


def crossed_runs(study: Study, size: str, target: str) -> int:
    """Runs whose seeds are crossed."""
    one = study.crossed
    if not one or (one.size, one.target) != (size, target):
        return 0
    return len(one.seeds.intermediate) * len(one.seeds.target) * len(one.seeds.draw)


def phases(study: Study, on: figures.Machine) -> pd.DataFrame:
    """What each phase takes: runs, examples, tokens, hours, GB, minutes of its longest training."""
    table = []
    for name, size in study.sizes.items():
        inner, words, adapters = figures.parameters(study, size)
        table.append(("encoder", 1, 0, 0, figures.START, 4 * (inner + words)))
        for phase, task in study.trainings(untrained=True):
            examples, tokens = trained(study, phase, name, task)
            flops, runs = tokens * figures.flops_per_token(study, name), len(study.seeds_of(task))
            kept = 4 * (adapters if size.tuning == "lora" else inner + words)
            if phase == "target":
                items, predicted = evaluated(study, name, task)
                predicted *= 3 if study.compare_selections and tokens else 1
                after = figures.PREDICTION * inner * predicted
                kept = 200 * items + 4 * inner * (study.keep_models and tokens > 0)
                names = [r.intermediate for r in study.runs() if (r.size, r.target) == (name, task)]
                if longer := names.count(LONGER):
                    factor = 1 + extra_steps(study, name) / steps(study, phase, name, task)
                    seconds = figures.START + (factor * flops + after) / on.rate
                    more = round(factor * examples), round(factor * tokens)
                    table.append((phase, longer, *more, seconds, kept))
                runs, flops = len(names) - longer + crossed_runs(study, name, task), flops + after
            table.append((phase, runs, examples, tokens, figures.START + flops / on.rate, kept))
            if study.sweep and phase == "target" and tokens:
                rates = study.sweep.sizes.get(name, study.sweep.learning_rates)
                table.append(("sweep", len(rates) * len(study.sweep.seeds), *table[-1][2:5], 0))
    columns = ["phase", "runs", "examples", "tokens", "hours", "disk, GB"]
    frame = pd.DataFrame(table, columns=columns)
    longest = frame.groupby("phase")["hours"].max() / 60
    frame[columns[2:]] = frame[columns[2:]].mul(frame["runs"], axis=0)
    total = frame.groupby("phase", sort=False).sum() / [1, 1, 1, 3600, 1e9]
    return total.assign(**{"longest seed, min": longest})


def memory(study: Study, on: figures.Machine) -> pd.DataFrame:
    """GB of each size's largest training, and whether ``on`` has room for it: weights, gradients
    and Adam's two moments; with the states of a batch; with those of one example, checkpointed.
    """
    table = {}
    for name, size in study.sizes.items():
        layers, hidden, _ = figures.shape(size) or figures.BASE
        inner, words, adapters = figures.parameters(study, size)
        fixed = 18 * inner + 16 * words  # 4 weight, 12 gradient and moments, 2 autocast's copy
        if size.tuning == "lora":
            fixed = 2 * inner + 4 * words + 16 * adapters
        batch = one = 0
        for phase, task in study.trainings():
            values = study.hyperparameters(phase, name, task)
            names = study.components(task) if phase == "intermediate" else study.train_on(task)
            used = [study.tasks[other] for other in names]
            example = max(map(figures.sequences, used)) * values.max_length
            whole = values.batch_size * example
            if any(other.format == "retrieval" for other in used):  # a pair needs all others
                example = whole
            one = max(one, example)
            batch = max(batch, example, min(whole, figures.AT_ONCE[on.is_gpu]))
        full = hidden * layers * figures.STATES
        least = hidden * (layers * figures.BETWEEN + figures.STATES)
        kept = least if size.gradient_checkpointing else full
        needs = [fixed + batch * kept, fixed + one * kept, fixed + one * least]
        ways = ["yes", "yes, in smaller steps", "yes, with gradient checkpointing", "no"]
        way = sum(need > figures.USABLE * on.memory * 1e9 for need in needs)
        table[name] = [fixed / 1e9, needs[0] / 1e9, needs[2] / 1e9, ways[way]]
    columns = ["weights and Adam", "whole batch", "least", "it fits"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns)


def effects(study: Study) -> pd.DataFrame:
    """The smallest true effects that the study detects as planned, and with other seeds."""
    targets, items, parallel = {}, {}, {}
    for name in (target.task for target in study.targets):
        task, trained_in = study.tasks[name], tuple(study.trained_in(name))
        targets[name] = Target(languages=tuple(study.languages(name)), trained_in=trained_in)
        parallel[name] = task.parallel
        items |= {name: task.sizes[task.evaluate]} if task.evaluate in task.sizes else {}
    sizes = {}
    for name, size in study.sizes.items():
        count = figures.parameters(study, size)[0] if figures.shape(size) else None
        sizes[name] = Measured(size.title, parameters=count)
    runs = [tuple(run) for run in study.runs()]
    planned = Plan(sizes, study.intermediate, targets, runs, controls=study.controls)
    columns = {}
    seeds = len(study.seeds_of(NONE)), len(study.seeds_of("others"))
    for none, others in dict.fromkeys([seeds, (5, 3), (5, 5), (10, 5)]):
        numbers = {NONE: none, "others": others}
        columns[f"{none} / {others}"] = detectable(planned, numbers, items, parallel)
    return pd.DataFrame(columns).rename_axis(columns="seeds of none / of the others")


def disk(study: Study) -> str:
    """One line where the disk has less room than what is still to be written; else nothing."""
    needed = phases(study, figures.machine("A100"))["disk, GB"].sum()
    needed += memory(study, figures.machine("A100"))["weights and Adam"].max()  # a checkpoint
    present = sum(path.stat().st_size for path in study.folder.rglob("*") if path.is_file()) / 1e9
    above = [study.folder.absolute(), *study.folder.absolute().parents]
    free = shutil.disk_usage(next(folder for folder in above if folder.exists())).free / 1e9
    wrong = f"found {free:.1f} GB of free disk, expected {needed - present:.1f}"
    return f"{study.folder}: {wrong} for what is not written yet" if free < needed - present else ""


def finished_rate(study: Study) -> float:
    """FLOP/s of the trainings that have ended; 0 without any."""
    flops = seconds = 0.0
    for name, (phase, task) in product(study.sizes, study.trainings()):
        examples, tokens = trained(study, phase, name, task)
        folder = f"{name}/{task}" if phase == "intermediate" else f"{name}/*/{task}"
        for record in map(read_json, study.folder.glob(f"{folder}/seed-*/run.json")):
            seen = record["examples_per_second"] * record["train_seconds"]
            flops += seen * tokens / max(1, examples) * figures.flops_per_token(study, name)
            seconds += record["train_seconds"]
    return flops / seconds if seconds else 0.0


def warnings(study: Study, table: pd.DataFrame) -> Iterator[str]:
    """One line for everything that is unknown or does not fit."""
    for size in study.sizes.values():
        if not figures.shape(size):
            yield f"encoder {size.encoder}: size unknown, planned as XLM-R base"
    names = dict.fromkeys(task for task, split, _ in study.needed() if split == "train")
    if unknown := [name for name in names if rows(study, name) is None]:
        yield f"not planned, because their number of rows is unknown: {', '.join(unknown)}"
    for phase, longest in table["longest seed, min"].items():
        minutes = study.needs("target" if phase == "sweep" else phase).minutes
        if longest > minutes:
            expected = f"expected at least {longest:,.0f}"
            yield f"cluster.{phase}.minutes: found {minutes:,}, {expected}"
    yield from filter(None, [disk(study)])


def show(study: Study, gpu: str = "") -> Iterator[str]:
    """The plan as lines of text."""
    on, rate = figures.machine(gpu or "A100"), 0.0 if gpu else finished_rate(study)
    on = on._replace(rate=rate or on.rate)
    yield f"{study.name}: {study.description}\n"
    table = phases(study, on)
    whole = pd.concat([table, table.sum().to_frame("all").T])
    whole.loc["all", "longest seed, min"] = table["longest seed, min"].max()
    digits = [f"{{:,.{n}f}}".format for n in (0, 0, 0, 1, 1, 0)]
    if on.is_gpu and not rate:
        whole = whole.rename(columns={"hours": "GPU-hours"})
    yield whole.to_string(formatters=dict(zip(whole, digits, strict=True)))
    source = "as the finished trainings ran" if rate else f"{on.share} of {on.name}"
    yield f"with {on.rate / 1e12:.3g} TFLOP/s, {source}"
    yield from (f"warning: {line}" for line in warnings(study, table))
    yield f"\nmemory in GB at {on.name}, which has {on.memory:.0f}:"
    yield memory(study, on).to_string(float_format="{:,.1f}".format)
    yield "\nsmallest effects it detects with 80 % power, in points (zero-shot, mean over all):"
    yield effects(study).to_string(float_format="{:.1f}".format)
    known = [t.task for t in study.targets if t.task in power.KNOWN_SEED_SD]
    yield f"noise between seeds known at base size: {', '.join(known) or 'none'}; else assumed"
    absent = fetch.missing(study)
    yield "\nmissing on this machine:" if absent else "\nnothing is missing on this machine"
    yield from (f"  {line}" for line in absent)


if __name__ == "__main__":
    command.run(__doc__, show, gpu="a GPU of figures.py, or here")
