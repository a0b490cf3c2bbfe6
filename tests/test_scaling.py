"""The scaling study, shortened, on a hub of the tests' own: tiny XLM-R base, large, XL and XXL."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import yaml

from helpers import comparison
from helpers.study import NONE, Run, Study, sweeps

ROOT = Path(__file__).parents[1]
LANGUAGES = ["en", "sw", "zh"]


def shortened(folder: Path) -> Path:
    """The study with two steps a training, an intermediate task, a target, three languages."""
    study = yaml.safe_load((ROOT / "params/scaling.yaml").read_text(encoding="utf-8"))
    for values in study["phases"].values():
        values.pop("epochs")
        values |= {"steps": 2, "evaluations": 1, "batch_size": 4}
    study["intermediate"] = [NONE, "mnli"]
    study["targets"] = [{"task": "xnli", "languages": LANGUAGES}]
    study["sweep"] = {"learning_rates": [1e-4, 1e-2], "seeds": [101]}
    study |= {"seeds": [1], "check_sizes": False, "catalogue": str(ROOT / "params/tasks.yaml")}
    path = folder / "scaling.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def test_gains_come_out_of_every_size_up_to_xxl(tmp_path):
    server = hub.Hub(hub.make_models(tmp_path / "models"))
    environment = {k: v for k, v in os.environ.items() if k not in ("HUB_MIRROR", "DATA_DIR")}
    environment |= hub.environment(server.url, tmp_path / "home")
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, __file__, str(shortened(tmp_path)), str(tmp_path / "outputs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    study = Study.load(tmp_path / "scaling.yaml", tmp_path / "outputs")
    assert [*study.sizes] == ["base", "large", "xl", "xxl"]
    runs, predictions, _ = comparison.finished_runs(study)
    effects = comparison.effects(predictions, runs, planned=study.runs())
    gains = effects[(effects["quantity"] == "gain") & (effects["language"] == "zero-shot")]
    assert set(gains.dropna(subset=["estimate"])["size"]) == {*study.sizes}
    for size in study.sizes:
        folder = study.encoder_folder(size, "mnli", 1)
        assert (folder / "adapter_model.safetensors").is_file()
        assert not [*folder.glob("model*")]
        record = json.loads((study.encoder_folder(size) / "run.json").read_text(encoding="utf-8"))
        assert 0 < record["parameters_without_embeddings"] < record["parameters_all"]


def run_all(path: str, outputs: str) -> None:
    """Every phase of the study."""
    from helpers import data, encoders, evaluation, training

    gc.freeze()  # as in conftest.py
    study = Study.load(path, outputs)
    data.prepare(study)
    for size in study.sizes:
        encoders.prepare(study, size)
        for tried, trial in sweeps.trials(study, size):
            evaluation.write_trial(tried, trial, training.target(tried, trial))
        sweeps.choose(study, size)
        trained = training.intermediate(study, size, "mnli", 1)
        evaluation.write_intermediate(study, size, "mnli", 1, trained)
        for run in (Run(size, *rest) for name, *rest in study.runs() if name == size):
            trained = training.target(study, run)
            predictions = evaluation.zero_shot(study, run.target, trained)
            evaluation.write_run(study, run, trained, predictions)


if __name__ == "__main__":
    run_all(*sys.argv[1:])
