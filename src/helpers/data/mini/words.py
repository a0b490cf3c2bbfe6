"""The authored words and sentences in ``data/``, and the one way in which a sentence is filled."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("en", "de", "es", "zh", "id", "sw", "ru", "tr")
ENGLISH = "en"
_DATA = Path(__file__).parent / "data"
_SLOT = re.compile(r"<([a-zA-Z])(?:\.(\w+))?>")
_BY_GENDER = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")


@dataclass(frozen=True)
class Lexicon:
    """What fills the slots of one language's sentences.

    ``names``: gender -> names; ``nouns``: noun -> form -> word; ``sentences``: "verb.kind" ->
    sentence with slots; ``events``: family -> its four event sentences.
    """

    names: dict[str, list[str]]
    nouns: dict[str, dict[str, str]]
    sentences: dict[str, str]
    events: dict[str, list[str]]


@dataclass(frozen=True)
class Design:
    """What a set of items may combine: ``classes``: kind -> members; ``objects`` and ``groups``:
    verb -> kinds.
    """

    classes: dict[str, list[str]]
    objects: dict[str, list[str]]
    groups: dict[str, list[str]]
    clashes: dict[str, frozenset[str]]


@cache
def read(file: str) -> dict:
    """One data file as it stands."""
    return yaml.safe_load((_DATA / file).read_text(encoding="utf-8"))


@cache
def language(code: str) -> Lexicon:
    """The lexicon of the test sets in one language."""
    content = read(f"{code}.yaml")
    return Lexicon(
        content["names"], _table(content["nouns"]), content["sentences"], content["events"]
    )


@cache
def test_design() -> Design:
    """What the test sets combine, the same in every language."""
    content = read("design.yaml")
    return Design(
        content["classes"], content["objects"], content["groups"], _clashes(content["clashes"])
    )


def english(content: dict) -> tuple[Lexicon, Design]:
    """Lexicon and design of an English training or validation set, from its part of a data file."""
    classes, nouns = {}, {}
    for kind, members in content.get("classes", {}).items():
        written = [kind, *(member.strip() for member in members.split(","))]
        for noun in written:
            nouns[noun.split("/")[0]] = _english_forms(noun)
        classes[kind.split("/")[0]] = [noun.split("/")[0] for noun in written[1:]]
    events = content.get("events") or content.get("families", {})
    lexicon = Lexicon(content["names"], nouns, content.get("sentences", {}), events)
    design = Design(
        classes,
        content.get("objects", {}),
        content.get("groups", {}),
        _clashes(content.get("clashes", {})),
    )
    return lexicon, design


def fill(sentence: str, gender: str, slots: dict[str, str | dict[str, str]]) -> str:
    """The sentence with its slots filled: ``<S>`` by ``slots["S"]``, ``<a.one>`` by
    ``slots["a"]["one"]``.
    """
    sentence = _BY_GENDER.sub(lambda found: found[1 if gender == "m" else 2], sentence)
    sentence = _SLOT.sub(
        lambda found: slots[found[1]][found[2]] if found[2] else slots[found[1]], sentence
    )
    return sentence[0].upper() + sentence[1:]


def _table(rows: dict[str, str]) -> dict[str, dict[str, str]]:
    forms = _cells(rows["forms"])
    return {
        noun: dict(zip(forms, _cells(row), strict=True))
        for noun, row in rows.items()
        if noun != "forms"
    }


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def _english_forms(noun: str) -> dict[str, str]:
    singular, _, plural = noun.partition("/")
    article = "an" if singular[0] in "aeiou" else "a"
    return {"sg": singular, "pl": plural or singular + "s", "one": f"{article} {singular}"}


def _clashes(words: dict[str, str]) -> dict[str, frozenset[str]]:
    return {family: frozenset(text.split()) for family, text in words.items()}
