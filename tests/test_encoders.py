"""Phase 1 and what goes on from it: lower layers, a trimming that loses nothing, the layer that
retrieval reads, and one line for every folder that cannot be used.
"""

import copy
import json
import shutil
from importlib import metadata

import numpy as np
import pytest
import torch
from conftest import make_encoder, write_study
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from helpers import data, encoders
from helpers.encoders import families
from helpers.encoders.batches import batches, collate, length, training_items
from helpers.study import Size, Study, StudyError
from helpers.study.architectures import faults

TEXTS = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo", "samaki anakula", "xyz dog ~ 7"]


@pytest.fixture
def prepared(tiny_study, tmp_path) -> Study:
    """The tests' study, its data read."""
    study = Study.load(tiny_study, tmp_path / "outputs")
    data.prepare(study)
    return study


def test_a_trimmed_encoder_learns_what_the_whole_one_does(tiny_sources):
    """Over fifty steps: the same losses, and the same weights in the layers and in kept rows."""
    encoder, tokenizer = encoders.load(tiny_sources / "encoder", dropout=0.0)
    used = {i for text in TEXTS for i in tokenizer(text)["input_ids"]}
    small, small_tokenizer, kept = encoders.trim(copy.deepcopy(encoder), tokenizer, used, TEXTS)
    losses, labels = {}, torch.arange(len(TEXTS)) % 3
    for model, cut in ((encoder, tokenizer), (small, small_tokenizer)):
        torch.manual_seed(0)
        model = encoders.EncoderWithHead(model, "sequence", 3, "mean", 0.0)
        features = [{"input_ids": [ids]} for ids in cut(TEXTS)["input_ids"]]
        inputs = collate(features, cut.pad_token_id)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        losses[len(cut)] = []
        for _ in range(50):
            optimizer.zero_grad()
            loss = cross_entropy(model(**inputs), labels)
            loss.backward()
            optimizer.step()
            losses[len(cut)].append(loss.item())
    first, second = losses.values()
    assert second == pytest.approx(first, abs=1e-5) and first[-1] < first[0] / 2
    whole, trimmed = encoder.state_dict(), small.state_dict()
    words = "embeddings.word_embeddings.weight"
    whole[words] = whole[words][kept]
    for name, weight in trimmed.items():
        assert torch.allclose(weight, whole[name], atol=1e-4), name


def wordpiece(tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[PAD]", *tokens.split()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def test_phase_1_keeps_a_vocabulary_whole_that_would_split_an_unknown_word(
    sources, tmp_path, monkeypatch
):
    """abx is unknown, for nothing goes on from ab; without ab it would be a ##bx, as in cbx."""
    tokenizer = wordpiece("a ab ##b ##bx c ##c z")
    assert tokenizer.tokenize("abx") == ["[UNK]"]
    tokenizer.save_pretrained(sources / "encoder")
    path = sources / "files/pairs/en.train.tsv"
    head, first, *lines = path.read_text().splitlines()
    cells = first.split("\t")
    common = "\t".join([cells[0], "c", "c", *cells[3:]])  # many texts, of which few are checked
    unknown = "\t".join([cells[0] + "x", "cbx", "abx", *cells[3:]])
    path.write_text("\n".join([head, common, unknown, *lines]) + "\n")
    monkeypatch.setattr("helpers.encoders.loading.CHECKED", 1)
    study = Study.load(write_study(tmp_path / "params", sources, intermediate=["none"]), tmp_path)
    data.prepare(study)
    report = encoders.prepare(study, "large", study.encoder_folder("large"))
    assert report["notes"] == ["trim: 'abx' would be cut otherwise: the vocabulary stays whole"]
    assert report["tokens"] == report["tokens before"]


def test_a_tokenizer_that_cannot_be_trimmed_leaves_the_vocabulary_whole(sources, tmp_path):
    file = sources / "encoder/tokenizer.json"
    state = json.loads(file.read_text())
    vocabulary = {token: i for i, (token, _) in enumerate(state["model"]["vocab"])}
    state["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    file.write_text(json.dumps(state))
    study = Study.load(write_study(tmp_path / "params", sources), tmp_path / "outputs")
    data.prepare(study)
    report = encoders.prepare(study, "large", study.encoder_folder("large"))
    assert report["tokens"] == report["tokens before"]
    assert report["notes"] == [
        "trim: found a WordLevel tokenizer, expected one of Unigram, WordPiece, BPE: "
        "the vocabulary stays whole"
    ]


def test_a_saved_encoder_is_a_standard_folder_with_the_lower_layers(prepared):
    folder = prepared.encoder_folder("base")
    report = encoders.prepare(prepared, "base", folder)
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.num_hidden_layers == 1
    assert len(tokenizer) == report["tokens"] < report["tokens before"]
    assert report["parameters"]["layers"] == report["parameters before"]["layers"]
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"] == prepared.encoder_settings("base")
    embeddings = (len(tokenizer) + 70 + 1) * 16  # of tokens, positions and one type
    saved = sum(p.numel() for p in encoders.load(folder)[0].parameters())
    assert record["parameters_all"] == saved
    assert record["parameters_all"] - record["parameters_without_embeddings"] == embeddings
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_vocabulary_that_has_grown_keeps_trained_rows_and_takes_pretrained_ones(
    tiny_sources, tmp_path
):
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
    with pytest.raises(StudyError, match="base/encoder: no encoder there; run notebook 1_encoder"):
        encoders.start(tmp_path / "base/encoder", None, 0.0)
    with pytest.raises(StudyError, match=r"seed-1/encoder: .*run notebook 2_intermediate first"):
        encoders.start(tiny_sources / "encoder", tmp_path / "mnli/seed-1/encoder", 0.0)


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
    prepared, phase, task, key, most
):
    prepared.phases[phase][key] = most + 1
    expected = f"{key}: found {most + 1}, expected at most {most}"
    with pytest.raises(StudyError, match=f"yaml: {phase} {task}, size large: {expected}"):
        encoders.prepare(prepared, "large", prepared.encoder_folder("large"))


@torch.no_grad()
@pytest.mark.parametrize(("depth", "index"), [(12, 7), (24, 13)])
def test_retrieval_reads_the_layer_that_xtremes_script_reads(tmp_path, depth, index):
    """evaluate_retrieval.py: the last ``num_layers`` of all outputs, embeddings first, by index;
    states of padding are left out of the mean.
    """
    make_encoder(tmp_path, depth)
    encoder, tokenizer = encoders.load(tmp_path)
    cut = tokenizer(TEXTS)["input_ids"]
    inputs = collate([{"input_ids": [ids]} for ids in cut], tokenizer.pad_token_id)
    outputs = encoder.eval()(**inputs, output_hidden_states=True).hidden_states
    states = outputs[-depth:][index]
    mask = inputs["attention_mask"][..., None].float()
    expected = (states * mask).sum(1) / mask.sum(1)
    layer = encoders.retrieval_layer(depth)
    model = encoders.EncoderWithHead(encoder, "vector", 0, "mean", 0.0, layer)
    features = [{"input_ids": cut[:2], "labels": 0}, {"input_ids": cut[2:4], "labels": 0}]
    found = np.concatenate(encoders.predict(model, features, tokenizer.pad_token_id))
    assert found == pytest.approx(expected[:4].numpy(), abs=1e-5)


def test_a_size_or_task_may_name_the_layer_of_retrieval():
    assert encoders.retrieval_layer(2) == 2  # of two layers there is none above
    assert encoders.retrieval_layer(12, task=14) == 12
    assert encoders.retrieval_layer(12, size=5, task=7) == 5


def test_embeddings_are_unit_vectors_of_every_layer_and_leave_the_encoder_as_it_was(tiny_sources):
    encoder, tokenizer = encoders.load(tiny_sources / "encoder")
    vectors = encoders.embed(encoder, tokenizer, TEXTS)
    assert vectors.shape == (3, len(TEXTS), 16)
    assert np.linalg.norm(vectors, axis=-1) == pytest.approx(1)
    assert encoders.fertility(tokenizer, ["dog", "dog sleeps"]) == 1.5


def test_a_batch_in_parts_is_the_same_sequences_with_the_same_labels():
    tags = {"input_ids": [[5, 6], [7]], "labels": [[0, 1], [2]], "token_type_ids": [[0, 1], [0]]}
    items = training_items([tags, {**tags, "input_ids": [[8, 9, 5], [6]]}])
    assert [length(item) for item in items] == [2, 1, 3, 1]
    assert items[0] == {
        "input_ids": [[5, 6]], "token_type_ids": [[0, 1]], "labels": [[0, 1]],
    }  # fmt: skip
    parts = [[items[i] for i in part] for part in batches(items, 3)]
    assert [len(part) for part in parts] == [1, 1, 2]
    assert sorted(length(i) for part in parts for i in part) == [1, 1, 2, 3]


def test_a_missing_model_folder_is_one_line():
    with pytest.raises(StudyError, match=r"\./nowhere: no folder with a config\.json"):
        encoders.pretrained(Size(encoder="./nowhere", title="none", pooling="mean"))


def test_what_is_not_supported_is_one_line(sources):
    folder = sources / "encoder"
    size = Size(encoder=str(folder), title="tiny", pooling="mean")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 12}))
    with pytest.raises(StudyError, match="cannot be loaded") as error:
        encoders.pretrained(size)
    assert "\n" not in str(error.value)
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(StudyError, match=r"16 weights are missing, encoder\.layer\.2"):
        encoders.pretrained(size)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(StudyError, match=r"unknown architecture 'gpt2'; expected one of .*layers"):
        encoders.pretrained(size)


def test_an_encoder_that_cannot_be_used_is_found_when_the_study_is_checked(sources, tmp_path):
    folder = sources / "encoder"
    (folder / "tokenizer.json").rename(folder / "lost.json")
    with pytest.raises(StudyError, match=r"sizes\.base\.encoder: .*: found no tokenizer; expected"):
        Study.load(write_study(tmp_path, sources))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(StudyError, match=r"sizes\.base\.encoder: .*unknown architecture 'gpt2'"):
        Study.load(write_study(tmp_path, sources))


def test_a_tokenizer_without_padding_is_found_before_anything_runs(sources):
    file = sources / "encoder/tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in settings.items() if k != "pad_token"}))
    (line,) = faults(str(sources / "encoder"))
    assert line == f"{file}: found no pad_token; expected the padding token"
    with pytest.raises(StudyError, match="its tokenizer has no padding token; expected one"):
        encoders.load(sources / "encoder")


def test_a_sentencepiece_model_alone_names_the_packages_that_read_it(sources, monkeypatch):
    folder = sources / "encoder"
    for file in folder.glob("token*.json"):
        file.unlink()
    shutil.copy(folder / "config.json", folder / "sentencepiece.bpe.model")
    monkeypatch.setattr("importlib.metadata.version", lambda package: "1.0")
    assert list(faults(str(folder))) == []
    monkeypatch.setattr("importlib.metadata.version", missing)
    (line,) = faults(str(folder))
    assert "found no tokenizer.json but sentencepiece.bpe.model" in line
    assert "pip install sentencepiece protobuf" in line


def missing(package: str):
    raise metadata.PackageNotFoundError(package)


def test_a_cased_vocabulary_that_would_be_lower_cased_is_warned_of(sources):
    tokenizer = wordpiece("dog Dog ##s")
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(sources / "encoder")
    size = Size(encoder=str(sources / "encoder"), title="tiny", pooling="mean")
    with pytest.warns(UserWarning, match="have capitals, but texts are lower-cased"):
        encoders.pretrained(size)
