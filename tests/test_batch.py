"""The whole study end to end: Snakemake, papermill, every notebook, on a tiny random encoder.

With a sweep: the batch chooses each size's learning rate on English before anything else.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run_notebook
import yaml
from conftest import write_study
from stress import start

import comparison
from helpers.study import NONE, Study, sweeps

RATES = [1e-6, 1e-2]
FEW = {"batch_size": 4, "max_length": 32, "evaluations": 2}
CHANGES = {
    "sweep": {"learning_rates": RATES, "seeds": [7]},
    "phases": {"intermediate": {"steps": 4, **FEW}, "target": {"steps": 12, **FEW}},
}


@pytest.fixture(scope="module")
def root(tiny_sources, tmp_path_factory) -> Path:
    """A folder with a tiny study, finished in `a b/2024_06`, and what its batch printed."""
    root = tmp_path_factory.mktemp("batch")
    (root / "sources").symlink_to(tiny_sources)
    size = {"encoder": str(tiny_sources / "encoder"), "title": "tiny", "pooling": "mean"}
    write_study(root, tiny_sources, sizes={"12": size}, **CHANGES).rename(root / "a b.yaml")
    assert start(Path("a b.yaml"), root, "2024_06").wait() == 0, (root / "2024_06.log").read_text()
    return root


def load(root: Path) -> Study:
    return Study.load(root / "a b.yaml", root / "2024_06")


def times(root: Path) -> dict[str, int]:
    """When each result and notebook was written, without the comparison's."""
    names = ("scores.json", "notebook.ipynb", "model.safetensors", "settings.json")
    paths = [path for name in names for path in (root / "2024_06").rglob(name)]
    home = root / "2024_06/tiny"
    return {path.relative_to(home).as_posix(): path.stat().st_mtime_ns for path in paths}


def one_line(root: Path, params: str = "a b.yaml", outputs: str = "2024_06") -> str:
    """What a batch that cannot begin prints."""
    (root / f"{outputs}.log").unlink(missing_ok=True)
    assert start(Path(params), root, outputs).wait(60) == 2
    (line,) = (root / f"{outputs}.log").read_text().splitlines()
    return line


def test_every_condition_leaves_an_executed_notebook_and_the_results_of_its_seeds(root):
    study = load(root)
    for condition in study.conditions():
        assert all(condition.is_complete(seed) for seed in condition.seeds)
        notebook = nbformat.read(condition.folder / "notebook.ipynb", 4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
        assert all(cell.execution_count for cell in code)
        settings = json.loads((condition.folder / "settings.json").read_text())
        assert settings == {"settings": condition.settings, "seeds": condition.seeds}
    log = (root / "2024_06.log").read_text()
    assert (study.folder / "report.html").exists() and f"report: {study.folder}" in log
    assert re.search(r"\n\d\d:\d\d:\d\d  3 of 3 notebooks done\n", log)


def test_every_run_has_the_rate_that_is_best_on_english_validation(root):
    study, means = load(root), {}
    for trial in sweeps.trials(study, "12"):
        selection = json.loads((trial.seed_folder(7) / "scores.json").read_text())["selection"]
        assert (selection["split"], selection["language"]) == ("validation", "en")
        means[trial.hyperparameters.learning_rate] = selection["score"]
    assert [*means] == RATES
    best = max(RATES, key=means.__getitem__)
    assert {c.hyperparameters.learning_rate for c in study.conditions()} == {best}


def test_a_finished_batch_makes_nothing_again_and_needs_no_torch(root, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    before = times(root)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    assert start(Path("a b.yaml"), root, "2024_06", PYTHONPATH=path).wait() == 0
    assert times(root) == before


def test_a_notebook_whose_results_are_lost_is_made_again(root, tmp_path):
    for name in ("a b.yaml", "tasks.yaml"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "2024_06", tmp_path / "2024_06")
    (tmp_path / "sources").symlink_to(root / "sources")
    study = load(tmp_path)
    before = times(tmp_path)
    (study.folder / "12/choices/pairs/seed-1/predictions.parquet").unlink()
    (study.folder / "12/encoder/run.json").write_text("half")
    assert start(Path("a b.yaml"), tmp_path, "2024_06", "--dry-run").wait() == 0
    gone = {name for name in before.keys() - times(tmp_path).keys() if "seed" not in name}
    assert gone == {"12/notebook.ipynb", "12/choices/pairs/notebook.ipynb"}
    log = (study.folder / "snakemake.log").read_text()
    assert all(f"Missing output files: {study.folder}/{name}" in log for name in gone)


def test_only_what_depends_on_a_change_is_made_again_and_a_failure_stops_nothing_else(root):
    """An added seed, whose results cannot be written, and another recipe for one training."""
    params, before = root / "a b.yaml", times(root)
    raw = yaml.safe_load(params.read_text())
    raw["seeds"] = {"none": [1, 2], "others": [1]}
    raw["overrides"] = [{"phase": "intermediate", "set": {"steps": 5}}]
    params.write_text(yaml.safe_dump(raw))
    study = load(root)
    none, choices = (study.condition("12", name, "pairs") for name in (NONE, "choices"))
    assert none.is_complete(1) and not none.is_complete(2)
    assert not choices.is_complete(1)  # nothing is shown under settings that it was not made with
    study.write_record()
    assert list(comparison.read_study(study.folder)[1]["intermediate"]) == [NONE]
    none.seed_folder(2).mkdir()
    (none.seed_folder(2) / ".checkpoint").write_text("a file where a folder should be")
    (root / "2024_06.log").unlink()
    assert start(params, root, "2024_06").wait() == 1
    kept = {name for name, time in before.items() if times(root).get(name) == time}
    assert {name for name in before.keys() - kept if "settings" not in name} == {
        "12/choices/notebook.ipynb",
        "12/choices/seed-1/encoder/model.safetensors",
        "12/choices/seed-1/scores.json",
        "12/choices/pairs/notebook.ipynb",
        "12/choices/pairs/seed-1/scores.json",
        "12/none/pairs/notebook.ipynb",
    }
    assert choices.is_complete(1) and not (none.folder / "notebook.ipynb").exists()
    log = (root / "2024_06.log").read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("FAILED")]
    assert "12/none/pairs/notebook.ipynb: " in line and "seed-2" in line
    assert "tiny is not complete" in log and "report: " in log


def test_of_two_batches_on_one_study_the_second_ends_with_one_line(root):
    with (root / "2024_06/tiny/snakemake.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert "another `make study` is at work" in one_line(root)


def test_what_cannot_begin_is_one_line(root, tmp_path):
    text = (root / "a b.yaml").read_text()
    (root / "bad.yaml").write_text(text.replace("pairs", "nothing"))
    assert "unknown task 'nothing'" in one_line(root, "bad.yaml", "none")
    assert not (root / "none").exists()
    shutil.copy(root / "a b.yaml", root / "copy.yaml")
    assert "made from a b.yaml, expected copy.yaml; give" in one_line(root, "copy.yaml")
    old = root / "old/tiny/base/encoder/run.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"parameters": {}}')
    assert "another version" in one_line(root, outputs="old")
    (root / "file").write_text("")
    assert "file" in one_line(root, outputs="file")


def test_strings_and_numbers_reach_notebooks_as_they_are(tmp_path):
    cells = ["size = seeds = join = text = None", "print([size, seeds, join, text])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    given = {"size": "12", "seeds": "[1, 2]", "join": "true", "text": "'\"; $(id) {x}"}
    command = [sys.executable, run_notebook.__file__]
    command += [str(tmp_path / name) for name in ("in.ipynb", "out.ipynb")]
    for pair in given.items():
        command += ["-p", *pair]
    subprocess.run(command, check=True)
    printed = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text
    assert printed.strip() == repr(["12", [1, 2], True, "'\"; $(id) {x}"])


def test_notebooks_side_by_side_see_one_gpu_each_and_no_two_the_same(monkeypatch):
    monkeypatch.setenv(run_notebook.GPUS, f"{os.getpid()},GPU-{os.getpid()}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    first, second = f"{os.getpid()}", f"GPU-{os.getpid()}"
    lock = run_notebook.reserve_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first
    other = run_notebook.reserve_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == second
    lock.release()
    again = run_notebook.reserve_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first
    other.release()
    again.release()
