"""Write docs/mini-samples.md: a few examples of every task of the demo.

Usage: ``python docs/write_mini_samples.py``.
"""

import csv
from pathlib import Path

DOCS = Path(__file__).parent
SHEET, DATA = DOCS / "mini-samples.md", DOCS.parent / "demo" / "data"
TRAINING, TEST = 4, 2
"""Examples of a training set, and items of a test set, that the sheet shows."""
HEAD = """# The demo's data: examples

Written by `python docs/write_mini_samples.py` from `demo/data`. Training and validation data are
English; the test sets are in eight languages. All examples are in
`demo/data/TASK/LANGUAGE.SPLIT.tsv`. In `mini_xcopa` the word *cause* or *effect* says what is asked
for. `mini_stories` is used by the tests only.

Is a sentence wrong in your language? Correct `demo/words/LANGUAGE.yaml`, then run
`python demo/generate.py` and this script.
"""


def sheet() -> str:
    """The page as Markdown: examples of each training set, then test items in every language."""
    parts = [HEAD]
    for folder in sorted(DATA.iterdir()):
        parts.append(f"## {folder.name}: English training data\n")
        parts.append(table([cells(row) for row in rows(folder / "en.train.tsv")[:TRAINING]]))
    for folder in sorted(DATA.iterdir()):
        if files := sorted(folder.glob("*.test.tsv")):
            items = [(file.name.split(".")[0], rows(file)[:TEST]) for file in files]
            tests = [[code, *cells(some[at])] for at in range(TEST) for code, some in items]
            parts.append(f"## {folder.name}: the same test items in every language\n")
            parts.append(table(tests, "language"))
    return "\n".join(parts)


def rows(file: Path) -> list[dict[str, str]]:
    """The rows of a .tsv file by column."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def cells(row: dict[str, str]) -> list[str]:
    """First text, second text or choices, and label, as a reader wants them."""
    if "choice1" in row:
        first = " ".join(filter(None, [row["context"], row.get("question")]))
        return [first, f"1: {row['choice1']} 2: {row['choice2']}", row["label"][-1]]
    first, second = (name for name in row if name.startswith(("premise", "hypo", "sentence")))
    return [row[first], row[second], row["label"]]


def table(lines: list[list[str]], *names: str) -> str:
    """A Markdown table."""
    head = [*names, "first text", "second text", "label"]
    lines = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    SHEET.write_text(sheet(), encoding="utf-8")
    print(SHEET)
