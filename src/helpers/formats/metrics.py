"""The score of every format, as an ``evaluate.Metric``: no script and no network at run time."""

from tempfile import TemporaryDirectory

import evaluate
from datasets import Features, Value


class Score(evaluate.Metric):
    """Points: 100 x the sum of credits / the sum of what they are out of.

    Predictions are an example's credit, references what it is out of: (1 or 0, 1) is accuracy,
    (2 x true positives, predicted + gold) the micro F1 of entities or pairs.
    """

    def __init__(self):
        with TemporaryDirectory() as folder:  # required, but nothing is written there
            super().__init__(keep_in_memory=True, cache_dir=folder)

    def _info(self):
        columns = Features(predictions=Value("float64"), references=Value("float64"))
        return evaluate.MetricInfo(__doc__, citation="", features=columns)

    def _compute(self, predictions, references):
        return {"score": 100 * sum(predictions) / (sum(references) or 1)}


SCORE = Score()
