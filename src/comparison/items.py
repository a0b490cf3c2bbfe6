"""One target's predictions as arrays of units by runs.

A unit is what counts as one draw: an item, or all items that share a passage or a premise.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from comparison.contrasts import Condition
from comparison.plan import ZERO_SHOT, ComparisonError

Estimand = tuple[str, str]
"""What is estimated: ("score" or "gap", a language or "zero-shot")."""


@dataclass(frozen=True)
class Block:
    """Languages of one target that share units, so that these are drawn together.

    `credit` is 0 where a language lacks a unit; `out_of` has one run where all runs have the same.
    """

    at: np.ndarray  # their indices among the target's languages [languages]
    credit: np.ndarray  # sums over a unit's items [units, languages, runs], float32
    out_of: np.ndarray  # [units, languages, runs or 1], float32
    items: np.ndarray  # how many [units, languages]

    @cached_property
    def run_scores(self) -> np.ndarray:
        """Every run's score in every language, in points [languages, runs]."""
        return 100 * self.credit.sum(0, dtype=float) / self.out_of.sum(0, dtype=float)

    @cached_property
    def influence(self) -> np.ndarray:
        """What units add to a score, linearised [units, languages, runs], in points.

        A unit that is a share h of its language pulls the score towards itself; dividing by
        sqrt(1 - h) makes good for it. Where units count alike that is n / (n - 1) in the variance
        (HC2 of MacKinnon and White 1985, Journal of Econometrics 29).
        """
        expected = self.run_scores.astype(np.float32) * self.out_of
        mean = self.out_of.mean(0, dtype=float).astype(np.float32)
        return (100 * self.credit - expected) / mean / np.sqrt(1 - self.share)

    @cached_property
    def share(self) -> np.ndarray:
        """What part of its language a unit is [units, languages, runs or 1]; 0 for all of it."""
        share = self.out_of / self.out_of.sum(0)
        return np.where(share < 1, share, 0).astype(np.float32)

    def freedom(self, weights: np.ndarray) -> float:
        """Degrees of freedom of the item variance of a weighted sum over languages [languages].

        Units minus one, or fewer where some units weigh more than others, as those of a language
        with few items do: Satterthwaite's, for units whose variances go with their squared weights
        (Bell and McCaffrey 2002, Survey Methodology 28).
        """
        squares = (weights * self.share.mean(2)) ** 2
        part = squares.sum(1, dtype=float)
        return max(1.0, part.sum() ** 2 / (part**2).sum() - 1)


@dataclass(frozen=True)
class ItemScores:
    """What every run of one target scored on every unit."""

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
        member = [[run[:2] == condition for condition in self.conditions] for run in self.runs]
        return member / self.seeds

    def estimands(self, trained_in: tuple[str, ...]) -> dict[Estimand, np.ndarray]:
        """Scores by language and their zero-shot mean, and the gaps from the trained languages.

        Each is a weighted sum over languages; these are the weights [languages].
        """
        one = dict(zip(self.languages, np.eye(len(self.languages)), strict=True))
        trained = [one[code] for code in self.languages if code in trained_in]
        others = [one[code] for code in self.languages if code not in trained_in]
        if others:
            one[ZERO_SHOT] = np.mean(others, axis=0)
        weights = {("score", language): w for language, w in one.items()}
        if trained:
            home = np.mean(trained, axis=0)
            gaps = {code: home - w for code, w in one.items() if code not in trained_in}
            weights |= {("gap", code): gap for code, gap in gaps.items()}
        return weights


def arrange(target: str, predictions: pd.DataFrame, runs: pd.DataFrame) -> ItemScores:
    """Arrange one target's predictions; those of runs that are not in `runs` are left out.

    Items that have the same value in a column `group`, in any language, make one unit.

    Raises
    ------
    ComparisonError
        A run whose items are not those of the target's first run: the comparison is paired.
    """
    key = ["size", "intermediate", "seed"]
    runs = pd.MultiIndex.from_frame(runs[key].sort_values(key))
    run = runs.get_indexer(pd.MultiIndex.from_frame(predictions[key]))
    predictions, run = predictions[run >= 0], run[run >= 0]
    language, languages = pd.factorize(predictions["language"], sort=True)
    item, ids = pd.factorize(predictions["id"])
    _same_items(target, runs, run, language * len(ids) + item, list(languages), len(ids))
    unit = _units(predictions, language, item)[item]
    pair, at = np.unique(language * len(ids) + unit, return_inverse=True)
    language, unit = np.divmod(pair, len(ids))
    tables = [
        np.bincount(at * len(runs) + run, predictions[column], len(pair) * len(runs))
        for column in ("credit", "out_of")
    ]
    credit, out_of = (table.reshape(-1, len(runs)).astype(np.float32) for table in tables)
    if (out_of == out_of[:, :1]).all():
        out_of = out_of[:, :1]
    items = np.bincount(at, run == 0, len(pair))[:, None]
    return ItemScores(list(languages), list(runs), _blocks(language, unit, credit, out_of, items))


def _same_items(target: str, runs, run, place, languages: list[str], ids: int) -> None:
    """Raise unless every run answers each place (a pair of a language and an item) once."""
    places, at = np.unique(place, return_inverse=True)
    shape = (len(places), len(runs))
    times = np.bincount(at * len(runs) + run, minlength=np.prod(shape)).reshape(shape)
    for k, p in np.argwhere(((times != times[:, :1]) | (times > 1)).T):
        size, intermediate, seed = runs[k]
        language = times[places // ids == places[p] // ids]
        raise ComparisonError(
            f"predictions of {size}/{intermediate}/{target}/seed-{seed}: language "
            f"{languages[places[p] // ids]}: found {language[:, k].sum()} items; "
            f"expected the target's {(language[:, 0] > 0).sum()}, each once"
        )


def _units(predictions: pd.DataFrame, language: np.ndarray, item: np.ndarray) -> np.ndarray:
    """The unit of every item [items]; units are joined where a group of a language has both."""
    items = item.max(initial=-1) + 1
    if "group" not in predictions or predictions["group"].isna().all():
        return np.arange(items)
    group = pd.factorize(predictions["group"])[0]
    has = group >= 0
    node = items + language[has] * (group.max() + 1) + group[has]
    edges = coo_array((np.ones(has.sum()), (item[has], node)), shape=[node.max() + 1] * 2)
    joined = connected_components(edges, directed=False)[1][:items]
    return np.unique(joined, return_inverse=True)[1]


def _blocks(language, unit, credit, out_of, items) -> list[Block]:
    """Languages that share units, if only by way of others, from units in a language [pairs]."""
    has = coo_array((np.ones(len(unit)), (language, unit)))
    count, component = connected_components(has @ has.T, directed=False)
    blocks = []
    for c in range(count):
        rows = component[language] == c
        at, column = np.unique(language[rows], return_inverse=True)
        units, line = np.unique(unit[rows], return_inverse=True)
        tables = []
        for values in (credit[rows], out_of[rows], items[rows]):
            table = np.zeros((len(units), len(at), values.shape[1]), np.float32)
            table[line, column] = values
            tables.append(table)
        sums, out_of_sums, count = tables
        blocks.append(Block(at, sums, out_of_sums, count[..., 0]))
    return blocks
