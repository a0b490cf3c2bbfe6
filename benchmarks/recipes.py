"""This project on prepared pairs, in a process of its own; prints what it took as JSON.

    python benchmarks/recipes.py FOLDER PRECISION STEPS [--profile]

FOLDER holds ``train.json`` and ``test.json`` (text_a, text_b, label) and ``trimmed/``, the encoder
as phase 1 leaves it. Trains STEPS steps and twice as many, and predicts the test pairs once and
five times: the differences are free of what a process does once. ``--profile`` says instead what
the training time goes to.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import set_seed

from helpers import encoders
from helpers.encoders import hardware
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Hyperparameters, Task
from helpers.training import training_set
from helpers.training.checkpoints import Checkpoints
from helpers.training.fitting import Training, fit

BATCH, MAX_LENGTH, SEED, COPIES = 32, 128, 1, 5
GROUPS = {
    "matrix products": {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"},
    "the optimiser": {"aten::_fused_adamw_"},
    "dropout": {
        "aten::native_dropout",
        "aten::native_dropout_backward",
        "aten::bernoulli_",
        "aten::div_",
    },
    "copies and conversions": {"aten::copy_"},
}
"""Operations of PyTorch by what they are for; all others are counted together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("steps", type=int)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
    set_seed(SEED)
    encoder, tokenizer = encoders.load(given.folder / "trimmed")
    model = EncoderWithHead(encoder, "sequence", 3, "cls", 0.1)
    model.encoder.precision = given.precision
    if given.profile:
        with profile(activities=[ProfilerActivity.CPU]) as found:
            train(model, tokenizer, given.folder, given.steps)
        print(json.dumps(shares(found)))
        return
    once, twice = (train(model, tokenizer, given.folder, n * given.steps) for n in (1, 2))
    memory = hardware.peak_memory()
    test = features(model, tokenizer, given.folder / "test.json").items
    seconds = {n: predicting(model, others(test, n), tokenizer) for n in (1, COPIES)}
    with tempfile.TemporaryDirectory() as scratch:
        encoders.save(model.encoder, tokenizer, Path(scratch) / "encoder", None)
        saved = sum(f.stat().st_size for f in Path(scratch).rglob("*.safetensors"))
    training = twice.seconds - once.seconds
    measures = {
        "training examples/s": given.steps * BATCH / training,
        "prediction examples/s": len(test) * (COPIES - 1) / (seconds[COPIES] - seconds[1]),
        "peak training memory": memory,
        "checkpoint": saved,
        "training FLOP/s": (twice.flops - once.flops) / training,
    }
    print(json.dumps(measures))


def features(model: EncoderWithHead, tokenizer, file: Path, steps: int = 1):
    """The training set of pairs in a file."""
    pairs = json.loads(file.read_text(encoding="utf-8"))
    named = {"name": "pairs", "files": "pairs.json", "licence": "", "citation": ""}
    task = Task(format="sentence_pair", labels=["0", "1", "2"], **named)
    return training_set.of_task(task, pairs, pairs[:2], tokenizer, settings(steps))


def settings(steps: int) -> Hyperparameters:
    """Those of the example's documentation."""
    return Hyperparameters(
        steps=steps,
        batch_size=BATCH,
        learning_rate=5e-5,
        max_length=MAX_LENGTH,
        evaluations=1,
        warmup=0.0,
    )


def train(model: EncoderWithHead, tokenizer, folder: Path, steps: int) -> Training:
    """Train on the training pairs."""
    drawn_from = features(model, tokenizer, folder / "train.json", steps)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), {}, minutes=60)
        return fit(model, tokenizer, drawn_from, settings(steps), SEED, checkpoints)


def others(items: list[dict], copies: int) -> list[dict]:
    """Items of the same lengths, several times as many; no two alike, for those run once."""
    return [
        {**item, "input_ids": [[*ids[:-2], 10 + copy, ids[-1]] for ids in item["input_ids"]]}
        for copy in range(copies)
        for item in items
    ]


def predicting(model: EncoderWithHead, items: list[dict], tokenizer) -> float:
    """Seconds of a prediction."""
    begin = time.perf_counter()
    predict(model, items, tokenizer.pad_token_id)
    return time.perf_counter() - begin


def shares(found: profile) -> dict:
    """What share of all operations' own time each group took."""
    times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(times.values())
    of = {name: sum(times.get(key, 0) for key in keys) / total for name, keys in GROUPS.items()}
    return {**of, "all else": 1 - sum(of.values())}


if __name__ == "__main__":
    main()
