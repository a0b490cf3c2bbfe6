"""Every architecture goes the whole way: cut, trimmed, frozen, trained, handed on, evaluated."""

import json

import numpy as np
import pytest
import torch
import transformers
from conftest import ANIMALS, NEGATED, VERBS, write_study
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers import data, encoders, evaluation, training
from helpers.encoders import families, hidden_states
from helpers.encoders.batches import collate
from helpers.encoders.model import EncoderModel
from helpers.study import Run, Size, Study, StudyError

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 70,
}
FAMILIES = {
    "XLMRoberta": ("unigram", SHAPE),
    "XLMRobertaXL": ("unigram", SHAPE),
    "Bert": ("wordpiece", SHAPE),
    "DistilBert": (
        "wordpiece",
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 70},
    ),
    "DebertaV2": (
        "unigram",
        {
            **SHAPE,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
        },
    ),
    "ModernBert": ("bpe", {**SHAPE, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "EuroBert": ("bpe", SHAPE),
    "Electra": ("wordpiece", {**SHAPE, "embedding_size": 8}),
    "MT5": ("unigram", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}),
}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = [
    word
    for language in ANIMALS
    for words in (ANIMALS[language], VERBS[language], NEGATED[language].split())
    for word in words
]
CORPUS = [*WORDS, "What was the cause? What happened as a result?", "0 1 2 3 4 5 6 7 8 9", "zebra"]


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind, trained on the tests' words and on some that are in none of them."""
    kinds = {"unigram": models.Unigram, "wordpiece": models.WordPiece, "bpe": models.BPE}
    makers = {
        "unigram": lambda: trainers.UnigramTrainer(
            vocab_size=220, special_tokens=SPECIAL, unk_token="<unk>"
        ),
        "wordpiece": lambda: trainers.WordPieceTrainer(vocab_size=320, special_tokens=SPECIAL),
        "bpe": lambda: trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL),
    }
    tokenizer = Tokenizer(kinds[kind](**({} if kind == "unigram" else {"unk_token": "<unk>"})))
    if kind == "wordpiece":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    unused = [f"{a}{b}{c}" for a in "qwxz" for b in "aeiou" for c in "jkvb"] * 3
    tokenizer.train_from_iterator([*CORPUS * 20, *unused], makers[kind]())
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=list(ids.items())
    )
    names = dict(zip(["bos", "pad", "eos", "unk", "mask"], SPECIAL, strict=True))
    names |= {"cls": "<s>", "sep": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        **{f"{name}_token": token for name, token in names.items()},
    )


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A tiny model with random weights of a family, as a folder that AutoModel loads."""
    kind, shape = FAMILIES[request.param]
    tokenizer = make_tokenizer(kind)
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape
    )
    torch.manual_seed(0)
    name = "MT5Encoder" if request.param == "MT5" else request.param
    made = tmp_path_factory.mktemp(request.param)
    getattr(transformers, f"{name}Model")(config).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture
def study(folder, sources, tmp_path) -> Study:
    """The tests' study on that model: two of its three layers, the lower one frozen."""
    few = {"batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 1}
    phase = {"steps": 2, "frozen_layers": 1, **few}
    size = {"encoder": str(folder), "title": "a tiny model", "layers": 2, "pooling": "mean"}
    changes = {"sizes": {"base": size}, "phases": {"intermediate": phase, "target": phase}}
    made = Study.load(write_study(tmp_path / "params", sources, **changes), tmp_path / "outputs")
    data.prepare(made)
    return made


def test_every_family_goes_the_whole_way(study, folder):
    report = encoders.prepare(study, "base")
    whole, _ = encoders.load(folder)
    before, _ = encoders.load(study.encoder_folder("base"))
    assert len(families.layers(before)) == before.config.num_hidden_layers == 2
    assert report["tokens"] < report["tokens before"] == len(AutoTokenizer.from_pretrained(folder))
    lower = families.lower_parameters(before, 1)
    trained = training.intermediate(study, "base", "choices", 1)
    after = dict(trained.model.encoder.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in lower.items())
    assert all(
        any(not torch.equal(p, q) for p, q in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(
            families.layers(before)[1:], families.layers(trained.model.encoder)[1:], strict=True
        )
    )
    evaluation.write_intermediate(study, "base", "choices", 1, trained)
    run = Run("base", "choices", "pairs", 1)
    target = training.target(study, run)
    predictions = evaluation.zero_shot(study, "pairs", target)
    scores = evaluation.write_run(study, run, target, predictions)
    assert set(scores["languages"]) == {"en", "de", "sw"}
    exact = type(whole).__name__ != "MT5EncoderModel"  # its upper layers need the lowest one's bias
    assert (target.model.cached_states is not None) == exact
    assert bool(report["notes"]) != exact


def test_the_longest_text_is_the_longest_that_the_model_reads(folder):
    encoder, _ = encoders.load(folder)
    longest = families.longest(encoder)
    encoder(torch.full((1, min(longest, 200)), 5))
    if longest < 200:
        with pytest.raises((IndexError, RuntimeError)):
            encoder(torch.full((1, longest + 1), 5))


def test_states_of_the_lower_layers_are_the_models_own(folder):
    """Up to float32's rounding, and what the upper layers make of them is the model's output."""
    encoder, tokenizer = encoders.load(folder)
    texts = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo"]
    inputs = collate([{"input_ids": tokenizer(texts)["input_ids"]}], tokenizer.pad_token_id)
    encoder.eval()
    with torch.inference_mode():
        own = encoder(**inputs, output_hidden_states=True).hidden_states
        for depth in (1, 2):
            states = families.states_after(encoder, depth, **inputs)
            assert torch.allclose(states, own[depth], atol=1e-5)
    ids = tokenizer(texts)["input_ids"]
    exact = encoder.config.model_type != "mt5"
    assert hidden_states.is_exact(encoder, 2, [tuple(i) for i in ids], 1) == exact


def test_states_after_all_layers_lack_what_follows_the_last(folder):
    """Where every layer is frozen, a norm at the end is applied once: to the kept states."""
    encoder, tokenizer = encoders.load(folder)
    inputs = collate([{"input_ids": tokenizer(["dog sleeps 201"])["input_ids"]}], 1)
    model = EncoderModel(encoder, 3).eval()
    with torch.inference_mode():
        for parameter in encoder.parameters():  # else a norm of what is normed changes nothing
            parameter.mul_(1.5)
        own = encoder(**inputs).last_hidden_state
        states = families.states_from(encoder, 3, model(**inputs), **inputs)
    assert torch.allclose(states, own, atol=1e-5) or encoder.config.model_type == "mt5"


def test_trimming_cuts_every_text_as_before_and_changes_no_state(folder):
    whole, tokenizer = encoders.load(folder)
    texts = [f"{a} {b} 7" for a in WORDS for b in WORDS]
    before = tokenizer(texts)["input_ids"]
    used = {i for ids in before for i in ids}
    assert len(used) < len(tokenizer)
    whole.eval()
    with torch.inference_mode():
        old = [whole(input_ids=torch.tensor([ids])).last_hidden_state for ids in before[:20]]
    small, cut, kept = encoders.trim(whole, tokenizer, used, texts)
    assert len(kept) == len(cut) < len(tokenizer)
    after = cut(texts)["input_ids"]
    assert [[kept[i] for i in ids] for ids in after] == before
    with torch.inference_mode():
        new = [small(input_ids=torch.tensor([ids])).last_hidden_state for ids in after[:20]]
    assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))


def test_dropout_of_a_study_replaces_the_models_own(folder):
    """No dropout in the study, and training's forward is evaluation's."""
    encoder, tokenizer = encoders.load(folder, dropout=0.0)
    inputs = collate([{"input_ids": tokenizer(["dog sleeps"])["input_ids"]}], 1)
    with torch.no_grad():
        train, evaluate = (
            encoder.train(mode)(**inputs).last_hidden_state for mode in (True, False)
        )
    assert torch.allclose(train, evaluate, atol=1e-6)


def test_a_tokenizer_that_cannot_be_trimmed_leaves_the_vocabulary_whole(sources, tmp_path):
    folder = sources / "encoder"
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {token: i for i, (token, _) in enumerate(state["model"]["vocab"])}
    state["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    study = Study.load(write_study(tmp_path / "params", sources), tmp_path / "outputs")
    report = encoders.prepare(study, "large")
    assert report["tokens"] == report["tokens before"]
    assert report["notes"] == [
        "trim: found a WordLevel tokenizer, expected one of Unigram, WordPiece, BPE: "
        "the vocabulary stays whole"
    ]


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


def test_a_tokenizer_that_does_not_fit_its_model_is_one_line(folder, tmp_path):
    model, tokenizer = encoders.load(folder)
    tokenizer.add_tokens([f"<new{i}>" for i in range(5)])
    encoders.save(model, tokenizer, tmp_path / "unfit", None)
    size = Size(encoder=str(tmp_path / "unfit"), title="tiny", pooling="mean")
    with pytest.raises(StudyError, match=r"its tokenizer has \d+ tokens; expected at most the"):
        encoders.pretrained(size)


def test_frozen_layers_run_without_dropout(folder):
    encoder, tokenizer = encoders.load(folder, dropout=0.5)
    head = encoders.model.EncoderWithHead(encoder, "sequence", 2, "mean", 0.0)
    head.freeze(2)
    head.train()
    inputs = collate([{"input_ids": tokenizer(["dog sleeps 7"])["input_ids"]}], 1)
    with torch.no_grad():
        states = [families.states_after(encoder, 2, **inputs) for _ in range(2)]
        logits = [head(**inputs).numpy() for _ in range(2)]
    assert torch.equal(*states) and not np.array_equal(*logits)


def test_an_encoder_that_cannot_be_used_is_found_when_the_study_is_checked(sources, tmp_path):
    folder = sources / "encoder"
    (folder / "tokenizer.json").rename(folder / "lost.json")
    with pytest.raises(StudyError, match=r"sizes\.base\.encoder: .*: found no tokenizer; expected"):
        Study.load(write_study(tmp_path, sources))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(StudyError, match=r"sizes\.base\.encoder: .*unknown architecture 'gpt2'"):
        Study.load(write_study(tmp_path, sources))
