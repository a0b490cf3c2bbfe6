"""In: a params file and the task catalogue. Out: a checked :class:`Study`, which lists its runs
and knows where each of their files lies. No torch.
"""

from helpers.study.catalogue import ENGLISH, NONE, ZERO_SHOT, StudyError, Task
from helpers.study.opening import is_interactive, open_study
from helpers.study.study import RUN, Hyperparameters, Run, Size, Study

__all__ = [
    "ENGLISH",
    "NONE",
    "RUN",
    "ZERO_SHOT",
    "Hyperparameters",
    "Run",
    "Size",
    "Study",
    "StudyError",
    "Task",
    "is_interactive",
    "open_study",
]
