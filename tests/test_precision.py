"""Precision is a setting; auto is measured once a study, and every run says what it used."""

import json

import numpy as np
import pytest
import torch
from conftest import write_study

from helpers import encoders, evaluation, training
from helpers.encoders import hardware
from helpers.encoders.batches import collate
from helpers.encoders.model import EncoderWithHead
from helpers.study import Run, Study, StudyError


@pytest.fixture
def study(sources, tmp_path):
    def make(precision="auto", **changes) -> Study:
        changes["precision"] = precision
        path = write_study(tmp_path / "params", sources, **changes)
        return Study.load(path, tmp_path / "outputs")

    return make


@pytest.mark.parametrize(("bf16", "chosen"), [(1650.0, "bf16"), (171.0, "fp32"), (320.0, "fp32")])
def test_auto_takes_bf16_where_it_is_faster(study, monkeypatch, bf16, chosen):
    """With AMX, with AVX512-BF16 alone, and where the gain is less than what casting costs."""
    monkeypatch.setattr(hardware, "product_rates", lambda: {"fp32": 300.0, "bf16": bf16})
    assert hardware.precision(study()) == chosen


def test_auto_is_measured_once_and_decides_for_all_runs(study, monkeypatch):
    made, measured = study(), []
    rates = iter([{"fp32": 1.0, "bf16": 9.0}, {"fp32": 9.0, "bf16": 1.0}])
    monkeypatch.setattr(hardware, "product_rates", lambda: measured.append(1) or next(rates))
    assert encoders.prepare(made, "base")["precision"] == "bf16"
    assert hardware.precision(made) == "bf16" and len(measured) == 1
    (kept,) = made.folder.glob("precision.*.json")
    assert json.loads(kept.read_text())["gflops"] == {"fp32": 1.0, "bf16": 9.0}


def test_a_measurement_takes_both_types_and_a_moment():
    rates = hardware.product_rates(seconds=0.0)
    assert set(rates) == {"fp32", "bf16"} and min(rates.values()) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_uses_what_the_study_says_and_records_it(study, precision):
    made = study(precision=precision, intermediate=["none"])
    encoders.prepare(made, "base")
    assert not list(made.folder.glob("precision*"))
    run = Run("base", "none", "pairs", 1)
    trained = training.target(made, run)
    seen = []
    linear = trained.model.head.output[1]
    linear.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    predictions = evaluation.zero_shot(made, "pairs", trained)
    evaluation.write_run(made, run, trained, predictions)
    assert set(seen) == {torch.float32 if precision == "fp32" else torch.bfloat16}
    record = json.loads((made.run_folder(run) / "run.json").read_text())
    assert record["precision"] == precision and record["hardware"]["processor"]
    assert record["parameters"]["precision"] == precision


def test_bf16_differs_from_fp32_by_no_more_than_its_rounding(tiny_sources):
    """bf16 keeps eight bits: a relative 2^-8 an operation, over the few of a tiny encoder."""
    encoder, _ = encoders.load(tiny_sources / "encoder")
    model = EncoderWithHead(encoder, "sequence", 3, "mean", 0.0).eval()
    batch = collate([{"input_ids": [[0, *range(5, 25), 2]]}], 1)
    with torch.inference_mode():
        exact = model(**batch).numpy()
        model.precision = "bf16"
        rounded = model(**batch).numpy()
    assert rounded.dtype == np.float32 and not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 8 * 2**-8 * np.abs(exact).max() + 2**-8


def test_an_unknown_precision_is_one_line(study):
    with pytest.raises(StudyError, match=r"precision: .*'fp32'.*\(found 'fp16'\)"):
        study(precision="fp16")


def test_a_notebook_too_early_says_which_one_comes_first(study):
    made = study()
    with pytest.raises(StudyError, match=r"run notebook 1_encoder first.*papermill .*-p size base"):
        training.target(made, Run("base", "choices", "pairs", 1))
    encoders.prepare(made, "base")
    with pytest.raises(StudyError, match=r"2_intermediate first.*-p task choices -p seed 1"):
        training.target(made, Run("base", "choices", "pairs", 1))


def test_for_a_person_a_missing_encoder_is_made(study, monkeypatch):
    made = study()
    monkeypatch.setattr("helpers.study.opening.is_interactive", lambda: True)
    assert training.target(made, Run("base", "none", "pairs", 1)).log
    assert (made.encoder_folder("base") / "run.json").exists()
