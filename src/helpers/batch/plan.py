"""What a study takes, before anything runs: ``python -m helpers.batch.plan params/STUDY.yaml``.

Counts what is known, estimates the rest from the figures stated here, and names the data that is
missing on this machine. Nothing is downloaded.
"""

import os
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from helpers import comparison
from helpers.batch import costs, fetch, memory
from helpers.encoders import hidden_states
from helpers.study import NONE, RUN, Study, command, prepared, rules

EARLIER = pd.DataFrame(columns=[*RUN, "language", "score", "n"])
"""The results of a study that has none."""
_PHASES = ["encoder", "intermediate", "target", "sweep"]
_COUNTS = ["runs", "examples", "tokens", "hours"]
_ROW = "{:14}{:>8,.0f}{:>22,.0f}{:>20,.0f}{:>12,.1f}"


def plan(study: Study) -> pd.DataFrame:
    """What a phase takes: runs, examples, tokens, GPU-hours, bytes, minutes of the longest run."""
    runs = Counter(path.relative_to(study.folder).parts[:-2] for path in study.results())
    rows = [(_PHASES[len(names) - 1], *costs.result(study, *names)) for names in runs]
    table = pd.DataFrame(rows, columns=["phase", *_COUNTS[1:], "disk", "read"])
    longest = 60 * table.groupby("phase")["hours"].max()
    sums = table.drop(columns="phase").assign(runs=1).mul([*runs.values()], axis=0)
    phases = sums.groupby(table["phase"]).sum().assign(longest=longest)
    phases = phases.reindex(_PHASES if study.sweep else _PHASES[:-1])
    return phases.fillna({"longest": costs.START / 60}).fillna(0)


def saved(study: Study) -> dict[str, float]:
    """GPU-hours that runs share, and that each of them would take anew if it were made alone."""
    found = dict.fromkeys(["encoders", "intermediate trainings", "states of frozen layers"], 0.0)
    runs = Counter(run[:3] for run in study.runs())
    for size in study.sizes:
        of_size: dict[tuple[str, ...], int] = {x: n for x, n in runs.items() if x[0] == size}
        found["encoders"] += (sum(of_size.values()) - 1) * costs.START / 3600
        for task in (task for task in study.intermediate if task != NONE):
            begun = (len(study.targets) - 1) * len(study.seeds_of(task))
            found["intermediate trainings"] += begun * costs.result(study, size, task)[2]
        if depth := hidden_states.depth(study, size):
            layers, hidden = memory.shape(study.sizes[size])
            texts = sum(costs.texts(study, size, target.task) for target in study.targets)
            before = [i for i in study.intermediate if i != NONE]
            more = sum(costs.texts(study, size, task, "intermediate") for task in before)
            if 4 * hidden * (texts + more) <= hidden_states.LIMIT:
                texts += more
                of_size |= {(size, task): len(study.seeds_of(task)) for task in before}
            if 4 * hidden * texts <= hidden_states.LIMIT:
                read = -texts
                for names, n in of_size.items():
                    _, tokens, _, _, predicted = costs.result(study, *names)
                    read += n * (tokens + predicted)
                flops = 2 * memory.parameters(study, study.sizes[size])[0] * depth / layers
                found["states of frozen layers"] += max(0, read) * flops / costs.GPU_FLOPS / 3600
    return {name: hours for name, hours in found.items() if hours}


def _shared(study: Study) -> list[str]:
    """What sharing saves, as lines of text; identical texts are counted when data is read."""
    hours = ", ".join(f"{hours:,.2g} of {what}" for what, hours in saved(study).items())
    lines = [f"saved against every run alone, GPU-hours: {hours}"] if hours else []
    cells = prepared.summary(study).get("splits", {}).values()
    again = sum(cell["rows"] - cell.get("distinct", cell["rows"]) for cell in cells)
    what = "examples have the texts of another in their split, and are computed once"
    return lines + [f"{again:,} of {sum(cell['rows'] for cell in cells):,} {what}"] * bool(again)


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
    given = prepared.data_dir(study)
    folder, note = given or Path(), "" if given else " (no data_dir is given)"
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
    unknown += [task for task in trained if costs.rows(study, task) is None]
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
        f"\ndisk: up to {total['disk'] / 1e9:,.0f} GB of encoders and predictions",
        f"estimated with {costs.GPU_FLOPS:.2g} FLOP/s a GPU (40 % of an A100 in bf16), "
        f"{costs.START:.0f} s a run beside training,",
        f"{costs.TRAINING} FLOP a parameter of the layers and token, and tokens a sequence of "
        + ", ".join(f"{count} ({name})" for name, count in costs.TOKENS.items()),
        *_shared(study),
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
