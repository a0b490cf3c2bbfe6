"""Phases 2 and 3: fine-tune an encoder on English tasks, one after the other."""

import time
from pathlib import Path

from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from helpers import data, encoders, tasks
from helpers.encoders import adapters, families, hardware, hidden_states
from helpers.encoders.model import (
    EncoderModel,
    EncoderWithHead,
    EncoderWithHeads,
    Head,
    MaskedHead,
)
from helpers.study import NONE, Hyperparameters, Run, Study, StudyError, sweeps
from helpers.study.files import damage, read_json
from helpers.study.study import MODEL, REPETITION
from helpers.training import mixture, training_set
from helpers.training.checkpoints import Checkpoints
from helpers.training.fitting import Training, fit
from helpers.training.training_set import MLM, TrainingSet


def intermediate(
    study: Study, size: str, task: str, seed: int, repetition: int | None = None
) -> Training:
    """Phase 2: fine-tune a size's pretrained encoder on an English intermediate task or mixture.

    ``repetition`` is a seed that replaces ``seed`` in this training: a collapsed one is repeated.
    """
    settings = study.hyperparameters("intermediate", size, task)
    start = encoders.initial_encoder(study, size, NONE, seed, settings.dropout)
    folder = study.encoder_folder(size, task, seed, new=True).parent
    checkpoints = _checkpoints(study, folder, study.settings(size, task), seed, repetition)
    return _fine_tune(study, size, [task], settings, start, checkpoints)


def begin(study: Study, size: str, task: str, seed: int) -> tuple[EncoderModel, TrainingSet]:
    """The model that an intermediate training begins with and a few of its examples, to look at."""
    few = {"train_examples": 32, "validation_examples": 32}
    settings = study.hyperparameters("intermediate", size, task).model_copy(update=few)
    encoder, tokenizer = encoders.initial_encoder(study, size, NONE, seed, settings.dropout)
    set_seed(seed)
    _adapt(study, size, encoder)
    model = _model(study, size, task, settings, encoder).to(hardware.device())
    model.freeze(settings.frozen_layers)
    return model, _training_set(study, size, task, settings, seed, tokenizer)


def target(study: Study, run: Run, seed: int | None = None) -> Training:
    """Phase 3: fine-tune the encoder after the intermediate task on the target's English tasks.

    ``seed`` replaces the run's own for this training alone: a collapsed run is repeated from the
    same encoder, with checkpoints in a folder of its own.
    """
    settings = study.hyperparameters("target", run.size, run.target)
    if not study.train_on(run.target):  # retrieval alone may go without
        return _untrained(study, run, settings)
    start = encoders.initial_encoder(study, *run[:2], run.seed, settings.dropout)
    folder, depends_on = study.run_folder(run), study.settings(*run[:3])
    checkpoints = _checkpoints(study, folder, depends_on, run.seed, seed)
    return _fine_tune(study, run.size, study.train_on(run.target), settings, start, checkpoints)


def finished(study: Study, run: Run) -> Training:
    """A finished run's fine-tuned model, as the study kept it (``keep_models``).

    Raises
    ------
    StudyError
        Its trained layers are not there.
    """
    settings = study.hyperparameters("target", run.size, run.target)
    if not study.train_on(run.target):
        return _untrained(study, run, settings)
    folder = study.run_folder(run)
    if wrong := damage(folder / MODEL):
        keep = "set keep_models: true in the study and run it again"
        raise StudyError(f"{folder / MODEL}: {wrong}; expected trained layers: {keep}")
    encoder, tokenizer = encoders.initial_encoder(study, *run[:2], run.seed, 0.0)
    _adapt(study, run.size, encoder)
    model = _model(study, run.size, study.train_on(run.target)[-1], settings, encoder)
    model.load_state_dict(load_file(folder / MODEL), strict=False)
    selection = read_json(folder / "scores.json")["selection"]
    model.precision, length = hardware.precision(study), settings.max_length
    return Training(model.to(hardware.device()), tokenizer, run.seed, selection, length)


def _untrained(study: Study, run: Run, settings: Hyperparameters) -> Training:
    """What a retrieval target is scored with: the encoder as it is, read at one layer.

    The layer is the size's, else the task's, else the one above the middle: 7 of 12, 13 of 24, as
    XTREME has it (Hu et al. 2020).
    """
    started = time.perf_counter()
    encoder, tokenizer = encoders.initial_encoder(study, *run[:2], run.seed, 0.0)
    size, task = study.sizes[run.size], study.tasks[run.target]
    depth = len(families.layers(encoder))
    _adapt(study, run.size, encoder.requires_grad_(False), train=False)
    layer = size.retrieval_layer or min(task.layer or depth // 2 + 1, depth)
    above = layer if layer < depth else None  # nothing follows: the model's own output
    model = EncoderWithHead(encoder, "vector", 0, task.pooling, 0.0, above)
    model.precision = hardware.precision(study)
    return Training(
        model=model.to(hardware.device()),
        tokenizer=tokenizer,
        seed=run.seed,
        selection=dict.fromkeys(("task", "split", "language", "score", "majority")) | {"n": 0},
        max_length=settings.max_length,
        seconds=time.perf_counter() - started,
        notes={"layer": layer, "precision": model.precision},
        prefix=size.retrieval_prefix,
    )


def _checkpoints(
    study: Study, folder: Path, depends_on: dict, seed: int, repetition: int | None
) -> Checkpoints:
    """Checkpoints beside the results in ``folder``; a repetition's, under its own seed, below."""
    if repetition is not None:
        folder, seed = folder / REPETITION, repetition
    settings, at_end = {"seed": seed, **depends_on}, study.retry_collapsed
    return Checkpoints(folder, settings, study.checkpoint_minutes, at_end)


def _fine_tune(
    study: Study,
    size: str,
    names: list[str],
    settings: Hyperparameters,
    start: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    checkpoints: Checkpoints,
) -> Training:
    """Train on English tasks, one after the other, from ``start``.

    The head is made anew for the first task and kept while the next has the same outputs. The
    weights that score best on English validation data are the ones returned.
    """
    if settings.learning_rate is None:
        wrong = "not there or of another sweep; expected the batch to run the sweep first"
        raise StudyError(f"{sweeps.file(study, size)}: {wrong}")
    started, log, seed = time.time(), checkpoints.log, checkpoints.settings["seed"]
    set_seed(seed)
    encoder, tokenizer = start
    families.check(encoder, settings, str(study.path))
    cached = hidden_states.load(study.encoder_folder(size), encoder, settings.frozen_layers)
    _adapt(study, size, encoder)
    model = None
    for stage, name in enumerate(names):
        model = _model(study, size, name, settings, encoder, model)
        model.precision = hardware.precision(study)
        if stage < checkpoints.stage:  # a later task's checkpoint holds what this one taught
            continue
        model.cached_states = cached
        drawn_from = _training_set(study, size, name, settings, seed, tokenizer)
        training = fit(model, tokenizer, drawn_from, settings, seed, checkpoints, stage, log)
        log = log + [{"task": name, **line} for line in training.log]
    training.log, training.started = log, started
    trained = [part for name in names for part in study.components(name)]
    training.notes["dropped"] = study.dropped(trained)
    return training


def _adapt(study: Study, name: str, encoder: PreTrainedModel, train: bool = True) -> None:
    """Give an encoder to ``train`` the size's adapters; save memory where no result changes."""
    size = study.sizes[name]
    if size.tuning == "lora" and train:
        adapters.add(encoder, size)
    if size.tuning == "lora" and hardware.precision(study) == "bf16":
        adapters.round_frozen(encoder)
    if size.gradient_checkpointing:
        families.checkpoint_gradients(encoder)


def _model(
    study: Study,
    size: str,
    name: str,
    settings: Hyperparameters,
    encoder: PreTrainedModel,
    before: EncoderModel | None = None,
) -> EncoderModel:
    """A model for a task or mixture: that of the task ``before`` where it has the same outputs."""
    pooling, dropout = study.sizes[size].pooling, settings.dropout
    entries = [data.labelled(study, part) for part in study.components(name)]
    shapes: list[tuple[str, int]] = [tasks.of(entry).head(entry) for entry in entries]
    if mixture := study.mixtures.get(name):
        heads: dict[str, nn.Module] = {
            entry.name: Head(encoder.config, *shape, pooling, dropout)
            for entry, shape in zip(entries, shapes, strict=True)
        }
        if mixture.mlm:
            heads[MLM] = MaskedHead(encoder)
        return EncoderWithHeads(encoder, heads)
    if before and before.shape == shapes[0]:
        return before
    return EncoderWithHead(encoder, *shapes[0], pooling, dropout)


def _training_set(
    study: Study, size: str, name: str, settings: Hyperparameters, seed: int, tokenizer
) -> TrainingSet:
    if name in study.mixtures:
        return mixture.of_mixture(study, size, name, tokenizer, settings, seed)
    train = data.drawn(study, name, settings, seed)
    validation = data.held_out(study, name, settings)
    task, cache = data.labelled(study, name), data.token_cache(study)
    return training_set.of_task(task, train, validation, tokenizer, settings, cache)
