"""What the README says of the demo is what its recorded run found."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_demos_figures_in_the_readme_are_those_of_the_recorded_run():
    write_demo = runpy.run_path(str(ROOT / "docs/write_demo.py"))
    found = json.loads((ROOT / "docs/demo.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(write_demo["BEGIN"])[2].partition(write_demo["END"])[0]
    assert shown.strip() == write_demo["paragraph"](found), "run make demo-record"
    rest = readme.replace(shown, "")
    assert not [gain for gain in ("[−", "points [") if gain in rest], "figures beside the record"
