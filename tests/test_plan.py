"""What a study takes, said before it runs."""

import shutil
from types import SimpleNamespace

import fetch
import figures
import plan
import pytest
import study as tools_study
import torch
import transformers
from conftest import make_size, refused

from helpers.encoders import adapters, families
from helpers.encoders.batches import TRAINING_BUDGET
from helpers.study import Study, files

A100 = figures.machine("A100")


def test_runs_examples_and_tokens_are_the_studys(load):
    study = load(read=True)
    assert figures.shape(study.sizes["large"]) == (2, 16, 4 + 2 * 32 / 16)
    phases = plan.phases(study, A100)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4}
    # Two sizes, four steps of four; an epoch of 24, after two intermediate tasks, at two sizes.
    assert phases["examples"].to_dict() == {"encoder": 0, "intermediate": 32, "target": 4 * 24}
    each = plan.trainings(study).query("phase == 'target'")
    assert each["tokens"].tolist() == [24 * 32] * 4
    assert fetch.missing(study) == []
    assert phases.loc["target", "hours"] >= 4 * figures.START / 3600


def test_what_is_not_on_this_machine_is_named(sources, load, tmp_path, monkeypatch):
    study = load()
    (sources / "files/pairs/sw.test.tsv").unlink()
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path))
    page = "\n".join(plan.show(study))
    assert "missing on this machine" in page and "sw.test.tsv: pairs" in page
    assert "data set tests/choices: choices" in page and "de.test.tsv" not in page
    assert "number of rows unknown, planned as 5,000: choices/train/en, pairs/train/en" in page


def test_what_the_hubs_cache_has_is_not_missing(load, tmp_path, monkeypatch):
    study = load()
    monkeypatch.delenv("HUB_MIRROR")
    monkeypatch.setattr(fetch, "HF_HUB_CACHE", str(tmp_path))
    assert fetch.missing(study) == ["data set tests/choices: choices"]
    (tmp_path / "datasets--tests--choices").mkdir()
    assert fetch.missing(study) == []


def test_the_sweeps_trainings_are_counted(load):
    values = {"batch_size": 4, "max_length": 32, "steps": 5}
    rates = {"learning_rates": [1e-4, 1e-3], "sizes": {"large": [1e-5, 1e-4, 1e-3]}}
    phases = {"intermediate": values, "target": values}
    study = load(read=True, phases=phases, sweep=rates | {"seeds": [7, 8]})
    assert plan.phases(study, A100).loc["sweep", ["runs", "examples"]].tolist() == [10, 10 * 5 * 4]


def test_the_study_of_record_is_several_hundred_runs():
    study = Study.load("params/xtreme-r.yaml")
    phases = plan.phases(study, A100)
    assert phases.loc["target", "runs"] == len(study.runs()) == 2 * 10 * (5 + 11 * 3)
    steps = 3 * -(-392_702 // 32)
    each = plan.trainings(study).dropna(subset="condition")
    mnli = next(row for _, row in each.iterrows() if row["condition"].title == "mnli, base")
    assert mnli["examples"] == steps * 32 and mnli["tokens"] == steps * 32 * 50
    assert any("ccg/train.auto" in line for line in fetch.missing(study))
    alone = {"intermediate": ["none", "mnli"], "sizes": {"base": study.sizes["base"]}}
    one = plan.phases(study.model_copy(update=alone), A100).loc["intermediate"]
    seconds = 6 * 85_054_464 * mnli["tokens"] / A100.rate
    assert one["hours"] == pytest.approx(3 * (seconds + figures.START) / 3600)
    effects = plan.effects(study)
    assert list(effects) == ["5 / 3", "5 / 5", "10 / 5"]
    assert (effects["10 / 5"] < effects["5 / 3"]).all()


@pytest.mark.parametrize("name", figures.ENCODERS)
def test_parameters_are_those_of_the_librarys_models(name):
    layers, hidden, _ = figures.ENCODERS[name]
    kind = "XLMRobertaXL" if "xl" in name.rpartition("-")[2] else "XLMRoberta"
    values = {"num_attention_heads": hidden // 64, "intermediate_size": 4 * hidden}
    if "mmBERT" in name:
        kind, values = "ModernBert", {"intermediate_size": 1152}
    values |= {"num_hidden_layers": layers, "hidden_size": hidden}
    size = make_size(name, tuning="lora", lora={"rank": 3})
    inner, _, adapted = figures.parameters(Study.load("params/scaling.yaml"), size)
    with torch.device("meta"):
        config = getattr(transformers, f"{kind}Config")(**values)
        model = getattr(transformers, f"{kind}Model")(config)
        counted = sum(p.numel() for p in families.layers(model).parameters())
        assert inner == pytest.approx(counted, rel=0.003 if kind == "ModernBert" else 0)
        if kind != "ModernBert":
            adapters.adapt(model, size, "fp32")
            assert adapted == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_memory_of_every_size_and_whether_it_fits():
    """Steps in parts and gradient checkpointing make room: only XXL needs a large card."""
    study = Study.load("params/scaling.yaml")
    a100, small, smaller = (plan.memory(study, figures.machine(n)) for n in ("A100", "l4", "T4"))
    assert a100.loc["xxl", "whole batch"] == pytest.approx(38.9, 0.01)
    assert set(a100["it fits"]) == {"yes"}
    assert small.loc[["xl", "xxl"], "it fits"].tolist() == ["yes", "no"]
    assert smaller.loc["large", "it fits"] == "yes, in smaller steps"
    assert {"cuda": figures.AT_ONCE[True], "cpu": figures.AT_ONCE[False]} == TRAINING_BUDGET
    # A retrieval pair takes the memory of two sequences and is not split.
    study = Study.load("params/xtreme-r-retrieval.yaml")
    settings = study.hyperparameters("target", "base", "mewsli_x")
    table = plan.memory(study, A100).loc["base"]
    tokens = 2 * settings.batch_size * settings.max_length
    states = tokens * 768 * (12 * figures.BETWEEN + figures.STATES) / 1e9
    assert table["least"] - table["weights and Adam"] == pytest.approx(states)
    whole = 12_288 * 768 * 12 * figures.STATES / 1e9  # a batch of SQuAD, more than one of pairs
    assert table["whole batch"] - table["weights and Adam"] == pytest.approx(whole)


def test_a_gpu_is_one_of_the_table_or_this_machine():
    with refused("GPU: found 'V100', expected one of: here, A100"):
        figures.machine("V100")
    here = figures.machine("here")
    assert here.rate > 1e9 and here.memory > 1
    assert here.is_gpu == torch.cuda.is_available()


def test_finished_trainings_say_the_rate(load):
    study = load(read=True)
    condition = study.condition("base", "choices")
    record = {"settings": condition.settings, "train_seconds": 2.0}
    files.write_json(condition.seed_folder(1) / "run.json", record)
    files.write_json(condition.seed_folder(2) / "run.json", {})  # as retrieval leaves it
    tokens = plan.trainings(study).set_index("phase")["tokens"]["intermediate"].iloc[0]
    expected = tokens * figures.flops_per_token(study, "base") / 2.0
    assert plan.finished_rate(study) == pytest.approx(expected)
    assert "as the finished trainings ran" in "\n".join(plan.show(study))
    assert "as the finished trainings ran" not in "\n".join(plan.show(study, "T4"))
    assert plan.finished_rate(load(overrides=[{"set": {"steps": 400}}])) == 0  # others than ran


def test_a_disk_too_small_for_what_is_missing_stops_a_batch(load, monkeypatch):
    study = load()
    assert plan.disk(study) == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with refused("found 0.0 GB of free disk, expected "):
        tools_study.batch(study, None, None, [])


@pytest.mark.parametrize(("name", "hours"), [("evening", 12), ("weekend", 48)])
def test_real_xlmr_takes_an_evening_or_a_weekend_of_one_card(name, hours):
    study, card = Study.load(f"params/{name}.yaml"), figures.machine("RTX 4090")
    assert plan.phases(study, card)["hours"].sum() < hours
    assert not plan.memory(study, card)["it fits"].eq("no").any()
    for target in (target.task for target in study.targets):
        trained = {part for task in study.train_on(target) for part in study.components(task)}
        assert not trained & set(study.intermediate), "the same data again"
