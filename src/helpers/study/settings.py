"""What the result of a phase depends on, as plain data (:meth:`helpers.study.Study.settings`)."""

from helpers.study import catalogue
from helpers.study.catalogue import NONE
from helpers.study.params import Phase


def of(study, size: str, intermediate: str | None, target: str | None) -> dict:
    """The settings of an encoder, an intermediate training or a run."""
    other = {"title", "tuning", "lora", "gradient_checkpointing"}
    encoder = study.sizes[size].model_dump(mode="json", exclude=other)
    found: dict = {"encoder": encoder, "trim": study.trim}
    if study.precision != "auto":  # what auto has measured is kept with the study
        found["precision"] = study.precision
    if intermediate not in (None, NONE):
        names = study.components(intermediate)
        training = _training(study, "intermediate", size, intermediate, names)
        if mixture := study.mixtures.get(intermediate):
            own = {name: study.hyperparameters("intermediate", size, name) for name in names}
            given = mixture.model_dump(mode="json", exclude_defaults=True)
            training["mixture"] = {"cap": mixture.cap, "mlm": None, **given}
            for text, *_ in mixture.texts(study.tasks)[:1]:
                training["text"] = catalogue.settings(study.tasks, text)
            training["max_lengths"] = {name: h.max_length for name, h in own.items()}
        found["intermediate"] = training
    if target is not None:
        training = _training(study, "target", size, target, study.train_on(target))
        if not study.rate:
            training["languages"] = study.languages(target)
            training["evaluated"] = catalogue.settings(study.tasks, target)
            if pools := study.tasks[target].candidates:
                training["searched"] = {pool: study.tasks[pool].languages for pool in pools}
        found["target"] = training
    return found


def _training(study, phase: Phase, size: str, task: str, train_on: list[str]) -> dict:
    found = {
        "hyperparameters": study.hyperparameters(phase, size, task).model_dump(mode="json"),
        "trained_on": {name: catalogue.settings(study.tasks, name) for name in train_on},
    }
    if study.on_leak == "drop":  # training data depends on the targets that may share items
        formats = {study.tasks[name].format for name in train_on}
        targets = [t.task for t in study.targets if study.tasks[t.task].format in formats]
        found["without"] = {
            name: catalogue.settings(study.tasks, name) | {"languages": study.languages(name)}
            for name in targets
        }
    if study.sizes[size].tuning == "lora":
        found["lora"] = study.sizes[size].lora.model_dump(mode="json")
    return found
