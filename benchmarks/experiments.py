"""Ways to be faster on a processor, each against what the project does, in turns.

    HUB_MIRROR=... DATA_DIR=... python benchmarks/experiments.py base|small PART
    python benchmarks/experiments.py params/STUDY.yaml int8

Parts: ``predict`` (bf16 weights, SDPA, packed rows, budgets), ``train`` (budgets, SDPA),
``compile`` (run it twice: the second time the compiler's cache is warm), ``alloc`` (memory
allocators: JEMALLOC and TCMALLOC are the libraries' paths) and ``processes`` (two of one thread).
``int8`` takes the first models that a finished study kept, so that changed predictions mean
something. Prints examples a second and the ratio to the first row, median and range over the
rounds; all in the type that is faster here (PRECISION says another).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import recipes
import throughput
import torch

from helpers import data, encoders
from helpers.encoders import batches, hardware
from helpers.encoders.batches import collate
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Study
from helpers.training import fine_tuning

ROUNDS = int(os.environ.get("ROUNDS", 3))
MODELS = 3
"""Models of a study whose predictions in eight bits are counted."""
RATES = hardware.product_rates()
PRECISION = os.environ.get("PRECISION") or max(RATES, key=lambda name: RATES[name])


def main() -> None:
    size, part = sys.argv[1:]
    if part == "int8":
        int8(Study.load(size))
        return
    throughput.PAIRS = 192
    with tempfile.TemporaryDirectory() as scratch:
        folder = throughput.prepare(Path(scratch) / size, size, "nli")
        if part in ("alloc", "processes"):
            {"alloc": alloc, "processes": processes}[part](folder)
            return
        encoder, tokenizer = encoders.load(folder / "trimmed")
        model = EncoderWithHead(encoder, "sequence", 3, "cls", 0.1)
        model.encoder.precision = PRECISION
        drawn = recipes.features(model, tokenizer, folder / "train.json")
        parts = {"predict": prediction, "train": training, "compile": compiled}
        parts[part](model, drawn, tokenizer)


def in_turns(ways: dict[str, Callable[[], int]]) -> None:
    """Examples a second of each way, and how they compare with the first."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.perf_counter()
            count = way()
            rates[name].append(count / (time.perf_counter() - begin))
    show(rates)


def show(rates: dict[str, list[float]]) -> None:
    """Medians, and ratios within a round."""
    first = next(iter(rates.values()))
    for name, found in rates.items():
        ratio = [a / b for a, b in zip(found, first, strict=True)]
        span = f"{statistics.median(ratio):.2f} [{min(ratio):.2f}, {max(ratio):.2f}]"
        print(f"{name:45s} {statistics.median(found):7.1f}/s  x {span}", flush=True)


def prediction(model, drawn, tokenizer) -> None:
    pad, items = tokenizer.pad_token_id, drawn.items
    halved = deepcopy(model).to(torch.bfloat16)
    halved.precision = "fp32"

    def with_budget(budget: int, crossover: int = 256, which=model) -> int:
        batches.TOKEN_BUDGET["cpu"], hardware.CROSSOVER = budget, crossover
        return len(predict(which, items, pad))

    ways = {"as it is (1,024 tokens, eager)": lambda: with_budget(1024)}
    ways["bf16 weights, no autocast"] = lambda: with_budget(1024, which=halved)
    ways["SDPA"] = lambda: with_budget(1024, 0)
    ways["SDPA, bf16 weights"] = lambda: with_budget(1024, 0, halved)
    for budget in (256, 512, 2048, 4096):
        ways[f"{budget} tokens"] = lambda budget=budget: with_budget(budget)
    for row in (128, 512):
        rows = packed(items, row)
        ways[f"packed rows of {row}, SDPA"] = lambda rows=rows: run_packed(model, rows, items)
    in_turns(ways)


def packed(items: list[dict], row: int) -> list[dict]:
    """Texts one after the other in rows, with a mask of blocks and positions of each text."""
    rows, own = [], []
    for item in sorted(items, key=lambda item: -batches.length(item)):
        if own and sum(map(len, own)) + batches.length(item) > row:
            rows.append(own)
            own = []
        own.append(item["input_ids"][0])
    out = []
    for texts in [*rows, own]:
        block = torch.cat([torch.full((len(t),), n) for n, t in enumerate(texts)])
        where = torch.cat([torch.arange(len(t)) + 2 for t in texts])  # RoBERTa counts from 2
        mask = (block[:, None] == block[None, :])[None, None]
        ids = torch.tensor([i for t in texts for i in t])[None]
        out.append({"input_ids": ids, "attention_mask": mask, "position_ids": where[None]})
    return out


def run_packed(model, rows: list[dict], items: list[dict]) -> int:
    """The encoder alone; the head's share is nothing."""
    model.eval()
    model.encoder.set_attn_implementation("sdpa")
    with torch.inference_mode(), model.autocast():
        for row in rows:
            if model.encoder.config.model_type == "bert":
                row = {**row, "position_ids": row["position_ids"] - 2}
            model.encoder(**row)
    return len(items)


def training(model, drawn, tokenizer) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    items = drawn.items[:96]

    def step(budget: int, crossover: int = 256, precision: str = PRECISION) -> int:
        batches.TRAINING_BUDGET["cpu"], hardware.CROSSOVER = budget, crossover
        model.encoder.precision = precision
        model.train()
        for start in range(0, len(items), 32):
            batch = items[start : start + 32]
            for part in batches.micro_batches(batch):
                tensors = drawn.collate(part)
                (drawn.loss(model, tensors) * len(part) / len(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return len(items)

    ways = {"as it is (512 tokens, eager)": lambda: step(512)}
    for budget in (256, 1024, 2048):
        ways[f"{budget} tokens"] = lambda budget=budget: step(budget)
    ways["SDPA"] = lambda: step(512, 0)
    other = "fp32" if PRECISION == "bf16" else "bf16"
    ways[other] = lambda: step(512, 256, other)
    in_turns(ways)


def compiled(model, drawn, tokenizer) -> None:
    pad = tokenizer.pad_token_id
    items = [{**i, "input_ids": [(list(i["input_ids"][0]) * 4)[:32]]} for i in drawn.items[:96]]
    tensors = [collate(items[n : n + 16], pad) for n in range(0, len(items), 16)]  # 512 tokens
    fast = torch.compile(model.encoder, dynamic=False)

    def predict_by(encoder) -> int:
        model.eval()
        with torch.inference_mode(), model.autocast():
            for batch in tensors:
                encoder(**batch)
        return len(items)

    def train_by(encoder) -> int:
        model.train()
        for batch in tensors:
            with model.autocast():
                states = encoder(**batch).last_hidden_state
            states.float().square().mean().backward()
        model.zero_grad()
        return len(items)

    for way in (predict_by, train_by):
        begin = time.perf_counter()
        way(fast)
        print(f"{way.__name__}: first call, one shape, {time.perf_counter() - begin:.1f} s")
        ways = {"eager": model.encoder, "compiled": fast}
        in_turns({name: partial(way, encoder) for name, encoder in ways.items()})


def int8(study: Study) -> None:
    """Predictions of finished runs by weights and states in eight bits (dynamic quantisation)."""
    runs = [run for run in study.runs() if run.size == [*study.sizes][-1]][:MODELS]
    for run in runs:
        trained = fine_tuning.finished(study, run)
        model, task = trained.model.eval(), study.tasks[run.target]
        rows = [
            row
            for code in study.languages(run.target)
            for row in data.examples(study, run.target, task.evaluate, code)
        ]
        items = data.tokenise(task, rows, trained.tokenizer, trained.max_length)
        model.precision, pad = "fp32", trained.tokenizer.pad_token_id
        quantised = torch.ao.quantization.quantize_dynamic
        small = quantised(deepcopy(model), {torch.nn.Linear}, torch.qint8)
        ways = {"float32": model, "int8": small}
        said = [np.concatenate(predict(way, items, pad)).argmax(1) for way in ways.values()]
        changed = int((said[0] != said[1]).sum())
        print(f"{'/'.join(map(str, run))}: {changed} of {len(rows)} predictions changed")
        gold = np.array([row["label"] for row in rows])
        print(*(f"{(gold == answers).mean():.2%} right" for answers in said), sep=", ")
        in_turns({name: partial(count, way, items, pad) for name, way in ways.items()})


def count(model, items: list[dict], pad: int) -> int:
    return len(predict(model, items, pad))


def alloc(folder: Path) -> None:
    """The benchmark's own recipe under other allocators."""
    given = {
        "glibc": {},
        "glibc, huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        "jemalloc": {"LD_PRELOAD": os.environ["JEMALLOC"]},
        "jemalloc, huge pages": {"LD_PRELOAD": os.environ["JEMALLOC"], "MALLOC_CONF": "thp:always"},
        "tcmalloc": {"LD_PRELOAD": os.environ["TCMALLOC"]},
    }
    found: dict[str, dict[str, list]] = {"training": {}, "prediction": {}}
    for _ in range(ROUNDS):
        for name, more in given.items():
            measures = recipe(folder, more)
            for what, rates in found.items():
                rates.setdefault(name, []).append(measures[f"{what} examples/s"])
    for what, rates in found.items():
        print(what)
        show(rates)


def processes(folder: Path) -> None:
    """One process of two threads against two of one."""
    found: dict[str, dict[str, list]] = {"training": {}, "prediction": {}}
    for _ in range(ROUNDS):
        one = [recipe(folder, {})]
        running = [start(folder, {"THREADS": "1"}) for _ in range(2)]
        for name, all_of in (("two threads", one), ("two processes", list(map(ended, running)))):
            for what, rates in found.items():
                total = sum(measures[f"{what} examples/s"] for measures in all_of)
                rates.setdefault(name, []).append(total)
    for what, rates in found.items():
        print(what)
        show(rates)


def recipe(folder: Path, more: dict) -> dict:
    return ended(start(folder, more))


def start(folder: Path, more: dict) -> subprocess.Popen:
    program = str(Path(__file__).with_name("recipes.py"))
    command = [sys.executable, program, str(folder), PRECISION, "3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env={**os.environ, **more}, **pipes)


def ended(process: subprocess.Popen) -> dict:
    return json.loads(process.communicate()[0].splitlines()[-1])


if __name__ == "__main__":
    main()
