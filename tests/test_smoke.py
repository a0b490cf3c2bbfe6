"""The demo in miniature, on the real stand-in encoder and mini benchmark, without a network."""

import os
import socket
import subprocess
import sys

import pandas as pd

from helpers import comparison
from helpers.study import Study


def test_the_smoke_study_runs_through_offline(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("HUB_MIRROR", "DATA_DIR", "HF_ENDPOINT"):
        environment.pop(name, None)
    command = [
        sys.executable,
        "-m",
        "helpers.batch",
        "params/smoke.yaml",
        "--cores",
        "2",
        "--outputs",
        str(tmp_path),
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    study = Study.load("params/smoke.yaml", tmp_path)
    assert len(comparison.missing_runs(study)) == 0
    results = pd.read_parquet(study.folder / "results.parquet")
    assert set(results["language"]) == {"en", "zh", "zero-shot"}
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert "stand-in" in page and "https://cdn" not in page
    assert "one seed only" in outcome.stdout  # the finding, and how unsure it is


def test_the_mini_benchmark_and_the_stand_in_open_no_connection(monkeypatch):
    from helpers import data
    from helpers.encoders import bundled

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    study = Study.load("params/smoke.yaml")
    assert len(data.examples(study, "mini_xcopa", "test", "zh")) == 300
    assert bundled.locate().is_file()
