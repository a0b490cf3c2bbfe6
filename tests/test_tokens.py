"""Texts are tokenised once; what is kept of them is what the format gives."""

import numpy as np
import pytest
from conftest import ANIMALS, make_encoder

from helpers import data, encoders, evaluation, tasks, training
from helpers.study import Run, Study, Task

ROWS = {
    "sentence_pair": [
        {"text_a": "dog runs", "text_b": f"cat sleeps {i}", "label": i % 3} for i in range(5)
    ],
    "multiple_choice": [
        {
            "context": "dog",
            "question": "What happened?",
            "choices": ["runs", f"cat {i}", "eats"],
            "label": i % 3,
        }
        for i in range(5)
    ],
    "span_extraction": [
        {
            "context": "dog runs " * i + "cat",
            "question": "who?",
            "answers": {"text": ["cat"], "answer_start": [9 * i]},
        }
        for i in range(1, 9)
    ],
    "tagging": [{"tokens": ANIMALS["en"] * i, "labels": [0, 1, 2] * 2 * i} for i in range(1, 9)],
    "retrieval": [
        {"source": "dog", "target": "Hund rennt", "prefix": "cat "},
        {"source": "cat", "target": "Katze"},
    ],
}


def task(kind: str) -> Task:
    metric = "f1" if kind == "span_extraction" else "accuracy"
    return Task(
        name="t",
        format=kind,
        files="t.tsv",
        labels=["a", "b", "c"],
        metric=metric,
        licence="",
        citation="",
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    make_encoder(folder := tmp_path_factory.mktemp("encoder"))
    return encoders.load(folder)[1]


def plain(value):
    """Arrays as lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", ROWS)
def test_what_is_kept_is_what_the_format_gives_and_is_tokenised_once(
    kind, tokenizer, tmp_path, monkeypatch
):
    shape, asked = tasks.of(task(kind)), []
    expected = plain(shape.features(task(kind), ROWS[kind], tokenizer, 24))
    made = shape.features
    monkeypatch.setattr(shape, "features", lambda *a: asked.append(a) or made(*a))
    for _ in range(2):
        assert plain(data.tokenise(task(kind), ROWS[kind], tokenizer, 24, tmp_path)) == expected
    assert len(asked) == 1
    if kind in ("span_extraction", "tagging"):  # some texts are read in several windows
        assert max(len(feature["input_ids"]) for feature in expected) > 1


def test_other_texts_lengths_or_tokenizers_are_tokenised_anew(tokenizer, tmp_path):
    def kept(*given):
        data.tokenise(task("sentence_pair"), *given, tmp_path / "kept")
        return len(list((tmp_path / "kept").iterdir()))

    make_encoder(tmp_path)
    _, other, _ = encoders.trim(*encoders.load(tmp_path), range(30))
    rows = ROWS["sentence_pair"]
    assert kept(rows, tokenizer, 24) == kept(rows, tokenizer, 24) == 1
    assert kept(rows[1:], tokenizer, 24) == 2
    assert kept(rows, tokenizer, 5) == 3
    assert kept(rows, other, 24) == 4


def test_runs_on_the_same_data_share_what_was_tokenised(tiny_study, sources, tmp_path, monkeypatch):
    study = Study.load(tiny_study, tmp_path / "outputs")
    data.prepare(study)
    encoders.prepare(study, "base")

    def run(seed):
        trained = training.target(study, Run("base", "none", "pairs", seed))
        return evaluation.zero_shot(study, "pairs", trained)

    run(1)
    shape = tasks.of(study.tasks["pairs"])
    monkeypatch.setattr(shape, "features", lambda *_: pytest.fail("a text was tokenised again"))
    assert len(run(2)) == 3 * 24
    data.prepare(study)  # what was read from other sources is not kept
    assert not data.token_cache(study).exists()
