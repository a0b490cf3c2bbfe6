"""A batch that is asked to end, or is killed: a checkpoint is kept, nothing works on, and the same
command goes on to the results of an undisturbed batch.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import write_study
from running import prepare, run, until
from stress import ROOT, TOKEN, differences, kill, processes, results, start, until_quiet
from study import write_settings

from helpers.study import Study

STEPS = 800
RECIPE = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}


@pytest.fixture(scope="module")
def prepared(tiny_sources, tmp_path_factory):
    """A study of one condition whose training takes a while; phase 1 is done."""
    root = tmp_path_factory.mktemp("long")
    (root / "sources").symlink_to(tiny_sources)
    size = {"encoder": str(tiny_sources / "encoder"), "title": "tiny", "pooling": "mean"}
    changes = {"sizes": {"base": size}, "intermediate": ["none"], "precision": "fp32"}
    changes |= {"checkpoint_minutes": 0.01, "phases": {"target": RECIPE}}
    params = write_study(root / "params", tiny_sources, **changes)
    study = prepare(Study.load(params, root / "out"))
    study.write_record()
    write_settings(study)
    (study.folder / "base/notebook.ipynb").write_text("{}")
    shutil.copytree(root / "out", root / "undisturbed")
    run(Study.load(params, root / "undisturbed").condition("base", "none", "pairs"))
    return root


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of that study, whose processes end with the test."""
    for name in ("params", "out", "sources"):
        shutil.copytree(prepared / name, tmp_path / name, symlinks=True)
    yield tmp_path
    kill(processes("out"))


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints of the training."""
    paths = folder.glob("out/tiny/base/none/pairs/seed-1/.checkpoint/*/checkpoint-*/progress.json")
    return [int(path.parent.name.split("-")[1]) for path in paths]


def begin(folder: Path) -> subprocess.Popen:
    """Start a batch; returns it once the training has saved a checkpoint of its own."""
    before, batch = max(steps(folder), default=0), start(folder / "params/tiny.yaml", folder, "out")
    end = time.monotonic() + 120
    while max(steps(folder), default=0) <= before:
        assert batch.poll() is None and time.monotonic() < end, (folder / "out.log").read_text()
        time.sleep(0.05)
    return batch


def test_a_batch_that_is_stopped_goes_on_to_the_results_of_an_undisturbed_one(prepared, folder):
    batch = begin(folder)
    batch.send_signal(signal.SIGINT)
    assert batch.wait(60) == 130 and processes("out") == []
    assert "give the same command again" in (folder / "out.log").read_text()
    kept = max(steps(folder))

    batch = begin(folder)
    assert kept < max(steps(folder)) < STEPS
    kill(processes("out"), signal.SIGTERM)  # as a cluster's time limit: all of them at once
    assert batch.wait(60) != 0 and until_quiet("out") is not None
    assert max(steps(folder)) > kept

    assert start(folder / "params/tiny.yaml", folder, "out").wait(120) == 0
    assert steps(folder) == []
    assert differences(results(prepared / "undisturbed"), results(folder / "out")) == []


SLOW = """
import signal, time
from pathlib import Path
asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: asked.append(True))
Path("begun").touch()
while not asked:
    time.sleep(0.01)
time.sleep(3)  # as a large model takes to write
Path("saved").touch()
"""


def test_a_cell_has_time_to_save_also_when_it_is_asked_to_end_in_two_ways(tmp_path):
    """A cluster's time limit asks all processes; then the batch passes an interrupt on."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW)])
    nbformat.write(notebook, tmp_path / "slow.ipynb")
    command = [sys.executable, str(ROOT / "tools/run_notebook.py"), "slow.ipynb", "out.ipynb"]
    environment = {**os.environ, TOKEN: f"{os.getpid()}-slow"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        until((tmp_path / "begun").exists, tmp_path, 60)
        kill(processes("slow"), signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert (tmp_path / "saved").exists() and until_quiet("slow") is not None


@pytest.mark.parametrize("kind", ["batch", "snakemake", "papermill", "kernel"])
def test_nothing_works_on_when_a_process_was_killed(folder, kind):
    batch = begin(folder)
    before = max(steps(folder))
    kill(processes("out", kind))
    assert batch.wait(60) != 0
    assert until_quiet("out") is not None
    assert max(steps(folder)) >= before
    log = (folder / "out.log").read_text()
    if kind in ("papermill", "kernel"):
        assert "FAILED" in log and "base/none/pairs/notebook.ipynb" in log and "killed" in log
    assert os.listdir(folder / "out/tiny/base/none/pairs/seed-1") == [".checkpoint"]
