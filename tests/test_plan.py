"""What a study takes, said before it runs."""

import pytest
from conftest import write_study

from helpers import data
from helpers.batch import plan
from helpers.study import Study


def test_runs_examples_and_tokens_are_the_studys(sources, tmp_path):
    study = Study.load(write_study(tmp_path / "p", sources), tmp_path / "outputs")
    data.prepare(study)
    phases = plan.plan(study)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4}
    # Two sizes, four steps of four; an epoch of 24, after two intermediate tasks, at two sizes.
    assert phases["examples"].to_dict() == {"encoder": 0, "intermediate": 32, "target": 4 * 24}
    assert phases.loc["target", "tokens"] == 4 * 24 * 32
    assert plan.missing(study) == [] and phases.loc["target", "hours"] >= 4 * plan.START / 3600


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
    assert phases.loc["target", "runs"] == len(study.runs()) == 2 * 12 * 10 * 3
    steps = 3 * -(-392_702 // 32)
    examples, tokens = plan._training(study, "base", "mnli")
    assert examples == steps * 32 and tokens == examples * 50
    assert any("ccg/train.auto" in what for what in plan.missing(study))
    alone = {"intermediate": ["none", "mnli"], "sizes": {"base": study.sizes["base"]}}
    one = plan.plan(study.model_copy(update=alone)).loc["intermediate"]
    seconds = 6 * 85_054_464 * tokens / plan.GPU_FLOPS
    assert one["longest"] == pytest.approx((seconds + plan.START) / 60)
    assert phases.loc["intermediate", "longest"] > one["longest"]
