"""mini_nli and mini_xnli: three-way inference over kinds of things, negation, numbers and
quantifiers.

Every hypothesis occurs three times, with a premise that entails it, one that leaves it open and one
that contradicts it, so that the hypothesis alone says nothing about the label.
"""

import random
from itertools import cycle, islice

from lexicon import Lexicon, read

LABELS = ("entailment", "neutral", "contradiction")


def rows(lexicon: Lexicon, count: int, seed: int) -> list[dict[str, str]]:
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
    pairs: list[dict[str, str]] = []
    used = set()
    for role, pattern in islice(cycle(turns), 100 * count):
        words = _words(role, lexicon, draw)
        person = lexicon.person(draw)
        premises = [_statement(draw.choice(pattern[label]), words) for label in LABELS]
        hypothesis = _statement(pattern["hypothesis"], words)
        # Told apart by their keys, not their texts, so that all languages have the same items.
        key = (hypothesis, person if role == "objects" else "nobody is named")
        if key not in used:
            used.add(key)
            for label, premise in zip(LABELS, premises, strict=True):
                pairs.append(
                    {
                        "premise": _text(premise, lexicon, person),
                        "hypothesis": _text(hypothesis, lexicon, person),
                        "label": label,
                        "form": hypothesis[0].partition(".")[2],
                    }
                )
        if len(pairs) >= count:
            pairs = pairs[:count]
            draw.shuffle(pairs)
            return pairs
    raise ValueError(f"the lexicon allows {len(pairs)} pairs, not {count}")


def _words(role: str, lexicon: Lexicon, draw: random.Random) -> dict[str, str]:
    """A random word for every letter of the patterns."""
    verbs = lexicon.objects if role == "objects" else lexicon.groups
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


def _statement(pattern: str, words: dict[str, str]) -> tuple[str, ...]:
    """The key of a sentence and its nouns: "v one n" becomes ("buy.one", "apple")."""
    verb, form, *nouns = pattern.split()
    return f"{words[verb]}.{form}", *(words[noun] for noun in nouns)


def _text(statement: tuple[str, ...], lexicon: Lexicon, person: tuple[str, int]) -> str:
    sentence, *nouns = statement
    return lexicon.say(lexicon.sentences[sentence], person, *nouns)
