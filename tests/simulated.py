"""A study that never ran: predictions and runs of known true scores, for tests."""

from itertools import product

import numpy as np
import pandas as pd
from scipy.special import ndtri

TARGETS = {"nli": ("en", "de", "ja", "sw"), "copa": ("en", "et", "sw", "vi")}


def simulated_study(
    targets: dict[str, tuple[str, ...]] = TARGETS,
    intermediates: tuple[str, ...] = ("none", "nli", "qa"),
    sizes: tuple[str, ...] = ("base", "large"),
    seeds: int = 3,
    items: int = 200,
    score: float = 60.0,
    gain: dict[str, float] | None = None,
    seed_sd: float = 1.0,
    heterogeneity: float = 0.0,
    collapsed: int = 0,
    missing: int = 0,
    random_seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw (predictions, runs) of a study whose true scores are known.

    The true score of a language is `score` + 10 (large) + the size's `gain` (any intermediate task;
    default base 2, large 3 points) - 4 for each place after English. A run adds normal seed noise
    of `seed_sd` points, half of its variance shared by its languages; `heterogeneity` is the SD of
    log seed SD between conditions. An item is correct when a latent ability passes its threshold:
    30 % of the variance is the item, shared by all languages and conditions (parallel items), 20 %
    the item in that language, 15 % the item in that condition, the rest is the run. The last
    `collapsed` runs of large score at chance (33.3); the last `missing` runs are left out.
    """
    rng = np.random.default_rng(random_seed)
    gain = {"base": 2.0, "large": 3.0} if gain is None else gain
    tables, runs = [], []
    for target, languages in targets.items():
        shape = (len(languages), items)
        item = np.sqrt(0.3) * rng.standard_normal(items)
        shared = item + np.sqrt(0.2) * rng.standard_normal(shape)
        for size, intermediate in product(sizes, intermediates):
            own = shared + np.sqrt(0.15) * rng.standard_normal(shape)
            sd = seed_sd * np.exp(heterogeneity * rng.standard_normal())
            true = score + 10 * (size == "large") - 4 * np.arange(len(languages))
            true = true + (gain.get(size, 0.0) if intermediate != "none" else 0.0)
            for seed in range(1, seeds + 1):
                noise = rng.standard_normal() + rng.standard_normal(len(languages))
                points = true + sd * np.sqrt(0.5) * noise
                threshold = ndtri(np.clip(points / 100, 0.001, 0.999))
                latent = own + np.sqrt(0.35) * rng.standard_normal(shape)
                tables.append((latent < threshold[:, None]).astype(float))
                runs.append((size, intermediate, target, seed))
    names = ["size", "intermediate", "target", "seed"]
    runs = pd.DataFrame(runs, columns=names).assign(metric="accuracy", collapsed=False)
    at_large = runs.index[runs["size"] == "large"]
    runs.loc[at_large[len(at_large) - collapsed :], "collapsed"] = True
    seconds = runs["size"].map({"base": 60.0, "large": 180.0}).fillna(100.0)
    runs["cpu_seconds"] = 1.9 * seconds + runs["seed"]
    runs["wall_seconds"] = seconds + runs["seed"]
    runs, frames = runs.head(len(runs) - missing), []
    for k, run in runs.iterrows():
        languages, credit = targets[run["target"]], tables[k]
        if run["collapsed"]:
            credit = (rng.random(credit.shape) < 1 / 3).astype(float)
        answers = {"credit": credit.ravel(), "out_of": 1.0}
        cells = {
            "language": np.repeat(languages, items),
            "id": np.tile([str(i) for i in range(items)], len(languages)),
        }
        frames.append(pd.DataFrame({**run[names], **cells, **answers}))
    return pd.concat(frames, ignore_index=True), runs
