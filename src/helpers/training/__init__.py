"""In: an encoder and English examples. Out: a fine-tuned model with the weights that score best on
English validation data, and a record of its training.
"""

from helpers.training.fine_tuning import begin, finished, intermediate, target
from helpers.training.fitting import Training

__all__ = ["Training", "begin", "finished", "intermediate", "target"]
