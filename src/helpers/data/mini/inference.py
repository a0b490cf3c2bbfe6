"""mini_nli and mini_xnli: inference over kinds of things, negation, numbers and quantifiers.

Every hypothesis occurs three times, with a premise that entails it, one that leaves it open and one
that contradicts it, so that the hypothesis alone says nothing about the label.
"""

import random
from dataclasses import dataclass
from itertools import cycle, islice

from helpers.data.mini.words import Lexicon, Person

LABELS = ("entailment", "neutral", "contradiction")

# Hypothesis | premises that entail it | leave it open | contradict it. n is a noun, h its kind, m a
# noun of another kind, o another noun of the same kind; "other" is the same sentence with another
# verb; "two" is "only two". Negation decides nothing by itself: what a denied or an unlimited
# ("only") premise means for the hypothesis depends on how the two nouns are related.
_OF_OBJECTS = [
    "one h | one n, five n, only n | one m, five m, none m, none n | none h, only m",
    "one n | and n m, only n | one m, one h, none m, only h | none n, none h, only m",
    "none n | none h, only m | one m, none m, only h | one n, and m n, only n",
    "none h | nothing, only m | none n, none m, one m | one n, five n, only n",
    "more h | five n | five m, none m | two h, none h",
]
_OF_GROUPS = [
    "some h | all n, some n | some h other, no n | no h",
    "all n | all h | some n, all o, no o | no n, no h",
    "no n | no h | no o, some o | some n, all n, all h",
    "some n | all h, all n | some h, some o, no o | no n, no h",
]

Statement = tuple[str, ...]
"""Key of a sentence, then its nouns."""


@dataclass(frozen=True)
class Item:
    """A pair in no language yet."""

    who: Person
    premise: Statement
    hypothesis: Statement
    label: int

    def example(self, lexicon: Lexicon) -> dict:
        """The pair in the lexicon's language."""
        text_a, text_b = (
            lexicon.say(lexicon.sentences[key], self.who, *nouns)
            for key, *nouns in (self.premise, self.hypothesis)
        )
        return {"text_a": text_a, "text_b": text_b, "label": self.label}


def plan(lexicon: Lexicon, count: int, seed: int) -> list[Item]:
    """``count`` shuffled items; patterns of objects come three times as often as others."""
    draw = random.Random(seed)
    items, hypotheses = [], set()
    for pattern in islice(cycle(_OF_OBJECTS * 3 + _OF_GROUPS), 100 * count):
        triple = _triple(pattern, lexicon, draw)
        hypothesis = triple[0].example(lexicon)["text_b"]
        if hypothesis not in hypotheses:
            hypotheses.add(hypothesis)
            items += triple
        if len(items) >= count:
            items = items[:count]
            draw.shuffle(items)
            return items
    raise ValueError(f"the words allow {len(items)} items, not {count}")


def _triple(pattern: str, lexicon: Lexicon, draw: random.Random) -> list[Item]:
    """One hypothesis with a premise for each label."""
    grouped = pattern in _OF_GROUPS
    verbs = lexicon.groups if grouped else lexicon.objects
    verb = draw.choice(sorted(verbs))
    kind = draw.choice(verbs[verb])
    noun, other = draw.sample(lexicon.classes[kind], 2)
    nouns = {"h": kind, "n": noun, "o": other}
    if grouped:
        another = draw.choice([v for v in sorted(verbs) if v != verb and kind in verbs[v]])
    else:
        another_kind = draw.choice([k for k in verbs[verb] if k != kind])
        nouns["m"] = draw.choice(lexicon.classes[another_kind])

    def statement(written: str) -> Statement:
        form, *slots = written.split()
        said = another if "other" in slots else verb
        return f"{said}.{form}", *(nouns[slot] for slot in slots if slot != "other")

    hypothesis, *premises = pattern.split(" | ")
    who = lexicon.person(draw)
    return [
        Item(who, statement(draw.choice(options.split(", "))), statement(hypothesis), label)
        for label, options in enumerate(premises)
    ]
