"""In: an encoder and English examples. Out: a fine-tuned model with the weights that score best on
English validation data, and a record of its training.
"""

from helpers.training.fine_tuning import intermediate, target
from helpers.training.fitting import Training

__all__ = ["Training", "intermediate", "target"]
