"""mini_xcopa and mini_stories: which of two sentences fits.

Items come mirrored: the same two choices occur again with a premise under which the other one is
right, so that the choices alone say nothing about the answer.
"""

import random
from collections import Counter
from itertools import combinations, product

from lexicon import Lexicon

LABELS = ("choice1", "choice2")
# Per question what the two branches of a family offer: the places of the context's sentences, and
# the place of the right choice. A family of events is cause, effect, cause, effect; one of stories
# is beginning, continuation, ending, continuation, ending.
CAUSES = {"effect": (((0,), 1), ((2,), 3)), "cause": (((1,), 0), ((3,), 2))}
STORIES = {"how does it end": (((0, 1), 2), ((0, 3), 4))}

Branch = tuple[str, int]
"""Family and which of its two branches, 0 or 1."""


def cause_rows(lexicon: Lexicon, count: int, seed: int) -> list[dict[str, str]]:
    """``count`` shuffled items of mini_xcopa: what was the cause, or the effect?"""
    return _rows(CAUSES, lexicon, count, seed)


def story_rows(lexicon: Lexicon, count: int, seed: int) -> list[dict[str, str]]:
    """``count`` shuffled items of mini_stories, which all ask the same: how does it end?"""
    rows = _rows(STORIES, lexicon, count, seed)
    for row in rows:
        del row["question"]
    return rows


def _rows(questions: dict[str, tuple], lexicon: Lexicon, count: int, seed: int) -> list[dict]:
    """Per pair of branches and question two items: either choice is right in one of them.

    Raises
    ------
    ValueError
        The lexicon does not give exactly so many pairs of branches.
    """
    draw = random.Random(seed)
    rows, used = [], set()
    for pair in _pairs(lexicon, count // (2 * len(questions)), draw):
        person = lexicon.person(draw)
        while (pair, person) in used:
            person = lexicon.person(draw)
        used.add((pair, person))
        for question, places in questions.items():
            contexts, endings = [], []
            for family, branch in pair:
                sentences = [lexicon.say(sentence, person) for sentence in lexicon.events[family]]
                context, ending = places[branch]
                contexts.append(" ".join(sentences[place] for place in context))
                endings.append(sentences[ending])
            order = draw.choice(((0, 1), (1, 0)))
            for right, context in enumerate(contexts):
                rows.append(
                    {
                        "context": context,
                        "question": question,
                        "choice1": endings[order[0]],
                        "choice2": endings[order[1]],
                        "label": LABELS[order.index(right)],
                    }
                )
    draw.shuffle(rows)
    return rows


def _pairs(lexicon: Lexicon, count: int, draw: random.Random) -> list[tuple[Branch, Branch]]:
    """``count`` pairs of branches: both of one family (each ``repeats`` times), and of families
    that do not clash.

    The second kind uses every branch about equally often.
    """
    clashes = lexicon.clashes
    pairs = [((family, 0), (family, 1)) for family in clashes] * lexicon.repeats
    across = [
        ((one, left), (two, right))
        for one, two in combinations(clashes, 2)
        if not clashes[one] & clashes[two]
        for left, right in product((0, 1), repeat=2)
    ]
    draw.shuffle(across)
    uses: Counter[Branch] = Counter()
    for most in range(1, len(across)):
        for pair in list(across):
            if len(pairs) == count:
                return pairs
            if all(uses[branch] < most for branch in pair):
                uses.update(pair)
                pairs.append(pair)
                across.remove(pair)
    raise ValueError(f"{count} pairs of branches wanted, but the lexicon gives {len(pairs)}")
