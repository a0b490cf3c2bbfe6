"""In: a hub id or a folder. Out: an encoder and a tokenizer as a study uses
them: cut to its lower layers, its vocabulary trimmed, the states of its frozen layers cached.
"""

from helpers.encoders.model import embed
from helpers.encoders.pretrained import (
    initial_encoder,
    kept_ids,
    load,
    parameters,
    prepare,
    pretrained,
    save,
)
from helpers.encoders.trimming import fertility, trim, used_tokens

__all__ = [
    "embed",
    "fertility",
    "initial_encoder",
    "kept_ids",
    "load",
    "parameters",
    "prepare",
    "pretrained",
    "save",
    "trim",
    "used_tokens",
]
