"""The whole study end to end: Snakemake, papermill, every notebook, on a tiny random encoder."""

import json
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
from stress import parent, processes, start, until_quiet

from helpers import comparison, data, encoders
from helpers.batch import recovery
from helpers.batch.run import progress
from helpers.study import Run, Study


@pytest.fixture(scope="module")
def finished(tiny_sources, tmp_path_factory):
    """A finished tiny study: (params file, outputs folder, sources)."""
    root = tmp_path_factory.mktemp("batch")
    params = write_study(root / "params", tiny_sources)
    outcome = run(params, root / "outputs", tiny_sources)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return params, root / "outputs", tiny_sources, outcome


def run(params: Path, outputs: Path, sources: Path, *more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HUB_MIRROR": str(sources / "hub"), "HF_HUB_OFFLINE": "1"}
    environment.pop("DATA_DIR", None)
    command = [
        sys.executable,
        "-m",
        "helpers.batch",
        str(params),
        "--outputs",
        str(outputs),
        "--cores",
        "2",
        *more,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=params.parent, timeout=1500
    )


def times(outputs: Path) -> dict[str, int]:
    """When each result was written."""
    wanted = ("*.parquet", "scores.json", "notebook.ipynb", "*.safetensors")
    return {
        str(p.relative_to(outputs)): p.stat().st_mtime_ns
        for pattern in wanted
        for p in outputs.rglob(pattern)
    }


def test_every_phase_leaves_an_executed_notebook_and_its_results(finished):
    params, outputs, _, outcome = finished
    study = Study.load(params, outputs)
    assert len(comparison.missing_runs(study)) == 0
    for run_ in study.runs():
        notebook = nbformat.read(study.run_folder(run_) / "notebook.ipynb", 4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code if cell.source)
        assert any("image/svg+xml" in out.get("data", {}) for cell in code for out in cell.outputs)
    assert (study.folder / "report.html").exists()
    assert "report:" in outcome.stdout and "4 of 4 runs" in outcome.stdout


def test_parameters_reach_the_notebook(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    notebook = nbformat.read(
        study.run_folder(Run("large", "choices", "pairs", 1)) / "notebook.ipynb", 4
    )
    injected = next(
        c.source for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])
    )
    assert 'intermediate = "choices"' in injected and "seed = 1" in injected


def test_run_json_says_what_is_needed_to_trust_and_repeat_the_run(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    run_ = Run("base", "choices", "pairs", 1)
    record = json.loads((study.run_folder(run_) / "run.json").read_text())
    assert record["parameters"] == study.settings(*run_[:3])
    for key in (
        "seed",
        "versions",
        "git_commit",
        "hardware",
        "wall_seconds",
        "tokens_per_second",
        "peak_memory_bytes",
    ):
        assert key in record


def test_a_second_run_does_nothing(finished):
    params, outputs, sources, _ = finished
    before = times(outputs)
    again = run(params, outputs, sources)
    assert again.returncode == 0, again.stderr
    assert times(outputs) == before


def test_a_changed_hyperparameter_is_noticed_and_nothing_is_shown_under_it(finished, tmp_path):
    params, outputs, *_ = finished
    text = params.read_text().replace("epochs: 1", "epochs: 2")
    other = tmp_path / "tiny.yaml"
    other.write_text(text)
    shutil.copy(params.parent / "tasks.yaml", tmp_path)
    study = Study.load(other, outputs)
    stale = recovery.stale(study)
    assert {path.name for path in stale} == {"seed-1"} and "other parameters" in str(stale)
    assert len(stale) == 4  # the target runs, not the intermediate ones
    assert len(comparison.missing_runs(study)) == 4 and len(comparison.finished_runs(study)[0]) == 0


def test_an_encoder_is_made_again_when_a_task_with_other_texts_is_added(finished, tmp_path):
    params, outputs, sources, _ = finished
    more = write_study(tmp_path / "more", sources, targets=["pairs", "choices"])
    study = Study.load(more, outputs)
    assert [*recovery.stale(study)] == [study.encoder_folder(size) for size in ("base", "large")]
    assert recovery.stale(Study.load(params, outputs)) == {}


def test_what_was_deleted_is_made_again_alone_and_a_failed_run_is_named_and_stops_no_other(
    finished, tmp_path
):
    params, outputs, sources, _ = finished
    copy = tmp_path / "outputs"
    shutil.copytree(outputs, copy)
    study = Study.load(params, copy)
    broken, other = Run("base", "choices", "pairs", 1), Run("large", "none", "pairs", 1)
    for run_ in (broken, other):
        (study.run_folder(run_) / "scores.json").unlink()
    (study.encoder_folder("base", "choices", 1) / "config.json").write_text("{}")
    before = times(copy)
    outcome = run(params, copy, sources)
    assert outcome.returncode != 0
    assert "FAILED" in outcome.stderr and "base/choices/pairs/seed-1" in outcome.stderr
    assert not (study.run_folder(broken) / "scores.json").exists()
    after = times(copy)
    changed = {
        Path(p).parent.as_posix() for p in after if after[p] != before.get(p) and "compare" not in p
    }
    assert changed - {"tiny"} == {"tiny/large/none/pairs/seed-1"}


def test_bad_params_stop_before_anything_is_made(sources, tmp_path):
    params = write_study(tmp_path / "params", sources, targets=["nothing"])
    outcome = run(params, tmp_path / "outputs", sources)
    assert outcome.returncode == 2
    assert (
        len(outcome.stderr.strip().splitlines()) == 1 and "unknown task 'nothing'" in outcome.stderr
    )
    assert not (tmp_path / "outputs").exists()


def test_the_rest_is_estimated_from_runs_of_the_same_kind(finished, tmp_path):
    params, outputs, *_ = finished
    shutil.copytree(outputs, tmp_path / "outputs")
    study = Study.load(params, tmp_path / "outputs")
    assert progress(study, at_once=2) == "6 of 6 runs done"
    for scores, minutes in zip(
        sorted(study.folder.rglob("scores.json")), range(60, 120, 10), strict=True
    ):
        record = scores.with_name("run.json")
        record.write_text(json.dumps({"wall_seconds": 60 * minutes}))
    size = {run_.size: run_ for run_ in study.runs() if run_.intermediate == "none"}
    other = Run("base", "choices", "pairs", 1)
    for run_ in (size["base"], size["large"]):
        (study.run_folder(run_) / "scores.json").unlink()
    base, large = (
        json.loads((study.run_folder(run_) / "run.json").read_text())["wall_seconds"]
        for run_ in (other, other._replace(size="large"))
    )
    said = progress(study, at_once=2)
    assert said == f"4 of 6 runs done, about {(base + large) / 120:.0f} min left"
    for scores in study.folder.rglob("scores.json"):
        scores.unlink()
    assert progress(study, at_once=2) == "0 of 6 runs done"


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
    for number in (signal.SIGTERM, signal.SIGINT):
        kept, batch = step(), begin()
        before = step()
        assert kept < before < 100_000  # long before it could have come so far from nothing
        batch.send_signal(number)
        assert batch.wait(timeout=recovery.PATIENCE) == 130  # before its training could have ended
        assert processes("out") == {}
        assert "the same command goes on" in (tmp_path / "out.log").read_text()
        assert step() > before


def test_a_second_signal_ends_a_batch_at_once(training):
    begin, _ = training
    batch = begin()
    (job,) = notebooks()
    os.kill(job, signal.SIGSTOP)  # it cannot save anything
    batch.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        batch.wait(timeout=2)
    batch.send_signal(signal.SIGTERM)  # after one signal the job would have all of PATIENCE
    assert batch.wait(timeout=recovery.PATIENCE / 2) == 130
    assert until_quiet("out", recovery.PATIENCE / 2) is not None


@pytest.mark.parametrize("what", ["batch", "snakemake", "everything"])
def test_nothing_works_on_when_a_batch_was_killed(training, what):
    begin, step = training
    batch, before = begin(), step()
    there = processes("out")
    kill = {
        "batch": [batch.pid],
        "snakemake": [p for p, line in there.items() if "-m snakemake" in line],
        "everything": [*there],
    }
    for process in kill[what]:
        os.kill(process, signal.SIGKILL)
    batch.wait(timeout=recovery.PATIENCE)
    assert until_quiet("out") is not None
    assert step() > before or what == "everything"  # there was time for a last checkpoint


def notebooks() -> list[int]:
    """Processes that execute a notebook for the batch."""
    forks = [p for p, line in processes("out").items() if "multiprocessing.forkserver" in line]
    return [process for process in forks if parent(process) in forks]
