"""Phases 2 and 3: fine-tune an encoder on English tasks with ``transformers.Trainer``."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from helpers import data, encoders, tasks
from helpers.encoders import hardware, hidden_states
from helpers.encoders.model import EncoderWithHead
from helpers.study import NONE, Hyperparameters, Run, Study, StudyError
from helpers.study.study import REPETITION
from helpers.tasks.labels import IGNORED
from helpers.training import checkpoints, mixture, training_set
from helpers.training.training_set import TrainingSet, score  # noqa: F401


@dataclass
class Training:
    """A fine-tuned model, and what its training was like."""

    model: EncoderWithHead
    tokenizer: PreTrainedTokenizerFast
    log: list[dict]
    selection: dict
    seconds: float
    flops: float
    examples: int
    pieces: int
    begun: float = 0.0
    notes: dict = field(default_factory=dict)
    prefix: str = ""


def intermediate(study: Study, size: str, task: str, seed: int) -> Training:
    """Phase 2: fine-tune a size's pretrained encoder on one English intermediate task."""
    settings = study.hyperparameters("intermediate", size, task)
    folder, depends_on = study.encoder_folder(size, task, seed).parent, study.settings(size, task)
    keep = checkpoints.Checkpoints(folder, {"seed": seed, **depends_on}, study.checkpoint_minutes)
    encoder = encoders.initial_encoder(study, size, NONE, seed, settings.dropout)
    return _fine_tune(study, size, [task], settings, seed, encoder, keep)


def target(study: Study, run: Run, seed: int | None = None) -> Training:
    """Phase 3: fine-tune the encoder that the intermediate task hands on, on the target's English tasks.

    ``seed`` replaces the run's own for this training alone: a collapsed run is repeated from the same encoder, with
    checkpoints in a folder of its own.
    """
    settings = study.hyperparameters("target", run.size, run.target)
    if study.tasks[run.target].format == "retrieval":
        return _untrained(study, run)
    folder = study.run_folder(run) if seed is None else study.run_folder(run) / REPETITION
    seed = run.seed if seed is None else seed
    depends_on = {"seed": seed, **study.settings(*run[:3])}
    keep = checkpoints.Checkpoints(
        folder, depends_on, study.checkpoint_minutes, at_end=study.retry_collapsed
    )
    encoder = encoders.initial_encoder(
        study, run.size, run.intermediate, run.seed, settings.dropout
    )
    return _fine_tune(study, run.size, study.train_on(run.target), settings, seed, encoder, keep)


def _untrained(study: Study, run: Run) -> Training:
    """What a retrieval target is scored with: the encoder as it is, read at one layer.

    The layer is the size's, else the task's, else the one above the middle: 7 of 12, 13 of 24, as XTREME has it.
    """
    begin, begun = time.perf_counter(), time.time()
    encoder, tokenizer = encoders.initial_encoder(study, run.size, run.intermediate, run.seed, 0.0)
    size, task = study.sizes[run.size], study.tasks[run.target]
    depth = encoder.config.num_hidden_layers
    layer = size.retrieval_layer or min(task.layer or depth // 2 + 1, depth)
    model = EncoderWithHead(encoder, *tasks.of(task).head(task), task.pooling, 0.0, layer).to(
        hardware.device()
    )
    return Training(
        model=model,
        tokenizer=tokenizer,
        log=[],
        selection={
            "task": None,
            "split": None,
            "language": None,
            "n": 0,
            "score": None,
            "majority": None,
        },
        seconds=time.perf_counter() - begin,
        flops=0.0,
        examples=0,
        pieces=0,
        begun=begun,
        notes={"layer": layer},
        prefix=size.retrieval_prefix,
    )


def _fine_tune(
    study: Study,
    size: str,
    names: list[str],
    settings: Hyperparameters,
    seed: int,
    start: tuple,
    keep,
) -> Training:
    """Train on English tasks, one after the other, from ``start``: an encoder and its tokenizer.

    The head is made anew for the first task and kept while the next has the same outputs. The weights that score best
    on English validation data are the ones returned; nothing else is looked at. ``keep`` holds the checkpoints.
    """
    begun = time.time()
    set_seed(seed)
    encoder, tokenizer = start
    model, log = None, keep.log
    for stage, name in enumerate(names):
        make = _mixed if name in study.mixtures else _single
        model, material = make(study, size, name, settings, seed, (model or encoder), tokenizer)
        if stage < keep.stage:  # a later task's checkpoint holds what this one taught
            continue
        if isinstance(model, EncoderWithHead):
            model.cached_states = hidden_states.load(
                study.encoder_folder(size), model.encoder, settings.frozen_layers
            )
        training = fit(model, tokenizer, material(), settings, seed, keep, stage, log)
        log = log + [{"task": name, **line} for line in training.log]
    training.log, training.begun = log, begun
    return training


def _single(
    study: Study, size: str, name: str, settings: Hyperparameters, seed: int, start, tokenizer
):
    """A model for one task, and what gives its material; ``start`` is the encoder, or the model of the task before."""
    task = data.labelled(study, name)
    head = tasks.of(task).head(task)
    continued = isinstance(start, EncoderWithHead)
    model = start
    if not continued or start.shape != head:
        encoder = start.encoder if continued else start
        model = EncoderWithHead(encoder, *head, study.sizes[size].pooling, settings.dropout)

    def material():
        train = data.sample(data.trained_on(study, name, "train"), settings.train_examples, seed)
        validation = data.sample(
            data.trained_on(study, name, "validation"), settings.validation_examples, 0
        )
        return training_set.of_task(
            task, train, validation, tokenizer, settings, data.token_cache(study)
        )

    return model, material


def _mixed(
    study: Study, size: str, name: str, settings: Hyperparameters, seed: int, start, tokenizer
):
    """A model with a head for every task of a mixture, and what gives the mixture's material."""
    model = mixture.model(study, name, start, study.sizes[size].pooling, settings.dropout)
    return model, lambda: mixture.material(study, size, name, tokenizer, settings, seed)


def _freeze(encoder: PreTrainedModel, layers: int) -> None:
    """Leave the embeddings and the lowest ``layers`` as they are; no gradient goes below the first trained one.

    They run without dropout too: whatever is trained above sees them as they are read in evaluation.
    """
    if layers > len(encoder.encoder.layer):
        raise StudyError(
            f"frozen_layers: found {layers}, expected at most {len(encoder.encoder.layer)}"
        )
    for part in [encoder.embeddings, *encoder.encoder.layer[:layers]] if layers else []:
        part.requires_grad_(False)
        for module in part.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


def fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    material: TrainingSet,
    settings: Hyperparameters,
    seed: int,
    keep: checkpoints.Checkpoints,
    stage: int = 0,
    log: Sequence[dict] = (),
) -> Training:
    """One training: ``stage`` of a fine-tuning whose earlier stages wrote ``log``; ``keep`` holds the checkpoints."""
    model.encoder.get_input_embeddings().weight.requires_grad_(settings.train_embeddings)
    _freeze(model.encoder, settings.frozen_layers)
    steps = settings.total_steps(material.examples)
    every = max(1, steps // settings.evaluations)
    best = _BestWeights()
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, steps, every, seed, str(keep.begun), material.batch_size),
        train_dataset=material.items,
        eval_dataset=material.items,  # asked for by the library; what is scored is the material's own
        data_collator=lambda drawn: _in_parts(material, drawn),
        callbacks=[best, keep, _Progress(material.name)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.material = material
    seconds = keep.train(trainer, best, stage, list(log))
    best.restore(model)
    log = [
        _line(entry)
        for entry in trainer.state.log_history
        if "loss" in entry or "eval_score" in entry
    ]
    seen = steps * settings.batch_size * settings.gradient_accumulation
    below = model.cached_states.depth if getattr(model, "known", None) else 0
    weights = sum(p.numel() for p in model.encoder.encoder.layer[below:].parameters())
    trained = sum(p.numel() for p in model.encoder.encoder.parameters() if p.requires_grad)
    return Training(
        model=model,
        tokenizer=tokenizer,
        log=log,
        selection={**material.selection, "score": best.score},
        seconds=seconds,
        flops=(2.0 * weights + 4.0 * trained) * material.pieces * seen,
        examples=seen,
        pieces=int(material.pieces * seen),
        notes={"sequences per example": material.sequences, "steps": steps, "best step": best.step},
    )


def _arguments(
    settings: Hyperparameters, steps: int, every: int, seed: int, scratch: str, batch_size: int
) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        eval_strategy="steps",
        eval_steps=every,
        logging_steps=max(1, min(every, steps // 20)),
        save_strategy="no",
        bf16=hardware.bf16(),
        tf32=True if gpu else None,
        torch_compile=settings.compile,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


def _in_parts(material: TrainingSet, drawn: list) -> list[dict]:
    """A batch as the trainer takes it: the tensors of its parts, each with its share of the batch's labels."""
    found = [material.collate(part) for part in material.split(drawn)]
    counts = [int((part["labels"] != IGNORED).sum()) for part in found]
    return [{**part, "share": n / sum(counts)} for part, n in zip(found, counts, strict=True) if n]


def _line(entry: dict) -> dict:
    names = {
        "step": "step",
        "loss": "loss",
        "learning_rate": "learning_rate",
        "eval_score": "validation_score",
    }
    return {
        to: entry[name] for name, to in names.items() if name in entry
    }  # in one order, resumed or not


class _Trainer(Trainer):
    """The library's trainer, with the format's loss, and English validation scored as the study scores."""

    material: TrainingSet

    def training_step(self, model, inputs, num_items_in_batch=None):
        step = super().training_step
        return sum(step(model, part, num_items_in_batch) for part in inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return self.material.loss(model, inputs) * inputs["share"]

    def _get_train_sampler(self, train_dataset=None):
        # The library groups a list's items by the number of their sequences, which says nothing of their length.
        if self.material.lengths is None:
            return torch.utils.data.SequentialSampler(self.material.items)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(size, lengths=self.material.lengths)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        metrics = {f"{metric_key_prefix}_score": self.material.validate(self.model)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _BestWeights(TrainerCallback):
    """Keeps the weights that scored best on English validation data; the first of equals."""

    def __init__(self):
        self.score, self.step, self.weights = -1.0, 0, None

    def on_evaluate(self, args, state, control, metrics, model, **_):
        if metrics["eval_score"] > self.score:
            self.score, self.step = metrics["eval_score"], state.global_step
            self.weights = copy.deepcopy(model.state_dict())

    def restore(self, model):
        if self.weights is not None:
            model.load_state_dict(self.weights)


class _Progress(TrainerCallback):
    """One line that says how far the training is; it disappears at the end, so that saved notebooks stay clean."""

    def __init__(self, name: str):
        self.name, self.bar = name, None

    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(
            total=state.max_steps,
            desc=f"training on {self.name}",
            unit="step",
            leave=False,
            mininterval=1,
        )
        self.bar.update(state.global_step)

    def on_step_end(self, args, state, control, **_):
        self.bar.update(1)

    def on_train_end(self, args, state, control, **_):
        self.bar.close()
