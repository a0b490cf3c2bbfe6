"""A GPU's path as far as a processor shows it (the device meta); `make check-gpu` does the rest."""

import importlib
import os

import numpy as np
import pytest
import torch

from helpers import encoders, formats
from helpers.encoders import batches, hardware
from helpers.encoders.batches import collate, collate_labels, training_items
from helpers.study import Hyperparameters, Task
from helpers.training import trainer

ITEMS = {
    "sentence_pair": {"input_ids": [[0, 5, 2]], "labels": 1},
    "multiple_choice": {"input_ids": [[0, 5, 2], [0, 5, 6, 2]], "labels": 1},
    "tagging": {"input_ids": [[0, 5, 6, 2]], "labels": [[-100, 1, 0, -100]]},
    "span_extraction": {"input_ids": [[0, 5, 6, 2]], "labels": [[1, 2]]},
    "retrieval": {"input_ids": [[0, 5, 2], [0, 6, 2]], "labels": 0},
}


class Embedded(encoders.EncoderModel):
    """Its states are the embeddings: the library's masks look at values, which meta has not."""

    def states(self, inputs):
        return self.encoder.get_input_embeddings()(inputs["input_ids"])


@pytest.mark.parametrize("name", ITEMS)
def test_a_training_step_brings_nothing_but_its_batch_to_the_gpu(tiny_sources, name):
    """On the device meta tensors have no values; what mixes it with another fails, as on a GPU."""
    task = Task.model_construct(name="pairs", format=name, labels=["a", "b"])
    items = training_items([ITEMS[name], ITEMS[name]])
    inputs = {key: value.to("meta") for key, value in collate(items, 1).items()}
    labels, format_module = collate_labels(items), formats.of(task)
    encoder, _ = encoders.load(tiny_sources / "encoder")
    head = encoders.Head(encoder, *format_module.head(task), "mean", 0.1)
    model = Embedded(encoder, head).to("meta")
    loss = format_module.loss(model(**inputs), labels.to("meta"))
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is None or p.grad.device.type == "meta" for p in model.parameters())
    with pytest.raises(RuntimeError):  # that it would be seen
        model.head(torch.ones(2, 3, 16), inputs["attention_mask"])


@pytest.mark.parametrize(("given", "used"), [(None, "0"), ("2,3", "2"), ("", "")])
def test_a_training_sees_one_gpu_whatever_the_machine_has(monkeypatch, given, used):
    """Of several the library would give each a whole batch: other steps than the study's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    importlib.reload(hardware)  # as a new process imports it
    assert os.environ["CUDA_VISIBLE_DEVICES"] == used


def test_a_gpu_without_tf32_is_not_asked_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr(trainer, "TrainingArguments", dict)
    values = Hyperparameters(steps=1, batch_size=1, learning_rate=1e-3, max_length=8)
    assert trainer.arguments(values, 1, 1, tmp_path)["tf32"] is None


def test_predictions_go_to_the_models_device_and_come_back(tiny_sources, monkeypatch):
    class Elsewhere(encoders.EncoderModel):
        def forward(self, input_ids, attention_mask):
            assert {input_ids.device.type, attention_mask.device.type} == {"meta"}
            return torch.ones(len(input_ids), 3)

    monkeypatch.setitem(batches.TOKEN_BUDGET, "meta", 8)
    texts = [{"input_ids": [[0, 5, 6, 2]]}, {"input_ids": [[0, 5, 2], [0, 6, 2]]}]
    model = Elsewhere(encoders.load(tiny_sources / "encoder")[0].to("meta"))
    logits = encoders.predict(model, texts, 1)
    assert [type(x) for x in logits] == [np.ndarray] * 2 and [len(x) for x in logits] == [1, 2]
