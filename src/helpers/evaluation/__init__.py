"""In: a fine-tuned model. Out: its predictions in every language, scores, whether it collapsed, and
the record that makes the run repeatable.
"""

from helpers.evaluation.probe import retrieval_accuracy, retrieval_probe
from helpers.evaluation.records import write_intermediate, write_run, write_trial
from helpers.evaluation.zero_shot import is_collapsed, scores, with_collapse, zero_shot

__all__ = [
    "is_collapsed",
    "retrieval_accuracy",
    "retrieval_probe",
    "scores",
    "with_collapse",
    "write_intermediate",
    "write_run",
    "write_trial",
    "zero_shot",
]
