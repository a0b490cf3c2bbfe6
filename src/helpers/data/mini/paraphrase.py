"""mini_paraphrase: do two sentences say the same? Both share nearly all their words; who does what
to whom decides.

Every second sentence occurs twice, with a sentence that says the same and with one that does not,
so that it alone says nothing about the label.
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
        first, second = draw.sample(lexicon.people, 2)
        thing, other_thing = draw.sample(lexicon.things, 2)
        said, again = draw.sample(ways, 2)
        alike = {"A": first, "B": second, "o": thing}
        # Exchanging the people changes the meaning in any wording; changing the object only where
        # there is one.
        if "<o>" in said and draw.random() < 0.3:
            unlike = alike | {"o": other_thing}
        else:
            unlike = alike | {"A": second, "B": first}
        text = fill(said, "m", alike)
        if text in seen:
            continue
        seen.add(text)
        same, different = fill(again, "m", alike), fill(draw.choice(ways), "m", unlike)
        made.append({"text_a": same, "text_b": text, "label": LABELS.index("same")})
        made.append({"text_a": different, "text_b": text, "label": LABELS.index("different")})
    draw.shuffle(made)
    return made
