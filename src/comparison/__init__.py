"""In: tables of predictions, whoever made them. Out: gains and scale effects with intervals, the
sentence that answers a study's question, charts and a page. No torch.
"""

from comparison import charts
from comparison.estimates import effects, results
from comparison.languages import explain_gains, languages
from comparison.plan import ComparisonError, Plan, Size, Target
from comparison.power import detectable
from comparison.published import beside_published, published
from comparison.reading import missing_runs, read_study
from comparison.sensitivity import sensitivity
from comparison.sentence import summary_sentence

__all__ = [
    "ComparisonError",
    "Plan",
    "Size",
    "Target",
    "beside_published",
    "charts",
    "detectable",
    "effects",
    "explain_gains",
    "languages",
    "missing_runs",
    "published",
    "read_study",
    "results",
    "sensitivity",
    "summary_sentence",
]
