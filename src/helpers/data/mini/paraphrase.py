"""mini_paraphrase: do two sentences say the same? Both share nearly all their words; who does what
to whom decides.

Every second sentence occurs twice, with a sentence that says the same and with one that does not,
so that it alone says nothing about the label.
"""

import random

from helpers.data.mini.words import fill

LABELS = ("different", "same")


def pairs(content: dict, count: int, seed: int) -> list[tuple[str, str, int, str]]:
    """``count`` shuffled (first sentence, second sentence, label, frame), half of them "same"."""
    draw = random.Random(seed)
    frames = sorted(content["frames"])
    made, seen = [], set()
    turn = 0
    while len(made) < count:
        frame = frames[turn % len(frames)]
        turn += 1
        first, second = draw.sample(content["people"], 2)
        thing, other_thing = draw.sample(content["things"], 2)
        ways = content["frames"][frame]
        said, again = draw.sample(ways, 2)
        # Exchanging the people changes the meaning in any wording; changing the object only where
        # there is one.
        if "<o>" in said and draw.random() < 0.3:
            unlike = {"A": first, "B": second, "o": other_thing}
        else:
            unlike = {"A": second, "B": first, "o": thing}
        alike = {"A": first, "B": second, "o": thing}
        text = fill(said, "m", alike)
        if text in seen:
            continue
        seen.add(text)
        made.append((fill(again, "m", alike), text, LABELS.index("same"), frame))
        made.append((fill(draw.choice(ways), "m", unlike), text, LABELS.index("different"), frame))
    draw.shuffle(made)
    return made
