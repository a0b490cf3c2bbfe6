"""In: a study. Out: the checked examples of every task, split and language that it reads, kept as
parquet, and their token ids.
"""

from helpers.data.reading import (
    examples,
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
    "evaluated",
    "examples",
    "labelled",
    "prepare",
    "read",
    "sample",
    "table",
    "token_cache",
    "tokenise",
    "trained_on",
]
