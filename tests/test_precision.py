"""Precision is a setting; auto is measured once per study, and what is adapted computes in it."""

import json

import numpy as np
import pytest
import torch

from helpers import encoders
from helpers.encoders import hardware
from helpers.encoders.batches import collate
from helpers.study import Size


@pytest.mark.parametrize(("bf16", "chosen"), [(1650.0, "bf16"), (171.0, "fp32"), (320.0, "fp32")])
def test_auto_takes_bf16_where_it_is_faster(tmp_path, monkeypatch, bf16, chosen):
    """With AMX, with AVX512-BF16 alone, and where the gain is less than what casting costs."""
    monkeypatch.setattr(hardware, "product_rates", lambda: {"fp32": 300.0, "bf16": bf16})
    assert hardware.precision("auto", tmp_path) == chosen


def test_auto_is_measured_once_and_decides_for_all_runs(tmp_path, monkeypatch):
    rates = iter([{"fp32": 1.0, "bf16": 9.0}])  # a second measurement would fail
    monkeypatch.setattr(hardware, "product_rates", lambda: next(rates))
    assert [hardware.precision("auto", tmp_path / "study") for _ in range(2)] == ["bf16", "bf16"]
    (kept,) = (tmp_path / "study").iterdir()
    assert json.loads(kept.read_text())["gflops"] == {"fp32": 1.0, "bf16": 9.0}


def test_what_the_study_says_is_not_measured(tmp_path):
    for precision in ("fp32", "bf16"):
        assert hardware.precision(precision, tmp_path) == precision
    assert not list(tmp_path.iterdir())


def test_a_measurement_takes_both_types_and_a_moment():
    rates = hardware.product_rates(seconds=0.0)
    assert set(rates) == {"fp32", "bf16"} and min(rates.values()) > 0


def test_run_json_is_told_what_machine_it_was():
    assert hardware.describe()["threads"] >= 1 and hardware.describe()["processor"]
    assert hardware.peak_memory() > 10**7


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_products_have_the_precision_that_the_encoder_was_adapted_to(tiny_sources, precision):
    path = tiny_sources / "encoder"
    encoder, _ = encoders.load(path)
    encoders.adapt(encoder, Size(encoder=str(path), title="tiny", pooling="mean"), precision)
    model = encoders.EncoderWithHead(encoder, "sequence", 3, "mean", 0.0)
    seen = []
    model.head.output[1].register_forward_hook(lambda _, __, logits: seen.append(logits.dtype))
    (logits,) = encoders.predict(model, [{"input_ids": [[0, 5, 6, 2]]}], 1)
    assert seen == [torch.float32 if precision == "fp32" else torch.bfloat16]
    assert logits.dtype == np.float32 and model.precision == precision
    assert all(p.dtype == torch.float32 for p in model.parameters())  # they are to be trained


def test_bf16_differs_from_fp32_by_no_more_than_its_rounding(tiny_sources):
    """bf16 keeps eight bits: a relative 2^-8 an operation, over the few of a tiny encoder.

    Weights that are kept in bf16 for reading alone give the bits of those rounded for a product.
    """
    path = tiny_sources / "encoder"
    batch = collate([{"input_ids": [[0, *range(5, 25), 2]]}], 1)
    size, logits = Size(encoder=str(path), title="tiny", pooling="mean"), []
    for precision, train in (("fp32", True), ("bf16", True), ("bf16", False)):
        encoder, _ = encoders.load(path)
        encoders.adapt(encoder, size, precision, train)
        torch.manual_seed(0)
        model = encoders.EncoderWithHead(encoder, "sequence", 3, "mean", 0.0).eval()
        with torch.inference_mode():
            logits.append(model(**batch).numpy())
    exact, rounded, kept = logits
    assert np.array_equal(rounded, kept) and not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 8 * 2**-8 * np.abs(exact).max() + 2**-8
