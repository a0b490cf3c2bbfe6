"""mini_xcopa and mini_stories: which of two sentences fits.

Items come mirrored: the same two choices occur again with a premise under which the other one is
right, so that the choices alone say nothing about the answer.
"""

import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations, product

from helpers.data.mini.words import Lexicon, Person

Sentence = tuple[str, int]
"""Family of events and place in it."""
Branch = tuple[Sentence, ...]
"""What goes together: a cause and its effect; a beginning, its continuation and its ending."""


@dataclass(frozen=True)
class Item:
    """A choice in no language yet."""

    who: Person
    context: Branch
    question: str
    choices: tuple[Sentence, ...]
    label: int

    def example(self, lexicon: Lexicon) -> dict:
        """The item in the lexicon's language."""
        context, choices = (
            [lexicon.say(lexicon.events[family][place], self.who) for family, place in sentences]
            for sentences in (self.context, self.choices)
        )
        said = {"context": " ".join(context), "question": self.question, "choices": choices}
        return {**said, "label": self.label}


def causes(lexicon: Lexicon, count: int, seed: int) -> list[Item]:
    """``count`` items (a multiple of 4): of two branches either cause's effect, and the reverse."""
    draw, items = random.Random(seed), []
    for one, two in _pairs(lexicon, ((0, 1), (2, 3)), count // 4, 1, draw):
        who = lexicon.person(draw)
        items += _mirrored(who, (one[:1], two[:1]), "effect", (one[1], two[1]), draw)
        items += _mirrored(who, (one[1:], two[1:]), "cause", (one[0], two[0]), draw)
    draw.shuffle(items)
    return items


def stories(lexicon: Lexicon, count: int, seed: int) -> list[Item]:
    """``count`` items (a multiple of 2): of two branches the ending of either story."""
    draw, items, seen = random.Random(seed), [], set()
    repeats = 1 + count // (8 * len(lexicon.clashes))
    for one, two in _pairs(lexicon, ((0, 1, 2), (0, 3, 4)), count // 2, repeats, draw):
        who = lexicon.person(draw)
        while (one, two, who) in seen:
            who = lexicon.person(draw)
        seen.add((one, two, who))
        items += _mirrored(who, (one[:2], two[:2]), "", (one[2], two[2]), draw)
    draw.shuffle(items)
    return items


def _mirrored(who: Person, contexts: tuple, question: str, choices: tuple, draw) -> list[Item]:
    order = draw.choice(((0, 1), (1, 0)))
    shown = tuple(choices[i] for i in order)
    return [Item(who, contexts[i], question, shown, order.index(i)) for i in (0, 1)]


def _pairs(
    lexicon: Lexicon, places: tuple, count: int, repeats: int, draw: random.Random
) -> list[tuple[Branch, Branch]]:
    """``count`` pairs of branches: first both of one family, each of these ``repeats`` times.

    The others are of families that do not clash, every branch about equally often.
    """
    branches = {
        family: [tuple((family, place) for place in branch) for branch in places]
        for family in lexicon.clashes
    }
    pairs = [tuple(both) for both in branches.values()] * repeats
    across = [
        pair
        for one, two in combinations(branches, 2)
        if not lexicon.clash(one, two)
        for pair in product(branches[one], branches[two])
    ]
    draw.shuffle(across)
    used = Counter()
    for most in range(1, len(across)):
        for pair in list(across):
            if len(pairs) == count:
                return pairs
            if all(used[branch] < most for branch in pair):
                used.update(pair)
                pairs.append(pair)
                across.remove(pair)
    raise ValueError(f"the words allow {len(pairs)} pairs, not {count}")
