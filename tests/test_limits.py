"""A disk that fills up, a folder that cannot be written, a process without memory: real ones."""

import multiprocessing
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_study
from helpers.batch import engine, execute, recovery, run
from helpers.study.prepared import is_complete
from stress import differences, results

from helpers import comparison, data
from helpers.study import NONE, Run, Study
from helpers.training import checkpoints

RUN = Run("base", NONE, "pairs", 1)
CHANGES = {"intermediate": [NONE], "checkpoint_minutes": 0.0}


@pytest.fixture
def mount(tmp_path):
    """Mount something for this test; skips where that is not allowed."""
    mounted = []

    def do(name: str, *options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", *options, str(folder)]
        try:
            outcome = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no mount here")
        if outcome.returncode:
            pytest.skip(f"nothing can be mounted here: {outcome.stderr.strip()}")
        if folder not in mounted:
            mounted.append(folder)
        return folder

    yield do
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def prepared(params: Path, outputs: Path) -> Study:
    """The study with its data read and its encoder made: what a target needs."""
    study = Study.load(params, outputs)
    data.prepare(study)
    notebook = study.folder / RUN.size / "notebook.ipynb"
    parameters = {**common(study), "size": RUN.size}
    assert engine.run(execute.NOTEBOOKS / "1_encoder.ipynb", notebook, parameters) is None
    return study


def common(study: Study) -> dict[str, str]:
    return {"study": str(study.path), "outputs": str(study.outputs)}


def run_target(study: Study) -> str | None:
    """What the job of the run does, in this process."""
    parameters = {**common(study), **RUN._asdict()}
    notebook = study.run_folder(RUN) / "notebook.ipynb"
    return engine.run(execute.NOTEBOOKS / "3_target.ipynb", notebook, parameters)


def test_a_disk_that_fills_up_in_mid_run_costs_that_run_and_nothing_else(sources, tmp_path, mount):
    params = write_study(tmp_path / "params", sources, **CHANGES)
    whole = prepared(params, tmp_path / "whole")
    assert run_target(whole) is None

    study = prepared(params, mount("small", "-t", "tmpfs", "-o", "size=4m", "none") / "outputs")
    before = results(study)
    filler = study.outputs / "filler"
    free = shutil.disk_usage(study.outputs).free
    filler.write_bytes(bytes(free - 30_000))  # room for a first file, not for a checkpoint
    message = run_target(study)
    assert message.startswith("FAILED") and "\n" not in message
    assert differences(before, results(study)) == []
    assert len(comparison.missing_runs(study)) == len(study.runs())
    filler.unlink()
    assert recovery.repair(study) == []
    assert run_target(study) is None
    assert differences(results(whole), results(study)) == []
    left = [
        path.name
        for path in study.folder.rglob("*")
        if path.name.startswith(".") and path.name != ".params"
    ]
    assert left == [] and not (study.run_folder(RUN) / checkpoints.FOLDER).exists()


def test_a_disk_too_small_for_the_data_is_one_line_and_leaves_no_half_file(
    sources, tmp_path, mount, capsys
):
    params = write_study(tmp_path / "params", sources, **CHANGES)
    outputs = mount("small", "-t", "tmpfs", "-o", "size=32k", "none") / "outputs"
    assert run.main([str(params), "--outputs", str(outputs)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "No space left on device" in error
    assert not is_complete(Study.load(params, outputs))
    assert [path.name for path in outputs.rglob("*.parquet") if path.name.startswith(".")] == []


def test_an_output_folder_that_is_read_only_is_one_line_and_stays_as_it_is(
    sources, tmp_path, mount, capsys
):
    params = write_study(tmp_path / "params", sources, **CHANGES)
    study = prepared(params, tmp_path / "outputs")
    before = results(study)
    mount("outputs", "--bind", str(study.outputs))
    mount("outputs", "-o", "remount,bind,ro")
    assert run.main([str(params), "--outputs", str(study.outputs)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "Read-only file system" in error
    assert results(study) == before


def limited(study: Study, said: Path) -> None:
    """Run the target with 16 MiB more than this process has; what is said of it goes to a file."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**24, -1))
    said.write_text(str(run_target(study)), encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_run_out_of_memory_fails_by_name_and_is_made_by_the_next_batch(sources, tmp_path):
    widen(sources / "encoder")
    study = prepared(
        write_study(tmp_path / "params", sources, intermediate=[NONE]), tmp_path / "outputs"
    )
    fork = multiprocessing.get_context("fork")  # as a batch's runs are
    process = fork.Process(target=limited, args=[study, said := tmp_path / "said.txt"])
    process.start()
    process.join()
    line = said.read_text(encoding="utf-8")
    assert line.startswith("FAILED") and "\n" not in line and "seed-1" in line and "memory" in line
    assert recovery.repair(study) == [] and len(comparison.missing_runs(study)) == len(study.runs())
    assert run_target(study) is None
    assert len(comparison.missing_runs(study)) == len(study.runs()) - 1


def widen(encoder: Path) -> None:
    """Give the tiny encoder layers of a size that shows: 25 million weights, 400 MB in training."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig.from_pretrained(encoder)
    config.hidden_size, config.intermediate_size = 1024, 4096
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(encoder)
