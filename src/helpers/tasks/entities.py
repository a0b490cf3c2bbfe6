"""F1 of labelled entities, counted as seqeval counts them."""

import warnings

import datasets
import evaluate
from seqeval.metrics.sequence_labeling import get_entities


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """(type, first word, last word) of every entity, under seqeval's default reading of the tags of a sentence.

    Tags without a prefix, such as parts of speech, are read as XTREME's scorer reads them: most neighbours of one tag
    make one entity.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval complains of every tag without a prefix
        return set(get_entities(tags))


def credit(predicted: list[str], gold: list[str]) -> tuple[float, float]:
    """(2 x true positives, predicted + gold entities) of a sentence; their sums' quotient is the micro F1."""
    said, wanted = entities(predicted), entities(gold)
    return 2.0 * len(said & wanted), float(len(said) + len(wanted))


class EntityF1(evaluate.Metric):
    """Micro F1 of entities over a corpus, in points: a span counts if its borders and its type are right."""

    def _info(self):
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Micro F1 of labelled entities.",
            citation="Nakayama 2018, seqeval",
            inputs_description="predictions, references: a list of tags for every sentence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references):
        credits = [credit(p, r) for p, r in zip(predictions, references, strict=True)]
        got, out_of = map(sum, zip(*credits, strict=True))
        return {"entity_f1": 100 * got / out_of if out_of else 0.0}
