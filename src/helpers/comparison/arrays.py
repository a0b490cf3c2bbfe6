"""One target's predictions as arrays of items by runs, in blocks of languages that share their items."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helpers.study import ENGLISH, ZERO_SHOT, StudyError

View = tuple[str, str]
"""What is looked at: ("score" or "gap", a language or "zero-shot")."""


@dataclass(frozen=True)
class Block:
    """Languages of one target that share items, so that these are resampled together."""

    at: np.ndarray
    """Their indices among the target's languages [l]."""
    credit: np.ndarray
    """[items, l, runs], float32; 0 where a language lacks an item."""
    out_of: np.ndarray
    """Like credit, or [items, l, 1] where all runs have the same."""


@dataclass(frozen=True)
class Cells:
    """One target's runs as arrays; a condition is a (size, intermediate)."""

    languages: list[str]
    conditions: list[tuple[str, str]]
    runs: np.ndarray
    """(index of its condition, seed) of each run [runs, 2]."""
    blocks: list[Block]

    def views(self) -> dict[View, np.ndarray]:
        """Scores and gaps to English, per language and for the mean of the others, as weights over languages."""
        one = dict(zip(self.languages, np.eye(len(self.languages)), strict=True))
        others = [language for language in self.languages if language != ENGLISH]
        if others:
            one[ZERO_SHOT] = np.mean([one[language] for language in others], axis=0)
        views = {("score", language): weights for language, weights in one.items()}
        if ENGLISH in one:
            views |= {
                ("gap", language): one[ENGLISH] - w
                for language, w in one.items()
                if language != ENGLISH
            }
        return views


def cells(target: str, predictions: pd.DataFrame, runs: pd.DataFrame) -> Cells:
    """Arrange one target's predictions.

    Raises
    ------
    StudyError
        A run whose items are not those of the target's first run: the comparison is paired.
    """
    key = ["size", "intermediate", "seed"]
    runs = runs[key].sort_values(key).reset_index(drop=True)
    run = pd.MultiIndex.from_frame(runs).get_indexer(pd.MultiIndex.from_frame(predictions[key]))
    predictions, run = predictions[run >= 0], run[run >= 0]
    language, languages = pd.factorize(predictions["language"], sort=True)
    item, ids = pd.factorize(predictions["id"])
    pair, at = np.unique(
        language * len(ids) + item, return_inverse=True
    )  # what a run answers: an item in a language
    times = np.bincount(at * len(runs) + run, minlength=len(pair) * len(runs)).reshape(
        len(pair), len(runs)
    )
    for k, p in np.argwhere(((times != times[:, :1]) | (times > 1)).T):
        size, intermediate, seed = runs.loc[k, key]
        own = pair // len(ids) == pair[p] // len(ids)
        raise StudyError(
            f"predictions of {size}/{intermediate}/{target}/seed-{seed}: language {languages[pair[p] // len(ids)]}: "
            f"found {times[own, k].sum()} items; expected the target's {(times[own, 0] > 0).sum()}, each once"
        )
    credit, out_of = np.empty(times.shape, np.float32), np.empty(times.shape, np.float32)
    credit[at, run], out_of[at, run] = predictions["credit"], predictions["out_of"]
    if (out_of == out_of[:, :1]).all():
        out_of = out_of[:, :1]
    conditions = list(dict.fromkeys(zip(runs["size"], runs["intermediate"], strict=True)))
    condition = [conditions.index(c) for c in zip(runs["size"], runs["intermediate"], strict=True)]
    blocks = _blocks(*np.divmod(pair, len(ids)), credit, out_of)
    return Cells(list(languages), conditions, np.column_stack([condition, runs["seed"]]), blocks)


def _blocks(
    language: np.ndarray, item: np.ndarray, credit: np.ndarray, out_of: np.ndarray
) -> list[Block]:
    """The connected components of languages and items; rows of all arguments are items in a language."""
    nodes = language.max() + 1 + item.max() + 1
    ends = (language, language.max() + 1 + item)
    component = connected_components(
        coo_array((np.ones(len(item)), ends), shape=(nodes, nodes)), directed=False
    )[1]
    blocks = []
    for c in np.unique(component[language]):
        rows = component[language] == c
        at, place = np.unique(language[rows], return_inverse=True)
        ids, line = np.unique(item[rows], return_inverse=True)
        dense = [
            np.zeros((len(ids), len(at), table.shape[1]), np.float32) for table in (credit, out_of)
        ]
        for table, whole in zip(dense, (credit, out_of), strict=True):
            table[line, place] = whole[rows]
        blocks.append(Block(at, *dense))
    return blocks
