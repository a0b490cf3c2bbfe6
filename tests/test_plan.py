"""What a study takes, said before it runs."""

import pytest
import torch
import transformers
from conftest import write_study
from helpers.batch import costs, memory, plan

from helpers import data
from helpers.encoders import adapters, families, hidden_states
from helpers.study import Size, Study, rules


def test_runs_examples_and_tokens_are_the_studys(sources, tmp_path):
    study = Study.load(write_study(tmp_path / "p", sources), tmp_path / "outputs")
    data.prepare(study)
    phases = plan.plan(study)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4}
    # Two sizes, four steps of four; an epoch of 24, after two intermediate tasks, at two sizes.
    assert phases["examples"].to_dict() == {"encoder": 0, "intermediate": 32, "target": 4 * 24}
    assert phases.loc["target", "tokens"] == 4 * 24 * 32
    assert plan.missing(study) == [] and phases.loc["target", "hours"] >= 4 * costs.START / 3600


def test_what_is_not_on_this_machine_is_named(sources, tmp_path, monkeypatch):
    study = Study.load(write_study(tmp_path / "p", sources), tmp_path / "outputs")
    (sources / "files/pairs/sw.test.tsv").unlink()
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    said = plan.show(study, plan.plan(study))
    assert "missing on this machine" in said and "sw.test.tsv: pairs" in said
    assert "data set tests/choices: choices" in said and "de.test.tsv" not in said
    assert "sizes that the catalogue does not say" in said


def test_what_a_study_asks_of_a_cluster_stands_beside_what_its_longest_run_takes(sources, tmp_path):
    needs = {"target": {"gpus": 2, "memory_gb": 7.5, "minutes": 45}}
    study = Study.load(write_study(tmp_path / "p", sources, cluster=needs), tmp_path / "outputs")
    planned = plan.plan(study)
    rows = {line.split()[0]: line for line in plan.show(study, planned).splitlines() if line}
    assert rows["target"].endswith("1 min   2 GPU, 7.5 GB, 45 min")
    assert (
        "0 GPU, 16 GB" in rows["encoder"]
        and "1 GPU, 16 GB" in rows["intermediate"]
        and "warning:" not in rows
    )
    planned.loc["target", "longest"] = 100.0
    warned = [line for line in plan.show(study, planned).splitlines() if line.startswith("warning")]
    assert warned == ["warning: cluster.target.minutes: found 45, expected at least 100"]


def test_the_study_of_record_is_several_hundred_runs():
    study = Study.load("params/xtreme-r.yaml")
    phases = plan.plan(study)
    assert phases.loc["target", "runs"] == len(study.runs()) == 2 * 10 * (5 + 11 * 3)
    steps = 3 * -(-392_702 // 32)
    examples, tokens = costs.trained(study, "base", "mnli")
    assert examples == steps * 32 and tokens == examples * 50
    assert any("ccg/train.auto" in what for what in plan.missing(study))
    alone = {"intermediate": ["none", "mnli"], "sizes": {"base": study.sizes["base"]}}
    one = plan.plan(study.model_copy(update=alone)).loc["intermediate"]
    seconds = 6 * 85_054_464 * tokens / costs.GPU_FLOPS
    assert one["longest"] == pytest.approx((seconds + costs.START) / 60)
    assert phases.loc["intermediate", "longest"] > one["longest"]


def test_what_runs_share_is_counted_against_every_run_alone(sources, tmp_path, monkeypatch):
    """Two sizes, `none` and one task before two targets, two seeds: 16 runs."""
    changes = {"targets": ["pairs", "choices"], "seeds": [1, 2]}
    study = Study.load(write_study(tmp_path / "p", sources, **changes), tmp_path / "outputs")
    data.prepare(study)
    saved = plan.saved(study)
    assert saved["encoders"] == pytest.approx((16 - 2) * costs.START / 3600)
    *_, hours, _, _ = costs.result(study, "base", "choices")
    assert saved["intermediate trainings"] == pytest.approx(2 * 2 * hours, rel=0.01)
    assert "states of frozen layers" not in saved
    values = {"steps": 1, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    frozen = dict.fromkeys(("intermediate", "target"), values | {"frozen_layers": 1})
    path = write_study(tmp_path / "q", sources, phases=frozen, **changes)
    several = Study.load(path, tmp_path / "outputs")
    assert "states of frozen layers" not in plan.saved(several)  # they take too much room
    monkeypatch.setattr(hidden_states, "LIMIT", 2**40)
    assert plan.saved(several)["states of frozen layers"] > 0
    once = write_study(tmp_path / "r", sources, phases=frozen, intermediate=["none"], seeds=[1])
    assert [*plan.saved(Study.load(once, tmp_path / "outputs"))] == []  # one run of each size
    said = plan.show(study, plan.plan(study))
    assert (
        "GPU-hours" in said.split("saved against every run")[1] and "texts of another" not in said
    )
    rows = (sources / "files/pairs/de.test.tsv").read_text(encoding="utf-8").splitlines()
    again = "\n".join([*rows, "more\t" + rows[1].split("\t", 1)[1]]) + "\n"
    (sources / "files/pairs/de.test.tsv").write_text(again, encoding="utf-8")
    data.prepare(study)
    assert "\n1 of " in plan.show(study, plan.plan(study)).split("texts of another")[0]


@pytest.mark.parametrize("name", [name for name in memory.ENCODERS if "xlm" in name])
def test_parameters_are_those_of_the_librarys_models(name):
    layers, hidden, _ = memory.ENCODERS[name]
    kind = "XLMRobertaXL" if "xl" in name.rpartition("-")[2] else "XLMRoberta"
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    config = getattr(transformers, f"{kind}Config")(**shape, num_attention_heads=hidden // 64)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}Model")(config, add_pooling_layer=False)
    size = Size(encoder=name, title="", pooling="cls", tuning="lora", lora={"rank": 3})
    own, _, adapted = memory.parameters(Study.load("params/scaling.yaml"), size)
    assert own == sum(p.numel() for p in families.layers(model).parameters())
    with torch.device("meta"):
        adapters.add(model, size)
    assert adapted == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", [name for name in memory.ENCODERS if "mmBERT" in name])
def test_parameters_of_mmbert_are_those_of_its_layers(name):
    layers, hidden, _ = memory.ENCODERS[name]
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 1152}
    config = transformers.ModernBertConfig(**shape, num_attention_heads=hidden // 64)
    with torch.device("meta"):
        model = transformers.ModernBertModel(config)
    counted = sum(p.numel() for p in families.layers(model).parameters())
    size = Size(encoder=name, title="", pooling="mean")
    own, *_ = memory.parameters(Study.load("params/beyond.yaml"), size)
    assert own == pytest.approx(counted, rel=0.003)


def test_a_retrieval_pair_takes_the_memory_of_two_sequences_and_is_not_split():
    study = Study.load("params/xtreme-r-retrieval.yaml")
    settings = study.hyperparameters("target", "base", "mewsli_x")
    states = memory.needed(study).set_index(["size", "phase"]).loc[("base", "target"), "states"]
    assert memory.sequences(study.tasks["mewsli_x_pairs"]) == 2
    tokens = 2 * settings.batch_size * settings.max_length
    assert states >= tokens * 768 * 12 * memory.STATES / 1e9


@pytest.mark.parametrize(("kind", "rank"), [("XLMRoberta", 0), ("XLMRobertaXL", 16)])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_states_that_a_layer_keeps_are_as_estimated(kind, rank, checkpointed):
    """Bytes a token, layer and unit of the hidden size, without attention's probabilities, which
    only processors keep.
    """
    hidden, heads, length = 128, 2, 64

    def kept(layers: int, batch: int) -> int:
        shape = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "vocab_size": 100}
        shape |= {"num_hidden_layers": layers, "num_attention_heads": heads}
        config = getattr(transformers, f"{kind}Config")(**shape)
        model = getattr(transformers, f"{kind}Model")(config, add_pooling_layer=False).train()
        if rank:
            size = Size(encoder="", title="", pooling="cls", tuning="lora", lora={"rank": rank})
            adapters.add(model, size)
            adapters.round_frozen(model)
        if checkpointed:
            families.checkpoint_gradients(model)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = torch.full((batch, length), 5)
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return sum(seen.values())

    grown = kept(4, 8) - kept(2, 8) - (kept(4, 4) - kept(2, 4))
    found = grown / (2 * 4 * length * hidden)
    if checkpointed:
        assert found == memory.BETWEEN
    else:
        found -= 12 * heads * length / hidden
        assert found == pytest.approx(memory.STATES, abs=3)


def test_memory_of_every_phase_and_size_and_the_gpus_it_fits():
    study = Study.load("params/scaling.yaml")
    needed = memory.needed(study).set_index(["size", "phase"])
    assert len(needed) == 4 * 3 and needed.loc[("xxl", "encoder"), "total"] == pytest.approx(
        42.8, 0.01
    )
    shown = plan.show(study, plan.plan(study))
    lines = {tuple(line.split()[:2]): line for line in shown.splitlines() if line}
    assert lines["xl", "target"].endswith("a GPU of 24, 40, 80 GB")
    assert lines["xxl", "target"].endswith("a GPU of 40, 80 GB")
    full = {name: size.model_copy(update={"tuning": "full"}) for name, size in study.sizes.items()}
    whole = memory.needed(study.model_copy(update={"sizes": full})).set_index(["size", "phase"])
    own, words, adapted = memory.parameters(study, study.sizes["xxl"])
    for column, saved in (
        ("weights", 4 * (own - adapted)),
        ("optimiser", 12 * (own + words - adapted)),
    ):
        difference = whole.loc[("xxl", "target"), column] - needed.loc[("xxl", "target"), column]
        assert difference == pytest.approx(saved / 1e9)


def test_sizes_whose_parameters_do_not_grow_are_a_warning():
    study = Study.load("params/scaling.yaml")
    assert "warning" not in plan.show(study, plan.plan(study))
    other = study.model_copy(update={"sizes": dict(reversed(study.sizes.items()))})
    warned = [x for x in plan.show(other, plan.plan(other)).splitlines() if "warning: sizes" in x]
    assert (
        len(warned) == 3
        and "9,666,232,320 parameters in 'xxl' before 2,832,353,280 in 'xl'" in warned[0]
    )
    assert [*rules.order(study, {"base": 2, "large": 2, "xxl": 1})] == [
        "warning: sizes: found 2 parameters in 'large' before 1 in 'xxl'; expected them to grow"
    ]
