"""A disk that is full and a folder that cannot be written: real ones, one line each."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_study
from study import follow

from helpers.study import StudyError

STUDY = Path(__file__).parents[1] / "tools/study.py"


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
        mounted.append(folder)
        return folder

    yield do
    for folder in dict.fromkeys(reversed(mounted)):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def batch(params: Path, outputs: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(STUDY), str(params), "--outputs", str(outputs), "--cores", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_too_small_a_disk_is_one_line_and_leaves_no_half_file(sources, tmp_path, mount):
    params = write_study(tmp_path / "params", sources)
    outputs = mount("small", "-t", "tmpfs", "-o", "size=32k", "none") / "outputs"
    outcome = batch(params, outputs)
    assert outcome.returncode == 2
    assert "No space left on device" in outcome.stderr and outcome.stderr.count("\n") == 1
    assert list(outputs.rglob(".*")) == []


def test_a_disk_that_fills_up_during_a_run_stops_the_batch_with_one_line(tmp_path, capsys):
    log = tmp_path / "snakemake.log"
    failed = "FAILED base/notebook.ipynb: OSError: [Errno 28] No space left on device\n"
    log.write_text(failed, encoding="utf-8")
    with subprocess.Popen(["sleep", "60"]) as process:
        with pytest.raises(StudyError, match=f"{tmp_path}: the disk is full; make room and give"):
            follow(process, log, 0)
        process.kill()
    assert capsys.readouterr().err == failed


def test_a_read_only_output_folder_is_one_line_and_stays_as_it_is(sources, tmp_path, mount):
    params = write_study(tmp_path / "params", sources)
    outputs = mount("outputs", "-t", "tmpfs", "none")
    mount("outputs", "-o", "remount,ro")
    outcome = batch(params, outputs)
    assert outcome.returncode == 2
    assert "Read-only file system" in outcome.stderr and outcome.stderr.count("\n") == 1
    assert list(outputs.iterdir()) == []
