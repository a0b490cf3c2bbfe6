"""In: a hub id or a folder. Out: an encoder and a tokenizer as a study uses them: cut to its lower
layers, its vocabulary trimmed, the states of its frozen layers kept; heads; predictions.
"""

from helpers.encoders import hardware
from helpers.encoders.adapters import adapt
from helpers.encoders.frozen import frozen_states
from helpers.encoders.loading import (
    kept_ids,
    load,
    parameters,
    prepare,
    pretrained,
    save,
    start,
)
from helpers.encoders.model import (
    EncoderModel,
    EncoderWithHead,
    EncoderWithHeads,
    Head,
    MaskedHead,
    embed,
    predict,
    retrieval_layer,
)
from helpers.encoders.trimming import fertility, trim

__all__ = [
    "EncoderModel",
    "EncoderWithHead",
    "EncoderWithHeads",
    "Head",
    "MaskedHead",
    "adapt",
    "embed",
    "fertility",
    "frozen_states",
    "hardware",
    "kept_ids",
    "load",
    "parameters",
    "predict",
    "prepare",
    "pretrained",
    "retrieval_layer",
    "save",
    "start",
    "trim",
]
