"""The project's own files agree with each other."""

import ast
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
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


PARTS = {
    "src/helpers": {"comparison", "tools", "demo"},
    "src/comparison": {"helpers", "torch", "transformers", "datasets", "tools", "demo"},
}
"""What the core and the comparison must not import."""


@pytest.mark.parametrize("part", PARTS)
def test_imports_go_one_way(part):
    names = {path.stem for folder in ("tools", "demo") for path in (ROOT / folder).glob("*.py")}
    for path in (ROOT / part).rglob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
        assert not imported & (PARTS[part] | names), path


def test_the_packages_of_the_core_import_those_before_them_only():
    order = ["study", "formats", "data", "encoders", "training", "evaluation"]
    for name in order:
        for path in (ROOT / "src/helpers" / name).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            names = set(re.findall(r"^\s*(?:from|import) helpers\.(\w+)", text, re.MULTILINE))
            for listed in re.findall(r"^\s*from helpers import ([\w, ]+)", text, re.MULTILINE):
                names |= set(re.findall(r"\w+", listed))
            late = names & set(order[order.index(name) + 1 :])
            assert not late, f"{path} imports {late}, which come after {name}"


def test_params_files_with_blanks_reach_the_tools_whole():
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/installed", "study"]
    command += ["STUDY=a b.yaml", "PROFILE=c d"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shlex.split(printed)[1:3] == ["tools/study.py", "a b.yaml"] and '"c d"' in printed


def test_an_old_python_is_named_in_one_line_before_anything_is_made(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python"
    lie = "import sys; sys.version_info = (3, 10); sys.version = '3.10.1 (old)'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{lie}" "$2"\n')
    old.chmod(0o755)
    command = ["make", "study", f"PYTHON={old}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    first, *rest = result.stderr.splitlines()
    assert first.startswith("found Python 3.10.1, expected 3.11 or newer")
    assert result.returncode and all("make" in line for line in rest)
    assert not (tmp_path / ".venv").exists()
