"""Phase 1 and what goes on from it: lower layers, trimming, one line for what cannot be used."""

import json
import shutil
from importlib import metadata
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import batch, make_encoder, make_size, pair_rows, refused, write_rows
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from helpers import data, encoders
from helpers.encoders import families
from helpers.study import Study

TEXTS = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo", "samaki anakula", "xyz dog ~ 7"]


def phase_1(load, size: str, **changes) -> tuple[Study, dict]:
    """Prepares the encoder of a size of the tests' study; the study and the report."""
    study = load(read=True, **changes)
    return study, encoders.prepare(study, size, study.encoder_folder(size))


def wordpiece(tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[PAD]", *tokens.split()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


def test_a_vocabulary_stays_whole_where_a_text_would_be_cut_otherwise(sources, load, monkeypatch):
    """abx is unknown, for nothing goes on from ab; without ab it would be a ##bx, as in cbx."""
    tokenizer = wordpiece("a ab ##b ##bx c ##c z")
    assert tokenizer.tokenize("abx") == ["[UNK]"]
    tokenizer.save_pretrained(sources / "encoder")
    rows = pair_rows("en", 0, 24)  # many texts, of which few are checked
    rows[0] |= {"a": "c", "b": "c"}
    rows[1] |= {"a": "cbx", "b": "abx"}
    write_rows(sources / "files/pairs/en.train.tsv", rows)
    monkeypatch.setattr("helpers.encoders.loading.CHECKED", 1)
    _, report = phase_1(load, "large", intermediate=["none"])
    assert report["notes"] == ["trim: 'abx' would get other tokens: the vocabulary stays whole"]
    assert report["tokens"] == report["tokens before"]


def test_a_tokenizer_that_cannot_be_trimmed_leaves_the_vocabulary_whole(sources, load):
    file = sources / "encoder/tokenizer.json"
    state = json.loads(file.read_text())
    vocabulary = {token: i for i, (token, _) in enumerate(state["model"]["vocab"])}
    state["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    file.write_text(json.dumps(state))
    _, report = phase_1(load, "large")
    assert report["tokens"] == report["tokens before"]
    expected = "found a WordLevel tokenizer, expected one of Unigram, WordPiece, BPE"
    assert report["notes"] == [f"trim: {expected}: the vocabulary stays whole"]


def test_positions_are_counted_from_the_same_padding_after_trimming_or_nothing_is(sources):
    model, tokenizer = encoders.load(sources / "encoder")
    model.embeddings.position_embeddings.padding_idx = 5
    with refused("trim: padding would be token 1, positions expect 5"):
        encoders.trim(model, tokenizer, [7])


def test_an_encoder_whose_weights_changed_stops_the_study(load, sources):
    phase_1(load, "base")
    make_encoder(sources / "encoder", layers=3)
    with refused("sizes.base.encoder: ", "it has changed since ", "base was made; remove that"):
        load()


def test_a_saved_encoder_is_a_standard_folder_with_the_lower_layers(load):
    study, report = phase_1(load, "base")
    folder = study.encoder_folder("base")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.num_hidden_layers == 1
    assert len(tokenizer) == report["tokens"] < report["tokens before"]
    assert "▁never" in tokenizer.vocab  # the least likely: unknown characters are scored by it
    assert report["parameters"]["layers"] == report["parameters before"]["layers"]
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"] == study.encoder_settings("base")
    embeddings = (len(tokenizer) + 70 + 1) * 16  # of tokens, positions and one type
    saved = sum(p.numel() for p in encoders.load(folder)[0].parameters())
    rows = data.examples(study.data, study.tasks["pairs"], "test", "de")
    tokens = [len(tokenizer.tokenize(row[text])) for row in rows for text in ("text_a", "text_b")]
    assert record["fertility"]["pairs"]["de"] == pytest.approx(np.mean(tokens))
    assert record["parameters"]["total"] == saved
    assert saved - record["parameters_without_embeddings"] == embeddings
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_grown_vocabulary_keeps_its_trained_rows(tiny_sources, tmp_path):
    before, home, after = (tmp_path / name for name in ("before", "home", "after"))
    for folder, texts in ((before, TEXTS[:2]), (home, TEXTS)):
        model, tokenizer = encoders.load(tiny_sources / "encoder")
        used = {i for text in texts for i in tokenizer(text)["input_ids"]}
        small, cut, kept = encoders.trim(model, tokenizer, used)
        encoders.save(small, cut, folder, kept)
    trained, tokenizer = encoders.load(before)
    with torch.no_grad():
        families.words(trained).add_(1.0)  # as if it had been trained
    encoders.save(trained, tokenizer, after, encoders.kept_ids(before))
    old, new = encoders.kept_ids(before), encoders.kept_ids(home)
    rows = families.words(encoders.start(home, after, 0.0)[0]).detach()
    difference = rows - families.words(encoders.load(home)[0]).detach()
    known = np.isin(new, old)
    assert known.any() and not known.all()
    assert torch.allclose(difference[known], torch.tensor(1.0), atol=1e-6)
    assert torch.all(difference[~known] == 0)


def test_a_training_too_early_says_which_notebook_comes_first(tiny_sources, tmp_path):
    with refused("base/encoder: no encoder there; run notebook 1_encoder"):
        encoders.start(tmp_path / "base/encoder", None, 0.0)
    with refused("seed-1/encoder: ", "run notebook 2_intermediate first"):
        encoders.start(tiny_sources / "encoder", tmp_path / "mnli/seed-1/encoder", 0.0)


@pytest.mark.parametrize(("phase", "task"), [("intermediate", "choices"), ("target", "pairs")])
@pytest.mark.parametrize(("key", "most"), [("max_length", 68), ("frozen_layers", 2)])
def test_an_encoder_too_small_for_the_settings_is_refused(load, phase, task, key, most):
    study = load(read=True)
    study.phases[phase][key] = most + 1
    with refused(f"{phase} {task}, size large: {key}: found {most + 1}, expected at most {most}"):
        encoders.prepare(study, "large", study.encoder_folder("large"))


@torch.no_grad()
@pytest.mark.parametrize(("depth", "index"), [(12, 7), (24, 13)])
def test_retrieval_reads_the_layer_that_xtremes_script_reads(tmp_path, depth, index):
    """evaluate_retrieval.py: the last ``num_layers`` of all outputs, embeddings first, by index;
    states of padding are left out of the mean.
    """
    make_encoder(tmp_path, depth)
    encoder, tokenizer = encoders.load(tmp_path)
    inputs = batch(tokenizer, TEXTS)
    states = encoder.eval()(**inputs, output_hidden_states=True).hidden_states[-depth:][index]
    mask = inputs["attention_mask"][..., None].float()
    expected = (states * mask).sum(1) / mask.sum(1)
    head = encoders.Head(encoder, "vector", 0, "mean", 0.0)
    model = encoders.EncoderModel(encoder, head, encoders.retrieval_layer(depth))
    cut = tokenizer(TEXTS)["input_ids"]
    pairs = [{"input_ids": cut[i : i + 2], "labels": 0} for i in (0, 2)]
    found = np.concatenate(encoders.predict(model, pairs, tokenizer.pad_token_id))
    assert found == pytest.approx(expected[:4].numpy(), abs=1e-5)
    assert encoders.retrieval_layer(depth, size=5, task=7) == 5  # where the study names it
    assert encoders.retrieval_layer(2) == encoders.retrieval_layer(2, task=14) == 2  # the last


def test_embeddings_are_unit_vectors_of_every_layer_and_leave_the_encoder_as_it_was(tiny_sources):
    encoder, tokenizer = encoders.load(tiny_sources / "encoder")
    vectors = encoders.embed(encoder, tokenizer, TEXTS)
    assert vectors.shape == (3, len(TEXTS), 16)
    assert np.linalg.norm(vectors, axis=-1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("config", "asked", "line"),
    [
        ({}, {"encoder": "./nowhere"}, "./nowhere: no folder with a config.json"),
        ({}, {"layers": 9}, "has 2 layers, the study asks for 9"),
        ({}, {"layers": 1, "retrieval_layer": 2}, "has 1 layers, the study asks for 2"),
        ({"vocab_size": 12}, {}, "cannot be loaded"),
        ({"num_hidden_layers": 3}, {}, "16 weights are missing, encoder.layer.2"),
        ({"model_type": "gpt2"}, {}, "unknown architecture 'gpt2'; expected one of bert, "),
    ],
)
def test_an_encoder_that_cannot_be_used_is_one_line(sources, config, asked, line):
    file = sources / "encoder/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with refused(line):
        encoders.pretrained(make_size(sources / "encoder", **asked))


def test_what_an_encoders_files_lack_is_found_when_the_study_is_checked(sources, load):
    folder = sources / "encoder"
    _, tokenizer = encoders.load(folder)
    tokenizer.add_tokens([f"<new{i}>" for i in range(5)])
    tokenizer.save_pretrained(folder)
    with refused(f"its tokenizer has {len(tokenizer)} tokens; expected at most the model's"):
        encoders.pretrained(make_size(folder))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    padding = settings.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with refused("sizes.base.encoder: ", "found no pad_token; expected the padding token"):
        load()
    with refused("its tokenizer has no padding token; expected one"):
        encoders.load(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": padding}))
    (folder / "tokenizer.json").rename(folder / "lost.json")
    with refused("sizes.base.encoder: ", "found no tokenizer; expected"):
        load()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with refused("sizes.base.encoder: ", "unknown architecture 'gpt2'"):
        load()


def test_a_sentencepiece_model_alone_names_the_packages_that_read_it(sources, load, monkeypatch):
    folder = sources / "encoder"
    for file in folder.glob("token*.json"):
        file.unlink()
    shutil.copy(folder / "config.json", folder / "sentencepiece.bpe.model")
    monkeypatch.setattr("importlib.metadata.version", Mock(return_value="1.0"))
    load()
    missing = Mock(side_effect=metadata.PackageNotFoundError)
    monkeypatch.setattr("importlib.metadata.version", missing)
    with refused("no tokenizer.json but sentencepiece.bpe.model", "install sentencepiece protobuf"):
        load()


def test_a_cased_vocabulary_that_would_be_lower_cased_is_warned_of(sources):
    tokenizer = wordpiece("dog Dog ##s")
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(sources / "encoder")
    with pytest.warns(UserWarning, match="have capitals, but texts are lower-cased"):
        encoders.pretrained(make_size(sources / "encoder"))
