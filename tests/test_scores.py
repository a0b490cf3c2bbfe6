"""A score is 100 x credit / out of, formed by evaluate with no network and no files."""

import socket

import numpy as np
import pytest

from helpers import formats
from helpers.formats.metrics import Score


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_a_score_is_the_ratio_of_its_sums_to_the_bit(count):
    credits, out_of = np.random.default_rng(count).random((2, count)).tolist()
    expected = 100 * sum(credits) / (sum(out_of) or 1)
    assert formats.score(credits, out_of) == expected
    assert Score().compute(predictions=credits, references=out_of) == {"score": expected}


def test_scores_need_no_network_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    assert Score().compute(predictions=[1.0], references=[4.0]) == {"score": 25.0}
    assert list(tmp_path.iterdir()) == []


def test_scores_leave_the_state_of_random_numbers_as_it_was():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    Score().compute(predictions=[1.0], references=[1.0])
    assert np.random.rand() == expected
