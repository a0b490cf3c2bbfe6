"""What a study takes, before anything runs: ``python -m helpers.batch.plan params/STUDY.yaml``.

Counts runs, examples and tokens, estimates GPU-hours and disk from stated figures, and names the data that is missing
on this machine. Nothing is downloaded. Figures that are estimates say so.
"""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from helpers.study import NONE, Study, StudyError, Task

GPU_FLOPS = 1.2e14
"""Assumed rate of training on one GPU: 40 % of an A100's 312 TFLOP/s in bf16."""
PREDICTION = 3.0
"""A prediction costs a third of a training step on the same text."""
START = 60.0
"""Assumed seconds that a run takes to start, load and write."""
PIECES = {
    "sentence_pair": 50,
    "multiple_choice": 40,
    "span_extraction": 250,
    "tagging": 30,
    "retrieval": 20,
}
"""Assumed pieces of a sequence where the data is not here to be counted; long texts are cut at the study's length."""
ENCODERS = {
    "FacebookAI/xlm-roberta-base": (85_054_464, 768),
    "FacebookAI/xlm-roberta-large": (302_309_376, 1024),
}
"""Parameters of the layers and hidden size of known encoders."""
VOCABULARY = 150_000
"""Assumed rows of a vocabulary trimmed to a study of many languages; XLM-R's whole one has 250,002."""
PREDICTED = 5_000
"""Assumed evaluated items of a language where the catalogue does not say."""


@dataclass
class Plan:
    """Counts of a study; times in GPU-hours and, of the longest run, minutes; disk in bytes."""

    runs: dict[str, int] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    disk: float = 0.0
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def plan(study: Study) -> Plan:
    """What every phase of a study takes."""
    out, rows = Plan(), {}
    for phase in ("encoder", "intermediate", "target"):
        out.runs[phase], out.examples[phase], out.tokens[phase] = 0, 0, 0
        out.hours[phase], out.longest[phase] = 0.0, START / 60
    for size in study.sizes:
        layers, hidden = _shape(study, size, out)
        whole = layers * 4 + 4 * hidden * (VOCABULARY if study.trim else 250_002)
        out.runs["encoder"] += 1
        out.hours["encoder"] += START / 3600
        out.disk += whole
        for name in study.intermediate:
            if name == NONE:
                continue
            cost = _cost(
                study, "intermediate", size, name, [study.components(name)], layers, rows, out
            )
            _add(out, "intermediate", cost, len(study.seeds))
            out.disk += whole * len(study.seeds)
        for target in study.targets:
            trained = [[name] for name in study.train_on(target.task)]
            cost = _cost(study, "target", size, target.task, trained, layers, rows, out)
            entry = study.tasks[target.task]
            items = entry.sizes.get(entry.evaluate, PREDICTED)
            items *= 1 if entry.where else len(study.languages(target.task))
            flops = 2 * layers * items * _pieces(study, "target", size, target.task, entry)
            cost = (*cost[:2], cost[2] + flops * PREDICTION / 2 / GPU_FLOPS)
            runs = len(study.intermediate) * len(study.seeds)
            _add(out, "target", cost, runs)
            out.disk += 200 * items * runs
    out.missing = missing(study)
    out.unknown = list(dict.fromkeys(out.unknown))
    return out


def missing(study: Study) -> list[str]:
    """Sources that this machine does not have: own files, and what is neither in a mirror nor kept by the library."""
    from helpers.data.sources import MIRROR

    folder, found = os.environ.get("DATA_DIR") or study.data_dir, {}
    for name, split, language in study.needed():
        for part in study.tasks[name].parts or [name]:
            task = study.tasks[part]
            source = task.source(language)
            if source.files:
                code = task.codes.get(language, language)
                path = Path(folder or ".") / source.files.format(
                    language=code, split=source.splits.get(split, split)
                )
                if folder is None or not path.is_file():
                    found.setdefault(
                        f"file {path}" + ("" if folder else " (no data_dir is given)"), []
                    ).append(part)
            elif source.hub and not _here(source.hub, "datasets", os.environ.get(MIRROR)):
                found.setdefault(f"data set {source.hub}", []).append(part)
    for size in study.sizes.values():
        local = Path(size.encoder).is_dir() or size.encoder.startswith("pip:")
        if not local and not _here(size.encoder, "models", os.environ.get(MIRROR)):
            found.setdefault(f"encoder {size.encoder}", [])
    for name in study.intermediate:
        mixture = study.mixtures.get(name)
        for file in mixture.mlm.files if mixture and mixture.mlm else []:
            if not (Path(folder or ".") / file).is_file():
                found.setdefault(f"file {Path(folder or '.') / file}", []).append(name)
    return [
        what + (f": {', '.join(dict.fromkeys(by))}" if by else "") for what, by in found.items()
    ]


def show(study: Study, plan: Plan) -> str:
    """The plan as a page of text."""
    lines = [
        f"{study.name}: {study.description}",
        "",
        f"{'phase':14}{'runs':>8}{'examples trained on':>22}{'tokens trained on':>20}{'GPU-hours':>12}"
        f"{'longest run':>14}   asked of a cluster",
    ]
    for phase in plan.runs:
        cells = f"{plan.runs[phase]:>8,}{plan.examples[phase]:>22,}{plan.tokens[phase]:>20,}{plan.hours[phase]:>12,.1f}"
        needs = study.needs(phase)
        asked = f"{needs.gpus} GPU, {needs.memory_gb:g} GB, {needs.minutes:,} min"
        lines.append(f"{phase:14}{cells}{plan.longest[phase]:>10,.0f} min   {asked}")
    cells = f"{sum(plan.runs.values()):>8,}{sum(plan.examples.values()):>22,}{sum(plan.tokens.values()):>20,}"
    lines.append(f"{'all':14}{cells}{sum(plan.hours.values()):>12,.1f}")
    lines += [
        "",
        f"disk: about {plan.disk / 1e9:,.0f} GB of encoders and predictions",
        f"estimated with {GPU_FLOPS:.2g} FLOP/s a GPU (40 % of an A100 in bf16), {START:.0f} s a run beside training,",
        f"6 FLOP a parameter of the layers and token, and {_assumed()}",
    ]
    if plan.unknown:
        lines.append(
            f"sizes that the catalogue does not say are not counted: {', '.join(plan.unknown)}"
        )
    for phase, minutes in plan.longest.items():
        if plan.runs[phase] and minutes > (asked := study.needs(phase).minutes):
            lines.append(
                f"warning: cluster.{phase}.minutes: found {asked:,}, expected at least {minutes:,.0f}"
            )
    lines += [
        "",
        "missing on this machine:" if plan.missing else "nothing is missing on this machine",
    ]
    lines += [f"  {what}" for what in plan.missing]
    return "\n".join(lines)


def _assumed() -> str:
    return "tokens a sequence of " + ", ".join(
        f"{count} ({name})" for name, count in PIECES.items()
    )


def _add(out: Plan, phase: str, cost: tuple[int, int, float], runs: int) -> None:
    examples, tokens, seconds = cost
    out.runs[phase] += runs
    out.examples[phase] += examples * runs
    out.tokens[phase] += tokens * runs
    out.hours[phase] += (seconds + START) * runs / 3600
    out.longest[phase] = max(out.longest[phase], (seconds + START) / 60)


def _cost(
    study: Study,
    phase: str,
    size: str,
    name: str,
    stages: list[list[str]],
    layers: int,
    rows: dict,
    out: Plan,
):
    """(examples, tokens, seconds) of one training."""
    settings, examples, tokens = study.hyperparameters(phase, size, name), 0, 0
    for tasks in stages:
        mixture = study.mixtures.get(name)
        sizes = {task: _rows(study, task, rows, out) for task in tasks}
        sizes = {
            task: min(count, settings.train_examples or count) for task, count in sizes.items()
        }
        capped = {
            task: min(count, mixture.cap) if mixture else count for task, count in sizes.items()
        }
        if not sum(capped.values()):
            continue
        seen = (
            settings.total_steps(sum(capped.values()))
            * settings.batch_size
            * settings.gradient_accumulation
        )
        for task, count in capped.items():
            share = seen * count / sum(capped.values())
            examples += round(share)
            own = task if mixture else name
            tokens += round(share * _pieces(study, phase, size, own, study.tasks[task]))
    return examples, tokens, 6 * layers * tokens / GPU_FLOPS


def _rows(study: Study, name: str, rows: dict, out: Plan) -> int:
    if name not in rows:
        entry = study.tasks[name]
        counts = [study.tasks[part].sizes.get("train") for part in entry.parts or [name]]
        if entry.where:  # the source's size is that of all its languages
            counts = [None]
        if None in counts:
            counts = [_kept(study, name)]
        if None in counts:
            out.unknown.append(name)
        rows[name] = sum(count or 0 for count in counts)
    return rows[name]


def _kept(study: Study, name: str) -> int | None:
    """Training rows of a study whose data has been read."""
    import json

    summary = study.folder / "data" / "summary.json"
    if not summary.exists():
        return None
    splits = json.loads(summary.read_text(encoding="utf-8"))["splits"]
    found = [
        splits.get(f"{name}/train/{language}", {}).get("rows")
        for language in study.tasks[name].trained_in
    ]
    return None if None in found else sum(found)


def _pieces(study: Study, phase: str, size: str, name: str, task: Task) -> int:
    limit = study.hyperparameters(phase, size, name).max_length
    return min(PIECES[task.format], limit) * (
        len(task.labels) if task.format == "multiple_choice" else 1
    )


def _shape(study: Study, size: str, out: Plan) -> tuple[int, int]:
    encoder = study.sizes[size].encoder
    if encoder in ENCODERS:
        return ENCODERS[encoder]
    out.unknown.append(f"encoder {encoder} (counted as XLM-R base)")
    return ENCODERS["FacebookAI/xlm-roberta-base"]


def _here(repository: str, kind: str, mirror: str | None) -> bool:
    if mirror:
        return (Path(mirror) / repository).is_dir()
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    cached = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    return cached.is_dir() or (home / "datasets" / repository.replace("/", "___").lower()).is_dir()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="helpers.batch.plan", description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--outputs", default="outputs")
    given = parser.parse_args()
    try:
        chosen = Study.load(given.study, given.outputs)
        print(show(chosen, plan(chosen)))
    except StudyError as error:
        sys.exit(str(error))
