"""In: an encoder and English examples. Out: a fine-tuned model with the weights that score best on
English validation data, and a record of its training.
"""

from helpers.training.checkpoints import Stopped, trained_weights
from helpers.training.examples import Examples, english
from helpers.training.fine_tuning import Training, build, fine_tune
from helpers.training.trainer import training_parts

__all__ = ["Examples", "Stopped", "Training", "build", "english", "fine_tune"]
__all__ += ["trained_weights", "training_parts"]
