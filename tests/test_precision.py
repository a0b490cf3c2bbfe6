"""Precision is a setting; auto is measured once per study, and what is adapted computes in it."""

import json

import numpy as np
import pytest
import torch
from conftest import make_size

from helpers import encoders
from helpers.encoders import hardware
from helpers.encoders.batches import collate


@pytest.mark.parametrize(("bf16", "chosen"), [(1650.0, "bf16"), (171.0, "fp32"), (320.0, "fp32")])
def test_auto_takes_bf16_where_it_is_faster_for_all_runs(tmp_path, monkeypatch, bf16, chosen):
    """With AMX, with AVX512-BF16 alone, and where the gain is less than what casting costs."""
    rates = iter([{"fp32": 300.0, "bf16": bf16}])  # a second measurement would fail
    monkeypatch.setattr(hardware, "product_rates", lambda: next(rates))
    assert [hardware.precision("auto", tmp_path) for _ in range(2)] == [chosen, chosen]
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["gflops"] == {"fp32": 300.0, "bf16": bf16}
    kept.unlink()
    assert [hardware.precision(asked, tmp_path) for asked in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert not list(tmp_path.iterdir())  # what the study says is not measured


def test_bf16_differs_from_fp32_by_no_more_than_its_rounding(tiny_sources):
    """bf16 keeps eight bits: a relative 2^-8 an operation, over the few of a tiny encoder.

    Weights that are kept in bf16 for reading alone give the bits of those rounded for a product.
    """
    path = tiny_sources / "encoder"
    batch = collate([{"input_ids": [[0, *range(5, 25), 2]]}], 1)
    logits = []
    for precision, train in (("fp32", True), ("bf16", True), ("bf16", False)):
        encoder, _ = encoders.load(path)
        encoders.adapt(encoder, make_size(path), precision, train)
        torch.manual_seed(0)
        head = encoders.Head(encoder, "sequence", 3, "mean", 0.0)
        model = encoders.EncoderModel(encoder, head).eval()
        with torch.inference_mode():
            logits.append(model(**batch).numpy())
    exact, rounded, kept = logits
    assert np.array_equal(rounded, kept) and not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 8 * 2**-8 * np.abs(exact).max() + 2**-8
