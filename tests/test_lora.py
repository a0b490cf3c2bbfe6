"""Low-rank adapters: what is trained, kept and handed on, with a tiny XLM-R XL."""

from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import make_encoder, write_study
from running import run_notebook
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from helpers import encoders
from helpers.encoders import adapters, families
from helpers.encoders.batches import collate
from helpers.study import Size, Study, StudyError

PARTS = ("lora_A", "lora_B", "head")
"""In the names of all weights that are trained."""
TEXTS = ["dog sleeps 7", "Hund ist da", "paka anakimbia", "cow eats"]
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("xl")
    make_encoder(folder, 3, "XLMRobertaXL")
    return folder


def size(home: Path, **changes) -> Size:
    known = {"encoder": str(home), "title": "XL", "pooling": "cls", "tuning": "lora"}
    return Size(**{**known, **changes})


def inputs(tokenizer) -> dict[str, torch.Tensor]:
    cut = tokenizer(TEXTS)["input_ids"]
    return collate([{"input_ids": [ids]} for ids in cut], tokenizer.pad_token_id)


def trained(home: Path, precision: str = "fp32", frozen: int = 0, steps: int = 3, **changes):
    """A model after a few steps, and its losses."""
    encoder, tokenizer = encoders.load(home, dropout=0.1)
    torch.manual_seed(0)
    encoders.adapt(encoder, size(home, **changes), precision)
    model = encoders.EncoderWithHead(encoder, "sequence", 3, "cls", 0.1)
    model.freeze(frozen)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses, batch = [], inputs(tokenizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model.train()(**batch), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@torch.inference_mode()
def states(encoder, home: Path) -> torch.Tensor:
    return encoder.eval()(**inputs(encoders.load(home)[1])).last_hidden_state


@pytest.mark.parametrize(
    ("tuning", "precision", "checkpoints"),
    [*product(("full", "lora"), ("fp32", "bf16"), (False, True))],
)
def test_tuning_precision_and_checkpointing_go_together_in_every_way(
    home, tuning, precision, checkpoints
):
    """Also where a notebook only looks: at embeddings, and at layers of an encoder as it is."""
    model, losses = trained(
        home, precision, tuning=tuning, gradient_checkpointing=checkpoints, steps=30
    )
    assert losses[-1] < losses[0]
    _, tokenizer = encoders.load(home)
    features = [{"input_ids": [ids]} for ids in tokenizer(TEXTS)["input_ids"]]
    assert len(encoders.predict(model, features, 1)) == len(TEXTS)
    assert encoders.embed(model.encoder, tokenizer, TEXTS).shape == (4, len(TEXTS), 16)
    encoder, _ = encoders.load(home)
    asked = size(home, tuning=tuning, gradient_checkpointing=checkpoints)
    encoders.adapt(encoder, asked, precision, train=False)
    reader = encoders.EncoderWithHead(encoder, "vector", 0, "mean", 0.0, 2)
    assert encoders.predict(reader, features, 1)[0].shape == (1, 16)
    assert encoders.embed(encoder, tokenizer, TEXTS).shape == (4, len(TEXTS), 16)


def test_adapters_and_head_are_trained_and_an_adapter_is_handed_on(home, tmp_path):
    before = dict(encoders.load(home)[0].named_parameters())
    model, _ = trained(home)
    for name, weight in model.named_parameters():
        assert weight.requires_grad == any(part in name for part in PARTS)
        if not weight.requires_grad:
            plain = name.removeprefix("encoder.").replace(".base_layer", "")
            assert torch.equal(weight, before[plain]), name
    folder = tmp_path / "after"
    encoders.save(model.encoder, encoders.load(home)[1], folder, None)
    assert [path.name for path in folder.glob("*.safetensors")] == ["adapter_model.safetensors"]
    after = states(model.encoder, home)
    assert not torch.allclose(after, states(encoders.load(home)[0], home))
    for plain in (encoders.start(home, folder, 0.1)[0], encoders.load(folder)[0]):
        assert {*dict(plain.named_parameters())} == {*before}  # an encoder like any other
        assert torch.allclose(states(plain, home), after, atol=1e-5)
    assert torch.allclose(states(AutoModel.from_pretrained(folder), home), after, atol=1e-5)


def test_weights_in_bf16_and_checkpoints_change_no_bit(home, monkeypatch):
    """Weights in bf16 are what autocast makes of them; checkpointed layers find the same states."""
    model, losses = trained(home, "bf16")
    kinds = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert kinds == {torch.bfloat16, torch.float32}
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    frugal, again = trained(home, "bf16", gradient_checkpointing=True)
    assert frugal.encoder.is_activation_checkpointing and again == losses
    encoder, _ = encoders.load(home, dropout=0.1)
    encoders.adapt(encoder, size(home, tuning="full"), "bf16")
    whole = encoders.EncoderModel(encoder).eval()
    rounded, _ = encoders.load(home, dropout=0.1)
    encoders.adapt(rounded, size(home), "bf16")
    batch = inputs(encoders.load(home)[1])
    with torch.inference_mode():
        assert torch.equal(whole(**batch), encoders.EncoderModel(rounded).eval()(**batch))


def test_frozen_layers_keep_their_adapters_at_zero(home):
    model, _ = trained(home, frozen=1)
    low, high = (families.layers(model.encoder)[at] for at in (0, 2))
    for layer, learns in ((low, False), (high, True)):
        moved = [p.any() for name, p in layer.named_parameters() if "lora_B" in name]
        assert all(moved) == any(moved) == learns


def test_the_adapters_are_those_that_the_size_asks_for(home):
    lora = {"rank": 2, "alpha": 2, "dropout": 0.1, "targets": ["query", "output.dense"]}
    model, _ = trained(home, lora=lora)
    modules = dict(model.encoder.named_modules())
    named = {name.partition("layer.0.")[2] for name in modules if name.endswith("lora_A.default")}
    asked = {"attention.self.query", "attention.output.dense", "output.dense"}
    assert named - {""} == {f"{name}.lora_A.default" for name in asked}
    one = modules["encoder.layer.0.attention.self.query"]
    assert (one.r["default"], one.scaling["default"], one.lora_dropout["default"].p) == (2, 1, 0.1)


def test_a_layer_that_the_encoder_lacks_is_one_line(home):
    encoder, _ = encoders.load(home)
    with pytest.raises(StudyError) as error:
        adapters.targets(encoder, size(home, lora={"targets": ["query", "q_proj"]}))
    line = "lora.targets: no linear layer 'q_proj'; expected some of attention.self.query, atten"
    assert line in str(error.value) and "\n" not in str(error.value)


def test_adapters_without_their_tuning_are_one_line(home):
    with pytest.raises(ValueError, match="found the key lora, expected tuning: lora"):
        size(home, tuning="full", lora={"rank": 4})


def test_every_way_to_train_runs_through_the_notebooks(sources, tmp_path):
    """Tuning, precision and gradient checkpointing in every combination; bf16 is emulated where the
    processor has none."""
    for precision in ("fp32", "bf16"):
        encoder = {"encoder": str(sources / "encoder"), "title": "tiny", "pooling": "mean"}
        sizes = {
            f"{tuning}-{checkpointing}".lower(): {
                **encoder, "tuning": tuning, "gradient_checkpointing": checkpointing,
            }
            for tuning in ("full", "lora") for checkpointing in (False, True)
        }  # fmt: skip
        changes = {"name": precision, "precision": precision, "sizes": sizes}
        path = write_study(tmp_path / precision, sources, **changes)
        study = Study.load(path, tmp_path / "outputs")
        for size in sizes:
            names = {"study": study, "size": size, "join": True}
            run_notebook("1_encoder", **names)
            run_notebook("2_intermediate", **names, task="choices")
            run_notebook("3_target", **names, intermediate="choices", target="pairs")
            assert study.condition(size, "choices", "pairs").is_complete(1)
