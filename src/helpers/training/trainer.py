"""One stage of a fine-tuning by ``transformers.Trainer``: the format's loss, selection on English
validation data."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from helpers import formats
from helpers.encoders.batches import TRAINING_BUDGET, batches, collate, collate_labels
from helpers.formats.labels import IGNORED
from helpers.study import Hyperparameters
from helpers.study.files import write_whole
from helpers.training.checkpoints import Checkpoints, trained_weights
from helpers.training.examples import MLM, Examples


def train(
    model: Any, examples: Examples, values: Hyperparameters, seed: int, checkpoints: Checkpoints,
    resumed: str | None,
) -> list[dict]:  # fmt: skip
    """Train one stage; returns its log. The model ends with the weights that scored best."""
    trainer = StageTrainer(
        examples,
        model=model,
        args=arguments(values, examples.steps, seed, checkpoints.output_dir),
        callbacks=[checkpoints, Progress(examples.stage.name)],
    )
    trainer.remove_callback(PrinterCallback)
    if resumed:  # it would list the weights that are not trained, which a checkpoint lacks
        logging.get_logger("transformers.trainer").setLevel(logging.ERROR)
    with checkpoints.signals():
        trainer.train(resume_from_checkpoint=resumed)
    if checkpoints.saved is None:
        checkpoints.remove()  # an empty folder, which the library made
    model.load_state_dict(checkpoints.weights, strict=False)
    return log_lines(trainer.state.log_history)


class StageTrainer(Trainer):
    """The library's trainer over planned batches, with the format's loss and the study's score."""

    def __init__(self, examples: Examples, **options):
        self.examples = examples
        # The library asks for an eval_dataset; what is scored is the validation data of the stage.
        super().__init__(
            train_dataset=examples.batches,
            eval_dataset=examples.batches,
            data_collator=list,
            **options,
        )
        self.budget = TRAINING_BUDGET[self.args.device.type]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Micro-batches go through the model one by one; their gradients add up to the batches'.

        Where memory runs out the step is done again in micro-batches of half the size, and at last
        with gradient checkpointing. Neither changes what is learned.
        """
        random_states = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        try:
            parts = [part for drawn in inputs for part in self.parts(drawn, len(inputs))]
            return sum(super(StageTrainer, self).training_step(model, part) for part in parts)
        except torch.OutOfMemoryError:
            if self.budget > 1:
                self.budget //= 2
            elif self.model.encoder.is_gradient_checkpointing:
                raise
            else:
                self.model.encoder.activation_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        torch.cuda.empty_cache()
        torch.set_rng_state(random_states[0])
        torch.cuda.set_rng_state_all(random_states[1])
        return self.training_step(model, inputs)

    def parts(self, drawn: dict, batches: int) -> list[dict]:
        """The micro-batches of one of the batches that an update is made of."""
        parts = training_parts(self.examples, drawn, self.budget)
        return [{**part, "share": part["share"] / batches} for part in parts]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """A micro-batch's part of the batch's loss."""
        return loss(model, inputs, self.examples) * inputs["share"]

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """The score on English validation data, for the log and for the best weights."""
        metrics = {f"{metric_key_prefix}_score": self.examples.score(self.model)}
        self.log(metrics)
        after = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control = after
        return metrics

    def save_model(self, output_dir=None, _internal_call=False):
        """A checkpoint holds the weights that are trained; the others are known."""
        weights = {name: w.contiguous() for name, w in trained_weights(self.model).items()}
        folder = output_dir or self.args.output_dir
        write_whole(Path(folder) / SAFE_WEIGHTS_NAME, lambda path: save_file(weights, path))


def loss(model: Any, part: dict, examples: Examples) -> torch.Tensor:
    """The mean loss over the labels of a micro-batch, in nats."""
    inputs = {name: part[name] for name in part if name not in ("component", "labels", "share")}
    model.component, labels = part["component"], part["labels"]
    if part["component"] == MLM:
        chosen = labels != IGNORED
        return functional.cross_entropy(model(**inputs, chosen=chosen), labels[chosen])
    task = examples.validation[part["component"]].task
    return formats.of(task).loss(model(**inputs), labels)


def training_parts(examples: Examples, drawn: dict, budget: int | None = None) -> list[dict]:
    """A batch as micro-batches: tensors, the component, and their share of the batch's labels.

    Each has at most ``budget`` tokens, padding included, or one item.
    """
    component, items = drawn["component"], drawn["batch"]
    validation = examples.validation.get(component)
    together = validation and formats.of(validation.task).head(validation.task)[0] == "vector"
    parts = [items]
    if budget and not together:  # vectors are compared with each other
        parts = [[items[i] for i in part] for part in batches(items, budget)]
    if len(parts) == 1:
        parts = [items]  # in the order in which they were drawn
    tensors = [{**collate(part, examples.pad), "labels": collate_labels(part)} for part in parts]
    counts = [int((batch["labels"] != IGNORED).sum()) for batch in tensors]
    return [
        {**batch, "component": component, "share": count / sum(counts)}
        for batch, count in zip(tensors, counts, strict=True)
        if count
    ]


def arguments(values: Hyperparameters, steps: int, seed: int, folder: str) -> TrainingArguments:
    """The library's arguments for a stage of so many optimiser steps."""
    gpu, every = torch.cuda.is_available(), max(1, steps // values.evaluations)
    return TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=values.gradient_accumulation,  # an item is a whole batch
        train_sampling_strategy="sequential",
        learning_rate=values.learning_rate,
        warmup_steps=round(values.warmup * steps),
        lr_scheduler_type="linear",
        weight_decay=values.weight_decay,
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        eval_strategy="steps",
        eval_steps=every,
        logging_steps=max(1, min(every, steps // 20)),
        save_strategy="no",
        tf32=True if gpu else None,
        torch_compile=values.compile,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


def log_lines(history: list[dict]) -> list[dict]:
    """Steps with their loss, or their score on validation data, from the library's log."""
    names = {"step": "step", "loss": "loss", "eval_score": "validation_score"}
    lines = [{name: line[key] for key, name in names.items() if key in line} for line in history]
    return [line for line in lines if len(line) > 1]


class Progress(ProgressCallback):
    """One line that says how far the training is; it is gone at the end."""

    def __init__(self, name: str):
        super().__init__()
        self.name = f"training on {name}"

    def on_train_begin(self, args, state, control, **_):
        options = {"total": state.max_steps, "unit": "step", "leave": False, "mininterval": 1}
        self.training_bar, self.current_step = tqdm(desc=self.name, **options), 0

    def on_log(self, args, state, control, **_):
        """The library would write the log here."""
