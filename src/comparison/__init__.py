"""In: tables of predictions, whoever made them. Out: gains and scale effects with intervals, the
sentence that answers a study's question, charts and a page. No torch.
"""

from comparison.estimates import effects, results
from comparison.plan import ComparisonError, Plan, Size, Target
from comparison.reading import missing_runs, read_study

__all__ = [
    "ComparisonError",
    "Plan",
    "Size",
    "Target",
    "effects",
    "missing_runs",
    "read_study",
    "results",
]
