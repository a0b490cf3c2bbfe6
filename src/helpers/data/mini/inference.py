"""mini_nli and mini_xnli: three-way inference over kinds of things, negation, numbers and
quantifiers.

Every hypothesis occurs three times, with a premise that entails it, one that leaves it open and one
that contradicts it, so that the hypothesis alone says nothing about the label.
"""

import random
from dataclasses import dataclass

from helpers.data.mini.words import Design, Lexicon, fill

LABELS = ("entailment", "neutral", "contradiction")

# Hypothesis, then premises that entail it, leave it open, contradict it. n is a noun, h its kind, m
# a noun of another kind, o another noun of the same kind; "other" is the same sentence with another
# verb; "two" is "only two". Negation decides nothing by itself: what a denied or an unlimited
# ("only") premise means for the hypothesis depends on how the two nouns are related.
_OBJECT_PATTERNS = {
    "kind": (
        "one h",
        ["one n", "five n", "only n"],
        ["one m", "five m", "none m", "none n"],
        ["none h", "only m"],
    ),
    "member": (
        "one n",
        ["and n m", "only n"],
        ["one m", "one h", "none m", "only h"],
        ["none n", "none h", "only m"],
    ),
    "no-member": (
        "none n",
        ["none h", "only m"],
        ["one m", "none m", "only h"],
        ["one n", "and m n", "only n"],
    ),
    "no-kind": (
        "none h",
        ["nothing", "only m"],
        ["none n", "none m", "one m"],
        ["one n", "five n", "only n"],
    ),
    "number": ("more h", ["five n"], ["five m", "none m"], ["two h", "none h"]),
}
_GROUP_PATTERNS = {
    "some-kind": ("some h", ["all n", "some n"], ["some h other", "no n"], ["no h"]),
    "all": ("all n", ["all h"], ["some n", "all o", "no o"], ["no n", "no h"]),
    "no": ("no n", ["no h"], ["no o", "some o"], ["some n", "all n", "all h"]),
    "some": ("some n", ["all h", "all n"], ["some h", "some o", "no o"], ["no n", "no h"]),
}


@dataclass(frozen=True)
class Item:
    """A pair in no language yet: (sentence key, noun, second noun or None) for premise and
    hypothesis.
    """

    pattern: str
    gender: str
    name: int
    premise: tuple[str, str | None, str | None]
    hypothesis: tuple[str, str | None, str | None]
    label: int

    def texts(self, lexicon: Lexicon) -> tuple[str, str]:
        """Premise and hypothesis in the lexicon's language."""
        return self._say(self.premise, lexicon), self._say(self.hypothesis, lexicon)

    def _say(self, statement: tuple[str, str | None, str | None], lexicon: Lexicon) -> str:
        key, a, b = statement
        names = lexicon.names[self.gender]
        slots = {"S": names[self.name], "a": lexicon.nouns.get(a), "b": lexicon.nouns.get(b)}
        return fill(lexicon.sentences[key], self.gender, slots)


def plan(design: Design, names: dict[str, list[str]], count: int, seed: int) -> list[Item]:
    """``count`` items, shuffled; patterns take turns, those with objects three times as often as
    those with groups.
    """
    draw = random.Random(seed)
    turns = [*_OBJECT_PATTERNS] * 3 + [*_GROUP_PATTERNS]
    items, hypotheses, turn, misses = [], set(), 0, 0
    while len(items) < count:
        pattern = turns[turn % len(turns)]
        turn += 1
        group = _triple(pattern, design, names, draw)
        key = (
            group[0].hypothesis,
            *(() if pattern in _GROUP_PATTERNS else (group[0].gender, group[0].name)),
        )
        if key in hypotheses:
            misses += 1
            if misses > 100 * count:
                raise ValueError(f"the design allows {len(items)} items, not {count}")
            continue
        hypotheses.add(key)
        items += group
    items = items[:count]
    draw.shuffle(items)
    return items


def _triple(
    pattern: str, design: Design, names: dict[str, list[str]], draw: random.Random
) -> list[Item]:
    """One hypothesis with a premise for each label."""
    grouped = pattern in _GROUP_PATTERNS
    verbs = design.groups if grouped else design.objects
    verb = draw.choice(sorted(verbs))
    kind = draw.choice(verbs[verb])
    noun, other = draw.sample(design.classes[kind], 2)
    kinds = [k for k in verbs[verb] if k != kind]
    nouns = {"h": kind, "n": noun, "o": other, "m": None}
    if not grouped:
        nouns["m"] = draw.choice(design.classes[draw.choice(kinds)])
    another = (
        draw.choice([v for v in sorted(verbs) if v != verb and kind in verbs[v]])
        if grouped
        else verb
    )

    def statement(written: str) -> tuple[str, str | None, str | None]:
        form, *slots = written.split()
        chosen = another if "other" in slots else verb
        a, b, *_ = [*(nouns[slot] for slot in slots if slot != "other"), None, None]
        return f"{chosen}.{form}", a, b

    hypothesis, *premises = (_GROUP_PATTERNS if grouped else _OBJECT_PATTERNS)[pattern]
    gender = draw.choice("mf")
    name = draw.randrange(len(names[gender]))
    return [
        Item(pattern, gender, name, statement(draw.choice(options)), statement(hypothesis), label)
        for label, options in enumerate(premises)
    ]
