"""mini_paraphrase: do two sentences say the same? Half of those that do not tell of another person
or thing; the other half share their people and things, and who does what to whom decides.

Every second sentence occurs twice, with a sentence that says the same and with one that does not,
so that it alone says nothing about the label. Both are worded alike, so that the wording says
nothing either.
"""

import random
from itertools import cycle

from helpers.data.mini.words import Lexicon, fill

LABELS = ("different", "same")


def rows(lexicon: Lexicon, count: int, seed: int) -> list[dict]:
    """``count`` shuffled pairs (an even number), half of them "same"; the frames take turns."""
    draw = random.Random(seed)
    frames = cycle(sorted(lexicon.frames))
    made: list[dict] = []
    seen = set()
    while len(made) < count:
        ways = lexicon.frames[next(frames)]
        first, second, third = draw.sample(lexicon.people, 3)
        thing, other_thing = draw.sample(lexicon.things, 2)
        said, again = draw.sample(ways, 2)
        alike = {"A": first, "B": second, "o": thing}
        changed = [{"A": third}, {"B": third}]
        if "<o>" in said:
            changed.append({"o": other_thing})
        exchanged = {"A": second, "B": first}
        unlike = alike | draw.choice((exchanged, draw.choice(changed)))
        text = fill(said, "m", alike)
        if text in seen:
            continue
        seen.add(text)
        same, different = fill(again, "m", alike), fill(again, "m", unlike)
        made.append({"text_a": same, "text_b": text, "label": LABELS.index("same")})
        made.append({"text_a": different, "text_b": text, "label": LABELS.index("different")})
    draw.shuffle(made)
    return made
