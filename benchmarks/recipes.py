"""One recipe, one encoder, one process: train and predict on prepared pairs, print what it took.

    python benchmarks/recipes.py RECIPE FOLDER PRECISION

FOLDER holds ``pairs.json`` (text_a, text_b, label), ``full/`` (the encoder with its whole
vocabulary) and ``trimmed/``. PRECISION, ``fp32`` or ``bf16``, is that of all recipes but
``default``. What was measured is printed as JSON.

Recipes: ``default`` is transformers' run_xnli example as it comes, with the batch of 32 that its
documentation uses; ``flags`` is the same with its best flags (padding to a batch's longest pair,
bf16 where that is faster, batches of like length, a larger batch for prediction); ``ours`` is this
project. Both examples are written against the library as run_xnli.py is:
AutoModelForSequenceClassification and the Trainer. ``profile`` is ``ours``, and says what its
training time goes to.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    logging,
    set_seed,
)

from helpers import encoders
from helpers.encoders import hardware
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Hyperparameters, Task
from helpers.training import training_set
from helpers.training.checkpoints import Checkpoints
from helpers.training.fitting import fit

BATCH, MAX_LENGTH, SEED = 32, 128, 1
PADDED_STEPS = 2
"""Steps of the recipe that pads to 128. To the others lengths matter: they see every pair once."""
GROUPS = {
    "matrix products": {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"},
    "the optimiser": {"aten::_fused_adamw_"},
    "dropout": {
        "aten::native_dropout",
        "aten::native_dropout_backward",
        "aten::bernoulli_",
        "aten::div_",
    },
}
"""Operations of PyTorch by what they are for; all others are counted together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=["default", "flags", "ours", "profile"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    given = parser.parse_args()
    pairs = json.loads((given.folder / "pairs.json").read_text(encoding="utf-8"))
    steps = PADDED_STEPS if given.recipe == "default" else len(pairs) // BATCH
    torch.set_num_threads(os.cpu_count())
    set_seed(SEED)
    logging.set_verbosity_error()  # of heads that begin with random weights, as they are to
    recipe = _example if given.recipe in ("default", "flags") else _ours
    print(json.dumps(recipe(given, pairs, steps)))


def _example(given: argparse.Namespace, pairs: list[dict], steps: int) -> dict:
    plain, folder = given.recipe == "default", given.folder / "full"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = {"num_labels": 3, "dtype": torch.float32}
    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    texts = [[row[name] for row in pairs] for name in ("text_a", "text_b")]
    padding = "max_length" if plain else False
    encoded = tokenizer(*texts, padding=padding, max_length=MAX_LENGTH, truncation=True)
    encoded["label"] = [row["label"] for row in pairs]
    rows = Dataset.from_dict(dict(encoded)).to_list()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=8 if plain else 2 * BATCH,
            learning_rate=5e-5,
            bf16=not plain and given.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),  # else the library takes bf16 on a GPU only
            train_sampling_strategy="random" if plain else "group_by_length",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=SEED,
        )
        collate = default_data_collator if plain else DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
        begin = time.perf_counter()
        trainer.train()
        seconds, memory = time.perf_counter() - begin, hardware.peak_memory()
        held_out = rows[: BATCH * steps]
        begin = time.perf_counter()
        trainer.predict(held_out)
        predicting = time.perf_counter() - begin
        trainer.save_model(scratch)
        saved = _bytes(Path(scratch))
    return _measures(steps, seconds, len(held_out), predicting, memory, saved)


def _ours(given: argparse.Namespace, pairs: list[dict], steps: int) -> dict:
    encoder, tokenizer = encoders.load(given.folder / "trimmed")
    named = {"name": "pairs", "generator": "pairs", "licence": "", "citation": ""}
    task = Task(format="sentence_pair", labels=["0", "1", "2"], **named)
    model = EncoderWithHead(encoder, "sequence", len(task.labels), "cls", 0.1)
    model.precision = given.precision
    settings = Hyperparameters(
        steps=steps,
        batch_size=BATCH,
        learning_rate=5e-5,
        max_length=MAX_LENGTH,
        evaluations=1,
        warmup=0.0,
    )
    drawn_from = training_set.of_task(task, pairs, pairs[:2], tokenizer, settings)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), {}, minutes=60)
        if given.recipe == "profile":
            with profile(activities=[ProfilerActivity.CPU]) as found:
                fit(model, tokenizer, drawn_from, settings, SEED, checkpoints)
            return _shares(found)
        trained = fit(model, tokenizer, drawn_from, settings, SEED, checkpoints)
        seconds, memory = trained.seconds, hardware.peak_memory()
        held_out = drawn_from.items[: BATCH * steps]
        begin = time.perf_counter()
        predict(model, held_out, tokenizer.pad_token_id)
        predicting = time.perf_counter() - begin
        encoders.save(model.encoder, tokenizer, Path(scratch) / "encoder", None)
        saved = _bytes(Path(scratch) / "encoder")
    measures = _measures(steps, seconds, len(held_out), predicting, memory, saved)
    return {**measures, "training FLOP/s": trained.flops / seconds}


def _shares(found: profile) -> dict:
    """What share of all operations' own time each group took."""
    times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(times.values())
    shares = {name: sum(times.get(key, 0) for key in keys) / total for name, keys in GROUPS.items()}
    return {**shares, "all else": 1 - sum(shares.values())}


def _measures(
    steps: int, seconds: float, predicted: int, predicting: float, memory: int, saved: int
) -> dict:
    return {
        "training examples/s": steps * BATCH / seconds,
        "prediction examples/s": predicted / predicting,
        "peak training memory": memory,
        "checkpoint": saved,
    }


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


if __name__ == "__main__":
    main()
