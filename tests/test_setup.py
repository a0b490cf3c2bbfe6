"""The project's own files agree with each other."""

import ast
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


def test_every_dependency_is_pinned_and_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    pinned = [f"{name}=={version}" for name, version in pins().items()]
    assert [line for line in pip if "==" in line] == pinned
    assert not [line for line in pinned if "+" in line]  # no local versions
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["dev"]
    named = {re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower() for requirement in needed}
    assert named and named <= {name.lower().replace("_", "-") for name in pins()}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_stripped_short_and_parameterised(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "parameters" in code[0].metadata.get("tags", [])
    lesson = {cell.id for cell in code if "lesson" in cell.metadata.get("tags", [])}
    lines = {cell.id: len(cell.source.splitlines()) for cell in code}
    most = 11 if path.stem == "4_compare" else 20
    assert not {i for i, count in lines.items() if count > (25 if i in lesson else most)}
    source = "\n".join(cell.source for cell in code)
    assert not re.search(r"^(from|import) (transformers|datasets)", source, re.MULTILINE)


def test_the_samples_of_the_demos_data_are_current():
    samples = runpy.run_path(str(ROOT / "docs/write_mini_samples.py"))
    written = samples["SHEET"].read_text(encoding="utf-8")
    assert written == samples["sheet"](), "python docs/write_mini_samples.py"


CORE = ["study", "formats", "data", "encoders", "training", "evaluation"]
"""The packages of the core; each imports those before it only."""
FORBIDDEN = {
    "helpers": r"comparison|tools|demo",
    "comparison": r"helpers|torch|transformers|datasets|tools|demo",
}
for number, name in enumerate(CORE[:-1], start=1):
    FORBIDDEN[f"helpers/{name}"] = rf"helpers\.({'|'.join(CORE[number:])})"


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder):
    above = {path.stem for part in ("tools", "demo") for path in (ROOT / part).glob("*.py")}
    forbidden = re.compile(rf"({FORBIDDEN[folder]}|{'|'.join(above)})\b")
    for path in (ROOT / "src" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names = [f"{before}{alias.name}" for alias in node.names]
                assert not [name for name in names if forbidden.match(name)], path


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
