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

import pytest
from conftest import write_study
from running import prepare, run
from stress import differences, kill, processes, results, start, until_quiet
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


TWICE = """
import signal, sys
from itertools import count
from run_notebook import stop
signal.signal(signal.SIGTERM, stop)
for moment in range(20):
    lines = count()
    def trace(*_):
        if next(lines) == moment:
            signal.raise_signal(signal.SIGTERM)
        return trace
    try:
        sys.settrace(trace)
        stop(signal.SIGINT, None)
    except KeyboardInterrupt:
        sys.settrace(None)
"""


def test_a_second_signal_at_any_line_that_handles_the_first_does_not_hang():
    tools = Path(__file__).parents[1] / "tools"
    subprocess.run([sys.executable, "-c", TWICE], cwd=tools, timeout=30, check=True)


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
