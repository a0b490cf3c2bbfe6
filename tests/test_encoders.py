"""Phase 1: lower layers, and a trimming that loses nothing."""

import json

import numpy as np
import pytest
import torch
from conftest import write_study
from transformers import AutoModel, AutoTokenizer

from helpers import data, encoders, training
from helpers.study import Run, Size, Study, StudyError

TEXTS = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo", "samaki anakula", "xyz dog ~ 7"]


def test_trimming_cuts_every_text_as_before_and_changes_no_logit(tiny_sources):
    full, tokenizer = encoders.load(tiny_sources / "encoder")
    before = [tokenizer(text)["input_ids"] for text in TEXTS]
    with torch.inference_mode():
        states = [full(input_ids=torch.tensor([ids])).last_hidden_state for ids in before]
    used = {i for ids in before for i in ids}
    small, small_tokenizer, kept = encoders.trim(full, tokenizer, used)
    assert len(kept) < len(tokenizer) and small.get_input_embeddings().num_embeddings == len(kept)
    for text, ids, state in zip(TEXTS, before, states, strict=True):
        new = small_tokenizer(text)["input_ids"]
        assert [kept[i] for i in new] == ids
        with torch.inference_mode():
            assert torch.equal(small(input_ids=torch.tensor([new])).last_hidden_state, state)


def test_trimming_the_stand_in_keeps_the_segmentation_of_the_mini_benchmark():
    study = Study.load("params/demo.yaml")
    model, tokenizer = encoders.load("demo/encoder")
    texts = [
        row["text_a"]
        for language in study.languages("mini_xnli")
        for row in data.examples(study, "mini_xnli", "test", language)
    ]
    before = tokenizer(texts)["input_ids"]
    _, small, kept = encoders.trim(model, tokenizer, {i for ids in before for i in ids})
    assert [[kept[i] for i in ids] for ids in small(texts)["input_ids"]] == before


def test_fifty_training_steps_teach_a_trimmed_encoder_what_they_teach_the_whole_one(
    sources, tmp_path
):
    """The same losses, and the same weights in the layers and in every row that was kept."""
    short = {
        "steps": 50,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "max_length": 32,
        "evaluations": 2,
    }
    trained = {}
    for trim in (False, True):
        changes = {"intermediate": ["none"], "phases": {"target": short}, "trim": trim}
        study = Study.load(
            write_study(tmp_path / str(trim), sources, **changes), tmp_path / f"outputs-{trim}"
        )
        encoders.prepare(study, "large")
        trained[trim] = training.target(study, Run("large", "none", "pairs", 1))
    losses = [
        [line["loss"] for line in trained[trim].log if "loss" in line] for trim in (False, True)
    ]
    assert len(losses[0]) > 10 and losses[1] == pytest.approx(losses[0], abs=1e-5)
    whole, small = (trained[trim].model.encoder.state_dict() for trim in (False, True))
    words = "embeddings.word_embeddings.weight"
    kept = encoders.kept_ids(study.encoder_folder("large"))
    assert len(kept) < len(whole[words])
    whole[words] = whole[words][kept]
    for name, weight in small.items():
        assert torch.allclose(weight, whole[name], atol=1e-4), name


def test_a_saved_encoder_is_a_standard_folder_with_the_lower_layers(tiny_study, tmp_path):
    study = Study.load(tiny_study, tmp_path / "outputs")
    report = encoders.prepare(study, "base")
    folder = study.encoder_folder("base")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.num_hidden_layers == 1
    assert len(tokenizer) == report["tokens"] < report["tokens before"]
    assert report["parameters"]["layers"] == report["parameters before"]["layers"]
    record = json.loads((folder / "run.json").read_text())
    embeddings = (len(tokenizer) + 70 + 1) * 16  # of tokens, positions and one type
    saved = sum(p.numel() for p in encoders.load(folder)[0].parameters())
    assert record["parameters_all"] == saved
    assert record["parameters_all"] - record["parameters_without_embeddings"] == embeddings
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_vocabulary_that_has_grown_keeps_trained_rows_and_takes_pretrained_ones(
    sources, tmp_path
):
    small = Study.load(
        write_study(tmp_path / "a", sources, targets=[{"task": "pairs", "languages": ["en"]}]),
        tmp_path,
    )
    encoders.prepare(small, "large")
    model, tokenizer = encoders.load(small.encoder_folder("large"))
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1.0)  # as if it had been trained
    old = encoders.kept_ids(small.encoder_folder("large"))
    encoders.save(model, tokenizer, small.encoder_folder("large", "choices", 1), old)
    grown = Study.load(write_study(tmp_path / "b", sources), tmp_path)
    encoders.prepare(grown, "large")
    new = encoders.kept_ids(grown.encoder_folder("large"))
    handed, _ = encoders.initial_encoder(grown, "large", "choices", 1, 0.0)
    pretrained, _ = encoders.load(grown.encoder_folder("large"))
    trained = np.isin(new, old)
    assert trained.any() and not trained.all()
    difference = (
        handed.get_input_embeddings().weight - pretrained.get_input_embeddings().weight
    ).detach()
    assert torch.allclose(difference[trained], torch.tensor(1.0), atol=1e-6)
    assert torch.all(difference[~trained] == 0)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"layers": 9}, "has 2 layers, the study asks for 9"),
        ({"layers": 1, "retrieval_layer": 2}, "has 1 layers, the study asks for 2"),
    ],
)
def test_asking_for_more_layers_than_there_are_is_one_line(tiny_sources, asked, line):
    size = Size(encoder=str(tiny_sources / "encoder"), title="tiny", pooling="mean", **asked)
    with pytest.raises(StudyError, match=line):
        encoders.pretrained(size)


@pytest.mark.parametrize(("phase", "task"), [("intermediate", "choices"), ("target", "pairs")])
@pytest.mark.parametrize(("key", "most"), [("max_length", 68), ("frozen_layers", 2)])
def test_phase_1_refuses_longer_texts_and_more_frozen_layers_than_the_encoder_has(
    tiny_study, tmp_path, phase, task, key, most
):
    study = Study.load(tiny_study, tmp_path)
    study.phases[phase][key] = most + 1
    expected = f"{key}: found {most + 1}, expected at most {most}"
    with pytest.raises(StudyError, match=f"yaml: {phase} {task}, size large: {expected}"):
        encoders.prepare(study, "large")
    study.phases[phase][key] = most
    encoders.prepare(study, "large")
    study.phases[phase][key] = most + 1  # changed afterwards: the training says so
    with pytest.raises(StudyError, match=f"yaml: {expected}"):
        if phase == "target":
            training.target(study, Run("large", "none", "pairs", 1))
        else:
            training.intermediate(study, "large", "choices", 1)


def test_a_missing_model_folder_is_one_line():
    with pytest.raises(StudyError, match=r"\./nowhere: no folder with a config\.json"):
        encoders.pretrained(Size(encoder="./nowhere", title="none", pooling="mean"))
