"""Check a GPU in five minutes: ``python benchmarks/check_gpu.py``. We had none to test on.

Trains two layers of the demo's encoder in float32 and bf16 and compares the losses of all steps
with the processor's; trains XLM-R's shapes and compares rate and memory with the plan's.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
import yaml
from transformers import XLMRobertaConfig, XLMRobertaModel

from helpers import data, encoders, training
from helpers.study import Study

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import figures  # noqa: E402
import plan  # noqa: E402

DEMO, TASK, SIZE = ROOT / "demo/encoder", "mini_xnli", "checked"
SHAPES = {"XLM-R base": (12, 768), "XLM-R large": (24, 1024)}
"""Layers and hidden size."""
TOLERANCE = {"fp32": 0.002, "bf16": 0.01}
"""Nats that a loss may be off the processor's, where bf16 and float32 are 0.0003 apart."""
SLOWEST, FEW, MANY = 0.5, 20, 120
"""Share of the planned rate that is good enough; steps of two trainings, whose difference counts:
what a training does once is in neither figure."""


def random_encoder(folder: Path, layers: int, hidden: int) -> Path:
    """An encoder of a shape, with the demo's tokenizer, which is XLM-R's."""
    _, tokenizer = encoders.load(DEMO)
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    shape |= {"num_attention_heads": hidden // 64, "max_position_embeddings": 514}
    special = {"type_vocab_size": 1, "pad_token_id": tokenizer.pad_token_id}
    config = XLMRobertaConfig(vocab_size=len(tokenizer), **shape, **special)
    encoders.save(XLMRobertaModel(config, add_pooling_layer=False), tokenizer, folder, None)
    return folder


def write_study(folder: Path, encoder: Path, precision: str, layers: int | None = None) -> Path:
    """A study of one training, of an encoder or its lower layers."""
    study = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))
    size = {"encoder": str(encoder), "title": SIZE, "layers": layers, "pooling": "mean"}
    recipe = {"steps": FEW, "batch_size": 32, "learning_rate": 1e-3, "max_length": 48}
    recipe |= {"dropout": 0.0, "evaluations": 1, "validation_examples": 30}
    study |= {"catalogue": str(ROOT / "params/tasks.yaml"), "data_dir": str(ROOT / "demo/data")}
    study |= {"sizes": {SIZE: size}, "intermediate": ["none"], "phases": {"target": recipe}}
    study |= {"precision": precision, "targets": [{"task": TASK, "languages": ["en"]}]}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{precision}.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def train(path: Path, outputs: Path, steps: int = FEW) -> dict:
    """The losses of a training on the GPU, or on the processor where none is visible; its seconds,
    tokens and GB on the GPU.
    """
    study = Study.load(path, outputs)
    recipe = {**study.phases["target"], "steps": steps}
    study = study.model_copy(update={"phases": {**study.phases, "target": recipe}})
    data.prepare(study)
    condition = study.condition(SIZE, target=TASK)
    if not condition.home.exists():
        encoders.prepare(study, SIZE, condition.home)
    attempt = next(condition.attempts(again=True))
    encoder, tokenizer = encoders.start(condition.home, attempt.start, 0.0)
    examples = training.english(condition, tokenizer, attempt.seed)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trained = training.fine_tune(condition, attempt, encoder, tokenizer, examples)
    items = examples[0].items[TASK]
    drawn = [items[number] for _, numbers in examples[0].plan for number in numbers]
    return {
        "losses": [line["loss"] for line in trained.log if "loss" in line],
        "seconds": trained.record["train_seconds"],
        "tokens": sum(len(ids) for item in drawn for ids in item["input_ids"]),
        "memory": torch.cuda.max_memory_allocated() / 1e9,
    }


def on_processor(path: Path, outputs: Path) -> list[float]:
    """The losses of a training by a process that sees no GPU."""
    command = [sys.executable, __file__, str(path), str(outputs)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare_losses(precision: str, losses: list[float], expected: list[float]) -> tuple:
    """A row of the table."""
    most = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    expected, is_fine = f"at most {TOLERANCE[precision]}", most <= TOLERANCE[precision]
    return f"losses in {precision} beside the processor's", f"{most:.5f} apart", expected, is_fine


def compare_plan(name: str, path: Path, on: figures.Machine, few=FEW, many=MANY) -> list[tuple]:
    """Two rows of the table: the rate of a training and its memory, beside the plan's."""
    short, long = (train(path, path.parent, steps) for steps in (few, many))
    study = Study.load(path, path.parent)
    tokens, seconds = long["tokens"] - short["tokens"], long["seconds"] - short["seconds"]
    rate = tokens * figures.flops_per_token(study, SIZE) / seconds
    needed = plan.memory(study, on).loc[SIZE, "whole batch"]
    expected = f"{on.rate / 1e12:.3g} ({on.share})"
    is_small = long["memory"] <= needed
    return [
        (f"rate, {name}", f"{rate / 1e12:.3g} TFLOP/s", expected, rate >= SLOWEST * on.rate),
        (f"memory, {name}", f"{long['memory']:.2f} GB", f"at most {needed:.2f} GB", is_small),
    ]


def known(name: str) -> str:
    """The plan's name of a GPU; ``here`` if it has none."""
    return next((gpu for gpu in figures.GPUS if re.search(rf"\b{gpu}\b", name)), "here")


def main() -> None:
    if arguments := sys.argv[1:]:  # of the process that sees no GPU
        print(json.dumps(train(*map(Path, arguments))["losses"]))
        return
    if not torch.cuda.is_available():
        sys.exit(f"found no GPU that PyTorch {torch.__version__} can use, expected one")
    name, rows = torch.cuda.get_device_name(), []
    on = figures.machine(known(name))
    with tempfile.TemporaryDirectory() as scratch:
        for precision in TOLERANCE:
            path = write_study(Path(scratch, precision), DEMO, precision, layers=2)
            expected = on_processor(path, path.parent / "processor")
            losses = train(path, path.parent / "gpu")["losses"]
            rows.append(compare_losses(precision, losses, expected))
        for shape, (layers, hidden) in SHAPES.items():
            encoder = random_encoder(Path(scratch, shape, "encoder"), layers, hidden)
            rows += compare_plan(shape, write_study(encoder.parent, encoder, "auto"), on)
    print(f"{name}, PyTorch {torch.__version__}; please send us this table:")
    print(pd.DataFrame(rows, columns=["what", "found", "expected", "ok"]).to_string(index=False))


if __name__ == "__main__":
    main()
