"""Rules between the parts of a study and the catalogue, which no single field can check."""

from collections.abc import Iterable, Iterator
from itertools import product

from helpers.study import architectures
from helpers.study.architectures import weights
from helpers.study.catalogue import NONE, StudyError, unknown
from helpers.study.files import read_json
from helpers.study.params import LONGER, task_of


def check(study) -> None:
    """Check a study as a whole; a :class:`StudyError` names the first thing that is wrong."""
    for key, kind, names, known in _names(study):
        for name in names:
            if name not in known:
                raise StudyError(f"{study.path}: {key}: {unknown(kind, name, known)}")
    for rule in (_new_names, _encoders, _trainings, _crossed, _sweep, _hyperparameters):
        for wrong in rule(study):
            raise StudyError(f"{study.path}: {wrong}")


def _names(study) -> Iterator[tuple[str, str, Iterable, Iterable]]:
    """Every key that names something: the key, of what kind it is, what it names, what is known."""
    tasks = {name for name, task in study.tasks.items() if task.format != "plain_text"}
    texts, trainings = study.tasks.keys() - tasks, tasks | study.mixtures.keys()
    before = [*study.intermediate_tasks, *filter(None, study.controls.values())]
    yield "intermediate", "task", before, trainings
    for name, mixture in study.mixtures.items():
        yield f"mixtures.{name}.tasks", "task", mixture.tasks, tasks
        if mixture.mlm and mixture.mlm.task:
            yield f"mixtures.{name}.mlm.task", "text", [mixture.mlm.task], texts
            known = study.tasks[mixture.mlm.task].languages
            yield f"mixtures.{name}.mlm.languages", "language", mixture.mlm.languages, known
    for target in study.targets:
        yield "targets", "task", [target.task, *target.train_on], tasks
        known = study.tasks[target.task].languages
        yield f"targets.{target.task}.languages", "language", target.languages, known
    yield "overrides.task", "task", [o.task for o in study.overrides if o.task], trainings
    yield "overrides.size", "size", [o.size for o in study.overrides if o.size], study.sizes
    if study.sweep:
        yield "sweep.sizes", "size", study.sweep.sizes, study.sizes
    if crossed := study.crossed:
        trained = [task for phase, task in study.trainings() if phase == "target"]
        yield "crossed.size", "size", [crossed.size], study.sizes
        yield "crossed.intermediate", "task", [crossed.intermediate], study.intermediate_tasks
        yield "crossed.target", "target", [crossed.target], trained
        seeds = crossed.seeds.intermediate
        yield "crossed.seeds.intermediate", "seed", seeds, study.seeds.others


def _new_names(study) -> Iterator[str]:
    """Names become folders, and nothing may have the name of something else."""
    targets = [target.task for target in study.targets]
    for name in [*study.sizes, *study.intermediate, *targets]:
        if name in ("data", "encoder", "sweep") or name.startswith("seed-"):
            yield f"'{name}' is the name of a folder that every study has; expected another"
    for name in [*study.tasks, *study.mixtures]:
        if name in (NONE, LONGER, "all") or name != task_of(name):
            yield f"'{name}' is the name of a control, the baseline or a mean; expected another"
    for name in study.mixtures:
        if name in study.tasks:
            yield f"mixtures: '{name}' is a task's name; expected another"
    if len({*targets}) != len(targets):
        yield f"targets: {targets} names something twice; expected each once"


def _encoders(study) -> Iterator[str]:
    for name, size in study.sizes.items():
        for wrong in architectures.faults(size.encoder):
            yield f"sizes.{name}.encoder: {wrong}"
        made, now = read_json(study.encoder_folder(name) / "run.json"), weights(size.encoder)
        if now and made.get("weights", {}).get(size.encoder, now) != now:
            wrong = f"weights changed since {study.folder / name} was made; remove it to go on"
            yield f"sizes.{name}.encoder: {size.encoder}: {wrong}"


def _trainings(study) -> Iterator[str]:
    """What can be trained."""
    if LONGER in study.intermediate and not study.intermediate_tasks:
        yield f"intermediate: found {LONGER} and no task; expected one whose steps are added"
    for name, mixture in study.mixtures.items():
        for task in mixture.tasks:
            if study.tasks[task].format == "retrieval":
                yield f"mixtures.{name}: '{task}' is a retrieval task; expected another format"
    for target in study.targets:
        if not study.train_on(target.task) and study.tasks[target.task].format != "retrieval":
            yield f"targets: '{target.task}' names no English task in train_on"


def _crossed(study) -> Iterator[str]:
    if (crossed := study.crossed) and len(crossed.seeds.draw) > 1:
        values = study.hyperparameters("target", crossed.size, crossed.target)
        if not (values.train_examples or values.steps):
            expected = f"train_examples of {crossed.target} with it: an epoch reads all examples"
            yield f"crossed.seeds.draw: found {crossed.seeds.draw}, expected {expected}"


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
    known = {(phase, task_of(task)) for phase, task in [*trainings, *parts]}
    for phase, task in ((one.phase, one.task) for one in study.overrides if one.phase):
        if task in {name for _, name in known} and (phase, task) not in known:
            yield f"overrides: found task {task} in phase {phase}, expected its other phase or none"
    for (name, size), (phase, task) in product(study.sizes.items(), [*trainings, *parts]):
        frozen = study.hyperparameters(phase, name, task).frozen_layers
        if size.layers and frozen > size.layers:  # phase 1 checks an uncut encoder
            wrong = f"found {frozen} for size {name}, expected at most its {size.layers} layers"
            yield f"frozen_layers ({phase}, {task}): {wrong}"
