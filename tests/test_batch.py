"""The whole study end to end: Snakemake, papermill, every notebook, on a tiny random encoder.

With a sweep: the batch chooses each size's learning rate on English before anything else.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import write_study
from stress import start

from helpers.study import NONE, Study, sweeps

RATES = {"base": [1e-6, 1e-2], "large": [3e-6, 2e-2]}
FEW = {"batch_size": 4, "max_length": 32, "evaluations": 2}
CHANGES = {
    "sweep": {"learning_rates": RATES["base"], "sizes": {"large": RATES["large"]}, "seeds": [7]},
    "phases": {"intermediate": {"steps": 4, **FEW}, "target": {"steps": 12, **FEW}},
}


@pytest.fixture(scope="module")
def root(tiny_sources, tmp_path_factory) -> Path:
    """A folder with a tiny study, finished in `a b/2024_06`, and what its batch printed."""
    root = tmp_path_factory.mktemp("batch")
    (root / "sources").symlink_to(tiny_sources)
    write_study(root, tiny_sources, **CHANGES).rename(root / "a b.yaml")
    assert start(Path("a b.yaml"), root, "2024_06").wait() == 0, (root / "2024_06.log").read_text()
    return root


def load(root: Path) -> Study:
    return Study.load(root / "a b.yaml", root / "2024_06")


def times(root: Path) -> dict[str, int]:
    """When each result and notebook was written, without the comparison's."""
    names = ("scores.json", "notebook.ipynb", "model.safetensors", "settings.json")
    paths = [path for name in names for path in (root / "2024_06").rglob(name)]
    return {
        path.relative_to(root / "2024_06/tiny").as_posix(): path.stat().st_mtime_ns
        for path in paths
    }


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
    assert re.search(r"\n\d\d:\d\d:\d\d  7 of 7 notebooks done\n", log)


def test_every_run_has_the_rate_that_is_best_on_english_validation(root):
    study = load(root)
    for size, rates in RATES.items():
        means = {}
        for trial in sweeps.trials(study, size):
            selection = json.loads((trial.seed_folder(7) / "scores.json").read_text())["selection"]
            assert (selection["split"], selection["language"]) == ("validation", "en")
            means[trial.hyperparameters.learning_rate] = selection["score"]
        assert [*means] == rates
        best = max(rates, key=means.__getitem__)
        for condition in study.conditions():
            if condition.size == size:
                assert condition.hyperparameters.learning_rate == best


def test_a_finished_batch_makes_nothing_again_and_needs_no_torch(root, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    before = times(root)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    assert start(Path("a b.yaml"), root, "2024_06", PYTHONPATH=path).wait() == 0
    assert times(root) == before


def test_only_what_depends_on_a_change_is_made_again_and_a_failure_stops_nothing_else(root):
    """An added seed, another recipe for one training, lost results and a broken encoder."""
    params, study = root / "a b.yaml", load(root)
    raw = yaml.safe_load(params.read_text())
    raw["seeds"] = [1, 2]
    raw["overrides"] = [{"size": "large", "phase": "intermediate", "set": {"steps": 5}}]
    params.write_text(yaml.safe_dump(raw))
    changed = load(root)
    for size in ("base", "large"):  # nothing is shown under settings that it was not made with
        condition = changed.condition(size, "choices", "pairs")
        assert condition.is_complete(1) == (size == "base") and not condition.is_complete(2)
    shutil.rmtree(study.folder / "base/none/pairs/seed-1")
    (study.folder / "base/choices/seed-1/encoder/config.json").write_text("{}")
    before = times(root)
    (root / "2024_06.log").unlink()
    assert start(params, root, "2024_06").wait() == 1
    after = times(root)
    failed = "base/choices/pairs/notebook.ipynb"
    kept = {name for name, time in before.items() if after.get(name) == time}
    assert {name for name in kept if name.endswith("scores.json") and "sweep" not in name} == {
        "base/choices/seed-1/scores.json",
        "base/choices/pairs/seed-1/scores.json",
        "large/none/pairs/seed-1/scores.json",
    }
    assert {"base/notebook.ipynb", "large/notebook.ipynb", "base/sweep/notebook.ipynb"} <= kept
    assert failed not in after
    assert all(
        changed.condition(s, i, "pairs").is_complete(2)
        for s, i in [("large", NONE), ("large", "choices"), ("base", NONE)]
    )
    log = (root / "2024_06.log").read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("FAILED")]
    assert failed in line and "config.json" in line


def test_of_two_batches_on_one_study_the_second_ends_with_one_line(root):
    with (root / "2024_06/tiny/snakemake.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert "another batch is at work" in one_line(root)


def test_what_cannot_begin_is_one_line(root, tmp_path):
    text = (root / "a b.yaml").read_text()
    (root / "bad.yaml").write_text(text.replace("pairs", "nothing"))
    assert "unknown task 'nothing'" in one_line(root, "bad.yaml", "none")
    assert not (root / "none").exists()
    old = root / "old/tiny/base/encoder/run.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"parameters": {}}')
    assert "another version" in one_line(root, outputs="old")
    (root / "file").write_text("")
    assert "file" in one_line(root, outputs="file")


def test_strings_and_numbers_reach_notebooks_as_they_are(tmp_path):
    """Sizes may be called 12; quotes and dollars are data."""
    import run_notebook

    cells = ["size = seeds = join = text = None", "print([size, seeds, join, text])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "in.ipynb")
    given = {"size": ["12"], "seeds": ["1", "2"], "join": ["true"], "text": ["'\"; $(id) {x}"]}
    command = [
        "python",
        run_notebook.__file__,
        str(tmp_path / "in.ipynb"),
        str(tmp_path / "out.ipynb"),
    ]
    for name, values in given.items():
        command += ["-p", name, *values]
    subprocess.run(command, check=True)
    printed = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text
    assert printed.strip() == repr(["12", [1, 2], True, "'\"; $(id) {x}"])
