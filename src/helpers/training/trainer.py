"""One stage of a fine-tuning by ``transformers.Trainer``: the format's loss, selection on English
validation data.
"""

import logging
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME, is_torch_tf32_available

from helpers import formats
from helpers.encoders.batches import TRAINING_BUDGET, batches, collate, collate_labels
from helpers.formats import labels
from helpers.formats.labels import IGNORED
from helpers.study import Hyperparameters
from helpers.study.files import write_whole
from helpers.training.checkpoints import Checkpoints, trained_weights
from helpers.training.examples import MLM, Examples

# It would list the weights that are not trained, which a checkpoint lacks.
logging.getLogger("transformers.trainer").setLevel(logging.ERROR)


class StageTrainer(Trainer):
    """The library's trainer over planned batches, with the format's loss and the study's score."""

    def __init__(
        self, model, examples: Examples, values: Hyperparameters, seed: int, saving: Checkpoints
    ):
        self.examples = examples
        super().__init__(
            model=model,
            args=arguments(values, examples.steps, seed, saving.output_dir),
            train_dataset=examples,
            eval_dataset=examples,  # required; `evaluate` takes the validation data
            data_collator=list,
            callbacks=[saving, Progress()],
        )
        self.remove_callback(PrinterCallback)
        self.budget = TRAINING_BUDGET[self.args.device.type]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Micro-batches go through the model one by one; their gradients add up to the batches'.

        If memory runs out, the step is done again in micro-batches of half the size, and at last
        with gradient checkpointing. Neither changes what is learned.
        """
        random_states = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        parts = [p for drawn in inputs for p in training_parts(self.examples, drawn, self.budget)]
        for part in parts:
            part["share"] /= len(inputs)
        try:
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

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """A micro-batch's part of the batch's loss, in nats."""
        model.head.component = inputs["component"]
        task = self.examples.stage.tasks.get(inputs["component"])
        loss = formats.of(task).loss if task else labels.loss  # of hidden tokens: cross entropy
        return loss(model(**inputs["inputs"]), inputs["labels"]) * inputs["share"]

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """The score on English validation data, for the log and for the best weights."""
        metrics, callbacks = {"eval_score": self.examples.score(self.model)}, self.callback_handler
        self.log(metrics)
        self.control = callbacks.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def save_model(self, output_dir=None, _internal_call=False):
        """Save only the weights that are trained; the others do not change."""
        path = Path(output_dir or self.args.output_dir) / SAFE_WEIGHTS_NAME
        write_whole(path, lambda beside: save_file(trained_weights(self.model), beside))


def training_parts(examples: Examples, drawn: dict, budget: int | None = None) -> list[dict]:
    """A batch as micro-batches of at most ``budget`` tokens, padding included, or one item.

    Each has the model's ``inputs``, the ``labels``, the ``component`` and its ``share`` of the
    batch's labels; one without labels is left out.
    """
    component, items = drawn["component"], drawn["batch"]
    pad = examples.tokenizer.pad_token_id
    task = examples.stage.tasks.get(component)
    together = task and formats.of(task).head(task)[0] == "vector"
    parts = [items]
    if budget and not together:  # vectors are compared with each other
        parts = [[items[i] for i in part] for part in batches(items, budget)]
    if len(parts) == 1:
        parts = [items]  # in the order in which they were drawn
    made = []
    for part in parts:
        inputs, targets = collate(part, pad), collate_labels(part)
        if component == MLM:  # its head reads the hidden tokens only
            inputs["chosen"] = targets != IGNORED
            targets = targets[inputs["chosen"]]
        count = int((targets != IGNORED).sum())
        made.append({"component": component, "inputs": inputs, "labels": targets, "share": count})
    total = sum(part["share"] for part in made)
    return [part | {"share": part["share"] / total} for part in made if part["share"]]


def arguments(values: Hyperparameters, steps: int, seed: int, folder: Path) -> TrainingArguments:
    """The library's arguments for a stage of so many optimiser steps."""
    gpu, every = torch.cuda.is_available(), math.ceil(steps / values.evaluations)
    return TrainingArguments(
        output_dir=str(folder),
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
        tf32=is_torch_tf32_available() or None,
        torch_compile=values.compile,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


class Progress(ProgressCallback):
    """One line that shows how far the training is; it is cleared at the end."""

    def on_train_begin(self, args, state, control, **_):
        options = {"unit": "step", "leave": False, "mininterval": 1}
        self.training_bar = tqdm(desc="training", total=state.max_steps, **options)
        self.current_step = 0

    def on_log(self, args, state, control, **_):
        """The library would write the log here."""
