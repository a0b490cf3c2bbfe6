"""The project's own files agree with each other."""

import re
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
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'^    "([A-Za-z0-9-]+)[^"]*",$', text, re.MULTILINE)
    pinned = {name.lower().replace("_", "-") for name in pins()}
    assert named and {name.lower() for name in named} <= pinned


def test_pins_carry_no_local_versions():
    assert not [name for name, version in pins().items() if "+" in version]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_stripped_short_and_parameterised(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "parameters" in code[0].metadata.get("tags", [])
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)
    imported = {
        m for c in code for m in re.findall(r"^(?:from|import) (\w+)", c.source, re.MULTILINE)
    }
    assert not imported & {"torch", "transformers", "datasets"}
