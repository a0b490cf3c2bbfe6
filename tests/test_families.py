"""Every architecture goes the whole way: cut, trimmed, frozen, trained, handed on."""

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
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers import data, encoders, formats
from helpers.encoders import families
from helpers.encoders.batches import SEGMENTS, collate
from helpers.study import Size, Study, StudyError

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
KNOWING = ("bert", "electra")
"""Those of them that tell the texts of a pair apart by segments."""
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
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=list(ids.items())
    )
    names = dict(zip(["bos", "pad", "eos", "unk", "mask"], SPECIAL, strict=True))
    names |= {"cls": "<s>", "sep": "</s>"}
    inputs = ["input_ids", SEGMENTS, "attention_mask"]  # as BERT's, and more than others take
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=inputs if kind == "wordpiece" else ["input_ids", "attention_mask"],
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


TEXTS = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo"]


@pytest.fixture
def loaded(folder):
    """The encoder for evaluation, its tokenizer and a batch of three texts."""
    encoder, tokenizer = encoders.load(folder)
    return encoder.eval(), tokenizer, batch(tokenizer, TEXTS)


def features(tokenizer, *texts) -> list[dict]:
    """One feature a text or pair, with what the tokenizer gives."""
    cut = tokenizer(*texts)
    names = [name for name in ("input_ids", SEGMENTS) if name in cut]
    return [{name: [cut[name][i]] for name in names} for i in range(len(texts[0]))]


def batch(tokenizer, *texts) -> dict:
    return collate(features(tokenizer, *texts), tokenizer.pad_token_id)


@pytest.fixture
def study(folder, sources, tmp_path) -> Study:
    """The tests' study on that model: two of its three layers, the lower one frozen."""
    few = {"batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 1}
    phase = {"steps": 2, "frozen_layers": 1, **few}
    size = {"encoder": str(folder), "title": "a tiny model", "layers": 2, "pooling": "mean"}
    changes = {"sizes": {"base": size}, "phases": {"intermediate": phase, "target": phase}}
    changes["precision"] = "fp32"
    made = Study.load(write_study(tmp_path / "params", sources, **changes), tmp_path / "outputs")
    data.prepare(made)
    return made


def test_phase_1_and_a_training_from_its_folder(study, folder, tmp_path):
    """Lower layers, fewer tokens; frozen layers stay and trained ones go on to the next task."""
    home, after = study.encoder_folder("base"), tmp_path / "after"
    report = encoders.prepare(study, "base", home)
    encoder, tokenizer = encoders.start(home, None, 0.0)
    assert len(families.layers(encoder)) == encoder.config.num_hidden_layers == 2
    assert len(tokenizer) < report["tokens before"] == len(AutoTokenizer.from_pretrained(folder))
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    lower = families.lower_parameters(encoder, 1)
    model = encoders.EncoderWithHead(encoder, "sequence", 3, "mean", 0.0)
    model.cached_states = encoders.frozen_states(home, encoder, 1)
    model.freeze(1)
    apart = families.family(encoder.config).apart and SEGMENTS not in tokenizer.model_input_names
    assert (model.cached_states is not None) == apart == (not report["notes"])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    assert SEGMENTS not in tokenizer.model_input_names or encoder.config.model_type in KNOWING
    rows = data.examples(study.data, study.tasks["pairs"], "train", "en")[:8]
    pairs = batch(tokenizer, [r["text_a"] for r in rows], [r["text_b"] for r in rows])
    cross_entropy(model.train()(**pairs), torch.arange(8) % 3).backward()
    optimizer.step()
    for name, p in encoder.named_parameters():
        assert torch.equal(p, before[name]) or name not in lower
    assert any(not torch.equal(p, before[f"{families.family(encoder.config).layers}.1.{name}"])
               for name, p in families.layers(encoder)[1].named_parameters())  # fmt: skip
    encoders.save(encoder, tokenizer, after, encoders.kept_ids(home))
    again, _ = encoders.start(home, after, 0.0)
    for (name, p), q in zip(again.named_parameters(), encoder.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_kept_states_give_what_computed_ones_do(study):
    home = study.encoder_folder("base")
    encoders.prepare(study, "base", home)
    encoder, tokenizer = encoders.start(home, None, 0.0)
    states = encoders.frozen_states(home, encoder, 1)
    if states is None:
        pytest.skip("this family's are not kept")
    torch.manual_seed(0)
    model = encoders.EncoderWithHead(encoder, "sequence", 3, "mean", 0.0)
    task = study.tasks["pairs"]
    rows = [r for code in ("en", "de") for r in data.examples(study.data, task, "test", code)]
    texts = formats.of(task).features(task, rows, tokenizer, 32)
    computed = encoders.predict(model, texts, tokenizer.pad_token_id)
    model.cached_states = states
    assert states.find(**collate(texts, tokenizer.pad_token_id)) is not None  # all are there
    kept = encoders.predict(model, texts, tokenizer.pad_token_id)
    for one, other in zip(computed, kept, strict=True):  # products of other shapes round otherwise
        assert other == pytest.approx(one, abs=1e-6)
    with torch.no_grad():
        families.words(encoder).add_(1e-6)
    assert encoders.frozen_states(home, encoder, 1) is None  # not the pretrained ones any more


def test_the_longest_text_is_the_longest_that_the_model_reads(loaded):
    encoder, *_ = loaded
    longest = families.longest(encoder)
    encoder(torch.full((1, min(longest, 200)), 5))
    if longest < 200:
        with pytest.raises((IndexError, RuntimeError)):
            encoder(torch.full((1, longest + 1), 5))


@torch.inference_mode()
def test_states_of_the_lower_layers_are_the_models_own(loaded):
    """Up to float32's rounding, and what the upper layers make of them is the model's output."""
    encoder, _, inputs = loaded
    output = encoder(**inputs, output_hidden_states=True)
    for depth in (1, 2):
        states = families.states_after(encoder, depth, **inputs)
        assert torch.allclose(states, output.hidden_states[depth], atol=1e-5)
        whole = families.states_from(encoder, depth, states, **inputs)
        equal = torch.allclose(whole, output.last_hidden_state, atol=1e-5)
        assert equal == families.family(encoder.config).apart


@torch.inference_mode()
def test_states_after_all_layers_lack_what_follows_the_last(loaded):
    """Where every layer is frozen, a norm at the end is applied once: to the kept states."""
    encoder, _, inputs = loaded
    model = encoders.EncoderModel(encoder, 3).eval()
    for parameter in encoder.parameters():  # else a norm of what is normed changes nothing
        parameter.mul_(1.5)
    whole = encoder(**inputs).last_hidden_state
    states = families.states_from(encoder, 3, model(**inputs), **inputs)
    assert torch.allclose(states, whole, atol=1e-5) or encoder.config.model_type == "mt5"


@torch.inference_mode()
def test_trimming_cuts_every_text_as_before_and_changes_no_state(loaded):
    encoder, tokenizer, _ = loaded
    texts = [f"{a} {b} 7" for a in WORDS for b in WORDS]
    before = tokenizer(texts)["input_ids"]
    used = {i for ids in before for i in ids}
    assert len(used) < len(tokenizer)
    old = [encoder(input_ids=torch.tensor([ids])).last_hidden_state for ids in before[:20]]
    small, cut, kept = encoders.trim(encoder, tokenizer, used, texts)
    assert len(kept) == len(cut) < len(tokenizer)
    assert cut.model_input_names == tokenizer.model_input_names
    after = cut(texts)["input_ids"]
    assert [[kept[i] for i in ids] for ids in after] == before
    new = [small(input_ids=torch.tensor([ids])).last_hidden_state for ids in after[:20]]
    assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))


def test_segments_of_pairs_reach_the_models_that_know_them(loaded):
    """As the model is called by hand with what the library's own tokenizer gives."""
    encoder, tokenizer, _ = loaded
    inputs = batch(tokenizer, TEXTS, TEXTS[::-1])
    knows = encoder.config.model_type in KNOWING
    assert (SEGMENTS in inputs) == knows
    model = encoders.EncoderModel(encoder).eval()
    pairs = features(tokenizer, TEXTS, TEXTS[::-1])
    states = encoders.predict(model, pairs, tokenizer.pad_token_id)
    if knows:
        assert inputs[SEGMENTS].any()
        expected = encoder(**inputs).last_hidden_state
        assert torch.allclose(torch.tensor(states[0][0]), expected[0, : len(states[0][0])])
        del inputs[SEGMENTS]
        assert not torch.allclose(encoder(**inputs).last_hidden_state, expected, atol=1e-3)


def test_masked_words_are_learned_where_embeddings_are_narrower_than_states_too(loaded):
    encoder, _, inputs = loaded
    model = encoders.EncoderWithHeads(encoder, {"mlm": encoders.MaskedHead(encoder)})
    chosen = inputs["attention_mask"] == 1
    logits = model(**inputs, chosen=chosen)
    assert logits.shape == (int(chosen.sum()), len(families.words(encoder)))
    cross_entropy(logits, inputs["input_ids"][chosen]).backward()
    assert families.words(encoder).grad.any()


@torch.no_grad()
def test_a_studys_dropout_replaces_the_models_own_and_frozen_layers_have_none(folder):
    encoder, tokenizer = encoders.load(folder, dropout=0.0)
    inputs = batch(tokenizer, TEXTS)
    train, evaluate = (encoder.train(mode)(**inputs).last_hidden_state for mode in (True, False))
    assert torch.allclose(train, evaluate, atol=1e-6)
    encoder, tokenizer = encoders.load(folder, dropout=0.5)
    model = encoders.EncoderWithHead(encoder, "sequence", 2, "mean", 0.0)
    model.freeze(2)
    model.train()
    assert torch.equal(*(families.states_after(encoder, 2, **inputs) for _ in range(2)))
    assert not torch.equal(model(**inputs), model(**inputs))


def test_long_texts_take_the_attention_that_the_family_has(loaded):
    """SDPA where there is one; the states are those of eager attention."""
    encoder, *_ = loaded
    ids = torch.randint(5, 50, (2, 64))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    states = []
    for length in (16, 1000, 16):
        families.choose_attention(encoder, length, bf16=False)
        states.append(encoder(**inputs).last_hidden_state)
    assert torch.equal(states[0], states[2])
    assert torch.allclose(states[0], states[1], atol=1e-5)


def test_a_tokenizer_that_does_not_fit_its_model_is_one_line(loaded, tmp_path):
    model, tokenizer, _ = loaded
    tokenizer.add_tokens([f"<new{i}>" for i in range(5)])
    encoders.save(model, tokenizer, tmp_path / "unfit", None)
    size = Size(encoder=str(tmp_path / "unfit"), title="tiny", pooling="mean")
    with pytest.raises(StudyError, match=r"its tokenizer has \d+ tokens; expected at most the"):
        encoders.pretrained(size)
