"""Write the demo's tasks as tables, ``demo/data/TASK/LANGUAGE.SPLIT.tsv``.

Usage: ``python demo/generate.py``. The tables are kept in the repository: this is needed only after
a change of the words in ``demo/words`` or of the rules that combine them.

Three English intermediate tasks (mini_nli, mini_stories, mini_paraphrase) and two target tasks
(mini_xnli, mini_xcopa) in the shape of XTREME-R's classification tasks: trained on English, tested
in every language on parallel items. Names, nouns, verbs, event families and sentences of the test
sets occur in no training set. docs/mini-samples.md has examples.
"""

from collections.abc import Callable
from pathlib import Path

import choices
import inference
import lexicon
import paraphrase

DATA = Path(__file__).parent / "data"
ROWS: dict[str, Callable[[lexicon.Lexicon, int, int], list[dict[str, str]]]] = {
    "mini_nli": inference.rows,
    "mini_stories": choices.story_rows,
    "mini_paraphrase": paraphrase.rows,
    "mini_xnli": inference.rows,
    "mini_xcopa": choices.cause_rows,
}
"""Per task what makes its rows from a lexicon, a number of rows and a seed."""
TARGETS = ("mini_xnli", "mini_xcopa")
SIZES = {
    "intermediate": {"train": 2400, "validation": 300},
    "target": {"train": 400, "validation": 200, "test": 300},
}
SEEDS = {"train": 11, "validation": 12, "test": 13}


def cells() -> list[tuple[str, str, str]]:
    """Every (task, split, language): test sets are in all languages, the others in English."""
    names = []
    for task in ROWS:
        for split in sizes(task):
            languages = lexicon.LANGUAGES if split == "test" else ("en",)
            names += [(task, split, language) for language in languages]
    return names


def sizes(task: str) -> dict[str, int]:
    """The number of examples in each split of a task."""
    return SIZES["target" if task in TARGETS else "intermediate"]


def words_of(task: str, split: str, language: str = "en") -> lexicon.Lexicon:
    """The words and sentences that a task's split is made of."""
    if split == "test":
        return lexicon.of_test_sets(language)
    return lexicon.of_training(task, split)


def examples(task: str, split: str, language: str = "en") -> list[dict[str, str]]:
    """The rows of one table by column, always the same ones in the same order.

    An id is the same item in every language.
    """
    rows = ROWS[task](words_of(task, split, language), sizes(task)[split], SEEDS[split])
    return [{"id": f"{task}-{split}-{number:04d}", **row} for number, row in enumerate(rows)]


def write(folder: Path) -> None:
    """Write every table below ``folder``. Fields are not quoted: no text holds a tab or a quote."""
    for task, split, language in cells():
        rows = examples(task, split, language)
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        path = folder / task / f"{language}.{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(DATA)
    print(f"{len(cells())} tables in {DATA}")
