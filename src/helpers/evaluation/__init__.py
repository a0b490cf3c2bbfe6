"""In: a fine-tuned model. Out: its predictions in every language, scores, whether it collapsed, and
the record that makes the run repeatable.
"""

from helpers.evaluation.zero_shot import (
    embed,
    retrieval_accuracy,
    retrieval_probe,
    scores,
    with_collapse,
    write_intermediate,
    write_run,
    zero_shot,
)

__all__ = [
    "embed",
    "retrieval_accuracy",
    "retrieval_probe",
    "scores",
    "with_collapse",
    "write_intermediate",
    "write_run",
    "zero_shot",
]
