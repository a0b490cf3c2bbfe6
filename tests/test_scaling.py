"""The scaling study, shortened, on a hub of the tests' own: tiny XLM-R base, large, XL and XXL."""

import json
from pathlib import Path

from test_hub_study import made

import comparison
from helpers.study import NONE

SCALING = Path(__file__).parents[1] / "params/scaling.yaml"
SWEEP = {"learning_rates": [1e-4, 1e-2], "seeds": [101]}


def test_gains_come_out_of_every_size_up_to_xxl(tmp_path):
    """On one intermediate task and one target."""
    changes = {"intermediate": [NONE, "mnli"], "targets": ["xnli"], "sweep": SWEEP, "seeds": [1]}
    study = made(SCALING, tmp_path, **changes)
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
