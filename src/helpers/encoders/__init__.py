"""In: a hub id, a folder or the bundled encoder. Out: an encoder and a tokenizer as a study uses
them: cut to its lower layers, its vocabulary trimmed, its frozen layers' states cached.
"""

from helpers.encoders.pretrained import (
    fertility,
    initial_encoder,
    kept_ids,
    load,
    parameters,
    prepare,
    pretrained,
    restore,
    save,
    trim,
    used_tokens,
)

__all__ = [
    "fertility",
    "initial_encoder",
    "kept_ids",
    "load",
    "prepare",
    "pretrained",
    "parameters",
    "used_tokens",
    "restore",
    "save",
    "trim",
]
