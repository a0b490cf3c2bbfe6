"""Names stay inside the outputs, strings stay data, and nothing runs that a params file says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TASKS, write_study
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from helpers.batch import recovery
from helpers.study import Study, StudyError

ROOT = Path(__file__).parents[1]
OUTSIDE = ["../elsewhere", "/etc", "a/b", "..", ".hidden", "a\nb", "a b", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_outputs(tiny_sources, tmp_path, name):
    size = yaml.safe_load(write_study(tmp_path / "params", tiny_sources).read_text())["sizes"][
        "base"
    ]
    for changes in (
        {"name": name},
        {"sizes": {name: size}},
        {"intermediate": [name]},
        {"targets": [name]},
    ):
        params = write_study(tmp_path / "params", tiny_sources, **changes)
        with pytest.raises(StudyError) as error:
            Study.load(params, tmp_path / "outputs")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["encoder", "data", "seed-1"])
def test_no_name_takes_the_place_of_another(tiny_sources, tmp_path, name):
    params = write_study(tmp_path / "params", tiny_sources, targets=[name])
    tasks = {"tasks": {**TASKS, name: {**TASKS["pairs"], "train_on": ["pairs"]}}}
    (params.parent / "tasks.yaml").write_text(yaml.safe_dump(tasks))
    with pytest.raises(StudyError, match="every study has"):
        Study.load(params, tmp_path / "outputs")


@pytest.mark.parametrize("language", ["../../../elsewhere", "/etc/x", "", "a b"])
def test_no_language_leads_out_of_the_outputs(tiny_sources, tmp_path, language):
    params = write_study(tmp_path / "params", tiny_sources)
    tasks = {"tasks": {**TASKS, "pairs": {**TASKS["pairs"], "languages": ["en", language]}}}
    (params.parent / "tasks.yaml").write_text(yaml.safe_dump(tasks))
    with pytest.raises(StudyError):
        Study.load(params, tmp_path / "outputs")


@pytest.mark.parametrize("link", ["tiny", "tiny/base", "tiny/base/none/pairs"])
def test_no_link_leads_out_of_the_outputs(tiny_sources, tmp_path, link):
    study = Study.load(write_study(tmp_path / "params", tiny_sources), tmp_path / "outputs")
    (tmp_path / "elsewhere").mkdir()
    path = study.outputs / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="leads out"), recovery.only_one(study):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "text", ['"; raise SystemExit #', "'''\nimport os\n'''", "\\", "{study}", "a\nb", "$(id)"]
)
def test_strings_reach_notebooks_as_data(text):
    notebook = load_notebook_node(str(ROOT / "notebooks/3_target.ipynb"))
    filled = parameterize_notebook(notebook, {"study": text, "target": text})
    (cell,) = (c for c in filled.cells if "injected-parameters" in c.metadata.get("tags", []))
    names: dict = {}
    exec(cell.source, names)
    assert names["study"] == names["target"] == text


def test_paths_reach_snakemake_as_data_and_no_rule_has_a_shell(tiny_sources, tmp_path):
    odd = tmp_path / "it's; $(touch gone) & `x`"
    params, outputs = write_study(odd, tiny_sources), odd / "outputs"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["-n", "--cores", "1", "--config", f"study={params}", f"outputs={outputs}"]
    plan = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    said = plan.stdout + plan.stderr
    assert said.count(f"output: {outputs}/tiny") >= 5 and said.count("rule target:") == 4
    assert not (tmp_path / "gone").exists()
    assert not re.search(r"^ *(shell|script|wrapper):", (ROOT / "Snakefile").read_text(), re.M)


def test_nothing_in_the_package_loads_or_runs_what_it_reads():
    forbidden = r"shell=True|os\.system|os\.popen|trust_remote_code=True|\bpickle\b\."
    forbidden += r"|yaml\.load\(|(?<![\w.])(eval|exec)\("
    for path in (ROOT / "src/helpers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(forbidden, text), path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, path


def test_jupyterlab_keeps_its_token_and_listens_on_localhost():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (lab,) = (line for line in makefile.splitlines() if "jupyter lab" in line)
    assert not re.search(r"token|password|ip=|--ip|allow", lab)
    found = ROOT.rglob("jupyter_*config.*")
    assert not [
        path for path in found if ".venv" not in path.parts
    ]  # Jupyter installs some of its own there
