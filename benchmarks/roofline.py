"""What the hardware allows at the shapes of a training: products, memory, calls.

    python benchmarks/roofline.py [--tokens 512] [--length 32]

For XLM-R base's shape and 12 layers of 384: the rate of each matrix product of a layer with that
many tokens, forward and backward; what bytes the optimiser and the weights move and at which rate
memory gives them; what calling the operations costs, as the time of a model of the same depth with
states of 16. Together they say how many examples a second training and prediction could reach if
nothing but products took time, and if memory and calls came on top.
"""

import argparse
import math
from itertools import product

import pandas as pd
import torch
from torch.utils.benchmark import Timer
from transformers import XLMRobertaConfig, XLMRobertaModel

SHAPES = {"XLM-R base's shape": (768, 3072), "12 layers, hidden size 384": (384, 1536)}
LAYERS, BATCH = 12, 32
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WAYS = ["forward", "gradients of states", "gradients of weights"]
OPTIMISER = 28
"""Bytes a parameter and step: gradient, weight and two moments read, weight and moments written."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--length", type=int, default=32)
    options = parser.parse_args()
    memory, calls = bandwidth(), {kind: call_seconds(kind) for kind in TYPES}
    print(f"memory: {memory / 1e9:.1f} GB/s; calls: {calls} s a micro-batch")
    rows = []
    for (name, (hidden, wide)), kind in product(SHAPES.items(), TYPES):
        ahead, back, rates = bounds(options, hidden, wide, TYPES[kind])
        share = options.length / options.tokens  # micro-batches an example
        parameters = LAYERS * (4 * hidden * hidden + 2 * hidden * wide)
        optimiser = OPTIMISER * parameters / memory / BATCH
        row = {"encoder": name, "type": kind, **rates}
        row |= {"training, products only": 1 / (ahead + back), "prediction, products": 1 / ahead}
        row["training, with memory and calls"] = 1 / (
            ahead + back + calls[kind][1] * share + optimiser
        )
        row["prediction, with calls"] = 1 / (ahead + calls[kind][0] * share)
        rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.0f}".format))


def bounds(options: argparse.Namespace, hidden: int, wide: int, kind: torch.dtype) -> tuple:
    """Seconds an example of the layers' products, forward and backward, and their GFLOP/s."""
    seconds, work = dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0.0)
    for n, k, times in ((hidden, hidden, 4), (wide, hidden, 1), (hidden, wide, 1)):
        shapes = (options.tokens, n, k), (options.tokens, k, n), (n, k, options.tokens)
        for way, shape in zip(WAYS, shapes, strict=True):
            seconds[way] += times * LAYERS * product_seconds(*shape, kind)
            work[way] += times * LAYERS * 2e-9 * math.prod(shape)
    rates = {f"{way}, GFLOP/s": work[way] / seconds[way] for way in WAYS}
    examples = options.tokens / options.length
    ahead, *back = (seconds[way] / examples for way in WAYS)
    return ahead, sum(back), rates


def product_seconds(m: int, n: int, k: int, kind: torch.dtype) -> float:
    """Seconds of a product (m, k) x (k, n), as a linear layer calls it."""
    tensors = {"states": torch.randn(m, k).to(kind), "weight": torch.randn(n, k).to(kind)}
    code = "torch.nn.functional.linear(states, weight)"
    timer = Timer(code, globals=tensors, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=0.15).times)


def bandwidth() -> float:
    """Bytes a second of a copy that no cache holds, read and written."""
    tensors = {"a": torch.ones(2**26), "b": torch.ones(2**26)}
    timer = Timer("b.copy_(a)", globals=tensors, num_threads=torch.get_num_threads())
    return 2 * 4 * 2**26 / min(timer.blocked_autorange(min_run_time=1).times)


def call_seconds(kind: str) -> tuple[float, float]:
    """Seconds of a prediction and of a forward and backward pass with hardly any arithmetic."""
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16}
    config = XLMRobertaConfig(**sizes, num_attention_heads=2, num_hidden_layers=LAYERS)
    model = XLMRobertaModel(config, add_pooling_layer=False)
    model.set_attn_implementation("eager")
    ids = torch.full((2, 4), 10)
    context = torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bf16")

    def ahead():
        with torch.inference_mode(), context:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))

    def both():
        with context:
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        out.float().sum().backward()

    timers = [Timer("f()", globals={"f": f}, num_threads=2) for f in (ahead, both)]
    first, second = (min(t.blocked_autorange(min_run_time=0.5).times) for t in timers)
    return first, second


if __name__ == "__main__":
    main()
