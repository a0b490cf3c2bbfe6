"""What this machine's processor and GPU can do, and the settings that follow."""

import os
import platform
import re
import resource
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.benchmark import Timer

from helpers.study.files import read_json, write_json

# A training uses one GPU. Of several, transformers' Trainer would give each a whole batch.
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]

INPUTS, OUTPUTS = 768, 3072
"""The product that is timed: a feed-forward layer of XLM-R base."""
MARGIN = 1.2
"""bf16 must be this many times as fast: autocast also converts weights, which is not timed."""


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(asked: str, folder: Path) -> str:
    """``fp32`` or ``bf16``: what is ``asked`` for, or for ``auto`` the faster one here.

    Each kind of device is measured once per study, in a fraction of a second; the measurement is
    kept in ``folder`` and decides for all runs, on whatever machine they are made.
    """
    if asked != "auto":
        return asked
    file = folder / f"precision.{device().type}.json"
    if not file.exists():
        rates = product_rates()
        chosen = "bf16" if rates["bf16"] > MARGIN * rates["fp32"] else "fp32"
        if not file.exists():  # sizes are prepared side by side: the first decides
            write_json(file, {"precision": chosen, "gflops": rates})
    return read_json(file)["precision"]


def product_rates(seconds: float = 0.2, tokens: int = 256) -> dict[str, float]:
    """GFLOP/s of a linear layer in float32 and in bf16 on this device; the fastest call counts."""
    rates = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        states = torch.randn(tokens, INPUTS).to(device(), kind)
        weight = torch.randn(OUTPUTS, INPUTS).to(device(), kind)
        tensors = {"linear": functional.linear, "states": states, "weight": weight}
        threads = torch.get_num_threads()
        timer = Timer("linear(states, weight)", globals=tensors, num_threads=threads)
        took = min(timer.blocked_autorange(min_run_time=seconds / 2).times)
        rates[name] = 2e-9 * tokens * INPUTS * OUTPUTS / took
    return rates


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
