"""A disk that is full and a folder that cannot be written: real ones, one line each."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_study
from study import follow

from helpers.study import StudyError

STUDY = Path(__file__).parents[1] / "tools/study.py"
DISKS = {"size=32k": "No space left on device", "ro": "Read-only file system"}


@pytest.fixture(params=DISKS)
def disk(request, tmp_path):
    """A small disk and one that cannot be written, and the error; skips where none is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "none", str(folder)]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if outcome.returncode:
        pytest.skip(f"nothing can be mounted here: {outcome.stderr.strip()}")
    yield folder, DISKS[request.param]
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_without_room_is_one_line_and_has_no_half_file(sources, tmp_path, disk):
    params, (outputs, said) = write_study(tmp_path / "params", sources), disk
    command = [sys.executable, str(STUDY), str(params), "--outputs", str(outputs), "--cores", "1"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 2
    assert said in outcome.stderr and outcome.stderr.count("\n") == 1
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
