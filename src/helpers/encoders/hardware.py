"""What this machine's processor and GPU can do, and the settings that follow."""

import json
import os
import platform
import re
import resource
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from helpers.study.files import read_json

_SHAPE = (256, 768, 3072)
"""Tokens, inputs and outputs of the product that is timed: a feed-forward layer of XLM-R base."""
_MARGIN = 1.2
"""bf16 must be this many times as fast: autocast converts weights, which the product does not show.
"""


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
    path = folder / f"precision.{device().type}.json"
    if not path.exists():
        rates = product_rates()
        chosen = "bf16" if rates["bf16"] > _MARGIN * rates["fp32"] else "fp32"
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(json.dumps({"precision": chosen, "gflops": rates}), encoding="utf-8")
        with suppress(FileExistsError):  # sizes are prepared side by side: the first decides
            os.link(beside, path)
        beside.unlink()
    return read_json(path)["precision"]


def product_rates(seconds: float = 0.2) -> dict[str, float]:
    """GFLOP/s of a linear layer in float32 and in bf16 on this device, best of three rounds."""
    tokens, inputs, outputs = _SHAPE
    code = "torch.nn.functional.linear(states, weight)"
    best: dict[str, float] = {}
    for name, kind in 3 * (("fp32", torch.float32), ("bf16", torch.bfloat16)):  # in turns
        tensors = {"states": torch.randn(tokens, inputs), "weight": torch.randn(outputs, inputs)}
        tensors = {key: tensor.to(device(), kind) for key, tensor in tensors.items()}
        timer = Timer(code, globals=tensors, num_threads=torch.get_num_threads())
        took = min(timer.blocked_autorange(min_run_time=seconds / 6).times)
        best[name] = min(took, best.get(name, took))
        if took > 4 * best["fp32"]:  # bf16 is emulated: no other round would change that
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
