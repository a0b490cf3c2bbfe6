"""The resampling core keeps its promises in simulated studies whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm, permutation_test

from helpers.comparison import arrays, resampling
from helpers.comparison.arrays import Block, Cells
from helpers.study import StudyError

CONDITIONS = [(size, task) for size in ("base", "large") for task in ("none", "nli", "qa")]
GAIN = np.array([-1.0, 1, 0, 0, 0, 0])
SCALE = np.array([1.0, -1, 0, -1, 1, 0])
LANGUAGES = ["en", "de", "sw"]


def draw_cells(
    rng,
    seeds: int,
    items: int = 120,
    effect: float = 0.0,
    seed_sd: float = 1.0,
    heterogeneity: float = 0.3,
):
    """A study of three languages. True scores 60 and 70, plus `effect` after nli at large; seed noise in points,
    half of its variance shared by languages, its SD log-normal over conditions. Items are parallel over languages
    and as difficult for all conditions (30 % of the variance; 20 % item by language, 15 % item by condition)."""
    shape = (items, len(LANGUAGES), len(CONDITIONS), seeds)
    true = np.repeat([60.0, 70.0], 3)
    true[4] += effect
    sd = seed_sd * np.exp(heterogeneity * rng.standard_normal((len(CONDITIONS), 1)))
    noise = sd * np.sqrt(0.5) * (rng.standard_normal(shape[2:]) + rng.standard_normal(shape[1:]))
    latent = np.sqrt(0.35) * rng.standard_normal(shape, dtype=np.float32)
    for part, over in ((0.3, (items, 1, 1, 1)), (0.2, (*shape[:2], 1, 1)), (0.15, (*shape[:3], 1))):
        latent += np.sqrt(part) * rng.standard_normal(over, dtype=np.float32)
    correct = latent < norm.ppf((true[:, None] + noise) / 100)
    return cells_of(correct.reshape(items, len(LANGUAGES), -1).astype(np.float32), seeds)


def cells_of(credit: np.ndarray, seeds: int, out_of: np.ndarray | None = None) -> Cells:
    out_of = np.ones((*credit.shape[:2], 1), np.float32) if out_of is None else out_of
    runs = np.array([(c, seed) for c in range(len(CONDITIONS)) for seed in range(seeds)])
    languages = LANGUAGES[: credit.shape[1]]
    return Cells(languages, CONDITIONS, runs, [Block(np.arange(len(languages)), credit, out_of)])


def judge(cells: Cells, weights: list[np.ndarray], rng, view=("score", "zero-shot"), resamples=300):
    sample = resampling.sample(cells, resamples, rng)
    flips = resampling.swap(cells, sample, [(view, w) for w in weights], resamples, rng)
    return [sample.contrast(view, w, rng, flips[:, k]) for k, w in enumerate(weights)]


@pytest.mark.parametrize(("seeds", "effect"), [(2, 0.0), (3, 0.0), (2, 4.0)])
def test_intervals_cover_the_truth_and_no_effect_is_seldom_found(seeds, effect):
    rng = np.random.default_rng(seeds)
    weights, truth = [GAIN, SCALE], np.array([0.0, effect])
    studies = [judge(draw_cells(rng, seeds, effect=effect), weights, rng) for _ in range(1000)]
    _, low, high, p = np.array(studies).transpose(2, 0, 1)
    covered = ((low <= truth) & (truth <= high)).mean(0)
    assert ((covered >= 0.93) & (covered <= 0.97)).all(), covered
    found = (p < 0.05).mean(0)[truth == 0]
    assert ((found >= 0.03) & (found <= 0.07)).all(), found


def deterministic(seeds: int, items: int = 60, languages: int = 1):
    """Runs that do not depend on the seed: only items are uncertain."""
    rng = np.random.default_rng(1)
    one = (
        rng.random((items, languages, len(CONDITIONS), 1))
        < np.linspace(0.5, 0.75, len(CONDITIONS))[:, None]
    ) * 1.0
    credit = np.repeat(one, seeds, axis=3).reshape(items, languages, -1).astype(np.float32)
    return one[..., 0], cells_of(credit, seeds)


def test_without_seed_noise_the_p_value_is_that_of_the_paired_permutation_test():
    one, cells = deterministic(seeds=3)
    (estimate, _, _, p), *_ = judge(
        cells, [GAIN], np.random.default_rng(0), ("score", "en"), 20_000
    )
    difference = one[:, 0] @ GAIN * 100
    expected = permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert estimate == pytest.approx(difference.mean())
    assert p == pytest.approx(expected.pvalue, abs=0.015)


def test_without_seed_noise_the_interval_is_the_paired_bootstrap():
    one, cells = deterministic(seeds=2)
    (_, low, high, _), *_ = judge(cells, [GAIN], np.random.default_rng(0), ("score", "en"), 20_000)
    difference = one[:, 0] @ GAIN * 100
    expected = bootstrap(
        (difference,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert (low, high) == pytest.approx(expected.confidence_interval, abs=0.7)


def test_one_seed_never_means_no_seed_noise():
    _, cells = deterministic(seeds=1)
    _, twice = deterministic(seeds=2)
    widths = [
        judge(c, [GAIN], np.random.default_rng(0), ("score", "en"), 4000)[0] for c in (cells, twice)
    ]
    (_, low, high, _), (_, low_twice, high_twice, _) = widths
    assert high - low > high_twice - low_twice
    assert high - low > 2 * 1.9 * np.sqrt(2) * resampling.ASSUMED_SEED_SD


def test_two_seeds_give_wider_intervals_than_five_of_the_same_spread():
    rng = np.random.default_rng(0)
    base = rng.random((400, 1, 1)) * np.ones((1, 1, len(CONDITIONS)))

    def width(seeds):
        shift = np.resize([-0.02, 0.02], seeds)
        credit = (base[..., None] < 0.6 + shift).reshape(400, 1, -1).astype(np.float32)
        _, low, high, _ = judge(
            cells_of(credit, seeds), [SCALE], np.random.default_rng(0), ("score", "en"), 4000
        )[0]
        return high - low

    assert width(2) > 1.5 * width(4)


def test_scores_that_are_ratios_are_resampled_as_ratios():
    rng = np.random.default_rng(3)
    out_of = rng.integers(1, 9, (80, 1, len(CONDITIONS))).astype(np.float32)
    credit = rng.binomial(out_of.astype(int), 0.6).astype(np.float32)
    sample = resampling.sample(cells_of(credit, 1, out_of), 5000, np.random.default_rng(0))
    assert sample.scores[0] == pytest.approx(100 * credit[:, 0].sum(0) / out_of[:, 0].sum(0))
    expected = bootstrap(
        (credit[:, 0, 0], out_of[:, 0, 0]),
        lambda c, o, axis: 100 * c.sum(axis) / o.sum(axis),
        paired=True,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert sample.draws[0, :, 0].std() == pytest.approx(expected.standard_error, rel=0.06)


def table(ids_of: dict[str, list[str]], seeds=(1, 2)) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    difficulty = {i: rng.random() for ids in ids_of.values() for i in ids}
    runs = pd.DataFrame(
        [(size, task, seed) for size, task in CONDITIONS for seed in seeds],
        columns=["size", "intermediate", "seed"],
    )
    rows = [
        (*run, language, i, float(difficulty[i] < 0.6), 1.0)
        for run in runs.itertuples(index=False)
        for language, ids in ids_of.items()
        for i in ids
    ]
    columns = ["size", "intermediate", "seed", "language", "id", "credit", "out_of"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0), runs


def test_parallel_items_are_resampled_together_and_others_apart():
    ids = [str(i) for i in range(100)]
    together = arrays.cells("t", *table({"en": ids, "de": ids, "sw": ids}))
    apart = arrays.cells("t", *table({"en": ids, "de": ids, "sw": [f"sw{i}" for i in ids]}))
    assert [list(b.at) for b in together.blocks] == [[0, 1, 2]]
    assert sorted(list(b.at) for b in apart.blocks) == [[0, 1], [2]]
    spreads = []
    for cells in (together, apart):
        sample = resampling.sample(cells, 2000, np.random.default_rng(0))
        spreads.append(sample.draws[sample.views.index(("score", "zero-shot"))].std())
    assert spreads[0] > 1.2 * spreads[1]


def test_runs_on_other_items_are_refused():
    ids = [str(i) for i in range(10)]
    predictions, runs = table({"en": ids, "de": ids})
    last = (
        (predictions["size"] == "large")
        & (predictions["intermediate"] == "qa")
        & (predictions["seed"] == 2)
    )
    without = predictions[~(last & (predictions["language"] == "de") & (predictions["id"] == "3"))]
    with pytest.raises(
        StudyError,
        match=r"large/qa/xnli/seed-2: language de: found 9 items; expected the target's 10",
    ):
        arrays.cells("xnli", without, runs)
    with pytest.raises(StudyError, match="each once"):
        arrays.cells("xnli", pd.concat([predictions, predictions[last]]), runs)


def test_targets_of_one_seed_share_their_noise():
    """The mean of two targets is no surer of its seeds than one where both move together; and surer of its items."""
    rng = np.random.default_rng(0)
    cells = draw_cells(rng, 3, items=2000, seed_sd=3.0)
    sample = resampling.sample(cells, 500, rng)
    mean = resampling.mean_over_targets([sample, sample])
    assert mean.scores == pytest.approx(sample.scores)
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert mean.residual == pytest.approx(sample.residual / 2)
    other = resampling.sample(draw_cells(rng, 3, items=2000, seed_sd=3.0), 500, rng)
    assert resampling.mean_over_targets([sample, other]).draws.std() < 0.9 * sample.draws.std()


def test_a_mean_over_targets_without_common_seeds_is_no_surer_than_one():
    rng = np.random.default_rng(0)
    sample = resampling.sample(draw_cells(rng, 2), 100, rng)
    later = replace(sample, runs=np.add(sample.runs, (0, 10)))
    mean = resampling.mean_over_targets([sample, later])
    assert mean.seed_variance == pytest.approx(sample.seed_variance)
    assert (mean.freedom == sample.freedom).all()
