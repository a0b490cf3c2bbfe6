"""Low-rank adapters: what is trained, kept and handed on, with a tiny XLM-R XL."""

from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import SIZE, batch, make_encoder, make_size, refused
from running import run_notebook
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from helpers import encoders
from helpers.encoders import families

PARTS = ("lora_A", "lora_B", "head")
"""In the names of all weights that are trained."""
TEXTS = ["dog sleeps 7", "Hund ist da", "paka anakimbia", "cow eats"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("xl")
    make_encoder(folder, 3, "XLMRobertaXL")
    return folder


def trained(home: Path, precision: str = "fp32", frozen: int = 0, **changes):
    """A model after three steps, and its losses."""
    encoder, tokenizer = encoders.load(home, dropout=0.1)
    torch.manual_seed(0)
    encoders.adapt(encoder, make_size(home, tuning="lora", **changes), precision)
    model = encoders.EncoderModel(encoder, encoders.Head(encoder, "sequence", 3, "cls", 0.1))
    model.freeze(frozen)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = cross_entropy(model.train()(**batch(tokenizer, TEXTS)), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@torch.inference_mode()
def states(encoder, home: Path) -> torch.Tensor:
    return encoder.eval()(**batch(encoders.load(home)[1], TEXTS)).last_hidden_state


def test_adapters_and_head_are_trained_and_an_adapter_is_handed_on(home, tmp_path):
    before = dict(encoders.load(home)[0].named_parameters())
    model, losses = trained(home)
    assert losses[-1] < losses[0]
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
    plain, _ = encoders.start(home, folder, 0.1)
    assert {*dict(plain.named_parameters())} == {*before}  # an encoder like any other
    assert torch.allclose(states(plain, home), after, atol=1e-5)
    assert torch.allclose(states(AutoModel.from_pretrained(folder), home), after, atol=1e-5)


def test_weights_in_bf16_and_checkpoints_change_no_bit(home):
    """Weights in bf16 are what autocast makes of them; checkpointed layers find the same states."""
    model, losses = trained(home, "bf16")
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    frugal, again = trained(home, "bf16", gradient_checkpointing=True)
    assert frugal.encoder.is_activation_checkpointing and again == losses
    outputs = []
    for tuning in ("full", "lora"):
        encoder, tokenizer = encoders.load(home, dropout=0.1)
        encoders.adapt(encoder, make_size(home, tuning=tuning), "bf16")
        with torch.inference_mode():
            outputs.append(encoders.EncoderModel(encoder).eval()(**batch(tokenizer, TEXTS)))
    kinds = {p.dtype for p in encoder.parameters() if not p.requires_grad}
    assert kinds == {torch.bfloat16, torch.float32} and torch.equal(*outputs)


def test_frozen_layers_keep_their_adapters_at_zero(home):
    model, _ = trained(home, frozen=1)
    low, high = (families.layers(model.encoder)[at] for at in (0, 2))
    for layer, learns in ((low, False), (high, True)):
        moved = [p.any() for name, p in layer.named_parameters() if "lora_B" in name]
        assert all(moved) == any(moved) == learns


def test_the_adapters_are_those_that_the_size_asks_for(home):
    lora = {"rank": 2, "alpha": 2, "dropout": 0.1, "targets": ["query", "output.dense"]}
    modules = dict(trained(home, lora=lora)[0].encoder.encoder.layer[0].named_modules())
    asked = ["attention.self.query", "attention.output.dense", "output.dense"]
    assert [name for name, module in modules.items() if hasattr(module, "lora_A")] == asked
    one = modules[asked[0]]
    assert (one.r["default"], one.scaling["default"], one.lora_dropout["default"].p) == (2, 1, 0.1)


def test_adapters_that_cannot_be_are_one_line(home, load):
    lora = {"targets": ["query", "q_proj"]}
    line = "lora.targets: no linear layer 'q_proj'; expected some of attention.self.query, atten"
    with refused(line):
        trained(home, lora=lora)
    with refused("found the key lora, expected tuning: lora"):
        load(sizes={"base": {**SIZE, "encoder": str(home), "lora": lora}})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_way_to_train_runs_through_the_notebooks(sources, load, precision):
    """Tuning and gradient checkpointing in every combination; bf16 is emulated where the processor
    has none."""
    sizes = {}
    for tuning, checkpointing in product(("full", "lora"), (False, True)):
        ways = {"tuning": tuning, "gradient_checkpointing": checkpointing}
        size = {**SIZE, **ways, "encoder": str(sources / "encoder")}
        sizes[f"{tuning}-{checkpointing}".lower()] = size
    study = load(precision=precision, sizes=sizes)
    for size in sizes:
        names = {"study": study, "size": size, "join": True}
        run_notebook("1_encoder", **names)
        run_notebook("2_intermediate", **names, task="choices")
        run_notebook("3_target", **names, intermediate="choices", target="pairs")
        assert study.condition(size, "choices", "pairs").is_complete(1)
