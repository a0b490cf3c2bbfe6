"""What a plan assumes: what GPUs do, how large encoders are, what a training and a text take."""

import os
from pathlib import Path
from typing import NamedTuple

import yaml

from helpers.study import Size, Study, StudyError, Task
from helpers.study.files import read_json

_KNOWN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GPUS, ENCODERS, TOKENS = _KNOWN["gpus"], _KNOWN["encoders"], _KNOWN["tokens"]
OF_PUBLISHED, OF_MEASURED = 0.4, 0.6
"""Share that a training reaches: of the published rate, assumed; of matrix products as measured, as
on two processors (docs/cost.md)."""
AT_ONCE = {True: 65_536, False: 1024}
"""The most tokens that a training sends through the model at once, on a GPU and without one."""
TRAINING, PREDICTION, START = 6, 3, 60.0
"""FLOP per token and parameter of the layers. Weights that are not trained need 2 less, layers
whose states are computed twice 2 more. Seconds that a training takes to start, load and write."""
ROWS, ROW = 5_000, 200
"""Assumed rows of a split in a language, if the catalogue does not say; bytes of a prediction."""
BASE = (12, 768, 12)
WHOLE, TRIMMED, PIECES = 250_002, 150_000, 3
"""Rows of XLM-R's vocabulary; of a trimmed one at most, and for each example read (assumed)."""
STATES, BETWEEN = 50, 4
"""Bytes per token and hidden unit: all that a layer keeps for the gradients; its input alone."""
USABLE = 0.9
"""Share of the memory that a training can use."""


class Machine(NamedTuple):
    """What trains: FLOP/s that a training reaches, GB, and where the rate comes from."""

    name: str
    rate: float
    memory: float
    share: str
    is_gpu: bool = True


def machine(name: str) -> Machine:
    """A GPU of the table by its name. ``here`` is this machine's GPU or, without one, its
    processor, measured in two seconds. Raises StudyError where it is neither.
    """
    for known, (rate, memory) in GPUS.items():
        if known.casefold() == name.casefold():
            share = f"{100 * OF_PUBLISHED:.0f} % of the published rate of {known}"
            return Machine(known, OF_PUBLISHED * rate * 1e12, memory, share)
    if name != "here":
        raise StudyError(f"GPU: found {name!r}, expected one of: here, {', '.join(GPUS)}")
    import torch

    from helpers.encoders import hardware

    torch.set_num_threads(os.cpu_count() or 1)
    about, is_gpu = hardware.describe(), torch.cuda.is_available()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if is_gpu:
        memory = torch.cuda.mem_get_info()[1]
    rates = hardware.product_rates(2.0, tokens=16_384 if is_gpu else 256)  # few do not fill a GPU
    rate, name = OF_MEASURED * 1e9 * max(rates.values()), about["gpu"] or about["processor"]
    share = f"{100 * OF_MEASURED:.0f} % of matrix products of {name}"
    return Machine(name, rate, memory / 1e9, share, is_gpu)


def shape(size: Size) -> tuple[int, int, float] | None:
    """Layers, hidden size and weights of a layer by hidden size squared, where they are known."""
    known = ENCODERS.get(size.encoder)
    if config := read_json(Path(size.encoder).expanduser() / "config.json"):
        hidden, layers = config.get("hidden_size", 768), config.get("num_hidden_layers", 12)
        known = (layers, hidden, 4 + 2 * config.get("intermediate_size", 4 * hidden) / hidden)
    return (size.layers or known[0], *known[1:]) if known else None


def sequences(task: Task) -> int:
    """Sequences that an example of a task has: one a choice, one a side of a retrieval pair."""
    if task.format == "multiple_choice":
        return len(task.labels)
    return len({"source", "target"} & task.columns.keys()) or 1


def tokens_of(task: Task, max_length: float) -> int:
    """Tokens of an example."""
    return int(min(TOKENS.get(task.metric, TOKENS[task.format]), max_length)) * sequences(task)


def parameters(study: Study, size: Size) -> tuple[int, int, int]:
    """Parameters of a size's layers, of its word embeddings, and of adapters in all its layers."""
    layers, hidden, multiple = shape(size) or BASE
    cells = read_json(study.data / "summary.json").get("cells", {})
    read = sum(cell["rows"] for cell in cells.values())
    words = min(TRIMMED, PIECES * read or TRIMMED) if study.trim else WHOLE
    inner = layers * hidden * int(multiple * hidden + 13)
    return inner, hidden * words, layers * 18 * hidden * size.lora.rank


def fixed_memory(study: Study, size: Size) -> int:
    """Bytes of a training's weights, gradients and Adam's two moments."""
    inner, words, adapters = parameters(study, size)
    if size.tuning == "lora":
        return 2 * inner + 4 * words + 16 * adapters
    return 18 * inner + 16 * words  # 4 weight, 12 gradient and moments, 2 autocast's copy


def flops_per_token(study: Study, name: str) -> int:
    """FLOP that training a size takes per token."""
    size = study.sizes[name]
    flops = TRAINING - 2 * (size.tuning == "lora") + 2 * size.gradient_checkpointing
    return flops * parameters(study, size)[0]
