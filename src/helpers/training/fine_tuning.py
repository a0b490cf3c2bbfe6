"""Phases 2 and 3: fine-tune an encoder on English tasks, one after the other."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from helpers import encoders, formats
from helpers.encoders import families, hardware
from helpers.encoders.model import EncoderModel, Head, Heads, MaskedHead
from helpers.study import Attempt, Condition, Stage, StudyError
from helpers.training.checkpoints import Checkpoints, copy
from helpers.training.examples import MLM, Examples
from helpers.training.trainer import StageTrainer

UNSELECTED: dict[str, Any] = dict.fromkeys(["task", "split", "language", "score", "majority"])
UNSELECTED |= {"n": 0, "collapsed": False}
"""The selection of what is not trained."""
LEARNED = 0.1


@dataclass
class Training:
    """A fine-tuned model, and what its training was like."""

    model: EncoderModel
    tokenizer: PreTrainedTokenizerFast
    selection: dict = field(default_factory=dict)
    """English validation data, its scores, and whether the training collapsed."""
    log: list[dict] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    """What run.json says of it."""
    checkpoints: Checkpoints | None = None
    others: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    """The last weights, and the mean of those at every validation, if the study compares them."""


def fine_tune(
    condition: Condition,
    attempt: Attempt,
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: list[Examples],
) -> Training:
    """Train an encoder on the stages of a condition, one after the other.

    The head is made anew for the first stage and kept while the next has the same outputs. The
    weights that score best on English validation data are the ones returned. A training that was
    stopped goes on from its checkpoint.

    Raises StudyError where no learning rate has been chosen yet, Stopped after a signal.
    """
    values, settings = condition.hyperparameters, {**condition.settings, "seed": attempt.seed}
    minutes = condition.study.checkpoint_minutes
    checkpoints = Checkpoints(attempt.folder, settings, minutes, averages=condition.compares)
    if not examples:
        reader = untrained(condition, encoder)
        layer = reader.layer or len(families.layers(encoder))
        record = {"seed": attempt.seed, "precision": reader.precision, "layer": layer}
        return Training(reader, tokenizer, {**UNSELECTED}, [], record, checkpoints)
    if values.learning_rate is None:
        wrong = "no learning rate yet; expected the sweep to run first (notebook sweep)"
        raise StudyError(f"{condition.study.path}: {condition.title}: {wrong}")
    states = encoders.frozen_states(condition.home, encoder, values.frozen_layers)
    model: Any = None
    for number, part in enumerate(examples):
        set_seed(attempt.seed)
        model = build(condition, part.stage, encoder, model)
        if number < checkpoints.stage:  # a later stage's checkpoint holds what this one taught
            continue
        model.cached_states, resumed = states, checkpoints.begin(number)
        trainer = StageTrainer(model, part, values, attempt.seed, checkpoints)
        with checkpoints.signals():
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        weights = {"last": copy(model), **checkpoints.weights}
        model.load_state_dict(weights.pop("best"), strict=False)
        history = trainer.state.log_history
        checkpoints.log = checkpoints.log + log_lines(part.stage.name, history)
    scores = [line["eval_score"] for line in history if "eval_score" in line]
    selection = examples[-1].selection | {"score": max(scores), "last_score": scores[-1]}
    learned = not is_collapsed((max(scores) + scores[-1]) / 2, selection["majority"])
    selection["collapsed"] = not (learned or examples[-1].stage.shuffled)  # cannot be learned
    wall, _ = checkpoints.seconds()
    seen = sum(len(numbers) for part in examples for _, numbers in part.plan)
    record = {"seed": attempt.seed, "precision": model.precision}
    record |= {"train_seconds": wall, "examples_per_second": seen / wall}
    others = weights if condition.compares else {}
    return Training(model, tokenizer, selection, checkpoints.log, record, checkpoints, others)


def log_lines(task: str, history: list[dict]) -> list[dict]:
    """Steps of a task with their loss, or score on validation data, from the library's log."""
    lines = []
    for line in history:
        for key, name in (("loss", "loss"), ("eval_score", "validation_score")):
            if key in line:
                lines.append({"task": task, "step": line["step"], name: line[key]})
    return lines


def build(
    condition: Condition, stage: Stage, encoder: PreTrainedModel, before: Any = None
) -> EncoderModel:
    """A model for a stage: that of the stage ``before`` if its outputs mean the same."""
    values, task = condition.hyperparameters, stage.tasks.get(stage.name)  # None: a mixture
    if before is None:
        precision = hardware.precision(condition.study.precision, condition.study.folder)
        encoders.adapt(encoder, condition.encoder, precision)
    elif (
        task
        and (before.head.level, before.head.width) == formats.of(task).head(task)
        and (before.labels == task.labels or before.head.width < 3)  # choices and spans have none
    ):
        return before
    heads: dict[str, Any] = {}
    for name, part in stage.tasks.items():
        level, width = formats.of(part).head(part)
        heads[name] = Head(encoder, level, width, condition.encoder.pooling, values.dropout)
    if stage.mlm:
        heads[MLM] = MaskedHead(encoder)
    model: Any = EncoderModel(encoder, heads[stage.name] if task else Heads(heads))
    model.labels = task.labels if task else None
    encoder.get_input_embeddings().weight.requires_grad_(values.train_embeddings)
    model.freeze(values.frozen_layers)
    return model


def untrained(condition: Condition, encoder: PreTrainedModel) -> EncoderModel:
    """The model of a retrieval target without training: the encoder as it is, read at one layer."""
    size, task = condition.encoder, condition.evaluated
    assert task is not None
    depth = len(families.layers(encoder))
    layer = encoders.retrieval_layer(depth, size.retrieval_layer, task.layer)
    precision = hardware.precision(condition.study.precision, condition.study.folder)
    encoders.adapt(encoder, size, precision, train=False)
    above = layer if layer < depth else None  # nothing follows: the model's own output
    head = Head(encoder, "vector", 0, task.pooling, 0.0)
    return EncoderModel(encoder, head, above).to(hardware.device())


def is_collapsed(score: float, majority: float) -> bool:
    """Whether a training learned next to nothing, by English validation data alone (points).

    It did, if the mean score of the selected and the last weights corrects less than a tenth
    (``LEARNED``) of the errors of the best constant answer. docs/statistics.md gives the reasons.
    """
    return score < majority + LEARNED * (100 - majority)
