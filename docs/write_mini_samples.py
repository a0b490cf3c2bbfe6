"""Write docs/mini-samples.md: the mini benchmark's templates in every language, for speakers.

Usage: ``python docs/write_mini_samples.py``.
"""

import sys
from pathlib import Path

from jinja2 import Template

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))  # scripts and no package
import generate
import lexicon

SHEET = Path(__file__).with_name("mini-samples.md")


def sample_sheet() -> str:
    """The sheet as Markdown: items of every task, then per language every noun, template and event
    sentence.
    """
    source = SHEET.with_suffix(".md.jinja").read_text(encoding="utf-8")
    template = Template(source, trim_blocks=True, keep_trailing_newline=True)
    languages = [_language(code) for code in lexicon.LANGUAGES]
    return template.render(generate=generate, codes=lexicon.LANGUAGES, languages=languages)


def _language(code: str) -> tuple[lexicon.Lexicon, list[tuple], list[tuple]]:
    """A language's lexicon, and the rows of its templates and of its event sentences."""
    english, words = lexicon.of_test_sets("en"), lexicon.of_test_sets(code)
    templates, events = [], []
    for turn, (key, sentence) in enumerate(words.sentences.items()):
        kinds = (words.objects | words.groups)[key.split(".")[0]]
        allowed = [noun for kind in kinds for noun in (kind, *words.classes[kind])]
        # Different nouns for every template, so that the sheet shows most nouns in most forms.
        nouns = [allowed[(3 * turn + shift) % len(allowed)] for shift in (0, 2)]
        said = english.say(english.sentences[key], ("m", turn % 5), *nouns)
        templates.append((key, said, *_both_genders(words, sentence, turn % 5, *nouns)))
    for family, sentences in words.events.items():
        for place, sentence in enumerate(sentences):
            said = english.say(english.events[family][place], ("m", place))
            events.append((family, said, *_both_genders(words, sentence, place)))
    return words, templates, events


def _both_genders(words: lexicon.Lexicon, sentence: str, name: int, *nouns: str) -> tuple[str, str]:
    """The sentence about a man and a woman; the second is empty if it names nobody."""
    about_her = words.say(sentence, ("f", name), *nouns) if "<S>" in sentence else ""
    return words.say(sentence, ("m", name), *nouns), about_her


if __name__ == "__main__":
    SHEET.write_text(sample_sheet(), encoding="utf-8")
    print(SHEET)
