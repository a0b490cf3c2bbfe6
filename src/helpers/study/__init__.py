"""In: a params file and the task catalogue. Out: a checked :class:`Study`, which lists its runs,
and its conditions: what each notebook trains, and where its results lie. No torch.
"""

from helpers.study.catalogue import ENGLISH, NONE, StudyError, Task
from helpers.study.condition import Attempt, Condition, Stage
from helpers.study.params import LONGER, Hyperparameters, Run, Size
from helpers.study.study import Study

__all__ = ["ENGLISH", "LONGER", "NONE", "Attempt", "Condition", "Hyperparameters", "Run"]
__all__ += ["Size", "Stage", "Study", "StudyError", "Task"]
