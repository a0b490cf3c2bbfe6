"""In: tables of predictions, whoever made them. Out: gains and scale effects with intervals, the
sentence that answers a study's question, charts and a page. No torch.
"""

from comparison import charts
from comparison.crossed import variance_table
from comparison.estimates import effects, results
from comparison.languages import explain_gains, fertility, languages, mean_gains
from comparison.layers import layer_gains, layers_sentence
from comparison.plan import ComparisonError, Plan, Size, Target
from comparison.power import detectable
from comparison.published import beside_published, published
from comparison.reading import missing_runs, read_crossed, read_study
from comparison.sensitivity import sensitivity
from comparison.sentence import beside_sentence, summary_sentence
