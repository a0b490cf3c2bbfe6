"""In: a fine-tuned model. Out: its predictions in every language, scores, and the record that makes
the run repeatable.
"""

from helpers.evaluation.probe import nearest, parallel_sentences, retrieval
from helpers.evaluation.records import finished, write
from helpers.evaluation.zero_shot import Items, items, predict, predict_others

__all__ = ["Items", "finished", "items", "nearest", "parallel_sentences", "predict"]
__all__ += ["predict_others", "retrieval", "write"]
