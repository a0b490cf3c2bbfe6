"""``python -m helpers.data.mini``: write docs/mini-samples.md, every template in every language."""

import sys
from pathlib import Path

from helpers.data import mini
from helpers.data.mini import inference, paraphrase, words

SHEET = Path("docs/mini-samples.md")
NAMES = ("English", "German", "Spanish", "Chinese", "Indonesian", "Swahili", "Russian", "Turkish")
"""Of ``mini.LANGUAGES``, in their order."""
_BEGINNING = """\
# The mini benchmark: sample sheet

Written by `python -m helpers.data.mini` from `src/helpers/data/mini/data/`. Found a mistake in \
your language? Correct `data/LANGUAGE.yaml` and write this sheet again: nothing else needs to \
change.

Only the test sets are in eight languages; training and validation are English. Every word and \
event family below is kept for testing.
"""


def sample_sheet() -> str:
    """The sheet as Markdown: items of every task; every language's nouns, templates and events."""
    parts = [_BEGINNING, *map(_items, mini.TASKS), *map(_parallel, mini.TARGETS)]
    parts += map(_language, mini.LANGUAGES, NAMES)
    return "\n".join(parts)


def _items(task: str) -> str:
    labels = inference.LABELS if task.endswith("nli") else paraphrase.LABELS
    header, rows = ("First sentence", "Second sentence", "Label"), []
    for example in mini.examples(task, "train")[:8]:
        _, *given, label = example.values()
        if "choices" in example:
            header = ("Context", "Question", "Right", "Wrong")
            choices = given.pop()
            rows.append((*given, choices[label], choices[1 - label]))
        else:
            rows.append((*given, labels[label]))
    return f"## {task}: from the English training set\n\n{_table(header, rows)}"


def _parallel(task: str) -> str:
    rows = []
    for number in range(3):
        for code in mini.LANGUAGES:
            item = mini.examples(task, "test", code)[number]
            given = item.get("text_a") or item["context"]
            rows.append(
                (item["id"], code, given, item.get("text_b") or " / ".join(item["choices"]))
            )
    table = _table(("Item", "", "Given", "Then"), rows)
    return f"## {task}: the same test items in every language\n\n{table}"


def _language(code: str, name: str) -> str:
    english, lexicon = words.tested(words.ENGLISH), words.tested(code)
    nouns = [(noun, *forms.values()) for noun, forms in lexicon.nouns.items()]
    templates, events = [], []
    for number, (key, sentence) in enumerate(lexicon.sentences.items()):
        verb = key.split(".")[0]
        kinds = lexicon.objects.get(verb) or lexicon.groups[verb]
        allowed = [noun for kind in kinds for noun in (kind, *lexicon.classes[kind])]
        # Different nouns for every template, so that the sheet shows most nouns in most forms.
        both = [allowed[(3 * number + shift) % len(allowed)] for shift in (0, 2)]
        said = english.say(english.sentences[key], ("m", number % 5), *both)
        templates.append((key, said, *_of_both(lexicon, sentence, number % 5, *both)))
    for family, sentences in lexicon.events.items():
        for number, sentence in enumerate(sentences):
            said = english.say(english.events[family][number], ("m", number))
            events.append((family, said, *_of_both(lexicon, sentence, number)))
    columns = ("English", f"{name}, a man", "a woman")
    tables = [
        _table(("noun", *next(iter(lexicon.nouns.values()))), nouns),
        _table(("template", *columns), templates),
        _table(("event family", *columns), events),
    ]
    return "\n".join([f"## {name}: words and sentences\n", *tables])


def _of_both(lexicon: words.Lexicon, sentence: str, number: int, *nouns: str) -> list[str]:
    """The sentence about a man and about a woman; the second is empty where nobody is named."""
    said = [lexicon.say(sentence, (gender, number), *nouns) for gender in "mf"]
    return said if "<S>" in sentence else [said[0], ""]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    SHEET.parent.mkdir(exist_ok=True)
    SHEET.write_text(sample_sheet(), encoding="utf-8")
    print(f"{SHEET}: {len(mini.LANGUAGES)} languages", file=sys.stderr)
