"""In: a study. Out: a folder with the checked examples of every task, split and language, as
parquet. Later steps read that folder only: a study that has started needs no source.
"""

from helpers.data.preparing import prepare
from helpers.data.reading import evaluated, examples, read, sample, table, trained_on
from helpers.data.sources import lines

__all__ = ["evaluated", "examples", "lines", "prepare", "read", "sample", "table", "trained_on"]
