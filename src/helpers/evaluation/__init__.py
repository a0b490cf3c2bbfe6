"""In: a fine-tuned model. Out: its predictions in every language, scores, whether it collapsed, and
the record that makes the run repeatable.
"""

from helpers.evaluation.probe import cka, parallel_sentences, retrieval, retrieval_accuracy
from helpers.evaluation.records import write_intermediate, write_run, write_trial
from helpers.evaluation.zero_shot import is_collapsed, scores, with_collapse, zero_shot

__all__ = [
    "cka",
    "is_collapsed",
    "parallel_sentences",
    "retrieval",
    "retrieval_accuracy",
    "scores",
    "with_collapse",
    "write_intermediate",
    "write_run",
    "write_trial",
    "zero_shot",
]
