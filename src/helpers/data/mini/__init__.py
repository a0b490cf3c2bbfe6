"""An embedded benchmark in eight languages, made from authored words and sentences: small, exact,
and free.

Three English intermediate tasks (``mini_nli``, ``mini_stories``, ``mini_paraphrase``) and two
target tasks (``mini_xnli``, ``mini_xcopa``) in the shape of XTREME-R's classification tasks:
trained on English, tested in every language on parallel items. Names, nouns, verbs, event families
and sentences of the test sets occur in no training set. docs/mini-samples.md is for speakers.
"""

from collections.abc import Callable, Collection
from functools import partial

from helpers.data.mini import choices, inference, paraphrase, words
from helpers.data.mini.words import LANGUAGES
from helpers.study import StudyError

_ROWS: dict[str, Callable[..., list[dict]]] = {
    "mini_nli": inference.rows,
    "mini_stories": partial(choices.rows, choices.STORIES),
    "mini_paraphrase": paraphrase.rows,
    "mini_xnli": inference.rows,
    "mini_xcopa": partial(choices.rows, choices.CAUSES),
}
TASKS = tuple(_ROWS)
TARGETS = ("mini_xnli", "mini_xcopa")
SIZES = {
    "intermediate": {"train": 2400, "validation": 300},
    "target": {"train": 400, "validation": 200, "test": 300},
}
_SEEDS = {"train": 11, "validation": 12, "test": 13}


def examples(task: str, split: str, language: str = "en") -> list[dict]:
    """The examples of one task, split and language, always the same ones in the same order.

    Sentence pairs have the columns id, text_a, text_b, label; choices have id, context, question,
    choices, label. An id is the same item in every language.

    Raises
    ------
    StudyError
        There is no such task, split or language.
    """
    _check("generator: no task", task, TASKS)
    sizes = SIZES["target" if task in TARGETS else "intermediate"]
    _check(f"{task}: no split", split, sizes)
    _check(f"{task}, {split}: no language", language, LANGUAGES if split == "test" else ("en",))
    rows = _ROWS[task](lexicon(task, split, language), sizes[split], _SEEDS[split])
    return [{"id": f"{task}-{split}-{number:04d}", **row} for number, row in enumerate(rows)]


def lexicon(task: str, split: str, language: str = "en") -> words.Lexicon:
    """The words and sentences that a task's split is made of."""
    return words.language(language) if split == "test" else words.english(task, split)


def _check(complaint: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise StudyError(f"{complaint} {value!r}; expected one of {', '.join(allowed)}")
