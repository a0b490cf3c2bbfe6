"""One training by ``transformers.Trainer``: the format's loss, selection on English validation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from helpers.encoders import families
from helpers.encoders.model import EncoderModel
from helpers.study import Hyperparameters
from helpers.training.checkpoints import Checkpoints, trained
from helpers.training.training_set import TrainingSet


@dataclass
class Training:
    """A fine-tuned model, and what its training was like."""

    model: EncoderModel
    tokenizer: PreTrainedTokenizerFast
    seed: int
    selection: dict
    max_length: int
    """Tokens at which texts are cut."""
    log: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    flops: float = 0.0
    examples: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.time)
    """When the fine-tuning began, in seconds since 1970."""
    notes: dict = field(default_factory=dict)
    prefix: str = ""
    """What stands before every text."""


def fit(
    model: EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    drawn_from: TrainingSet,
    settings: Hyperparameters,
    seed: int,
    checkpoints: Checkpoints,
    stage: int = 0,
    earlier: Sequence[dict] = (),
) -> Training:
    """One training: ``stage`` of a fine-tuning whose earlier stages wrote the log ``earlier``."""
    model.encoder.get_input_embeddings().weight.requires_grad_(settings.train_embeddings)
    model.freeze(settings.frozen_layers)
    steps = settings.total_steps(drawn_from.examples)
    trainer = _Trainer(
        drawn_from,
        model=model,
        args=_arguments(settings, steps, seed, str(checkpoints.staging), drawn_from.batch_size),
        data_collator=drawn_from.micro_batches,
        callbacks=[checkpoints, _Progress(drawn_from.name)],
    )
    trainer.remove_callback(PrinterCallback)
    seconds = checkpoints.train(trainer, stage, list(earlier))
    seen = steps * settings.batch_size * settings.gradient_accumulation
    notes: dict[str, Any] = {"sequences per example": drawn_from.sequences, "steps": steps}
    notes |= {"best step": checkpoints.step, "precision": model.precision}
    log, last = _log(trainer.state.log_history)
    return Training(
        model=model,
        tokenizer=tokenizer,
        seed=seed,
        selection=drawn_from.selection | {"score": checkpoints.score, "last_score": last},
        max_length=settings.max_length,
        log=log,
        seconds=seconds,
        flops=_flops_per_token(model, drawn_from) * drawn_from.tokens * seen,
        examples=seen,
        tokens=int(drawn_from.tokens * seen),
        notes=notes,
    )


def _log(history: list[dict]) -> tuple[list[dict], float]:
    """The library's log under our names, in one order, resumed or not, and its last score."""
    names = {"step": "step", "loss": "loss", "learning_rate": "learning_rate"}
    names["eval_score"] = "validation_score"
    lines = [line for line in history if "loss" in line or "eval_score" in line]
    log = [{name: line[key] for key, name in names.items() if key in line} for line in lines]
    return log, [line["eval_score"] for line in lines if "eval_score" in line][-1]


def _flops_per_token(model: EncoderModel, drawn_from: TrainingSet) -> float:
    """Two operations a weight forward, two for the states' gradients, two for its own; layers only.

    A checkpointed layer in which something is trained runs forward twice; a frozen one runs
    forward once unless the states of the training's texts are cached.
    """
    cached, items = model.cached_states, drawn_from.items
    first = next(part for item in items for part in drawn_from.micro_batches([item]))
    known = cached and cached.find(first["input_ids"], first["attention_mask"]) is not None
    below = cached.depth if known else 0
    layers = families.layers(model.encoder)
    operations = 2.0 * sum(p.numel() for p in layers[below:].parameters())
    for layer in layers:
        if trained(layer):
            passes = 2 if model.encoder.is_activation_checkpointing else 1
            operations += 2.0 * passes * sum(p.numel() for p in layer.parameters())
            operations += 2.0 * sum(p.numel() for p in trained(layer).values())
    return operations


def _arguments(
    settings: Hyperparameters, steps: int, seed: int, staging: str, batch_size: int
) -> TrainingArguments:
    gpu, every = torch.cuda.is_available(), max(1, steps // settings.evaluations)
    arguments = TrainingArguments(
        output_dir=staging,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate or 0.0,  # a study's rules see that there is one
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        eval_strategy="steps",
        eval_steps=every,
        logging_steps=max(1, min(every, steps // 20)),
        save_strategy="no",
        tf32=True if gpu else None,
        torch_compile=settings.compile,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    if arguments.n_gpu > 1:  # the library would give each GPU it sees a whole batch
        arguments._n_gpu = 1
    return arguments


class _Trainer(Trainer):
    """The library's trainer with the format's loss, validated as the study scores."""

    def __init__(self, training_set: TrainingSet, **options):
        self.training_set, items = training_set, training_set.items
        # The library asks for an eval_dataset; what is scored is the set's own validation data.
        super().__init__(train_dataset=items, eval_dataset=items, **options)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, trained(self.model))

    def _issue_warnings_after_load(self, load_result):
        """A checkpoint lacks the weights that are not trained, which is no reason for a warning."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        step = super().training_step
        return sum(step(model, part, num_items_in_batch) for part in inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return self.training_set.loss(model, inputs) * inputs["share"]

    def _get_train_sampler(self, train_dataset=None):
        # The library groups a list's items by their number of sequences, which is not their length.
        if self.training_set.lengths is None:
            return torch.utils.data.SequentialSampler(self.training_set.items)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(size, lengths=self.training_set.lengths)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        metrics = {f"{metric_key_prefix}_score": self.training_set.validate(self.model)}
        self.log(metrics)
        after = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control = after
        return metrics


class _Progress(ProgressCallback):
    """One line that says how far the training is; it is gone at the end."""

    def __init__(self, name: str):
        super().__init__()
        self.name = f"training on {name}"

    def on_train_begin(self, args, state, control, **_):
        options = {"total": state.max_steps, "unit": "step", "leave": False, "mininterval": 1}
        self.training_bar, self.current_step = tqdm(desc=self.name, **options), 0

    def on_log(self, args, state, control, **_):
        """The library would write the log here."""
