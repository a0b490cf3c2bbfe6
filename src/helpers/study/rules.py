"""What must hold between the parts of a study and the catalogue: the rules that no single field can state."""

import re

from helpers.study.catalogue import NONE, StudyError


def check(study) -> None:
    """Check a :class:`helpers.study.Study` as a whole.

    Raises
    ------
    StudyError
        One line: the file, the key, what was found and what was expected.
    """
    _folder_names(study)
    _known_names(study)
    _each_once(study)
    _mixtures(study)
    _targets(study)
    _hyperparameters(study)


def _folder_names(study) -> None:
    """Names become folders and files: each stays inside the outputs and takes no other's place."""
    for name in [*study.sizes, *study.intermediate, *(t.task for t in study.targets)]:
        if name in ("data", "encoder") or name.startswith("seed-"):
            raise StudyError(
                f"{study.path}: '{name}' is the name of a folder that every study has; expected another"
            )
    for task in study.tasks.values():
        for language in task.languages:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", language):
                raise StudyError(
                    f"{study.path}: {task.name}.languages: '{language}' is no language code"
                )


def _known_names(study) -> None:
    for key, names in {
        "intermediate": [i for i in study.intermediate if i != NONE and i not in study.mixtures],
        "mixtures": [name for mixture in study.mixtures.values() for name in mixture.tasks],
        "targets": [t.task for t in study.targets] + [n for t in study.targets for n in t.train_on],
        "overrides.task": [
            o.task for o in study.overrides if o.task and o.task not in study.mixtures
        ],
        "retrieval": [study.retrieval] if study.retrieval else [],
    }.items():
        for name in names:
            if name not in study.tasks:
                known = ", ".join(sorted(study.tasks))
                raise StudyError(
                    f"{study.path}: {key}: unknown task '{name}'; expected one of {known}"
                )
    for override in study.overrides:
        if override.size and override.size not in study.sizes:
            known = ", ".join(study.sizes)
            raise StudyError(
                f"{study.path}: overrides.size: unknown size '{override.size}'; expected one of {known}"
            )


def _each_once(study) -> None:
    for key, values in {
        "intermediate": study.intermediate,
        "targets": [t.task for t in study.targets],
        "seeds": study.seeds,
    }.items():
        if len(set(values)) != len(values):
            raise StudyError(
                f"{study.path}: {key}: {values} names something twice; expected each once"
            )


def _mixtures(study) -> None:
    for name, mixture in study.mixtures.items():
        if name in study.tasks or name == NONE:
            raise StudyError(f"{study.path}: mixtures: '{name}' is a task's name; expected another")
        for task in mixture.tasks:
            if study.tasks[task].format == "retrieval":
                raise StudyError(f"{study.path}: mixtures.{name}: '{task}' has nothing to train on")


def _targets(study) -> None:
    for target in study.targets:
        entry = study.tasks[target.task]
        for language in target.languages:
            if language not in entry.languages:
                raise StudyError(
                    f"{study.path}: targets.{target.task}.languages: unknown language '{language}'; "
                    f"expected some of {', '.join(entry.languages)}"
                )
        if not study.train_on(target.task) and entry.format != "retrieval":
            raise StudyError(
                f"{study.path}: targets: '{target.task}' names no English task in train_on"
            )


def _hyperparameters(study) -> None:
    """Asking for a training's hyperparameters checks them."""
    for size in study.sizes:
        for task in (i for i in study.intermediate if i != NONE):
            for name in {task, *study.components(task)}:
                study.hyperparameters("intermediate", size, name)
        for target in study.targets:
            study.hyperparameters("target", size, target.task)
