"""An embedded benchmark in eight languages, made from authored words: small, exact, and free.

Three English intermediate tasks (``mini_nli``, ``mini_stories``, ``mini_paraphrase``) and two
target tasks (``mini_xnli``, ``mini_xcopa``) in the shape of XTREME-R's classification tasks:
trained on English, tested in every language on parallel items. Names, nouns, verbs, families of
events and sentences of the test sets occur in no training set. ``python -m helpers.data.mini``
writes a sample sheet for speakers to check.
"""

from collections.abc import Iterable
from functools import cache

from helpers.data.mini import choices, inference, paraphrase, words
from helpers.data.mini.words import ENGLISH, LANGUAGES
from helpers.study import StudyError

_PLANS = {
    "mini_nli": inference.plan,
    "mini_stories": choices.stories,
    "mini_xnli": inference.plan,
    "mini_xcopa": choices.causes,
}
TASKS = ("mini_nli", "mini_stories", "mini_paraphrase", "mini_xnli", "mini_xcopa")
TARGETS = ("mini_xnli", "mini_xcopa")
_INTERMEDIATE = {"train": 2400, "validation": 300}
_TARGET = {"train": 400, "validation": 200, "test": 300}
SIZES = {task: _TARGET if task in TARGETS else _INTERMEDIATE for task in TASKS}
"""Task -> split -> number of examples."""
_SEEDS = {"train": 11, "validation": 12, "test": 13}


def examples(task: str, split: str, language: str = ENGLISH) -> list[dict]:
    """The examples of one task, split and language, always the same ones in the same order.

    Sentence pairs have the columns id, text_a, text_b, label; choices have id, context, question,
    choices, label. An id is the same item in every language.

    Raises
    ------
    StudyError
        There is no such task, split or language.
    """
    _check("generator: no task", task, TASKS)
    _check(f"{task}: no split", split, SIZES[task])
    known = LANGUAGES if split == "test" else (ENGLISH,)
    _check(f"{task}, {split}: no language", language, known)
    if task == "mini_paraphrase":
        content = words.read("english_paraphrase.yaml")[split]
        rows = paraphrase.pairs(content, SIZES[task][split], _SEEDS[split])
    else:
        rows = [item.example(lexicon(task, split, language)) for item in plan(task, split)]
    return [{"id": f"{task}-{split}-{i:04d}", **row} for i, row in enumerate(rows)]


@cache
def plan(task: str, split: str) -> list[inference.Item] | list[choices.Item]:
    """A split's items before they are put into words (there are none of mini_paraphrase)."""
    return _PLANS[task](lexicon(task, split, ENGLISH), SIZES[task][split], _SEEDS[split])


def lexicon(task: str, split: str, language: str) -> words.Lexicon:
    """What a task's split is made of (there is none of mini_paraphrase)."""
    return words.tested(language) if split == "test" else words.english(task, split)


def _check(wrong: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise StudyError(f"{wrong} {given!r}; expected one of {', '.join(known)}")
