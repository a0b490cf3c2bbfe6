"""mini_nli and mini_xnli: three-way inference over kinds of things, negation, numbers and
quantifiers.

Every hypothesis occurs three times, with a premise that entails it, one that leaves it open and one
that contradicts it, so that the hypothesis alone says nothing about the label.
"""

import random
from itertools import cycle, islice

from helpers.data.mini.words import Lexicon, read

LABELS = ("entailment", "neutral", "contradiction")


def rows(lexicon: Lexicon, count: int, seed: int) -> list[dict]:
    """``count`` shuffled pairs; the patterns of patterns.yaml take turns, those with objects three
    times as often as those with groups.

    Raises
    ------
    ValueError
        The lexicon has too few words for so many pairs.
    """
    draw = random.Random(seed)
    patterns = read("patterns.yaml")
    turns = [("objects", pattern) for pattern in patterns["objects"]] * 3
    turns += [("groups", pattern) for pattern in patterns["groups"]]
    made, seen = [], set()
    for role, pattern in islice(cycle(turns), 100 * count):
        words = _words(role, lexicon, draw)
        person = lexicon.person(draw)
        premises = [_statement(draw.choice(pattern[label]), words) for label in LABELS]
        hypothesis = _statement(pattern["hypothesis"], words)
        # Told apart by their keys, not their texts, so that all languages have the same items.
        key = (hypothesis, person if role == "objects" else "nobody is named")
        if key not in seen:
            seen.add(key)
            form = hypothesis[0].partition(".")[2]
            text_b, *texts = (
                lexicon.say(lexicon.sentences[sentence], person, *nouns)
                for sentence, *nouns in (hypothesis, *premises)
            )
            made += [
                {"text_a": text_a, "text_b": text_b, "label": label, "tag": form}
                for label, text_a in enumerate(texts)
            ]
        if len(made) >= count:
            made = made[:count]
            draw.shuffle(made)
            return made
    raise ValueError(f"the lexicon allows {len(made)} pairs, not {count}")


def _words(role: str, lexicon: Lexicon, draw: random.Random) -> dict[str, str]:
    """A random word for every letter of the patterns."""
    verbs = {"objects": lexicon.objects, "groups": lexicon.groups}[role]
    verb = draw.choice(sorted(verbs))
    kind = draw.choice(verbs[verb])
    noun, sibling = draw.sample(lexicon.classes[kind], 2)
    words = {"v": verb, "h": kind, "n": noun, "o": sibling}
    if role == "objects":
        other_kind = draw.choice([k for k in verbs[verb] if k != kind])
        words["m"] = draw.choice(lexicon.classes[other_kind])
    else:
        words["w"] = draw.choice([v for v in sorted(verbs) if v != verb and kind in verbs[v]])
    return words


def _statement(written: str, words: dict[str, str]) -> tuple[str, ...]:
    """The key of a sentence and its nouns: "v one n" becomes ("buy.one", "apple")."""
    verb, form, *nouns = written.split()
    return f"{words[verb]}.{form}", *(words[noun] for noun in nouns)
