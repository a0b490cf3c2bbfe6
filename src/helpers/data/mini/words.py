"""The authored words and sentences in ``data/``, and the one way in which a sentence is filled."""

import random
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("en", "de", "es", "zh", "id", "sw", "ru", "tr")
ENGLISH = "en"
Person = tuple[str, int]
"""Gender, and place among a language's names of it: translations are about the same person."""
_DATA = Path(__file__).parent / "data"
_SLOT = re.compile(r"<(\w)(?:\.(\w+))?>")
_BY_GENDER = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")


@dataclass(frozen=True)
class Lexicon:
    """What a set of items is made of in one language, and what may be combined."""

    names: dict[str, list[str]]  # gender -> names
    nouns: dict[str, dict[str, str]] = field(default_factory=dict)  # noun -> form -> word
    sentences: dict[str, str] = field(default_factory=dict)  # "verb.form" -> sentence with slots
    events: dict[str, list[str]] = field(default_factory=dict)  # family -> its sentences
    classes: dict[str, list[str]] = field(default_factory=dict)  # kind of thing -> its members
    objects: dict[str, list[str]] = field(default_factory=dict)  # verb -> kinds of its object
    groups: dict[str, list[str]] = field(default_factory=dict)  # verb -> kinds of its subject
    clashes: dict[str, str] = field(default_factory=dict)  # family -> what it is about

    def clash(self, one: str, two: str) -> bool:
        """Whether two families share what they are about: each could explain the other's events."""
        return not set(self.clashes[one].split()).isdisjoint(self.clashes[two].split())

    def person(self, draw: random.Random) -> Person:
        """Somebody drawn at random."""
        gender = draw.choice("mf")
        return gender, draw.randrange(len(self.names[gender]))

    def say(self, sentence: str, who: Person, a: str | None = None, b: str | None = None) -> str:
        """The sentence about a person and nouns ``a`` and ``b``."""
        gender, number = who
        slots = {"S": self.names[gender][number], "a": self.nouns.get(a), "b": self.nouns.get(b)}
        return fill(sentence, slots, gender)


@cache
def read(file: str) -> dict:
    """One data file as it stands."""
    return yaml.safe_load((_DATA / file).read_text(encoding="utf-8"))


@cache
def tested(language: str) -> Lexicon:
    """What the test sets are made of: the same in every language but for the words."""
    content = read("design.yaml") | read(f"{language}.yaml")
    rows = {noun: re.split(r"\s*\|\s*", row) for noun, row in content["nouns"].items()}
    forms = rows.pop("forms")
    nouns = {noun: dict(zip(forms, row, strict=True)) for noun, row in rows.items()}
    return Lexicon(**content | {"nouns": nouns})


@cache
def english(task: str, split: str) -> Lexicon:
    """What an English training or validation set is made of."""
    stories = task == "mini_stories"
    content = read("english_stories.yaml") if stories else read("english.yaml")[task]
    content, classes, nouns = dict(content[split]), {}, {}
    if stories:
        content["events"] = content.pop("families")
    for kind, members in content.get("classes", {}).items():
        forms = dict(map(_english_noun, [kind, *members.split(", ")]))
        nouns |= forms
        names = list(forms)
        classes[names[0]] = names[1:]
    return Lexicon(**content | {"nouns": nouns, "classes": classes})


def _english_noun(written: str) -> tuple[str, dict[str, str]]:
    singular, _, plural = written.partition("/")
    one = ("an " if singular[0] in "aeiou" else "a ") + singular
    return singular, {"sg": singular, "pl": plural or singular + "s", "one": one}


def fill(sentence: str, slots: dict[str, str | dict[str, str]], gender: str = "m") -> str:
    """The sentence with ``slots["S"]`` for ``<S>`` and ``slots["a"]["one"]`` for ``<a.one>``."""
    sentence = _BY_GENDER.sub(r"\1" if gender == "m" else r"\2", sentence)
    sentence = _SLOT.sub(lambda at: slots[at[1]][at[2]] if at[2] else slots[at[1]], sentence)
    return sentence[0].upper() + sentence[1:]
