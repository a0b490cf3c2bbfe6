"""The project's own files agree with each other."""

import importlib
import re
import runpy
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert [line for line in pip if "==" in line] == [
        f"{name}=={version}" for name, version in pins().items()
    ]


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["dev"]
    named = [re.match(r"[A-Za-z0-9_-]+", requirement)[0] for requirement in needed]
    pinned = {name.lower().replace("_", "-") for name in pins()}
    assert named and {name.lower() for name in named} <= pinned


def test_no_process_compiles_a_grammar_that_nothing_uses():
    """Altair imports jsonschema, which from 4.25 on imports this, for two to three seconds."""
    importlib.import_module("altair")
    assert "jsonschema" in sys.modules
    assert "rfc3987_syntax" not in sys.modules


def test_pins_carry_no_local_versions():
    assert not [name for name, version in pins().items() if "+" in version]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_stripped_short_and_parameterised(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "parameters" in code[0].metadata.get("tags", [])
    lesson = {cell.id for cell in code if "lesson" in cell.metadata.get("tags", [])}
    lines = {cell.id: len(cell.source.splitlines()) for cell in code}
    assert not {i for i, count in lines.items() if count > (25 if i in lesson else 20)}
    imported = {
        m for c in code for m in re.findall(r"^(?:from|import) (\w+)", c.source, re.MULTILINE)
    }
    assert not imported & {"transformers", "datasets"}


def test_the_samples_of_the_demos_data_are_current():
    samples = runpy.run_path(str(ROOT / "docs/write_mini_samples.py"))
    written = samples["SHEET"].read_text(encoding="utf-8")
    assert written == samples["sheet"](), "python docs/write_mini_samples.py"


def test_imports_go_one_way():
    order = ["study", "formats", "data", "encoders", "training", "evaluation"]
    for path in (ROOT / "src/helpers").glob("*/*.py"):
        text, package = path.read_text(encoding="utf-8"), path.parent.name
        names = set(re.findall(r"^\s*(?:from|import) helpers\.(\w+)", text, re.MULTILINE))
        for listed in re.findall(r"^\s*from helpers import ([\w, ]+)", text, re.MULTILINE):
            names |= set(re.findall(r"\w+", listed))
        late = [name for name in names if order.index(name) > order.index(package)]
        assert not late, f"{path} imports {late}, which come after {package}"
        assert not re.search(r"^\s*(from|import) (comparison|demo|tools)\b", text, re.MULTILINE), (
            path
        )
    for path in (ROOT / "src/comparison").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) (helpers|torch|transformers)\b", text, re.M), path
