"""Low-rank adapters: what is trained, kept, resumed and handed on, with a tiny XLM-R XL."""

import json
import signal

import pytest
import torch
from conftest import make_encoder, write_study
from safetensors import safe_open
from test_checkpoints import STEPS, result, same, signal_after  # noqa: F401  (a fixture)
from transformers import AutoModel

from helpers import data, encoders, evaluation, explore, training
from helpers.batch import recovery
from helpers.encoders import adapters, families, hidden_states
from helpers.study import Run, Size, Study, StudyError
from helpers.study.study import MODEL, REPETITION
from helpers.training import checkpoints

RUN = Run("xl", "none", "pairs", 1)
ONTO = Run("xl", "choices", "pairs", 1)
PARTS = ("lora_A", "lora_B", "head")
"""In the names of all weights that are trained."""


@pytest.fixture
def make(sources, tmp_path):
    """Make a study of one size, a tiny XLM-R XL with adapters; arguments change the size."""
    make_encoder(sources / "xl", 3, "XLMRobertaXL")
    recipe = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "max_length": 32}

    def made(phase: dict | None = None, precision: str = "bf16", **changes) -> Study:
        size = {"encoder": str(sources / "xl"), "title": "XL", "pooling": "cls", "tuning": "lora"}
        phase = {**recipe, "evaluations": 5, **(phase or {})}
        study = {
            "sizes": {"xl": size | changes},
            "phases": {"intermediate": phase, "target": phase},
            "targets": [{"task": "pairs", "train_on": ["choices", "pairs"]}],
            "checkpoint_minutes": 1000,
            "precision": precision,
        }
        path = write_study(tmp_path / "params", sources, **study)
        study = Study.load(path, tmp_path / "outputs")
        data.prepare(study)
        encoders.prepare(study, "xl")
        return study

    return made


def states(encoder, study: Study) -> torch.Tensor:
    _, tokenizer = encoders.load(study.encoder_folder("xl"))
    inputs = tokenizer(["dog sleeps 7", "Hund ist da"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return encoder.float().eval()(**inputs).last_hidden_state


def test_adapters_and_head_are_trained_and_an_adapter_is_handed_on(make):
    study = make(precision="fp32")
    before = dict(encoders.load(study.encoder_folder("xl"))[0].named_parameters())
    trained = training.intermediate(study, "xl", "choices", 1)
    for name, weight in trained.model.named_parameters():
        assert weight.requires_grad == any(part in name for part in PARTS)
        if not weight.requires_grad:
            own = before[name.removeprefix("encoder.").replace(".base_layer", "")]
            assert torch.equal(weight, own), name
    evaluation.write_intermediate(study, "xl", "choices", 1, trained)
    folder = study.encoder_folder("xl", "choices", 1)
    assert [path.name for path in folder.glob("*.safetensors")] == ["adapter_model.safetensors"]
    assert recovery._broken(folder.parent, recovery._FILES[2][:2]) is None
    after = states(trained.model.encoder, study)
    assert not torch.allclose(after, states(encoders.load(study.encoder_folder("xl"))[0], study))
    start, _ = encoders.initial_encoder(study, *ONTO[:2], 1, 0.1)
    for plain in (start, encoders.load(folder)[0]):
        assert {*dict(plain.named_parameters())} == {*before}  # an encoder like any other
        assert torch.allclose(states(plain, study), after, atol=1e-5)
    assert torch.allclose(states(AutoModel.from_pretrained(folder), study), after, atol=1e-5)

    target = training.target(study, ONTO)  # a new adapter on top
    assert set(evaluation.zero_shot(study, "pairs", target)["language"]) == {"en", "de", "sw"}
    assert not torch.allclose(states(target.model.encoder, study), after, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopped_in_either_task_resumes_to_the_same_bits(make, signal_after, precision):  # noqa: F811
    study = make(precision=precision)
    folder = study.run_folder(RUN) / checkpoints.FOLDER
    whole = result(training.target(study, RUN))
    for step in (5, STEPS + 1):  # in the first task; then in the second
        signal_after(step, signal.SIGTERM)
        with pytest.raises(checkpoints.Stopped):
            training.target(study, RUN)
        with safe_open(next(folder.glob("*/model.safetensors")), "pt") as kept:
            assert all(any(part in name for part in PARTS) for name in kept.keys())  # noqa: SIM118
    assert same(result(training.target(study, RUN)), whole)


def test_what_saves_memory_changes_no_bit(make, monkeypatch, signal_after):  # noqa: F811
    """Weights in bf16 are what autocast makes of them; checkpointed layers find the same states,
    also where a training begun without checkpointing goes on with it.
    """
    study = make()
    trained = training.target(study, RUN)
    kinds = {str(p.dtype) for p in trained.model.parameters() if not p.requires_grad}
    assert kinds == {"torch.bfloat16", "torch.float32"}
    assert all(p.dtype == torch.float32 for p in trained.model.parameters() if p.requires_grad)
    weights, *whole = result(trained)
    signal_after(7, signal.SIGTERM)
    with pytest.raises(checkpoints.Stopped):
        training.target(study, RUN)
    size = study.sizes["xl"].model_copy(update={"gradient_checkpointing": True})
    frugal = study.model_copy(update={"sizes": {"xl": size}})
    again = training.target(frugal, RUN)
    assert again.model.encoder.is_activation_checkpointing and again.flops > trained.flops
    assert same(result(again), (weights, *whole))
    monkeypatch.setattr(adapters, "round_frozen", lambda encoder: None)
    whole_weights, *rest = result(training.target(study, RUN))
    assert rest == whole
    for name in (n for n in weights if "lora" in n or "head" in n):
        assert torch.equal(weights[name], whole_weights[name])


def test_frozen_layers_and_their_cached_states_work_with_adapters(make):
    study = make({"frozen_layers": 1})
    first = training.target(study, RUN)
    assert first.model.cached_states is not None
    low, high = (families.layers(first.model.encoder)[at] for at in (0, 2))
    for layer, trained in ((low, False), (high, True)):
        moved = [p.any() for name, p in layer.named_parameters() if "lora_B" in name]
        assert all(moved) == any(moved) == trained
    (study.encoder_folder("xl") / hidden_states.FILE).unlink()
    assert same(result(training.target(study, RUN)), result(first))


def test_the_adapters_are_those_that_the_size_asks_for(make):
    study = make(lora={"rank": 2, "alpha": 2, "dropout": 0.1, "targets": ["query", "output.dense"]})
    found = dict(training.target(study, RUN).model.encoder.named_modules())
    named = {name.partition("layer.0.")[2] for name in found if name.endswith("lora_A.default")}
    asked = {"attention.self.query", "attention.output.dense", "output.dense"} - {""}
    assert named - {""} == {f"{name}.lora_A.default" for name in asked}
    one = found["encoder.layer.0.attention.self.query"]
    assert (one.r["default"], one.scaling["default"], one.lora_dropout["default"].p) == (2, 1, 0.1)


def test_a_layer_that_the_encoder_lacks_is_one_line_of_phase_1(make):
    with pytest.raises(StudyError) as error:
        make(lora={"targets": ["query", "q_proj"]})
    assert "sources/xl: lora.targets: no linear layer 'q_proj'; expected" in str(error.value)
    assert "expected some of attention.self.query, attention.self.key" in str(error.value)
    assert "\n" not in str(error.value)


def test_adapters_without_their_tuning_are_one_line(make):
    with pytest.raises(StudyError, match=r"sizes\.xl: found the key lora, expected tuning: lora"):
        make(tuning="full", lora={"rank": 4})


def test_results_depend_on_the_adapters_and_not_on_what_saves_memory(make):
    study = make()

    def settings(**changes) -> dict:
        size = study.sizes["xl"].model_copy(update=changes)
        return study.model_copy(update={"sizes": {"xl": size}}).settings(*RUN[:3])

    own = settings()
    assert own["target"]["lora"]["rank"] == 16
    assert own["target"]["hyperparameters"]["train_embeddings"] is False
    assert settings(gradient_checkpointing=True) == own
    full = settings(tuning="full")
    assert full["encoder"] == own["encoder"] and "lora" not in full["target"]
    assert set(full["encoder"]) == {*Size.model_fields} - {
        *("title", "tuning", "lora", "gradient_checkpointing")
    }


def test_a_repetition_and_the_run_files_are_as_ever(make):
    study = make()
    trained = training.target(study, RUN, study.next_seed(1))
    evaluation.write_run(study, RUN, trained, evaluation.zero_shot(study, "pairs", trained))
    record = json.loads((study.run_folder(RUN) / REPETITION / "run.json").read_text())
    assert record["parameters"]["target"]["lora"]["alpha"] == 32 and record["train_flops"] > 0


def test_a_kept_model_of_adapters_predicts_what_its_run_did(make):
    study = make(precision="fp32").model_copy(update={"keep_models": True})
    handed = training.intermediate(study, "xl", "choices", 1)
    evaluation.write_intermediate(study, "xl", "choices", 1, handed)
    trained = training.target(study, ONTO)
    predictions = evaluation.zero_shot(study, "pairs", trained)
    evaluation.write_run(study, ONTO, trained, predictions)
    with safe_open(study.run_folder(ONTO) / MODEL, "pt") as file:
        assert all(any(part in name for part in PARTS) for name in file.keys())  # noqa: SIM118
    for again in (training.finished(study, ONTO), explore.reader(study, ONTO)):
        same_items = evaluation.zero_shot(study, "pairs", again)
        for one, other in zip(
            same_items["probabilities"], predictions["probabilities"], strict=True
        ):
            assert one == pytest.approx(other, abs=1e-4)
