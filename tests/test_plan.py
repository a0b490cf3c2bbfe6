"""What a study takes, said before it runs."""

import plan
import pytest
import torch
import transformers
from conftest import write_study

from helpers import data
from helpers.encoders import adapters, families
from helpers.encoders.batches import TRAINING_BUDGET
from helpers.study import Size, Study


def test_runs_examples_and_tokens_are_the_studys(sources, tmp_path):
    study = Study.load(write_study(tmp_path / "p", sources), tmp_path / "outputs")
    data.prepare(study)
    phases = plan.phases(study)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4}
    # Two sizes, four steps of four; an epoch of 24, after two intermediate tasks, at two sizes.
    assert phases["examples"].to_dict() == {"encoder": 0, "intermediate": 32, "target": 4 * 24}
    assert phases.loc["target", "tokens"] == 4 * 24 * 32
    assert plan.missing(study) == []
    assert phases.loc["target", "GPU-hours"] >= 4 * plan.START / 3600


def test_what_is_not_on_this_machine_is_named(sources, tmp_path, monkeypatch):
    study = Study.load(write_study(tmp_path / "p", sources), tmp_path / "outputs")
    (sources / "files/pairs/sw.test.tsv").unlink()
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    page = "\n".join(plan.show(study))
    assert "missing on this machine" in page and "sw.test.tsv: pairs" in page
    assert "data set tests/choices: choices" in page and "de.test.tsv" not in page
    assert "number of rows is unknown: choices, pairs" in page


def test_too_little_time_asked_of_a_cluster_is_a_warning(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, cluster={"target": {"minutes": 45}})
    study = Study.load(path, tmp_path / "outputs")
    phases = plan.phases(study)
    assert not [line for line in plan.warnings(study, phases) if "minutes" in line]
    phases.loc["target", "longest"] = 100.0
    expected = "warning: cluster.target.minutes: found 45, expected at least 100"
    assert expected in plan.warnings(study, phases)


def test_the_sweeps_trainings_are_counted(sources, tmp_path):
    values = {"batch_size": 4, "max_length": 32, "steps": 5}
    phases = dict.fromkeys(("intermediate", "target"), values)
    sweep = {
        "learning_rates": [1e-4, 1e-3],
        "sizes": {"large": [1e-5, 1e-4, 1e-3]},
        "seeds": [7, 8],
    }
    path = write_study(tmp_path / "p", sources, phases=phases, sweep=sweep)
    study = Study.load(path, tmp_path / "outputs")
    data.prepare(study)
    assert plan.phases(study).loc["sweep", ["runs", "examples"]].tolist() == [10, 10 * 5 * 4]


def test_the_study_of_record_is_several_hundred_runs():
    study = Study.load("params/xtreme-r.yaml")
    phases = plan.phases(study)
    assert phases.loc["target", "runs"] == len(study.runs()) == 2 * 10 * (5 + 11 * 3)
    steps = 3 * -(-392_702 // 32)
    examples, tokens = plan.trained(study, "intermediate", "base", "mnli")
    assert examples == steps * 32 and tokens == examples * 50
    assert any("ccg/train.auto" in line for line in plan.missing(study))
    alone = {"intermediate": ["none", "mnli"], "sizes": {"base": study.sizes["base"]}}
    one = plan.phases(study.model_copy(update=alone)).loc["intermediate"]
    seconds = 6 * 85_054_464 * tokens / plan.GPU_FLOPS
    assert one["longest"] == pytest.approx((seconds + plan.START) / 60)
    effects = plan.effects(study)
    assert list(effects) == ["5 / 3", "5 / 5", "10 / 5"] and len(effects) == 3
    assert (effects["10 / 5"] < effects["5 / 3"]).all()


def test_an_encoders_folder_says_its_shape(tiny_sources):
    size = Size(encoder=str(tiny_sources / "encoder"), title="", pooling="mean")
    assert plan.shape(size) == (2, 16, 4 + 2 * 32 / 16)


@pytest.mark.parametrize("name", plan.ENCODERS)
def test_parameters_are_those_of_the_librarys_models(name):
    layers, hidden, _ = plan.ENCODERS[name]
    kind = "XLMRobertaXL" if "xl" in name.rpartition("-")[2] else "XLMRoberta"
    values = {"intermediate_size": 4 * hidden, "num_attention_heads": hidden // 64}
    if "mmBERT" in name:
        kind, values = "ModernBert", {"intermediate_size": 1152}
    config = getattr(transformers, f"{kind}Config")(
        num_hidden_layers=layers, hidden_size=hidden, **values
    )
    more = {} if kind == "ModernBert" else {"add_pooling_layer": False}
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}Model")(config, **more)
    size = Size(encoder=name, title="", pooling="cls", tuning="lora", lora={"rank": 3})
    inner, _, adapted = plan.parameters(Study.load("params/scaling.yaml"), size)
    counted = sum(p.numel() for p in families.layers(model).parameters())
    assert inner == pytest.approx(counted, rel=0.003 if kind == "ModernBert" else 0)
    if kind != "ModernBert":
        with torch.device("meta"):
            adapters.adapt(model, size, "fp32")
        assert adapted == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("kind", "rank"), [("XLMRoberta", 0), ("XLMRobertaXL", 16)])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_states_that_a_layer_keeps_are_as_estimated(kind, rank, checkpointed):
    """Bytes a token, layer and hidden unit, without attention's probabilities, which only
    processors keep.
    """
    hidden, heads, length = 128, 2, 64

    def kept(layers: int, batch: int) -> int:
        shape = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "vocab_size": 100}
        shape |= {"num_hidden_layers": layers, "num_attention_heads": heads}
        config = getattr(transformers, f"{kind}Config")(**shape)
        model = getattr(transformers, f"{kind}Model")(config, add_pooling_layer=False).train()
        tuning = {"tuning": "lora", "lora": {"rank": rank}} if rank else {}
        size = Size(
            encoder="", title="", pooling="cls", gradient_checkpointing=checkpointed, **tuning
        )
        adapters.adapt(model, size, "bf16")
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = torch.full((batch, length), 5)
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return sum(seen.values())

    grown = kept(4, 8) - kept(2, 8) - (kept(4, 4) - kept(2, 4))
    unit = grown / (2 * 4 * length * hidden)
    if checkpointed:
        assert unit == plan.BETWEEN
    else:
        assert unit - 12 * heads * length / hidden == pytest.approx(plan.STATES, abs=3)


def test_memory_of_every_phase_and_size_and_the_gpus_it_fits():
    study = Study.load("params/scaling.yaml")
    needed = plan.memory(study).set_index(["size", "phase"])["total"]
    assert len(needed) == 4 * 3 and needed["xxl", "encoder"] == pytest.approx(42.8, 0.01)
    lines = {tuple(line.split()[:2]): line for line in "\n".join(plan.show(study)).splitlines()}
    assert lines["xl", "target"].endswith(" 24, 40, 80")
    assert lines["xxl", "target"].endswith(" 40, 80") and "24" not in lines["xxl", "target"][-12:]
    assert TRAINING_BUDGET["cuda"] == plan.AT_ONCE


def test_a_retrieval_pair_takes_the_memory_of_two_sequences_and_is_not_split():
    study = Study.load("params/xtreme-r-retrieval.yaml")
    settings = study.hyperparameters("target", "base", "mewsli_x")
    states = plan.memory(study).set_index(["size", "phase"]).loc[("base", "target"), "states"]
    tokens = 2 * settings.batch_size * settings.max_length
    assert states >= tokens * 768 * 12 * plan.STATES / 1e9
