"""``python -m helpers.data.mini``: write docs/mini-samples.md, every template in every language for
speakers to read.
"""

import sys
from pathlib import Path

from helpers.data import mini
from helpers.data.mini import words

SHEET = Path("docs/mini-samples.md")
_NAMES = {
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "zh": "Chinese",
    "id": "Indonesian",
    "sw": "Swahili",
    "ru": "Russian",
    "tr": "Turkish",
}


def sample_sheet() -> str:
    """The sheet as Markdown: items of every task, then per language every noun, template and event
    sentence.
    """
    parts = [
        "# The mini benchmark: sample sheet\n\n"
        "Written by `python -m helpers.data.mini` from `src/helpers/mini/data/`. Found a mistake in your language? Correct "
        "`data/LANGUAGE.yaml` and write this sheet again: nothing else needs to change.\n\n"
        "Only the test sets are in eight languages; training and validation are English. Every word and event family "
        "below is kept for testing.\n"
    ]
    parts += [_items(task) for task in mini.TASKS]
    parts += [_parallel(task) for task in mini.TARGETS]
    parts += [_language(code) for code in mini.LANGUAGES]
    return "\n".join(parts)


def _items(task: str) -> str:
    rows = []
    labels = (
        ("entailment", "neutral", "contradiction")
        if task.endswith("nli")
        else ("different", "same")
    )
    for example in mini.examples(task, "train")[:8]:
        if "choices" in example:
            right = example["label"]
            rows.append(
                (
                    example["context"],
                    example["question"],
                    example["choices"][right],
                    example["choices"][1 - right],
                )
            )
        else:
            rows.append((example["text_a"], example["text_b"], labels[example["label"]]))
    pair = len(rows[0]) == 3
    header = (
        ("First sentence", "Second sentence", "Label")
        if pair
        else ("Context", "Question", "Right", "Wrong")
    )
    return f"## {task}: from the English training set\n\n{_table(header, rows)}"


def _parallel(task: str) -> str:
    rows = []
    for number in range(3):
        for code in mini.LANGUAGES:
            example = mini.examples(task, "test", code)[number]
            said = example.get("text_a") or example["context"]
            rows.append(
                (example["id"], code, said, example.get("text_b") or " / ".join(example["choices"]))
            )
    return f"## {task}: the same test items in every language\n\n{_table(('Item', '', 'Given', 'Then'), rows)}"


def _language(code: str) -> str:
    lexicon, design = words.language(code), words.test_design()
    nouns = [(noun, *forms.values()) for noun, forms in lexicon.nouns.items()]
    templates = []
    for turn, key in enumerate(lexicon.sentences):
        kinds = {**design.objects, **design.groups}[key.split(".")[0]]
        allowed = [noun for kind in kinds for noun in (kind, *design.classes[kind])]
        # Different nouns for every template, so that the sheet shows most nouns in most forms.
        a, b = (allowed[(3 * turn + shift) % len(allowed)] for shift in (0, 2))
        templates.append(
            (key, *_both_genders(lambda lex, key=key: lex.sentences[key], lexicon, turn, a, b))
        )
    events = [
        (
            family,
            *_both_genders(
                lambda lex, at=(family, place): lex.events[at[0]][at[1]], lexicon, place
            ),
        )
        for family in lexicon.events
        for place in range(4)
    ]
    columns = ("English", f"{_NAMES[code]}, a man", "a woman")
    return "\n".join(
        [
            f"## {_NAMES[code]}: words and sentences\n",
            _table(("noun", *next(iter(lexicon.nouns.values()))), nouns),
            _table(("template", *columns), templates),
            _table(("event family", *columns), events),
        ]
    )


def _both_genders(
    sentence, lexicon: words.Lexicon, turn: int, a: str | None = None, b: str | None = None
) -> list[str]:
    """The sentence in English, and about a man and a woman in the lexicon's language."""
    said = []
    for lex, gender in ((words.language("en"), "m"), (lexicon, "m"), (lexicon, "f")):
        slots = {"S": lex.names[gender][turn % 5], "a": lex.nouns.get(a), "b": lex.nouns.get(b)}
        said.append(words.fill(sentence(lex), gender, slots))
    return said if "<S>" in sentence(lexicon) else [*said[:2], ""]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    SHEET.parent.mkdir(exist_ok=True)
    SHEET.write_text(sample_sheet(), encoding="utf-8")
    print(f"{SHEET}: {len(mini.LANGUAGES)} languages", file=sys.stderr)
