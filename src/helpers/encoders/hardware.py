"""What this machine's processor and GPU can do, and the settings that follow."""

import os
import platform
import resource
from pathlib import Path

import torch


def bf16() -> bool:
    """Whether bf16 products run in hardware here: on the GPU, or on a processor with AMX or AVX512-BF16.

    Elsewhere PyTorch computes them in software, tens of times slower than float32.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        return False
    words = flags.read_text(encoding="utf-8", errors="replace").split()
    return "amx_bf16" in words or "avx512_bf16" in words


CROSSOVER = 256
"""Pieces from which SDPA is the faster attention on a processor: a forward and backward pass with eager attention took
0.99 times as long as one with SDPA at 16 pieces, 1.03 at 128, 1.08 at 256 and 1.54 at 512 (docs/cost.md)."""


def attention(length: int = 0) -> str:
    """The attention that is fastest for sequences of ``length`` pieces: SDPA on a GPU and from ``CROSSOVER`` on."""
    return "sdpa" if torch.cuda.is_available() or length >= CROSSOVER else "eager"


def describe() -> dict:
    """Processor, cores, memory and GPU, for run.json."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bf16": bf16(),
    }


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes, plus what PyTorch held on the GPU."""
    unit = 1 if platform.system() == "Darwin" else 1024
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit + gpu


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
