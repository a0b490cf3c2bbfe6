"""mini_paraphrase: do two sentences say the same? Half of those that do not tell of another person
or thing; the other half share their people and things, and who does what to whom decides.

Every second sentence occurs twice, with a sentence that says the same and with one that does not,
so that it alone says nothing about the label. Both are worded alike, so that the wording says
nothing either.
"""

import random
from itertools import cycle

from lexicon import Lexicon, fill


def rows(lexicon: Lexicon, count: int, seed: int) -> list[dict[str, str]]:
    """``count`` shuffled pairs (an even number), half of them "same"; the frames take turns."""
    draw = random.Random(seed)
    frames = cycle(sorted(lexicon.frames))
    pairs: list[dict[str, str]] = []
    used = set()
    while len(pairs) < count:
        wordings = lexicon.frames[next(frames)]
        first, second, third = draw.sample(lexicon.people, 3)
        thing, other_thing = draw.sample(lexicon.things, 2)
        wording, other_wording = draw.sample(wordings, 2)
        slots = {"A": first, "B": second, "o": thing}
        replaced = [{"A": third}, {"B": third}]
        if "<o>" in wording:
            replaced.append({"o": other_thing})
        exchanged = {"A": second, "B": first}
        other_slots = slots | draw.choice((exchanged, draw.choice(replaced)))
        sentence = fill(wording, "m", slots)
        if sentence in used:
            continue
        used.add(sentence)
        for label, filling in (("same", slots), ("different", other_slots)):
            other = fill(other_wording, "m", filling)
            pairs.append({"sentence1": other, "sentence2": sentence, "label": label})
    draw.shuffle(pairs)
    return pairs
