"""mini_xcopa and mini_stories: which of two sentences fits.

Items come mirrored: the same two choices occur again with a premise under which the other one is
right, so that the choices alone say nothing about the answer.
"""

import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from helpers.data.mini.words import Design, Lexicon, fill

Sentence = tuple[str, int]
"""Family and place in it."""
# What a family's branch 0 or 1 consists of. Events: cause, effect. Stories: beginning,
# continuation, ending.
_EVENT_BRANCHES = ((0, 1), (2, 3))
_STORY_BRANCHES = ((0, 1, 2), (0, 3, 4))


@dataclass(frozen=True)
class Item:
    """A choice in no language yet."""

    families: tuple[str, str]
    gender: str
    name: int
    context: tuple[Sentence, ...]
    question: str
    choices: tuple[Sentence, Sentence]
    label: int

    def texts(self, lexicon: Lexicon) -> tuple[str, list[str]]:
        """Context and the two choices in the lexicon's language."""
        slots = {"S": lexicon.names[self.gender][self.name]}
        context, choices = (
            [fill(lexicon.events[family][place], self.gender, slots) for family, place in sentences]
            for sentences in (self.context, self.choices)
        )
        return " ".join(context), choices


def plan_causes(design: Design, names: dict[str, list[str]], count: int, seed: int) -> list[Item]:
    """``count`` items (a multiple of 4): per pairing the effect of either cause and the cause of
    either effect.
    """
    draw = random.Random(seed)
    items = []
    for pair in _pairings(design, _EVENT_BRANCHES, count // 4, 1, draw):
        gender, name = _person(names, draw)
        causes, effects = ([(family, branch[end]) for family, branch in pair] for end in (0, 1))
        for question, contexts, choices in (
            ("effect", causes, effects),
            ("cause", effects, causes),
        ):
            items += _mirrored(
                pair, gender, name, [(c,) for c in contexts], question, choices, draw
            )
    draw.shuffle(items)
    return items


def plan_stories(design: Design, names: dict[str, list[str]], count: int, seed: int) -> list[Item]:
    """``count`` items (a multiple of 2): per pairing the ending of either story."""
    draw = random.Random(seed)
    items, seen = [], set()
    repeats = 1 + count // (8 * len(design.clashes))
    for pair in _pairings(design, _STORY_BRANCHES, count // 2, repeats, draw):
        gender, name = _person(names, draw)
        while (pair, gender, name) in seen:
            gender, name = _person(names, draw)
        seen.add((pair, gender, name))
        contexts = [tuple((family, place) for place in branch[:2]) for family, branch in pair]
        endings = [(family, branch[2]) for family, branch in pair]
        items += _mirrored(pair, gender, name, contexts, "", endings, draw)
    draw.shuffle(items)
    return items


def _mirrored(pair, gender, name, contexts, question, choices, draw) -> list[Item]:
    order = draw.choice(((0, 1), (1, 0)))
    shown = (choices[order[0]], choices[order[1]])
    families = (pair[0][0], pair[1][0])
    return [
        Item(families, gender, name, contexts[i], question, shown, order.index(i)) for i in (0, 1)
    ]


def _person(names: dict[str, list[str]], draw: random.Random) -> tuple[str, int]:
    gender = draw.choice("mf")
    return gender, draw.randrange(len(names[gender]))


def _pairings(
    design: Design, branches: tuple, count: int, repeats: int, draw: random.Random
) -> list[tuple]:
    """``count`` pairs of branches: both of one family (each ``repeats`` times), and of families
    that do not clash.

    The second kind uses every branch about equally often.
    """
    families = list(design.clashes)
    pairs = [tuple((family, branch) for branch in branches) for family in families] * repeats
    if len(pairs) > count:
        raise ValueError(f"{len(pairs)} pairings within families, but only {count} wanted")
    across = [
        ((one, left), (two, right))
        for one, two in combinations(families, 2)
        if not design.clashes[one] & design.clashes[two]
        for left in branches
        for right in branches
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
    raise ValueError(f"the design allows {len(pairs)} pairings, not {count}")
