"""A batch that is asked to end, or is killed: a checkpoint is kept, and nothing works on."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import write_study
from stress import parent, processes, start, until_quiet

from helpers import data, encoders
from helpers.batch import recovery
from helpers.study import Study


@pytest.fixture(scope="module")
def long(tiny_sources, tmp_path_factory):
    """A folder with a study whose one training takes minutes; all that comes before it is done."""
    root = tmp_path_factory.mktemp("long")
    (root / "sources").symlink_to(tiny_sources)
    values = {"steps": 100_000, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    size = {"encoder": str(tiny_sources / "encoder"), "title": "tiny", "pooling": "mean"}
    changes = {"sizes": {"base": size}, "intermediate": ["none"], "checkpoint_minutes": 1000}
    params = write_study(root / "params", tiny_sources, phases={"target": values}, **changes)
    study = Study.load(params, root / "out")
    data.prepare(study)
    encoders.prepare(study, "base")
    return root


@pytest.fixture
def training(long, tmp_path):
    """Start a batch of that study, again and again.

    Returns the batch once the training is on, and the step of its checkpoint.
    """
    shutil.copytree(long, tmp_path, symlinks=True, dirs_exist_ok=True)
    params = tmp_path / "params/tiny.yaml"
    folder = tmp_path / "out/tiny/base/none/pairs/seed-1/.checkpoint"

    def step() -> int:
        found = [path.parent.name for path in folder.glob("[0-9]*/checkpoint.json")]
        return max((int(name.split("-")[1]) for name in found), default=0)

    def begin() -> subprocess.Popen:
        log = tmp_path / "out/tiny/snakemake.log"
        log.unlink(missing_ok=True)
        batch, before, end = start(params, tmp_path, "out"), step(), time.monotonic() + 120
        while step() == before:  # the training listens as soon as it is on
            assert batch.poll() is None and time.monotonic() < end
            if log.exists():  # before, the batch is not listening
                batch.send_signal(signal.SIGUSR1)
            time.sleep(0.1)
        return batch

    yield begin, step
    for process in processes("out"):
        os.kill(process, signal.SIGKILL)


def test_a_batch_that_is_asked_to_end_does_so_after_a_checkpoint_and_goes_on_from_it(
    training, tmp_path
):
    begin, step = training
    batch = begin()
    before = step()
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(timeout=recovery.PATIENCE) == 130
    assert processes("out") == {} and step() > before
    assert "the same command goes on" in (tmp_path / "out.log").read_text()

    kept, batch = step(), begin()
    assert kept < step() < 100_000  # long before it could have come so far from nothing
    (job,) = notebooks()
    os.kill(job, signal.SIGSTOP)  # it cannot save anything
    batch.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        batch.wait(timeout=2)
    batch.send_signal(signal.SIGTERM)  # after one signal the job would have all of PATIENCE
    assert batch.wait(timeout=recovery.PATIENCE / 2) == 130  # a second one ends a batch at once
    assert until_quiet("out", recovery.PATIENCE / 2) is not None


@pytest.mark.parametrize("what", ["batch", "snakemake"])
def test_nothing_works_on_when_a_batch_was_killed(training, what):
    begin, step = training
    batch, before = begin(), step()
    there = processes("out")
    kill = {
        "batch": [batch.pid],
        "snakemake": [p for p, line in there.items() if "helpers.batch.scheduler" in line],
    }
    for process in kill[what]:
        os.kill(process, signal.SIGKILL)
    batch.wait(timeout=recovery.PATIENCE)
    assert until_quiet("out") is not None
    assert step() > before  # there was time for a last checkpoint


def notebooks() -> list[int]:
    """Processes that execute a notebook for the batch."""
    forks = [p for p, line in processes("out").items() if "multiprocessing.forkserver" in line]
    return [process for process in forks if parent(process) in forks]


@pytest.mark.parametrize("how", ["wrong study", "killed"])
def test_a_batch_that_asks_nothing_of_snakemake_leaves_nothing(tiny_study, tmp_path, how):
    tiny_study.write_text(tiny_study.read_text() + "wrong: 1\n")
    batch = start(tiny_study, tmp_path, "out")
    while len(processes("out")) < 2:  # Snakemake's own begins before the study is read
        assert batch.poll() is None
        time.sleep(0.02)
    if how == "killed":
        batch.kill()
    assert batch.wait(60) == (-signal.SIGKILL if how == "killed" else 2)
    assert until_quiet("out", 30) is not None
