"""One target's predictions as arrays of items by runs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helpers.study import ENGLISH, ZERO_SHOT, StudyError

Condition = tuple[str, str]
"""(size, intermediate)."""
Estimand = tuple[str, str]
"""What is estimated: ("score" or "gap", a language or "zero-shot")."""


@dataclass(frozen=True)
class Block:
    """Languages of one target that share items, so that these are resampled together.

    `credit` is 0 where a language lacks an item; `out_of` has one run where all runs have the same.
    """

    at: np.ndarray  # their indices among the target's languages [languages]
    credit: np.ndarray  # [items, languages, runs], float32
    out_of: np.ndarray  # [items, languages, runs or 1], float32

    @cached_property
    def run_scores(self) -> np.ndarray:
        """Every run's score in every language, in points [languages, runs]."""
        return 100 * self.credit.sum(0, dtype=float) / self.out_of.sum(0, dtype=float)

    @cached_property
    def influence(self) -> np.ndarray:
        """What items add to a score, linearised, mean 0 [items, languages, runs], in points."""
        expected = self.run_scores.astype(np.float32) * self.out_of
        return (100 * self.credit - expected) / self.out_of.mean(0, dtype=float).astype(np.float32)


@dataclass(frozen=True)
class ItemScores:
    """What every run of one target scored on every item."""

    languages: list[str]
    runs: list[tuple[str, str, int]]  # (size, intermediate, seed), sorted
    blocks: list[Block]

    @cached_property
    def conditions(self) -> list[Condition]:
        """The conditions that have a run."""
        return list(dict.fromkeys(run[:2] for run in self.runs))

    @cached_property
    def seeds(self) -> np.ndarray:
        """How many runs each condition has [conditions]."""
        return np.array([[run[:2] for run in self.runs].count(c) for c in self.conditions])

    @cached_property
    def mean(self) -> np.ndarray:
        """What averages runs to conditions [runs, conditions]."""
        own = [[run[:2] == condition for condition in self.conditions] for run in self.runs]
        return own / self.seeds.astype(np.float32)

    @cached_property
    def estimands(self) -> dict[Estimand, np.ndarray]:
        """Scores and gaps to English, by language and for the mean of the others.

        Each is a weighted sum over languages; these are the weights [languages].
        """
        one = dict(zip(self.languages, np.eye(len(self.languages)), strict=True))
        others = [weights for language, weights in one.items() if language != ENGLISH]
        if others:
            one[ZERO_SHOT] = np.mean(others, axis=0)
        weights = {("score", language): w for language, w in one.items()}
        if ENGLISH in one:
            english = one.pop(ENGLISH)
            weights |= {("gap", language): english - w for language, w in one.items()}
        return weights


def arrange(target: str, predictions: pd.DataFrame, runs: pd.DataFrame) -> ItemScores:
    """Arrange one target's predictions; those of runs that are not in `runs` are left out.

    Raises
    ------
    StudyError
        A run whose items are not those of the target's first run: the comparison is paired.
    """
    key = ["size", "intermediate", "seed"]
    runs = pd.MultiIndex.from_frame(runs[key].sort_values(key))
    run = runs.get_indexer(pd.MultiIndex.from_frame(predictions[key]))
    predictions, run = predictions[run >= 0], run[run >= 0]
    language, languages = pd.factorize(predictions["language"], sort=True)
    item, ids = pd.factorize(predictions["id"])
    # A run answers pairs of a language and an item.
    pair, at = np.unique(language * len(ids) + item, return_inverse=True)
    language, item = np.divmod(pair, len(ids))
    shape = (len(pair), len(runs))
    times = np.bincount(at * len(runs) + run, minlength=np.prod(shape)).reshape(shape)
    for k, p in np.argwhere(((times != times[:, :1]) | (times > 1)).T):
        size, intermediate, seed = runs[k]
        own = times[language == language[p]]
        raise StudyError(
            f"predictions of {size}/{intermediate}/{target}/seed-{seed}: language "
            f"{languages[language[p]]}: found {own[:, k].sum()} items; "
            f"expected the target's {(own[:, 0] > 0).sum()}, each once"
        )
    credit, out_of = np.empty(shape, np.float32), np.empty(shape, np.float32)
    credit[at, run], out_of[at, run] = predictions["credit"], predictions["out_of"]
    if (out_of == out_of[:, :1]).all():
        out_of = out_of[:, :1]
    return ItemScores(list(languages), list(runs), _blocks(language, item, credit, out_of))


def _blocks(language, item, credit, out_of) -> list[Block]:
    """Languages that share items, if only by way of others, from items in a language [pairs]."""
    has = coo_array((np.ones(len(item)), (language, item)))
    count, component = connected_components(has @ has.T, directed=False)
    blocks = []
    for c in range(count):
        rows = component[language] == c
        at, column = np.unique(language[rows], return_inverse=True)
        ids, line = np.unique(item[rows], return_inverse=True)
        tables = []
        for values in (credit[rows], out_of[rows]):
            table = np.zeros((len(ids), len(at), values.shape[1]), np.float32)
            table[line, column] = values
            tables.append(table)
        blocks.append(Block(at, *tables))
    return blocks
