"""One recipe, one encoder, one process: trains and predicts on prepared pairs and prints what was measured as JSON.

    python benchmarks/recipes.py RECIPE FOLDER

FOLDER holds ``pairs.json`` (text_a, text_b, label), ``full/`` (the encoder with its whole vocabulary) and ``trimmed/``.
Recipes: ``default`` is transformers' run_xnli example as it comes, with the batch of 32 that its documentation uses;
``flags`` is the same with its best flags (padding to a batch's longest pair, bf16 where the hardware has it, batches of
like length, a larger batch for prediction); ``ours`` is this project. Both examples are written against the library as
run_xnli.py is: AutoModelForSequenceClassification and the Trainer. ``profile`` is ``ours``, and says what its training
time goes to.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from helpers import encoders, training
from helpers.encoders import hardware
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Hyperparameters, Task
from helpers.training import checkpoints, training_set

BATCH, MAX_LENGTH, SEED = 32, 128, 1
PADDED_STEPS = 2
"""Steps that the recipe which pads to 128 is timed for; to the others lengths matter, and they see every pair once."""


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
    given = parser.parse_args()
    pairs = json.loads((given.folder / "pairs.json").read_text(encoding="utf-8"))
    steps = PADDED_STEPS if given.recipe == "default" else len(pairs) // BATCH
    torch.set_num_threads(os.cpu_count())
    set_seed(SEED)
    print(
        json.dumps(
            (_example if given.recipe in ("default", "flags") else _ours)(given, pairs, steps)
        )
    )


def _example(given: argparse.Namespace, pairs: list[dict], steps: int) -> dict:
    plain, folder = given.recipe == "default", given.folder / "full"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, dtype=torch.float32
    )
    encoded = tokenizer(
        [row["text_a"] for row in pairs],
        [row["text_b"] for row in pairs],
        padding="max_length" if plain else False,
        max_length=MAX_LENGTH,
        truncation=True,
    )
    rows = [
        {"input_ids": ids, "attention_mask": mask, "label": row["label"]}
        for ids, mask, row in zip(
            encoded["input_ids"], encoded["attention_mask"], pairs, strict=True
        )
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=8 if plain else 2 * BATCH,
            learning_rate=5e-5,
            bf16=not plain and hardware.bf16(),
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
    task = Task(
        name="pairs",
        format="sentence_pair",
        generator="pairs",
        labels=["0", "1", "2"],
        licence="",
        citation="",
    )
    model = EncoderWithHead(encoder, "sequence", len(task.labels), "cls", 0.1)
    settings = Hyperparameters(
        steps=steps,
        batch_size=BATCH,
        learning_rate=5e-5,
        max_length=MAX_LENGTH,
        evaluations=1,
        warmup=0.0,
    )
    content = training_set.single(task, pairs, pairs[:2], tokenizer, settings)
    with tempfile.TemporaryDirectory() as scratch:
        keep = checkpoints.Checkpoints(Path(scratch), {}, minutes=60)
        if given.recipe == "profile":
            with profile(activities=[ProfilerActivity.CPU]) as found:
                training.fit(model, tokenizer, content, settings, SEED, keep)
            return _shares(found)
        trained = training.fit(model, tokenizer, content, settings, SEED, keep)
        seconds, memory = trained.seconds, hardware.peak_memory()
        held_out = [{"input_ids": item["input_ids"]} for item in content.items[: BATCH * steps]]
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
