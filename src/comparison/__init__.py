"""In: tables of predictions, whoever made them. Out: gains and scale effects with intervals, the
sentence that answers a study's question, charts and a page. No torch.
"""

from comparison import charts as charts
from comparison.crossed import variance_table as variance_table
from comparison.estimates import effects as effects
from comparison.estimates import results as results
from comparison.languages import explain_gains as explain_gains
from comparison.languages import fertility as fertility
from comparison.languages import languages as languages
from comparison.languages import mean_gains as mean_gains
from comparison.layers import layer_gains as layer_gains
from comparison.layers import layers_sentence as layers_sentence
from comparison.plan import ComparisonError as ComparisonError
from comparison.plan import Plan as Plan
from comparison.plan import Size as Size
from comparison.plan import Target as Target
from comparison.power import detectable as detectable
from comparison.published import beside_published as beside_published
from comparison.published import published as published
from comparison.reading import missing_runs as missing_runs
from comparison.reading import read_crossed as read_crossed
from comparison.reading import read_study as read_study
from comparison.sensitivity import sensitivity as sensitivity
from comparison.sentence import beside_sentence as beside_sentence
from comparison.sentence import summary_sentence as summary_sentence
