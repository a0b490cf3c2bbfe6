"""One target's predictions as arrays of pairs (a unit in a language) by runs.

A unit is what counts as one draw: an item in all its languages, or all items that share a passage
or a premise.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from comparison.checking import run_name
from comparison.contrasts import Condition
from comparison.plan import NONE, ZERO_SHOT, ComparisonError


@dataclass(frozen=True)
class ItemScores:
    """What every run of one target scored on every unit in every language that has it."""

    languages: list[str]
    runs: list[tuple[str, str, int]]  # (size, intermediate, seed), sorted
    language: np.ndarray  # index of a pair's language [pairs]
    unit: np.ndarray  # number of a pair's unit [pairs]
    items: np.ndarray  # how many items a pair has [pairs]
    credit: np.ndarray  # sums over a pair's items [pairs, runs], float32
    out_of: np.ndarray  # [pairs, runs], or [pairs, 1] where all runs have the same
    apart: tuple[str, ...] = (NONE,)  # intermediate conditions whose seeds vary in their own way

    @cached_property
    def conditions(self) -> list[Condition]:
        """The conditions that have a run."""
        return list(dict.fromkeys(run[:2] for run in self.runs))

    @cached_property
    def mean(self) -> np.ndarray:
        """What averages runs to conditions [runs, conditions]."""
        member = np.array([[run[:2] == each for each in self.conditions] for run in self.runs])
        return member / member.sum(0)

    @cached_property
    def total(self) -> np.ndarray:
        """What a language is out of, or 1: out of nothing it scores 0 [languages, runs or 1]."""
        total = self._by_language(self.out_of)
        return np.where(total > 0, total, 1)

    @cached_property
    def run_scores(self) -> np.ndarray:
        """Every run's score in every language, in points [languages, runs]."""
        return 100 * self._by_language(self.credit) / self.total

    @cached_property
    def share(self) -> np.ndarray:
        """What part of its language a pair is [pairs, runs or 1]."""
        return (self.out_of / self.total[self.language]).astype(np.float32)

    @cached_property
    def influence(self) -> np.ndarray:
        """What pairs add to their language's score, linearised [pairs, runs], in points.

        A pair that is a share h of its language pulls the score towards itself; dividing by
        sqrt(1 - h) makes good for it. Where pairs count alike that is n / (n - 1) in the variance
        (HC2 of MacKinnon and White 1985, Journal of Econometrics 29).
        """
        at = self.total[self.language].astype(np.float32)
        expected = self.run_scores.astype(np.float32)[self.language] * self.share
        room = np.where(self.share < 1, 1 - self.share, 1)
        return (100 * self.credit / at - expected) / np.sqrt(room)

    def _by_language(self, values: np.ndarray) -> np.ndarray:
        """Sums over the pairs of each language [languages, ...]."""
        shape = (len(self.languages), len(self.language))
        ones = np.ones(len(self.language))
        return coo_array((ones, (self.language, np.arange(shape[1]))), shape).tocsr() @ values

    def by_unit(self, weights: np.ndarray) -> np.ndarray:
        """Influences on a weighted sum over languages [languages], by unit [units, runs]."""
        used = np.flatnonzero(weights[self.language])
        place = (self.unit[used], np.arange(len(used)))
        shape = (self.unit.max() + 1, len(used))
        parts = coo_array((weights[self.language[used]].astype(np.float32), place), shape)
        return parts.tocsr() @ self.influence[used]

    def freedom(self, weights: np.ndarray) -> float:
        """Degrees of freedom of the item variance of a weighted sum over languages [languages].

        Units minus one, or fewer where some units weigh more than others, as those of a language
        with few items do: Satterthwaite's, for pairs whose variances go with their squared weights
        (Bell and McCaffrey 2002, Survey Methodology 28).
        """
        part = np.bincount(self.unit, (weights[self.language] * self.share.mean(1)) ** 2)
        if not part.any():  # nothing varies
            return 1.0
        return max(1.0, part.sum() ** 2 / (part**2).sum() - 1)

    def estimands(self, trained_in: tuple[str, ...]) -> dict[tuple[str, str], np.ndarray]:
        """Scores by language and their zero-shot mean, and the gaps from the trained languages.

        Each ("score" or "gap", a language or "zero-shot") is a weighted sum over languages; these
        are the weights [languages].
        """
        scores = {code: self.mean_of({code}) for code in self.languages}
        trained, others = set(trained_in) & set(scores), set(scores) - set(trained_in)
        if others:
            scores[ZERO_SHOT] = self.mean_of(others)
        weights = {("score", code): weight for code, weight in scores.items()}
        for code in scores if trained else ():
            if code not in trained:
                weights["gap", code] = self.mean_of(trained) - scores[code]
        return weights

    def mean_of(self, languages: set[str]) -> np.ndarray:
        """Weights of the mean over some of the languages [languages]."""
        used = np.isin(self.languages, list(languages))
        return used / max(1, used.sum())


def arrange(
    target: str, predictions: pd.DataFrame, runs: pd.DataFrame, apart: tuple[str, ...] = (NONE,)
) -> ItemScores:
    """Arrange one target's predictions, of those of its runs that are in `runs`.

    Items that have the same value in a column `group`, in any language, make one unit. Raises
    ComparisonError if a run's items are not those of the target's first run: the comparison is
    paired.
    """
    key = ["size", "intermediate", "seed"]
    predictions, runs = (table[table["target"] == target] for table in (predictions, runs))
    runs = pd.MultiIndex.from_frame(runs[key].sort_values(key))
    run = runs.get_indexer(pd.MultiIndex.from_frame(predictions[key]))
    predictions, run = predictions[run >= 0], run[run >= 0]
    if pd.api.types.infer_dtype(predictions["id"]).startswith("mixed"):
        wrong = "id: found numbers and texts; expected one kind"
        raise ComparisonError(f"predictions of {target}: {wrong}")
    language, languages = pd.factorize(predictions["language"], sort=True)
    item, ids = pd.factorize(predictions["id"])
    _same_items(target, runs, run, language * len(ids) + item, list(languages), ids)
    unit = _units(predictions, language, item)[item]
    pair, at = np.unique(language * len(ids) + unit, return_inverse=True)
    units = np.bincount(pair // len(ids))
    if units.min(initial=2) < 2:
        where = f"predictions of {target}, language {languages[units.argmin()]}"
        raise ComparisonError(f"{where}: found one item or group; expected two or more")
    credit, out_of = (
        np.bincount(at * len(runs) + run, predictions[column], len(pair) * len(runs))
        .reshape(-1, len(runs))
        .astype(np.float32)
        for column in ("credit", "out_of")
    )
    if (out_of == out_of[:, :1]).all():
        out_of = out_of[:, :1]
    items = np.bincount(at, run == 0, len(pair))
    places = np.divmod(pair, len(ids))
    return ItemScores(list(languages), list(runs), *places, items, credit, out_of, apart)


def _same_items(target: str, runs, run, place, languages: list[str], ids) -> None:
    """Raise unless every run answers each place (a pair of a language and an item) once."""
    places, at = np.unique(place, return_inverse=True)
    shape = (len(places), len(runs))
    times = np.bincount(at * len(runs) + run, minlength=np.prod(shape)).reshape(shape)
    for k, p in np.argwhere(((times != times[:, :1]) | (times > 1)).T):
        names = [run_name(*runs[i][:2], target, runs[i][2]) for i in (k, 0)]
        language, item = languages[places[p] // len(ids)], ids[places[p] % len(ids)]
        found = f"found id '{item}' {times[p, k]} times, in {names[1]} {times[p, 0]} times"
        expected = "expected the same items in every run, each once"
        raise ComparisonError(
            f"predictions of {names[0]}, language {language}: {found}; {expected}"
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
    return connected_components(edges, directed=False)[1][:items]
