"""How time grows with examples, languages and runs, and which attention is the faster one.

Straight lines are fitted for the growth; attention is timed at six lengths.
"""

import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import yaml

from helpers import data, encoders
from helpers.batch import run
from helpers.encoders import hardware
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Study
from helpers.tasks import sentence_pair

ENCODER = "12 layers, hidden size 384"
TOKENS = 2048
"""Tokens of the batches that attention is timed with."""


def growth(precision: str) -> list[dict]:
    """Rows of encoder, recipe, measure, value and unit; predictions are made in ``precision``."""
    rows = []
    timed = {"example": examples(precision), "language": languages(precision), "run": runs()}
    for what, points in timed.items():
        count, seconds = np.array(sorted(points)).T
        slope, fixed = np.polyfit(count, seconds, 1)
        explained = np.corrcoef(count, seconds)[0, 1] ** 2
        rows += [
            (f"time for one more {what}", slope, "s"),
            (f"fixed cost beside {what}s", fixed, "s"),
            (f"share that a straight line over {what}s explains", explained, "share"),
        ]
    return _named(rows)


def attention(rounds: int = 3) -> list[dict]:
    """Time of a forward and backward pass with eager attention as a multiple of SDPA's."""
    rows = []
    encoder, tokenizer = encoders.load("demo/encoder")
    encoder, *_ = encoders.trim(encoder, tokenizer, range(1000))
    for length in (16, 32, 64, 128, 256, 512):
        inputs = {
            "input_ids": torch.randint(10, 500, (TOKENS // length, length)),
            "attention_mask": torch.ones(TOKENS // length, length, dtype=torch.long),
        }
        for _ in range(rounds):
            seconds = {}
            for kind in ("eager", "sdpa"):
                encoder.set_attn_implementation(kind)
                encoder(**inputs).last_hidden_state.sum().backward()
                begin = time.perf_counter()
                encoder(**inputs).last_hidden_state.sum().backward()
                seconds[kind] = time.perf_counter() - begin
            name = f"training time at {length} tokens, eager / SDPA"
            rows.append((name, seconds["eager"] / seconds["sdpa"], "x"))
    return _named(rows)


def examples(precision: str) -> list[tuple[int, float]]:
    """Prediction of more and more English items."""
    rows = data.examples(Study.load("params/demo.yaml"), "mini_xnli", "test")
    return _predictions({count: rows[:count] for count in (75, 150, 225, 300)}, precision)


def languages(precision: str) -> list[tuple[int, float]]:
    """Prediction of the same 100 items in more and more languages."""
    study = Study.load("params/demo.yaml")
    rows = []
    for language in study.languages("mini_xnli"):
        rows += data.examples(study, "mini_xnli", "test", language)[:100]
    return _predictions({n: rows[: 100 * n] for n in (1, 2, 4, 8)}, precision)


def runs() -> list[tuple[int, float]]:
    """Whole studies of 1, 2 and 4 runs of one step on the lowest layer.

    They show what a run costs beside its training.
    """
    smoke = yaml.safe_load(Path("params/smoke.yaml").read_text(encoding="utf-8"))
    points = []
    for seeds in (1, 2, 4):
        with tempfile.TemporaryDirectory() as scratch:
            study = {
                **smoke,
                "name": "growth",
                "catalogue": str(Path("params/tasks.yaml").resolve()),
                "sizes": {"base": {**smoke["sizes"]["base"], "layers": 1}},
                "intermediate": ["none"],
                "targets": [{"task": "mini_xnli", "languages": ["en", "de"]}],
                "seeds": list(range(1, seeds + 1)),
                "phases": {"target": {**smoke["phases"]["target"], "steps": 1, "evaluations": 1}},
                "overrides": [],
            }
            path = Path(scratch) / "growth.yaml"
            path.write_text(yaml.safe_dump(study), encoding="utf-8")
            begin = time.perf_counter()
            with redirect_stdout(StringIO()):
                code = run.main(
                    [str(path), "--cores", "1", "--outputs", str(Path(scratch) / "outputs")]
                )
            assert not code, f"the study ended with {code}"
            points.append((seeds, time.perf_counter() - begin))
    return points


def _named(rows: list[tuple[str, float, str]]) -> list[dict]:
    keys = ("measure", "value", "unit")
    own = [dict(zip(keys, row, strict=True)) for row in rows]
    return [{"encoder": ENCODER, "recipe": "ours", **row} for row in own]


def _predictions(sets: dict[int, list[dict]], precision: str) -> list[tuple[int, float]]:
    encoder, tokenizer = encoders.load("demo/encoder")
    encoder, tokenizer, _ = encoders.trim(encoder, tokenizer, range(1000))
    model = EncoderWithHead(encoder, "sequence", 3, "mean", 0.0).to(hardware.device())
    model.encoder.precision = precision
    points = []
    for _ in range(2):
        for count, rows in sets.items():
            features = sentence_pair.features(None, rows, tokenizer, 64)
            begin = time.perf_counter()
            predict(model, features, tokenizer.pad_token_id)
            points.append((count, time.perf_counter() - begin))
    return points
