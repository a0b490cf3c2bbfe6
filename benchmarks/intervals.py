"""How often intervals hold the truth in studies that never ran: `python benchmarks/intervals.py`.

Draws studies of known truth, judges each as `comparison.effects` does, and writes the table
``docs/coverage.md``: how often the 95 % interval covers, and how often p < 0.05 where there is no
effect. Minutes on two cores; ``CASES`` and ``rates`` serve the tests too.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from comparison import Plan, Size, Target, contrasts, variance
from comparison.items import ItemScores

DOCS = Path(__file__).parents[1] / "docs"
STUDIES = 2000
LANGUAGES = ["en", "de", "ja", "sw"]
ZERO_SHOT = ("score", "zero-shot")


@dataclass(frozen=True)
class Case:
    """A kind of study. Seed SDs are points; scores are 60 at the first size, 65 and 70 after it."""

    sizes: int = 2
    tasks: int = 3
    seeds: tuple[int, int] = (3, 3)  # of none, of the others
    sd: tuple[float, float] = (1.0, 1.0)  # of none, of the others
    spread: float = 0.0  # SD of log seed SD between conditions
    tails: bool = False  # Student's t with 3 degrees of freedom instead of normal noise
    collapse: float = 0.0  # share of the last size's runs without intermediate task at 33 points
    dropped: bool = False  # whether collapsed runs are left out
    items: int = 120
    passage: int = 1  # items that share a passage, whose effect differs between conditions
    few: int = 0  # items of the last language, if fewer
    apart: tuple[int, ...] = ()  # items of each language, if these are its own
    ratio: bool = False  # an item counts 1 to 5 times
    targets: int = 1  # whose runs share half of the variance between seeds
    effect: float = 0.0  # points that the last size gains more, every task


CASES = {
    "seed SD 1 everywhere": Case(),
    "seed SDs differ between conditions": Case(spread=0.5),
    "noise with heavy tails": Case(tails=True, sd=(2, 2)),
    "seed SD 4 for `none`, 1 for tasks": Case(sd=(4, 1)),
    "seed SD 3 for `none`, 1 for eight tasks": Case(sd=(3, 1), tasks=8),
    "seed SD 3 for `none` (five seeds), 1 for tasks (three)": Case(sd=(3, 1), seeds=(5, 3)),
    "one task": Case(tasks=1),
    "a true effect of 4 points": Case(effect=4.0),
    "15 % of the last size's runs of `none` collapse": Case(collapse=0.15),
    "the same, without collapsed runs": Case(collapse=0.15, dropped=True),
    "five questions per passage": Case(passage=5),
    "a language with 5 items": Case(few=5),
    "languages with 40 to 300 items of their own": Case(apart=(300, 40, 120, 300)),
    "items that count 1 to 5 times": Case(ratio=True),
    "two targets that share seeds": Case(targets=2),
    "three sizes": Case(sizes=3),
    "three sizes, seed SD 3 for `none`, 1 for tasks": Case(sizes=3, sd=(3, 1)),
    "one seed, seed SD 3": Case(seeds=(1, 1), sd=(3, 3)),
}


def judge(case: Case, rng: np.random.Generator) -> list[tuple]:
    """(covered, p) of one study's headline and of the mean gain at its last size."""
    conditions, wanted = questions(case.sizes, case.tasks)
    noise = [draw_noise(case, conditions, rng) for _ in range(case.targets)]
    shared = draw_noise(case, conditions, rng)
    samples = []
    for alone in noise:
        mixed = alone
        if case.targets > 1:
            mixed = [np.sqrt(0.5) * (a + b) for a, b in zip(alone, shared, strict=True)]
        scores = draw_target(case, conditions, mixed, rng)
        samples.append(variance.sample(scores, scores.estimands(("en",))[ZERO_SHOT]))
    sums = variance.mean_over_targets(samples).sums(contrasts.aligned(wanted, conditions))
    truth = np.array([case.effect / max(1, case.sizes - 1), case.effect])
    covered = (sums["low"] <= truth) & (truth <= sums["high"])
    return list(zip(covered, sums["p"], strict=True))


@cache
def questions(sizes: int, tasks: int) -> tuple[list, list]:
    """The conditions of a study, and the contrasts that are judged: headline and gain."""
    names = {f"size {k}": Size(f"size {k}", parameters=2.0**k) for k in range(sizes)}
    after = ["none", *(f"t{k}" for k in range(tasks))]
    plan = Plan(names, after, {"target": Target()}, [])
    last = next(c for c in contrasts.of(plan) if c[:2] == ("gain", f"size {sizes - 1}"))
    return [(size, task) for size in names for task in after], [contrasts.headline(plan), last]


def draw_noise(case: Case, conditions: list, rng) -> list[np.ndarray]:
    """Deviations of runs from their condition's score, by condition [languages, seeds]."""
    out = []
    for _, task in conditions:
        kind = int(task != "none")
        sd = case.sd[kind] * np.exp(case.spread * rng.standard_normal())

        def z(*shape):
            return rng.standard_t(3, shape) / 3**0.5 if case.tails else rng.standard_normal(shape)

        seeds = case.seeds[kind]
        out.append(sd * np.sqrt(0.5) * (z(1, seeds) + z(len(LANGUAGES), seeds)))
    return out


def draw_target(case: Case, conditions: list, noise: list[np.ndarray], rng) -> ItemScores:
    """One target, whose languages are parallel unless the case says that they are apart."""
    apart = [(replace(case, items=count), [at]) for at, count in enumerate(case.apart)]
    parts = apart or [(case, [*range(len(LANGUAGES))])]
    pairs = zip(conditions, noise, strict=True)
    runs = [(*condition, k) for condition, shifts in pairs for k in range(shifts.shape[1])]
    last = f"size {case.sizes - 1}", "none"
    down = [run[:2] == last and rng.random() < case.collapse for run in runs]
    drawn = [draw_items(part, at, conditions, noise, down, rng) for part, at in parts]
    language, unit, credit, out_of = (np.concatenate(tables) for tables in zip(*drawn, strict=True))
    if case.dropped:
        left = np.flatnonzero(~np.array(down))
        runs, credit = [runs[k] for k in left], credit[:, left]
        if {run[:2] for run in runs} != {*conditions}:  # such a study has no answer
            return draw_target(case, conditions, noise, rng)
    has = out_of[:, 0] > 0
    tables = [values[has] for values in (language, unit, out_of[:, 0], credit, out_of)]
    return ItemScores(LANGUAGES, runs, *tables)


def draw_items(case: Case, at: list[int], conditions, noise, down, rng) -> tuple:
    """Answers in languages that share items, as difficult for all conditions (30 % of the variance;
    20 % item by language, 15 % item by condition, of a passage another 15 %)."""
    shape = (case.items, len(at))
    difficulty = np.sqrt(0.3) * rng.standard_normal((case.items, 1))
    difficulty = difficulty + np.sqrt(0.2) * rng.standard_normal(shape)
    out_of = np.ones(shape)
    if case.ratio:
        out_of = rng.integers(1, 6, shape).astype(float)
    if case.few:
        out_of[case.few :, -1] = 0
    credit = []
    sizes = list(dict.fromkeys(size for size, _ in conditions))
    for (size, task), seed_noise in zip(conditions, noise, strict=True):
        true = 60.0 + 5 * sizes.index(size) + case.effect * (task != "none" and size == sizes[-1])
        own = np.sqrt(0.15) * rng.standard_normal((case.items, 1))
        if case.passage > 1:
            passages = rng.standard_normal((case.items // case.passage, 1))
            own = own + np.sqrt(0.15) * np.repeat(passages, case.passage, axis=0)
        rest = np.sqrt(0.35 if case.passage == 1 else 0.2)
        for shift in seed_noise[at].T:
            points = np.full(len(at), 100 / 3) if down[len(credit)] else true + shift
            latent = difficulty + own + rest * rng.standard_normal(shape)
            correct = latent < ndtri(np.clip(points / 100, 0.01, 0.99))
            credit.append(correct * out_of)
    shape = (-1, case.passage, len(at))
    credits = np.stack(credit, axis=-1).reshape(*shape, len(credit)).sum(1)
    count = out_of.reshape(shape).sum(1)
    language, unit = np.tile(at, len(count)), np.repeat(np.arange(len(count)), len(at))
    unit = unit + 1000 * at[0]  # of no other language, where languages are apart
    credits = credits.reshape(-1, len(credit)).astype(np.float32)
    return language, unit, credits, count.reshape(-1, 1).astype(np.float32)


def rates(case: Case, studies: int = STUDIES, seed: int = 0) -> dict[str, float]:
    """Coverage and share of p < 0.05, in percent, over that many studies."""
    rng = np.random.default_rng([seed, case.seeds[0], case.sizes, case.tasks])
    found = np.array([judge(case, rng) for _ in range(studies)], float)
    (covers, gain), (p, p_gain) = found[..., 0].mean(0) * 100, (found[..., 1] < 0.05).mean(0) * 100
    return {"headline": covers, "gain": gain, "found": p, "gain found": p_gain}


def main() -> None:
    studies = int(os.environ.get("STUDIES", STUDIES))
    cases = {}
    for name, case in CASES.items():
        for seeds in [(2, 2), (3, 3), (5, 5)] if case.seeds == (3, 3) else [case.seeds]:
            cases[name, seeds] = replace(case, seeds=seeds)
    with ProcessPoolExecutor(int(os.environ.get("CORES", 2))) as pool:
        rows = list(pool.map(rates, cases.values(), [studies] * len(cases)))
    lines = ["| studies | seeds | headline covers | gain covers | headline found | gain found |"]
    lines.append("|---|---|---|---|---|---|")
    for (name, seeds), row in zip(cases, rows, strict=True):
        n = str(seeds[0]) if seeds[0] == seeds[1] else f"{seeds[0]} / {seeds[1]}"
        shown = [f"{row[key]:.1f} %" for key in ("headline", "gain", "found", "gain found")]
        lines.append(f"| {name} | {n} | {' | '.join(shown)} |")
    table = HEAD.format(studies=studies, error=100 * (0.05 * 0.95 / studies) ** 0.5)
    (DOCS / "coverage.md").write_text(table + "\n".join(lines) + "\n", encoding="utf-8")


HEAD = """# How often the intervals hold the truth

`python benchmarks/intervals.py` simulates {studies:,} studies per row. Unless a row says otherwise,
a study has 2 sizes, 3 intermediate tasks, 4 languages of 120 parallel items, and no true effect.

- *Headline*: the scale effect (with three sizes the slope) of the zero-shot score over all tasks.
- *Gain*: the gain over all tasks at the last size.
- *Covers*: how often the 95 % interval holds the true value (that of runs that learn).
  The standard error of such a share is {error:.1f} points.
- *Found*: how often p < 0.05. Without a true effect this should be 5 % at most.

If a run of five collapses, the interval is too wide; without collapsed runs it is right.

"""

if __name__ == "__main__":
    sys.exit(main())
