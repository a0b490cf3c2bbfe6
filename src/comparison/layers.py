"""Retrieval before fine-tuning: what an intermediate task changes at every layer."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from comparison.plan import NONE
from comparison.variance import welch

PLACE = ["size", "target", "layer", "centred"]
COLUMNS = [*PLACE, "intermediate", "baseline", "estimate", "low", "high", "seeds"]


def layer_gains(layers: pd.DataFrame) -> pd.DataFrame:
    """Gains in retrieval accuracy by layer, with and without (centred) each language's mean vector.

    Columns are COLUMNS: baseline is the accuracy of none in percent, the mean over languages and
    seeds; low and high bound a 95 % interval over seeds (Welch's t) that takes the items as given,
    nan where a side has a single seed.
    """
    by_seed = layers.groupby([*PLACE, "intermediate", "seed"])["accuracy"].mean()
    rows = []
    for place, cell in by_seed.groupby(PLACE):
        by_task = {task: runs.to_numpy() for task, runs in cell.groupby("intermediate")}
        none = by_task.pop(NONE, np.array([]))
        for task, runs in by_task.items() if len(none) else ():
            seeds, ends = min(len(runs), len(none)), (np.nan, np.nan)
            gain = runs.mean() - none.mean()
            if seeds > 1:
                parts = np.array([[side.var(ddof=1) / len(side) for side in (runs, none)]])
                total, freedom = welch(parts, np.array([len(runs), len(none)]) - 1)
                half = float(stdtrit(freedom, 0.975)[0] * np.sqrt(total[0]))
                ends = (gain - half, gain + half)
            rows.append((*place, task, none.mean(), gain, *ends, seeds))
    return pd.DataFrame(rows, columns=COLUMNS)


def layers_sentence(gains: pd.DataFrame) -> str:
    """Which gains in retrieval are not seen any more once each language's mean vector is removed.

    Asked at the layer where none is best, of gains whose interval lies above zero.
    """
    sides = [gains[gains["centred"] == centred] for centred in (False, True)]
    both = sides[0].merge(sides[1], on=["size", "target", "layer", "intermediate"])
    best = both.groupby(["size", "target"])["baseline_x"].transform("max")
    seen = both[(both["baseline_x"] == best) & (both["low_x"] > 0)]
    texts: dict[str, list[str]] = {"vanish": [], "stay": []}
    for _, row in seen.iterrows():
        change = f"{row['estimate_x']:+.1f} to {row['estimate_y']:+.1f} points".replace("-", "−")
        place = f"{row['intermediate']} before {row['target']} at {row['size']}"
        fate = "stay" if row["low_y"] > 0 else "vanish"
        texts[fate].append(f"{place} (layer {row['layer']}: {change})")
    lead = "With each language's mean vector removed, these gains"
    return " ".join(f"{lead} {fate}: {'; '.join(some)}." for fate, some in texts.items() if some)
