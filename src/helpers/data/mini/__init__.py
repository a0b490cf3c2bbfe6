"""An embedded benchmark in eight languages, made from authored words and sentences: small, exact,
and free.

Three English intermediate tasks (``mini_nli``, ``mini_stories``, ``mini_paraphrase``) and two
target tasks (``mini_xnli``, ``mini_xcopa``) in the shape of XTREME-R's classification tasks:
trained on English, tested in every language on parallel items. Names, nouns, verbs, event families
and sentences of the test sets occur in no training set. ``python -m helpers.data.mini`` writes a
sample sheet for speakers to check.
"""

from functools import cache

from helpers.data.mini import choices, inference, paraphrase, words
from helpers.data.mini.words import ENGLISH, LANGUAGES

TASKS = ("mini_nli", "mini_stories", "mini_paraphrase", "mini_xnli", "mini_xcopa")
TARGETS = ("mini_xnli", "mini_xcopa")
SIZES = {
    "intermediate": {"train": 2400, "validation": 300},
    "target": {"train": 400, "validation": 200, "test": 300},
}
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
    if task not in TASKS:
        raise _error(f"generator: no task {task!r}; expected one of {', '.join(TASKS)}")
    splits = SIZES["target" if task in TARGETS else "intermediate"]
    if split not in splits:
        raise _error(f"{task}: no split {split!r}; expected one of {', '.join(splits)}")
    known = LANGUAGES if split == "test" else (ENGLISH,)
    if language not in known:
        raise _error(
            f"{task}, {split}: no language {language!r}; expected one of {', '.join(known)}"
        )
    return [
        {"id": f"{task}-{split}-{number:04d}", **row}
        for number, row in enumerate(_rows(task, split, language))
    ]


def _rows(task: str, split: str, language: str) -> list[dict]:
    if task == "mini_paraphrase":
        return [{"text_a": a, "text_b": b, "label": label} for a, b, label, _ in plan(task, split)]
    lexicon, _ = material(task, split, language)
    rows = []
    for item in plan(task, split):
        first, second = item.texts(lexicon)
        if task in ("mini_nli", "mini_xnli"):
            rows.append({"text_a": first, "text_b": second, "label": item.label})
        else:
            rows.append(
                {
                    "context": first,
                    "question": item.question,
                    "choices": second,
                    "label": item.label,
                }
            )
    return rows


@cache
def plan(task: str, split: str) -> list:
    """The items of a task's split before they are put into words, with what they are made of."""
    count = SIZES["target" if task in TARGETS else "intermediate"][split]
    seed = _SEEDS[split]
    if task == "mini_paraphrase":
        return paraphrase.pairs(words.read("english_paraphrase.yaml")[split], count, seed)
    lexicon, design = material(task, split, ENGLISH)
    make = {
        "mini_nli": inference.plan,
        "mini_xnli": inference.plan,
        "mini_xcopa": choices.plan_causes,
        "mini_stories": choices.plan_stories,
    }[task]
    return make(design, lexicon.names, count, seed)


def material(task: str, split: str, language: str) -> tuple[words.Lexicon, words.Design]:
    """The lexicon and the design that a task's split is made of (not for mini_paraphrase)."""
    if split == "test":
        return words.language(language), words.test_design()
    if task == "mini_stories":
        return words.english(words.read("english_stories.yaml")[split])
    return words.english(words.read("english.yaml")[task][split])


def _error(message: str) -> ValueError:
    from helpers.study import StudyError  # here, so that this package needs nothing else of helpers

    return StudyError(message)
