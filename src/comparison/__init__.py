"""In: the predictions of all finished runs. Out: gains and scale effects with intervals, and the
sentence that answers the study's question. No torch.
"""

from helpers.comparison.alternatives import alternatives
from helpers.comparison.collected import finished_runs, missing_runs, parameters
from helpers.comparison.estimates import effects, results
from helpers.comparison.power import detectable
from helpers.comparison.published import beside_published, published
from helpers.comparison.sensitivity import sensitivity
from helpers.comparison.sentence import explain_gains, languages, summary_sentence

__all__ = [
    "alternatives",
    "beside_published",
    "detectable",
    "effects",
    "explain_gains",
    "finished_runs",
    "languages",
    "missing_runs",
    "parameters",
    "published",
    "results",
    "sensitivity",
    "summary_sentence",
]
