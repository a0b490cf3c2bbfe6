"""Phases 2 and 3: fine-tune an encoder on English tasks, one after the other."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from helpers import encoders, formats
from helpers.encoders import families, hardware
from helpers.encoders.model import EncoderModel, EncoderWithHead, EncoderWithHeads, Head, MaskedHead
from helpers.study import Attempt, Condition, Stage, StudyError
from helpers.training.checkpoints import Checkpoints, Clock
from helpers.training.examples import MLM, Examples
from helpers.training.trainer import train


@dataclass
class Training:
    """A fine-tuned model, and what its training was like."""

    model: EncoderModel
    tokenizer: PreTrainedTokenizerFast
    selection: dict
    """English validation data, its scores, and whether the training collapsed."""
    log: list[dict] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    """What run.json says of it."""
    clock: Clock = field(default_factory=Clock)
    checkpoints: Checkpoints | None = None

    @property
    def collapsed(self) -> bool:
        """Whether it learned next to nothing."""
        return self.selection["collapsed"]


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

    Raises
    ------
    StudyError
        The learning rate has not been chosen yet, or the encoder has not what is asked of it.
    Stopped
        A signal came; a checkpoint was written.
    """
    values = condition.hyperparameters
    if not examples:
        return untrained(condition, attempt, encoder, tokenizer)
    if values.learning_rate is None:
        wrong = "no learning rate yet; expected the sweep to run first (notebook sweep)"
        raise StudyError(f"{condition.study}: {condition.title}: {wrong}")
    settings = {**condition.settings, "seed": attempt.seed}
    checkpoints = Checkpoints(attempt.folder, settings, condition.checkpoint_minutes)
    states = encoders.frozen_states(condition.home, encoder, values.frozen_layers)
    model, log = None, list(checkpoints.log)
    for number, part in enumerate(examples):
        set_seed(attempt.seed)
        model = build(condition, part.stage, encoder, model)
        if checkpoints.finished(number):
            continue
        model.cached_states = states
        resumed = checkpoints.begin(number)
        lines = train(
            model, part, values, attempt.seed, checkpoints, str(resumed) if resumed else None
        )
        log += [{"task": part.stage.name, **line} for line in lines]
        checkpoints.log = log
    assert model is not None
    wall, _ = checkpoints.clock.seconds()
    last = [line["validation_score"] for line in log if "validation_score" in line][-1]
    selection = examples[-1].selection | {"score": checkpoints.score, "last_score": last}
    seen = sum(len(numbers) for part in examples for _, numbers in part.batches.plan)
    record = {"seed": attempt.seed, "precision": model.precision, "best_step": checkpoints.step}
    record |= {"train_seconds": wall, "examples_per_second": seen / wall}
    selection["collapsed"] = is_collapsed((checkpoints.score + last) / 2, selection["majority"])
    return Training(model, tokenizer, selection, log, record, checkpoints.clock, checkpoints)


def build(
    condition: Condition,
    stage: Stage,
    encoder: PreTrainedModel,
    before: EncoderModel | None = None,
) -> EncoderModel:
    """A model for a stage: that of the stage ``before`` where its outputs mean the same."""
    values, pooling = condition.hyperparameters, condition.encoder.pooling
    shapes = {name: formats.of(task).head(task) for name, task in stage.tasks.items()}
    if before and _same_outputs(before, stage):
        return before
    if before is None:
        precision = hardware.precision(condition.precision, condition.data.parent)
        encoders.adapt(encoder, condition.encoder, precision)
    config = encoder.config
    if stage.mixture:
        heads: dict[str, nn.Module] = {
            name: Head(config, *one, pooling, values.dropout) for name, one in shapes.items()
        }
        if stage.mixture.mlm:
            heads[MLM] = MaskedHead(encoder)
        model: EncoderModel = EncoderWithHeads(encoder, heads)
    else:
        model = EncoderWithHead(encoder, *shapes[stage.name], pooling, values.dropout)
        model.labels = stage.tasks[stage.name].labels
    encoder.get_input_embeddings().weight.requires_grad_(values.train_embeddings)
    model.freeze(values.frozen_layers)
    return model


def _same_outputs(model: EncoderModel, stage: Stage) -> bool:
    """Whether a model's head fits the next stage: choices have one output, labels go by name."""
    task = stage.tasks.get(stage.name)
    if task is None or model.shape != formats.of(task).head(task):
        return False
    return model.shape[1] < 3 or model.labels == task.labels


def untrained(
    condition: Condition,
    attempt: Attempt,
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> Training:
    """What a retrieval target is scored with: the encoder as it is, read at one layer."""
    size, task = condition.encoder, condition.evaluated
    assert task is not None
    depth = len(families.layers(encoder))
    layer = encoders.retrieval_layer(depth, size.retrieval_layer, task.layer)
    precision = hardware.precision(condition.precision, condition.data.parent)
    encoders.adapt(encoder, size, precision, train=False)
    above = layer if layer < depth else None  # nothing follows: the model's own output
    model = EncoderWithHead(encoder, "vector", 0, task.pooling, 0.0, above)
    selection = dict.fromkeys(("task", "split", "language", "score", "majority")) | {"n": 0}
    record = {"seed": attempt.seed, "precision": precision, "layer": layer}
    return Training(
        model.to(hardware.device()), tokenizer, {**selection, "collapsed": False}, [], record
    )


LEARNED = 0.1


def is_collapsed(score: float, majority: float) -> bool:
    """Whether a training learned next to nothing, by English validation data alone (points).

    The mean of the selected and the last weights' scores makes less than a tenth (``LEARNED``) of
    the errors of the best constant answer good. docs/statistics.md argues for it.
    """
    return score < majority + LEARNED * (100 - majority)
