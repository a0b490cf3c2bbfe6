"""mini_paraphrase: do two sentences say the same? Who does what to whom decides, not the words.

Every second sentence occurs twice, with a sentence that says the same and with one that does not,
so that it alone says nothing about the label.
"""

import random
from itertools import cycle

from helpers.data.mini.words import fill

LABELS = ("different", "same")


def pairs(content: dict, count: int, seed: int) -> list[dict]:
    """``count`` shuffled examples, half of them "same"."""
    draw, made, seen = random.Random(seed), [], set()
    for frame in cycle(sorted(content["frames"])):
        if len(made) == count:
            draw.shuffle(made)
            return made
        ways = content["frames"][frame]
        first, second = draw.sample(content["people"], 2)
        thing, other_thing = draw.sample(content["things"], 2)
        said, again = draw.sample(ways, 2)
        alike = {"A": first, "B": second, "o": thing}
        # Exchanging the people always changes the meaning; the object, only where it is named.
        if "<o>" in said and draw.random() < 0.3:
            unlike = alike | {"o": other_thing}
        else:
            unlike = alike | {"A": second, "B": first}
        text = fill(said, alike)
        if text not in seen:
            seen.add(text)
            other = fill(draw.choice(ways), unlike)
            for first, label in ((fill(again, alike), "same"), (other, "different")):
                made.append({"text_a": first, "text_b": text, "label": LABELS.index(label)})
