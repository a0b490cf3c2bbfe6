"""Names stay inside the outputs, and nothing runs that a params file says."""

import re
from pathlib import Path

import pytest
from conftest import SIZE, TASKS, change_task, refused, write_study

from helpers.study import Study

ROOT = Path(__file__).parents[1]
OUTSIDE = ["../../../elsewhere", "/etc", "a/b", "..", ".hidden", "a\nb", "a b", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_outputs(tiny_sources, tmp_path, name):
    sizes = {"sizes": {name: {**SIZE, "encoder": str(tiny_sources / "encoder")}}}
    for changes in ({"name": name}, sizes, {"intermediate": [name]}, {"targets": [name]}):
        params = write_study(tmp_path / "params", tiny_sources, **changes)
        with refused("tiny.yaml: "):
            Study.load(params, tmp_path / "outputs")
    change_task(write_study(params.parent, tiny_sources), "pairs", languages=["en", name])
    with refused("pairs.languages"):
        Study.load(params, tmp_path / "outputs")


@pytest.mark.parametrize("name", ["encoder", "data", "seed-1"])
def test_no_name_takes_the_place_of_another(tiny_sources, tmp_path, name):
    params = write_study(tmp_path / "params", tiny_sources, targets=[name])
    change_task(params, name, **{**TASKS["pairs"], "train_on": ["pairs"]})
    with refused("every study has"):
        Study.load(params, tmp_path / "outputs")


def test_nothing_in_the_package_loads_or_runs_what_it_reads():
    forbidden = r"shell=True|os\.system|os\.popen|trust_remote_code=True|\bpickle\b\."
    forbidden += r"|yaml\.load\(|(?<![\w.])(eval|exec)\("
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(forbidden, text), path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, path
