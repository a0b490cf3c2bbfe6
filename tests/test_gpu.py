"""A GPU's path as far as a processor shows it: the device meta, fake programs and libraries."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_study
from transformers import XLMRobertaConfig, XLMRobertaModel, masking_utils

from helpers import tasks
from helpers.batch import execute, memory, run, scheduler
from helpers.encoders import batches, families
from helpers.encoders.model import EncoderModel, EncoderWithHead, predict
from helpers.study import Hyperparameters, Study, Task
from helpers.training import fitting
from helpers.training.training_set import TrainingSet

ITEMS = {
    "sentence_pair": {"input_ids": [[0, 5, 2]], "labels": 1},
    "multiple_choice": {"input_ids": [[0, 5, 2], [0, 5, 6, 2]], "labels": 1},
    "tagging": {"input_ids": [[0, 5, 6, 2]], "labels": [[-100, 1, 0, -100]]},
    "span_extraction": {"input_ids": [[0, 5, 6, 2]], "labels": [[1, 2]]},
    "retrieval": {"input_ids": [[0, 5, 2], [0, 6, 2]], "labels": 0},
}


def tiny() -> XLMRobertaModel:
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    config = XLMRobertaConfig(vocab_size=8, num_hidden_layers=2, pad_token_id=1, **sizes)
    return XLMRobertaModel(config, add_pooling_layer=False)


@pytest.mark.parametrize("name", ITEMS)
def test_a_training_step_brings_nothing_but_its_batch_to_the_gpu(name, monkeypatch):
    """On the device meta tensors have no values; what mixes it with another fails, as on a GPU."""
    # Whether a mask hides anything is a value.
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *_, **__: False)
    task = Task.model_construct(name="pairs", format=name, labels=["a", "b"])
    known = {"held_out": {"pairs": SimpleNamespace(task=task)}, "lengths": [4], "pad": 1}
    drawn = TrainingSet("pairs", [], **known, examples=1, tokens=1, sequences=1)
    (batch,) = drawn.micro_batches([ITEMS[name], ITEMS[name]])
    model = EncoderWithHead(tiny(), *tasks.of(task).head(task), "mean", 0.1).to("meta")
    moved = {name: x.to("meta") for name, x in batch.items() if torch.is_tensor(x)}
    loss = drawn.loss(model, {**batch, **moved})
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is None or p.grad.device.type == "meta" for p in model.parameters())
    with pytest.raises(RuntimeError):
        drawn.loss(model, batch)  # that it would be seen


def test_predictions_go_to_the_models_device_and_come_back(monkeypatch):
    class Elsewhere(EncoderModel):
        def forward(self, input_ids, attention_mask):
            assert {input_ids.device.type, attention_mask.device.type} == {"meta"}
            return torch.ones(len(input_ids), 3)

    monkeypatch.setitem(batches.TOKEN_BUDGET, "meta", 8)
    texts = [{"input_ids": [[0, 5, 6, 2]]}, {"input_ids": [[0, 5, 2], [0, 6, 2]]}]
    found = predict(Elsewhere(tiny().to("meta")), texts, 1)
    assert [type(x) for x in found] == [np.ndarray] * 2 and [len(x) for x in found] == [1, 2]


@pytest.mark.parametrize(
    ("gpu", "installed", "bf16", "kind"),
    [
        (True, True, True, "flash_attention_2"),
        (True, True, False, "sdpa"),  # it has no float32
        (True, False, True, "sdpa"),
        (False, False, True, "eager"),
    ],
)
def test_a_gpu_uses_the_fastest_attention_that_is_there(gpu, installed, bf16, kind, monkeypatch):
    encoder, chosen = tiny(), ["eager"]
    monkeypatch.setattr(encoder.config, "_attn_implementation", "eager")
    monkeypatch.setattr(encoder, "set_attn_implementation", chosen.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr(families, "is_flash_attn_2_available", lambda: installed)
    monkeypatch.setattr("torch.is_autocast_enabled", lambda device: bf16 and device == "cuda")
    families.choose_attention(encoder, 16)
    assert chosen[-1] == kind


def test_a_notebook_that_sees_two_gpus_trains_on_one(monkeypatch, tmp_path):
    monkeypatch.setattr(
        fitting.TrainingArguments, "n_gpu", property(lambda self: 1 if self._n_gpu == 1 else 2)
    )
    settings = Hyperparameters(steps=1, batch_size=4, learning_rate=1e-3, max_length=8)
    arguments = fitting._arguments(settings, 1, 1, str(tmp_path), 4)
    assert arguments.n_gpu == 1 and arguments.train_batch_size == 4


@pytest.fixture
def study(tiny_sources, tmp_path) -> Study:
    return Study.load(write_study(tmp_path / "params", tiny_sources))


@pytest.mark.parametrize(
    ("given", "found", "names"),
    [("3,GPU-5,7", 3, ["3", "GPU-5", "7"]), ("", 0, []), ("-1", 0, []), (None, 2, ["0", "1"])],
)
def test_the_gpus_are_those_that_may_be_seen(study, tmp_path, monkeypatch, given, found, names):
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    monkeypatch.setattr(scheduler, "DRIVERS", [tmp_path])
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    monkeypatch.setenv(execute.VISIBLE, str(given))
    if given is None:
        monkeypatch.delenv(execute.VISIBLE)
    assert run.gpus(study) == names


def test_several_runs_share_a_gpu_with_room_that_admits_them(study, tmp_path, monkeypatch):
    said = tmp_path / "nvidia-smi"
    said.write_text(
        '#!/bin/sh\ncase "$4" in\n'
        'large) echo "81559, Default";;\nclosed) echo "81559, Exclusive_Process";;\n'
        'small) echo "8192, Default";;\nesac\n'
    )
    said.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv(execute.VISIBLE, "small,large,closed")
    monkeypatch.setattr(scheduler, "DRIVERS", [tmp_path])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert run.gpus(study) == ["small", "large", "closed", "large", "large"]


def test_as_many_runs_share_a_gpu_as_their_memory_allows():
    study = Study.load("params/scaling.yaml")  # XXL's trainings take 39 GB, and CUDA one
    assert [memory.side_by_side(study, size) for size in (24, 80, 100, 1000)] == [1, 1, 2, 3]
