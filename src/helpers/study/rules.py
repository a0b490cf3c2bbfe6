"""Rules between the parts of a study and the catalogue, which no single field can check."""

from collections.abc import Iterator
from itertools import product

from helpers.study import architectures
from helpers.study.catalogue import NONE, StudyError, unknown
from helpers.study.params import LONGER, PLACEBO, task_of


def check(study) -> None:
    """Check a study as a whole; a :class:`StudyError` names the first thing that is wrong."""
    rules = (_folder_names, _encoders, _known_names, _targets, _controls, _mixtures, _sweep)
    for rule in (*rules, _hyperparameters):
        for wrong in rule(study):
            raise StudyError(f"{study.path}: {wrong}")


def _folder_names(study) -> Iterator[str]:
    """Names become folders, so they must not be those that every study has."""
    for name in [*study.sizes, *study.intermediate, *(t.task for t in study.targets)]:
        if name in ("data", "encoder", "sweep") or name.startswith("seed-"):
            yield f"'{name}' is the name of a folder that every study has; expected another"
    for name in [*study.tasks, *study.mixtures]:
        if name == LONGER or name != task_of(name):
            yield f"'{name}' is the name of a control; expected another"


def variants(names: dict[str, str], tasks: dict) -> Iterator[str]:
    """What is wrong with names for a second use of a catalogue task."""
    for name, origin in names.items():
        if origin not in tasks:
            yield f"variants.{name}: {unknown('task', origin, tasks)}"
        if name in tasks or name == NONE:
            yield f"variants: '{name}' is a task's name; expected another"


def _encoders(study) -> Iterator[str]:
    for name, size in study.sizes.items():
        for wrong in architectures.faults(size.encoder):
            yield f"sizes.{name}.encoder: {wrong}"


def _known_names(study) -> Iterator[str]:
    labelled = {name for name, task in study.tasks.items() if task.format != "plain_text"}
    trainings, texts = {*labelled, *study.mixtures}, study.tasks.keys() - labelled
    written = [m.mlm.task for m in study.mixtures.values() if m.mlm and m.mlm.task]
    components = [name for mixture in study.mixtures.values() for name in mixture.tasks]
    targets = [name for target in study.targets for name in (target.task, *target.train_on)]
    for key, kind, names, known in (
        ("intermediate", "task", map(task_of, study.intermediate), {*trainings, NONE, LONGER}),
        ("mixtures", "task", components, labelled),
        ("mixtures.mlm.task", "text", written, texts),
        ("targets", "task", targets, labelled),
        ("overrides.task", "task", [o.task for o in study.overrides if o.task], trainings),
        ("sweep.sizes", "size", study.sweep.sizes if study.sweep else [], study.sizes),
        ("overrides.size", "size", [o.size for o in study.overrides if o.size], study.sizes),
    ):
        for name in names:
            if name not in known:
                yield f"{key}: {unknown(kind, name, known)}"


def _controls(study) -> Iterator[str]:
    if f"{PLACEBO}{LONGER}" in study.intermediate or f"{PLACEBO}{NONE}" in study.intermediate:
        yield "intermediate: a placebo needs a task; expected placebo: TASK"
    if LONGER in study.intermediate and not study.intermediate_tasks:
        yield f"intermediate: found {LONGER} and no task; expected one whose steps are added"
    if crossed := study.crossed:
        before = study.intermediate_tasks
        for kind, name, known in (
            ("size", crossed.size, study.sizes),
            ("intermediate", crossed.intermediate, before),
            (
                "target",
                crossed.target,
                [task for phase, task in study.trainings() if phase == "target"],
            ),
        ):
            if name not in known:
                yield f"crossed.{kind}: {unknown(kind, name, known)}"
        for seed in {*crossed.seeds.intermediate} - {*study.seeds.others}:
            yield f"crossed.seeds.intermediate: {unknown('seed', seed, study.seeds.others)}"


def _mixtures(study) -> Iterator[str]:
    for name, mixture in study.mixtures.items():
        if name in study.tasks or name == NONE:
            yield f"mixtures: '{name}' is a task's name; expected another"
        for task in mixture.tasks:
            if study.tasks[task].format == "retrieval":
                yield f"mixtures.{name}: '{task}' is a retrieval task; expected another format"
        if mixture.mlm and mixture.mlm.task:
            known = study.tasks[mixture.mlm.task].languages
            for language in {*mixture.mlm.languages} - {*known}:
                yield f"mixtures.{name}.mlm.languages: {unknown('language', language, known)}"


def _sweep(study) -> Iterator[str]:
    given = [(f"phases.{phase}", values) for phase, values in study.phases.items()]
    given += [("overrides.set", override.set) for override in study.overrides]
    for key, rate in ((k, v["learning_rate"]) for k, v in given if "learning_rate" in v):
        if bool(study.sweep) == (rate is not None):
            expected = "none, which the sweep chooses" if study.sweep else "a number or a sweep"
            yield f"{key}.learning_rate: found {rate}, expected {expected}"
    if study.sweep and "target" not in {phase for phase, _ in study.trainings()}:
        yield "sweep: found no target that is trained; expected one, to choose the rate"
    if study.sweep and (both := {*study.sweep.seeds} & {run.seed for run in study.runs()}):
        yield f"sweep.seeds: found {min(both)}, expected seeds that the study does not use"


def _hyperparameters(study) -> Iterator[str]:
    """To build them is to check them; those of a mixture's parts say where texts are cut."""
    trainings = study.trainings(untrained=True)
    names = [name for phase, name in trainings if phase == "intermediate"]
    parts = [("intermediate", task) for name in names for task in study.components(name)]
    for (name, size), (phase, task) in product(study.sizes.items(), [*trainings, *parts]):
        frozen = study.hyperparameters(phase, name, task).frozen_layers
        if size.layers and frozen > size.layers:  # phase 1 checks an uncut encoder
            wrong = f"found {frozen} for size {name}, expected at most its {size.layers} layers"
            yield f"frozen_layers ({phase}, {task}): {wrong}"


def _targets(study) -> Iterator[str]:
    names = [target.task for target in study.targets]
    if len({*names}) != len(names):
        yield f"targets: {names} names something twice; expected each once"
    for target in study.targets:
        entry = study.tasks[target.task]
        for language in target.languages:
            if language not in entry.languages:
                wrong = unknown("language", language, entry.languages)
                yield f"targets.{entry.name}.languages: {wrong}"
        if not study.train_on(target.task) and entry.format != "retrieval":
            yield f"targets: '{target.task}' names no English task in train_on"
