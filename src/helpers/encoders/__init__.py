"""In: a hub id or a folder. Out: an encoder and a tokenizer as a study uses them: cut to its lower
layers, its vocabulary trimmed, the states of its frozen layers kept; heads; predictions.
"""

from helpers import libraries as libraries  # before all that imports one of them
from helpers.encoders import hardware
from helpers.encoders.adapters import adapt
from helpers.encoders.frozen import frozen_states
from helpers.encoders.loading import kept_ids, load, prepare, pretrained, save, start
from helpers.encoders.model import EncoderModel, Head, MaskedHead, embed, predict, retrieval_layer
from helpers.encoders.trimming import trim

__all__ = ["EncoderModel", "Head", "MaskedHead", "adapt", "embed", "frozen_states", "hardware"]
__all__ += ["kept_ids", "load", "predict", "prepare", "pretrained", "retrieval_layer", "save"]
__all__ += ["start", "trim"]
