"""What finished stays; what is broken is found; nothing is shown under other parameters."""

import gc
import importlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import write_study
from helpers.batch import execute, recovery, run

from helpers import comparison, data
from helpers.encoders import hidden_states
from helpers.study import NONE, Run, Study, StudyError, prepared
from helpers.study.files import damage, write_json, write_whole


@pytest.fixture(scope="module")
def template(tiny_sources, tmp_path_factory):
    """A study whose results are all there as far as a restart looks; no training was needed."""
    root = tmp_path_factory.mktemp("done")
    study = Study.load(write_study(root / "params", tiny_sources), root / "outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
        data.prepare(study)
    for folder in (path.parent for path in study.results()):
        names = folder.relative_to(study.folder).parts[:-1]
        write_json(folder / "run.json", {"parameters": study.settings(*names)})
        pretrained, intermediate = (
            folder.name == "encoder",
            folder.parent.parent.parent == study.folder,
        )
        write_json((folder.parent if pretrained else folder) / "notebook.ipynb", {"cells": []})
        if not pretrained:
            write_json(folder / "scores.json", {})
        if pretrained or intermediate:
            encoder = folder if pretrained else folder / "encoder"
            write_whole(
                encoder / "model.safetensors", lambda path: path.write_bytes(safetensors_bytes())
            )
            for name in ("config.json", "tokenizer.json"):
                write_json(encoder / name, {})
        else:
            table = pd.DataFrame(
                {"language": ["en"], "id": ["1"], "credit": [1.0], "out_of": [1.0]}
            )
            write_whole(folder / "predictions.parquet", table.to_parquet)
    assert recovery.repair(study) == [] and len(comparison.missing_runs(study)) == 0
    return root


@pytest.fixture
def done(template, tiny_sources, tmp_path, monkeypatch) -> Study:
    """A copy of the finished study that a test may break."""
    monkeypatch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Study.load(tmp_path / "params/tiny.yaml", tmp_path / "outputs")


def safetensors_bytes() -> bytes:
    import torch
    from safetensors.torch import save

    return save({"weight": torch.zeros(8, 8)})


def marks(study: Study) -> set[str]:
    """The results that count as done."""
    found = [*study.folder.rglob("scores.json"), *study.folder.rglob("encoder/run.json")]
    return {path.parent.relative_to(study.folder).as_posix() for path in found}


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("base/none/pairs/seed-1/predictions.parquet", "base/none/pairs/seed-1"),
        ("base/none/pairs/seed-1/scores.json", "base/none/pairs/seed-1"),
        ("base/none/pairs/seed-1/run.json", "base/none/pairs/seed-1"),
        ("base/choices/pairs/seed-1/notebook.ipynb", "base/choices/pairs/seed-1"),
        ("large/choices/seed-1/encoder/model.safetensors", "large/choices/seed-1"),
        ("large/encoder/model.safetensors", "large/encoder"),
        ("large/encoder/tokenizer.json", "large/encoder"),
    ],
)
def test_a_truncated_file_is_named_and_its_result_alone_is_made_again(done, name, result):
    path, before = done.folder / name, marks(done)
    with path.open("r+b") as file:
        file.truncate(max(1, path.stat().st_size - 9))
    (line,) = recovery.repair(done)
    assert name in line and "making it again" in line
    assert before - marks(done) == {result}
    assert recovery.repair(done) == []


def test_a_result_of_which_a_file_is_lost_is_made_again(done):
    (done.run_folder(Run("base", NONE, "pairs", 1)) / "predictions.parquet").unlink()
    (line,) = recovery.repair(done)
    assert "missing" in line


def test_lost_weights_are_noticed_beside_the_states_of_frozen_layers(done):
    folder = done.encoder_folder("large")
    (folder / "model.safetensors").rename(folder / hidden_states.FILE)
    (line,) = recovery.repair(done)
    assert "model.safetensors: missing" in line


def test_kept_data_that_are_truncated_are_read_again(done):
    kept = done.folder / "data/pairs/de.test.parquet"
    kept.write_bytes(kept.read_bytes()[:-20])
    assert "reading it again" in recovery.repair(done)[0]
    assert not prepared.is_complete(done)
    data.prepare(done)
    assert damage(kept) is None


def test_what_was_being_written_when_a_batch_was_killed_is_removed(done):
    run = done.run_folder(Run("base", NONE, "pairs", 1))
    (run / ".predictions.parquet.4711.parquet").write_bytes(b"half")
    (done.folder / "base/.encoder.4711").mkdir()
    (run / ".checkpoint").mkdir()
    assert recovery.repair(done) == []
    assert [path.name for path in run.glob(".*")] == [".checkpoint"]
    assert not (done.folder / "base/.encoder.4711").exists()


def edit(study: Study, path: str, value) -> Study:
    """The study after one key of its params file was changed."""
    raw = yaml.safe_load(study.path.read_text())
    *parents, last = path.split(".")
    node = raw
    for key in parents:
        node = node[key]
    node[last] = value
    study.path.write_text(yaml.safe_dump(raw))
    return Study.load(study.path, study.outputs)


@pytest.mark.parametrize(
    ("key", "value", "stale"),
    [
        (
            "phases.target.learning_rate",
            2e-3,
            "base/none/pairs large/none/pairs base/choices/pairs large/choices/pairs",
        ),
        (
            "phases.intermediate.steps",
            5,
            "base/choices large/choices base/choices/pairs large/choices/pairs",
        ),
        (
            "sizes.base.pooling",
            "cls",
            "base/encoder base/choices base/none/pairs base/choices/pairs",
        ),
        ("sizes.base.title", "another title", ""),
        ("description", "other words", ""),
        ("checkpoint_minutes", 1, ""),
    ],
)
def test_a_changed_parameter_reruns_what_depends_on_it_and_nothing_else(done, key, value, stale):
    before = marks(done)
    changed = edit(done, key, value)
    expected = {f"{name}/seed-1" if "encoder" not in name else name for name in stale.split()}
    lines = recovery.repair(changed)
    assert before - marks(changed) == expected
    assert len(lines) == len(expected) and all("other parameters" in line for line in lines)
    gone = {
        f"{r.size}/{r.intermediate}/{r.target}/seed-{r.seed}"
        for r in comparison.missing_runs(changed).itertuples()
    }
    assert gone == {name for name in expected if "/pairs/" in name}


def test_a_report_of_another_version_of_the_study_is_removed(done):
    for name in ("report.html", "4_compare.ipynb"):
        (done.folder / name).write_text("{}")
    recovery.snapshot(done)
    assert recovery.repair(done) == [] and (done.folder / "report.html").exists()
    fewer = edit(done, "intermediate", ["none"])  # every run that it still has is done
    assert any("another version" in line for line in recovery.repair(fewer))
    assert (
        not (done.folder / "report.html").exists()
        and not (done.folder / "4_compare.ipynb").exists()
    )


def test_a_batch_of_another_version_of_the_study_removes_its_report_first(done, monkeypatch):
    monkeypatch.setattr(run, "_snakemake", lambda study, *_: write_log(study) or 0)
    recovery.snapshot(done)
    report = done.folder / "report.html"
    report.write_text("a report")
    assert run.main([str(edit(done, "seeds", [2]).path), "--outputs", str(done.outputs)]) == 1
    assert not report.exists()


def write_log(study: Study) -> None:
    (study.folder / recovery.LOG).write_text("")


def test_a_params_file_edited_during_a_batch_does_not_reach_it(done):
    original = Study.load(done.path, done.outputs)
    copy = recovery.snapshot(original)
    assert copy.path != original.path and not recovery.differs(copy.path, original)
    assert not recovery.differs(original.path, copy)
    edit(original, "phases.target.learning_rate", 0.5)
    assert not recovery.differs(copy.path, original)
    assert recovery.differs(original.path, copy)
    done.path.write_text("neither: [")
    assert recovery.differs(original.path, copy)


def test_a_second_batch_on_the_same_outputs_is_refused_in_one_line(done, capsys):
    with recovery.only_one(done):
        assert run.main([str(done.path), "--outputs", str(done.outputs)]) == 2
    error = capsys.readouterr().err.strip()
    assert (
        error.count("\n") == 0 and "another batch is at work" in error and str(os.getpid()) in error
    )
    with recovery.only_one(done):
        pass


AT_WORK = """
import sys, time
from pathlib import Path
from helpers.batch import recovery
with recovery.held(Path(sys.argv[1])):
    print("at work", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def work(folder, seconds: float, **environment: str) -> subprocess.Popen:
    """A process that holds a run's folder."""
    command = [sys.executable, "-c", AT_WORK, folder, str(seconds)]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "at work\n"
    return process


def test_a_killed_batch_is_waited_for_until_its_last_job_has_ended(done, capsys):
    killed = work(done.run_folder(Run("large", "none", "pairs", 1)), 600)
    killed.kill()
    killed.wait()
    left = work(done.run_folder(Run("base", "none", "pairs", 1)), 1)
    with recovery.only_one(done):
        assert left.wait(timeout=5) == 0
    assert "waiting for the last jobs" in capsys.readouterr().out
    assert not list(done.folder.rglob(".at-work"))


@pytest.fixture
def job(done):
    """A cluster's job at work on a run of the study: it belongs to no batch of this machine."""
    folder = done.run_folder(Run("base", "none", "pairs", 1))
    process = work(folder, 600, SLURM_JOB_ID="17")
    yield process
    process.kill()
    process.wait()


def test_a_job_that_outlived_its_batch_is_named_and_no_second_batch_begins(done, job, capsys):
    assert run.main([str(done.path), "--outputs", str(done.outputs)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "base/none/pairs/seed-1" in error and "job 17" in error
    job.kill()
    job.wait()
    with recovery.only_one(done):
        assert not list(done.folder.rglob(".at-work"))


def test_jobs_that_wait_in_the_queue_are_named_too(done, tmp_path, monkeypatch, capsys):
    """This squeue knows the jobs of one batch by name; the test on a real Slurm asks a real one."""
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text('#!/bin/sh\ncase "$*" in *--name=batch-1) echo 5; echo 6;; esac\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    (done.folder / recovery.LOG).write_text("host: here\nSLURM run ID: batch-1\nmore\n")
    assert run.main([str(done.path), "--outputs", str(done.outputs)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "scancel 5 6" in error
    (done.folder / recovery.LOG).write_text("host: here\nSLURM run ID: batch-2\n")
    with recovery.only_one(done):
        pass


def test_a_run_is_made_by_one_process_at_a_time(done, job, monkeypatch):
    folder = done.run_folder(Run("base", "none", "pairs", 1))
    with recovery.held(done.run_folder(Run("large", "none", "pairs", 1))):
        pass  # another run is free
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "PATIENCE", 0)
        with pytest.raises(StudyError, match="job 17, process"), recovery.held(folder):
            pass
    threading.Timer(0.5, job.kill).start()
    with recovery.held(folder):  # free as soon as its holder is gone
        assert job.wait() != 0
    assert not (folder / ".at-work").exists()


def test_outputs_that_cannot_be_written_are_one_line(sources, tmp_path, capsys):
    params = write_study(tmp_path / "params", sources)
    (tmp_path / "outputs").write_text("a file where the folder should be")
    assert run.main([str(params), "--outputs", str(tmp_path / "outputs")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "cannot be written" in error


def test_a_full_disk_is_one_line_and_leaves_no_half_file(sources, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "there")

    params = write_study(tmp_path / "params", sources)
    monkeypatch.setattr("helpers.data.reading.write_whole", full)
    assert run.main([str(params), "--outputs", str(tmp_path / "outputs")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "No space left on device" in error


def test_a_mirror_file_that_vanished_is_named_unless_its_rows_are_kept(sources, tmp_path, capsys):
    params = write_study(tmp_path / "params", sources)
    study = Study.load(params, tmp_path / "outputs")
    data.prepare(study)
    lost = sources / "hub/tests/choices/en/train.jsonl"
    lost.unlink()
    assert prepared.is_complete(study)
    assert len(data.examples(study, "choices", "train")) == 12
    assert run.main([str(params), "--outputs", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "choices" in error and "en" in error


SNAKEMAKE = """
import sys, threading
from multiprocessing import forkserver
from pathlib import Path
from helpers.batch import execute
from helpers.study import Study
execute.serve_snakemake()
forkserver.set_forkserver_preload(["helpers.batch.engine"])
execute.NOTEBOOKS = folder = Path(sys.argv[1])
study = Study.load(sys.argv[2], folder)
study.folder.mkdir(exist_ok=True)
def start(name):
    try:
        execute.notebook("any", folder / name / "out.ipynb", study, name=name)
    except RuntimeError as error:
        print(error, flush=True)
threads = [threading.Thread(target=start, args=[name]) for name in sys.argv[3:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def snakemake(done, tmp_path, code: str, *names: str, **environment: str) -> subprocess.Popen:
    """What Snakemake's process does for jobs of these names, whose notebook has one cell."""
    cells = [nbformat.v4.new_code_cell("name = ''"), nbformat.v4.new_code_cell(code)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "any.ipynb")
    command = [sys.executable, "-c", SNAKEMAKE, str(tmp_path), str(done.path), *names]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **environment}, **pipes)


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_jobs_beside_each_other_see_one_gpu_each_and_no_two_the_same(done, tmp_path):
    code = f"""
import os, pathlib, time
begin = time.time()
time.sleep(1)
row = f"{{os.environ['CUDA_VISIBLE_DEVICES']}} {{begin}} {{time.time()}}"
pathlib.Path({str(tmp_path)!r}, name + ".txt").write_text(row)
if name == "killed":
    os.kill(os.getpid(), 9)
"""
    names = ["killed", "second", "third", "fourth"]
    process = snakemake(done, tmp_path, code, *names, HELPERS_GPUS="3,GPU-5")
    said, errors = process.communicate(timeout=120)
    assert [line for line in errors.splitlines() if line.startswith("FAILED")] == [
        f"FAILED {tmp_path}/killed/out.ipynb: the process was killed (out of memory?)"
    ]
    assert said.splitlines() == [f"{tmp_path}/killed/out.ipynb: failed"]
    used: dict[str, list] = {}
    for name in names:
        gpu, begin, end = (tmp_path / f"{name}.txt").read_text().split()
        used.setdefault(gpu, []).append((float(begin), float(end)))
    assert sorted(used) == ["3", "GPU-5"]  # one comes back however its job ended
    for spans in used.values():
        spans.sort()
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_a_fork_server_that_cannot_import_all_serves_and_collects_garbage(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.conversion_mapping", None)
    monkeypatch.delitem(sys.modules, "helpers.batch.preloaded", raising=False)
    with pytest.raises(ImportError):  # which the server passes over
        importlib.import_module("helpers.batch.preloaded")
    assert gc.isenabled()


def test_the_process_that_waits_for_a_notebook_draws_its_charts_until_it_ends():
    (here, there), (ended, process) = multiprocessing.Pipe(), multiprocessing.Pipe()
    waiting = threading.Thread(target=execute._draw, args=[here, ended], daemon=True)
    waiting.start()
    spec = {"mark": "point", "data": {"values": [{"x": 1}]}}
    assert execute._drawn(there, spec).startswith("<svg")
    with pytest.raises(ValueError, match="conversion failed"):
        execute._drawn(there, {"mark": {"type": 5}, "data": {"values": []}})
    process.close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_notebook_is_asked_to_end_when_its_fork_server_is_killed(done, tmp_path):
    code = f"""
import os, pathlib, time
pathlib.Path({str(tmp_path)!r}, "begun.txt").write_text(f"{{os.getpid()}} {{os.getppid()}}")
try:
    time.sleep(600)
finally:
    pathlib.Path({str(tmp_path)!r}, "asked.txt").touch()
"""
    code = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n" + code
    process = snakemake(done, tmp_path, code, "one")
    begun = tmp_path / "begun.txt"
    until(lambda: begun.exists() and len(begun.read_text().split()) == 2)
    notebook, server = map(int, begun.read_text().split())
    os.kill(server, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{notebook}").exists(), 20)
    assert (tmp_path / "asked.txt").exists()
    said, errors = process.communicate(timeout=20)
    assert "the process was killed" in errors and "one/out.ipynb: failed" in said
