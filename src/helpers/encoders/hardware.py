"""What this machine's processor and GPU can do, and the settings that follow."""

import json
import math
import os
import platform
import re
import resource
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from helpers.study import Study
from helpers.study.files import read_json

CROSSOVER = 256
"""Tokens from which SDPA is the faster attention on a processor: a forward and backward pass with
eager attention took 0.99 times as long as one with SDPA at 16 tokens, 1.03 at 128, 1.08 at 256 and
1.54 at 512 (docs/cost.md)."""
MEASURED = "precision.{device}.json"
"""In a study's folder: what was measured for ``precision: auto``, for each kind of device."""
_SHAPE = (256, 768, 3072)
"""Tokens, inputs and outputs of the product that is timed: a feed-forward layer of XLM-R base."""
_ROUNDS = 3
_MARGIN = 1.2
"""bf16 must be this many times as fast: autocast converts weights, which the product does not show.
"""


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(study: Study) -> str:
    """``fp32`` or ``bf16``: what the study says, or for ``auto`` the faster one here.

    Each kind of device is measured once a study, in a fraction of a second; what is found is kept
    with the study and decides for all its runs, on whatever machine they are made.
    """
    if study.precision != "auto":
        return study.precision
    path = study.folder / MEASURED.format(device=device().type)
    if not path.exists():
        rates = product_rates()
        chosen = "bf16" if rates["bf16"] > _MARGIN * rates["fp32"] else "fp32"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(json.dumps({"precision": chosen, "gflops": rates}), encoding="utf-8")
        with suppress(FileExistsError):  # sizes are prepared side by side: the first decides
            os.link(beside, path)
        beside.unlink()
    return read_json(path)["precision"]


def product_rates(seconds: float = 0.2) -> dict[str, float]:
    """GFLOP/s of a linear layer in float32 and in bf16 on this device, best of several rounds."""
    tokens, inputs, outputs = _SHAPE
    states, weight = torch.randn(tokens, inputs), torch.randn(outputs, inputs)
    timers = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        given = {"states": states.to(device(), kind), "weight": weight.to(device(), kind)}
        code = "torch.nn.functional.linear(states, weight)"
        timers[name] = Timer(code, globals=given, num_threads=torch.get_num_threads())
    best, share = dict.fromkeys(timers, math.inf), seconds / len(timers) / _ROUNDS
    for _ in range(_ROUNDS):  # in turns: what else runs here slows both down
        for name, timer in timers.items():
            best[name] = min(best[name], *timer.blocked_autorange(min_run_time=share).times)
        if best["bf16"] > 4 * best["fp32"]:  # emulated: no round would change that
            break
    return {name: 2e-9 * tokens * inputs * outputs / took for name, took in best.items()}


def describe() -> dict:
    """Processor, cores, threads and GPU, for run.json."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)", info.read_text() if info.exists() else "", re.M)
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes, plus what PyTorch held on GPU."""
    unit = 1 if platform.system() == "Darwin" else 1024
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + gpu
