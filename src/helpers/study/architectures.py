"""Known architectures of encoders, and the files that a model folder must hold. No torch."""

import os
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.study.catalogue import unknown
from helpers.study.files import read_json

MIRROR = "HUB_MIRROR"
"""Environment variable: a folder laid out like the hub, read instead of it."""
_SENTENCEPIECE = ["sentencepiece.bpe.model", "spiece.model", "spm.model"]
_TOKENIZERS = ["tokenizer.json", *_SENTENCEPIECE, "vocab.txt", "vocab.json"]
_GENERIC = ["PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"]
"""Classes of tokenizers that have no padding token unless their files name one."""


class Family(NamedTuple):
    """Where an architecture keeps its layers, and what else the package needs to know of it."""

    layers: str
    after: str | None = None
    """What runs after the last layer."""
    outputs: int = 1
    """How many values a layer returns, states first."""
    pooler: bool = False
    """Whether the model adds a pooler unless it is told not to."""
    apart: bool = True
    """Whether upper layers need nothing of the lower ones but their states."""


_BERT = Family("encoder.layer", pooler=True)
FAMILIES = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert"], _BERT),
    "electra": Family("encoder.layer"),
    "deberta-v2": Family("encoder.layer", outputs=2),
    "xlm-roberta-xl": Family("encoder.layer", "encoder.LayerNorm", pooler=True),
    "distilbert": Family("transformer.layer"),
    "modernbert": Family("layers", "final_norm"),
    "eurobert": Family("layers", "norm"),
    "mt5": Family("encoder.block", "encoder.final_layer_norm", outputs=3, apart=False),
}


def local_folder(encoder: str) -> Path | None:
    """The folder that holds an encoder on this machine, its own or the mirror's; None without."""
    mirror = os.environ.get(MIRROR)
    folders = [Path(encoder).expanduser(), *([Path(mirror) / encoder] if mirror else [])]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def faults(encoder: str) -> Iterator[str]:
    """What is wrong with an encoder, judged by files on this machine, in a few words each."""
    folder = local_folder(encoder)
    if folder is None:
        return
    config = read_json(folder / "config.json")
    kind = config.get("model_type", "none") if isinstance(config, dict) else "none"
    if kind not in FAMILIES:
        wrong = unknown("architecture", kind, FAMILIES)
        yield f"{folder}: {wrong}"
    tokenizers = [name for name in _TOKENIZERS if (folder / name).is_file()]
    if not tokenizers:
        yield f"{folder}: found no tokenizer; expected one of {', '.join(_TOKENIZERS)}"
    elif tokenizers[0] in _SENTENCEPIECE and not _installed("sentencepiece", "protobuf"):
        needs = "reading it needs two packages: pip install sentencepiece protobuf"
        yield f"{folder}: found no tokenizer.json but {tokenizers[0]}; {needs}"
    settings = read_json(folder / "tokenizer_config.json")
    names = settings | read_json(folder / "special_tokens_map.json")
    if settings.get("tokenizer_class") in _GENERIC and not names.get("pad_token"):
        yield f"{folder}/tokenizer_config.json: found no pad_token; expected the padding token"


def checksums(encoder: str) -> dict[str, int]:
    """Of each file of weights or tokens of an encoder on this machine, a thousand of its bytes:
    weights have gigabytes.
    """
    folder, sums = local_folder(encoder), {}
    for file in sorted(folder.iterdir()) if folder else []:
        if (file.suffix == ".safetensors" or file.name in _TOKENIZERS) and file.stat().st_size:
            content = np.memmap(file, mode="r")
            step = len(content) // 1000 | 1  # odd: not the same byte of every number
            sums[file.name] = zlib.crc32(content[::step].tobytes())
    return sums


def _installed(*packages: str) -> bool:
    try:
        return all(metadata.version(package) for package in packages)
    except metadata.PackageNotFoundError:
        return False
