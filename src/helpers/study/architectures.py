"""Architectures of encoders that the package knows, and what a model folder must hold."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers.study.catalogue import unknown
from helpers.study.files import read_json

MIRROR = "HUB_MIRROR"
"""Environment variable: a folder laid out like the hub, read instead of it."""
_TOKENIZERS = ["tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "spm.model"]
_TOKENIZERS += ["vocab.txt", "vocab.json"]


class Family(NamedTuple):
    """Where an architecture keeps its layers, what runs after them, and its dropout settings."""

    layers: str
    after: str | None
    dropout: tuple[str, ...]
    outputs: int = 1
    """How many values a layer returns, states first."""


_BERT = Family("encoder.layer", None, ("hidden_dropout_prob", "attention_probs_dropout_prob"))
_MODERN = ("embedding_dropout", "attention_dropout", "mlp_dropout")
FAMILIES = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra"], _BERT),
    "deberta-v2": _BERT._replace(outputs=2),
    "xlm-roberta-xl": _BERT._replace(after="encoder.LayerNorm"),
    "distilbert": Family("transformer.layer", None, ("dropout", "attention_dropout")),
    "modernbert": Family("layers", "final_norm", _MODERN),
    "eurobert": Family("layers", "norm", ("attention_dropout",)),
    "mt5": Family("encoder.block", "encoder.final_layer_norm", ("dropout_rate",), 3),
}


def local_folder(encoder: str) -> Path | None:
    """The folder that holds an encoder on this machine, its own or the mirror's; None without."""
    mirror = os.environ.get(MIRROR)
    folders = [Path(encoder), *([Path(mirror) / encoder] if mirror else [])]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def faults(encoder: str) -> Iterator[str]:
    """What is wrong with an encoder as far as files on this machine tell, in a few words each."""
    if folder := local_folder(encoder):
        kind = read_json(folder / "config.json").get("model_type", "none")
        if kind not in FAMILIES:
            wrong = unknown("architecture", kind, FAMILIES)
            yield f"{folder}: {wrong}, where the package knows the layers"
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            yield f"{folder}: found no tokenizer; expected one of {', '.join(_TOKENIZERS)}"
