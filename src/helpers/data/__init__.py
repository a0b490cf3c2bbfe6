"""In: a study. Out: the checked examples of every task, split and language that it reads, kept as
parquet, and their token ids.
"""

from helpers.data.reading import (
    drawn,
    examples,
    held_out,
    labelled,
    prepare,
    read,
    sample,
    token_cache,
    trained_on,
)
from helpers.data.tables import evaluated, table
from helpers.data.tokens import tokenise

__all__ = [
    "drawn",
    "evaluated",
    "examples",
    "held_out",
    "labelled",
    "prepare",
    "read",
    "sample",
    "table",
    "token_cache",
    "tokenise",
    "trained_on",
]
