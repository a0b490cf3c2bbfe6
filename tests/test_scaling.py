"""The scaling study, shortened, on a hub of the tests' own: tiny XLM-R base, large, XL and XXL."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import hub
import yaml

import comparison
from helpers.study import NONE, Study

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
    environment = hub.environment(server.url, tmp_path / "home")
    command = [sys.executable, __file__, str(shortened(tmp_path)), str(tmp_path / "outputs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    study = Study.load(tmp_path / "scaling.yaml", tmp_path / "outputs")
    assert [*study.sizes] == ["base", "large", "xl", "xxl"]
    plan, runs, predictions, *_ = comparison.read_study(study.folder)
    effects = comparison.effects(predictions, runs, plan)
    gains = effects[(effects["quantity"] == "gain") & (effects["language"] == "zero-shot")]
    assert set(gains.dropna(subset=["estimate"])["size"]) == {*study.sizes}
    for size in study.sizes:
        folder = study.condition(size, "mnli").encoder_folder(1)
        assert (folder / "adapter_model.safetensors").is_file()
        assert not [*folder.glob("model*")]
        record = json.loads((study.encoder_folder(size) / "run.json").read_text(encoding="utf-8"))
        assert 0 < record["parameters_without_embeddings"] < record["parameters"]["total"]


def run_all(path: str, outputs: str) -> None:
    """Every phase of the study."""
    import running

    gc.freeze()  # as in conftest.py
    study = running.prepare(Study.load(path, outputs))
    for size in study.sizes:
        running.run_notebook("sweep", study=path, outputs=outputs, size=size, join=True)
        running.run(study.condition(size, "mnli"))
        for task in (NONE, "mnli"):
            running.run(study.condition(size, task, "xnli"))
    study.write_record()


if __name__ == "__main__":
    run_all(*sys.argv[1:])
