"""This project on prepared pairs, in a process of its own; prints what it took as JSON.

    python benchmarks/recipes.py FOLDER PRECISION STEPS [--profile]

FOLDER holds ``train.json`` and ``test.json`` (text_a, text_b, label) and ``trimmed/``, the encoder
as phase 1 leaves it. Trains STEPS steps and twice as many, predicts once and five times: their
differences count. ``--profile`` says instead what the training time goes to.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import set_seed

from helpers import encoders, formats
from helpers.encoders import families, hardware
from helpers.encoders.batches import length
from helpers.encoders.model import EncoderModel, Head, predict
from helpers.study import Hyperparameters, Stage, Task
from helpers.training.checkpoints import Checkpoints
from helpers.training.examples import Examples, Validation
from helpers.training.trainer import StageTrainer

BATCH, MAX_LENGTH, SEED, COPIES = 32, 128, 1, 5
PAIRS = Task(
    name="pairs", format="sentence_pair", labels=["0", "1", "2"], files="pairs.json",
    licence="", citation="",
)  # fmt: skip
GROUPS = {
    "matrix products": {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"},
    "the optimiser": {"aten::_fused_adamw_"},
    "dropout": {"aten::native_dropout", "aten::native_dropout_backward", "aten::bernoulli_"},
    "copies and conversions": {"aten::copy_"},
}
"""Operations of PyTorch by what they are for; all others are counted together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("steps", type=int)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))
    set_seed(SEED)
    encoder, tokenizer = encoders.load(options.folder / "trimmed")
    encoder.precision = options.precision
    model = EncoderModel(encoder, Head(encoder, "sequence", 3, "cls", 0.1))
    if options.profile:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            training_seconds(model, tokenizer, options.folder, options.steps)
        print(json.dumps(shares(recorded)))
        return
    once = training_seconds(model, tokenizer, options.folder, options.steps)
    twice = training_seconds(model, tokenizer, options.folder, 2 * options.steps)
    memory = hardware.peak_memory()
    test = features(tokenizer, options.folder / "test.json")
    seconds = {n: predicting(model, test * n, tokenizer) for n in (1, COPIES)}
    measures = {
        "training examples/s": options.steps * BATCH / (twice - once),
        "prediction examples/s": len(test) * (COPIES - 1) / (seconds[COPIES] - seconds[1]),
        "peak training memory, bytes": memory,
    }
    inner = sum(p.numel() for p in families.layers(encoder).parameters())
    example = 2e-9 * inner * float(np.mean([length(item) for item in test]))  # GFLOP, forward
    products = hardware.product_rates(1.0)[options.precision]
    for kind, passes in (("training", 3), ("prediction", 1)):
        rate = passes * example * measures[f"{kind} examples/s"]
        measures[f"{kind}, share of the product rate"] = rate / products
    print(json.dumps(measures))


def features(tokenizer, file: Path) -> list[dict]:
    """The pairs of a file, tokenised."""
    pairs = json.loads(file.read_text(encoding="utf-8"))
    return formats.of(PAIRS).features(PAIRS, pairs, tokenizer, MAX_LENGTH)


def training_seconds(model: EncoderModel, tokenizer, folder: Path, steps: int) -> float:
    """Seconds of a training on the training pairs, with the example's own hyperparameters."""
    items = features(tokenizer, folder / "train.json")
    values = Hyperparameters(
        steps=steps, batch_size=BATCH, learning_rate=5e-5, max_length=MAX_LENGTH, evaluations=1,
        warmup=0.0,
    )  # fmt: skip
    generator = np.random.default_rng(SEED)
    plan = [("pairs", generator.choice(len(items), BATCH, replace=False)) for _ in range(steps)]
    stage = Stage("pairs", {"pairs": PAIRS}, {"pairs": MAX_LENGTH})
    few = json.loads((folder / "train.json").read_text(encoding="utf-8"))[:2]
    validation = {"pairs": Validation(PAIRS, few, tokenizer, MAX_LENGTH)}
    examples = Examples(stage, plan, {"pairs": items}, validation, tokenizer, SEED, steps)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), {}, minutes=60)
        checkpoints.begin(0)
        begin = time.perf_counter()
        StageTrainer(model, examples, values, SEED, checkpoints).train()
        return time.perf_counter() - begin


def predicting(model: EncoderModel, items: list[dict], tokenizer) -> float:
    """Seconds of a prediction."""
    begin = time.perf_counter()
    predict(model, items, tokenizer.pad_token_id)
    return time.perf_counter() - begin


def shares(recorded: profile) -> dict:
    """What share of all operations' own time each group took."""
    times = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    total = sum(times.values())
    parts = {name: sum(times.get(key, 0) for key in keys) / total for name, keys in GROUPS.items()}
    return {**parts, "all else": 1 - sum(parts.values())}


if __name__ == "__main__":
    main()
