"""The authored words and sentences in ``words/``, and the one way in which a sentence is filled."""

import random
import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel

LANGUAGES = ("en", "de", "es", "zh", "id", "sw", "ru", "tr")
WORDS = Path(__file__).parent / "words"
_SLOT = re.compile(r"<([a-zA-Z](?:\.\w+)?)>")
_BAR = re.compile(r" *\| *")
_BY_GENDER = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")

Person = tuple[str, int]
"""Gender ("m" or "f") and place among the names of that gender."""


class Lexicon(BaseModel):
    """Words and sentences of one language, and which of them an example may combine."""

    language: str = "English"
    names: dict[str, list[str]] = {}  # gender -> names
    nouns: dict[str, dict[str, str]] = {}  # noun -> form -> word
    classes: dict[str, list[str]] = {}  # kind -> nouns
    # Inference: verb -> kinds that can be its object or its subject; "verb.form" -> sentence.
    objects: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    sentences: dict[str, str] = {}
    # Choices: family -> its sentences. Families whose ``clashes`` share a word could explain each
    # other and are never paired; the branches of one family are paired ``repeats`` times.
    events: dict[str, list[str]] = {}
    clashes: dict[str, set[str]] = {}
    repeats: int = 1
    # Paraphrases: frame -> sentences that say the same.
    people: list[str] = []
    things: list[str] = []
    frames: dict[str, list[str]] = {}

    def person(self, draw: random.Random) -> Person:
        """A random person to tell of."""
        gender = draw.choice("mf")
        return gender, draw.randrange(len(self.names[gender]))

    def say(self, sentence: str, person: Person, *nouns: str) -> str:
        """The sentence about a person, with ``nouns`` in the slots a and b."""
        gender, number = person
        slots = {"S": self.names[gender][number]}
        for slot, noun in zip("ab", nouns, strict=False):
            slots |= {f"{slot}.{form}": word for form, word in self.nouns[noun].items()}
        return fill(sentence, gender, slots)


@cache
def read(file: str) -> dict:
    """One file of words as it stands."""
    return yaml.safe_load((WORDS / file).read_text(encoding="utf-8"))


@cache
def of_test_sets(language: str) -> Lexicon:
    """The lexicon of the test sets in one language; what they combine is the same in all."""
    content = read("design.yaml") | read(f"{language}.yaml")
    forms = _BAR.split(content["forms"])
    nouns = {
        noun: dict(zip(forms, _BAR.split(row), strict=True))
        for noun, row in content["nouns"].items()
    }
    return Lexicon(**content | {"nouns": nouns})


@cache
def of_training(task: str, split: str) -> Lexicon:
    """The lexicon of an English training or validation set."""
    content = read(f"{task}.yaml")[split]
    plurals = content.get("plurals", {})  # the irregular ones
    nouns = {}
    for kind, members in content.get("classes", {}).items():
        for noun in (kind, *members):
            article = "an" if noun[0] in "aeiou" else "a"
            forms = {"sg": noun, "pl": plurals.get(noun, f"{noun}s"), "one": f"{article} {noun}"}
            nouns[noun] = forms
    return Lexicon(**content, nouns=nouns)


def fill(sentence: str, gender: str, slots: dict[str, str]) -> str:
    """The sentence with its slots filled (``<a.one>`` by ``slots["a.one"]``) and of ``[his|her]``
    the one for the gender.
    """
    sentence = _BY_GENDER.sub(r"\1" if gender == "m" else r"\2", sentence)
    sentence = _SLOT.sub(lambda slot: slots[slot[1]], sentence)
    return sentence[0].upper() + sentence[1:]
