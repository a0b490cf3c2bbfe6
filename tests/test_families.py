"""Every architecture goes the whole way: cut, trimmed, frozen, trained, handed on."""

import pytest
import torch
import transformers
from conftest import ANIMALS, NEGATED, QUESTIONS, SHAPE, SIZE, SPECIAL, VERBS, batch, features
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, WordPieceTrainer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers import data, encoders, formats
from helpers.encoders import families
from helpers.encoders.batches import SEGMENTS, collate
from helpers.study import Study
from helpers.training import fine_tuning

LAYERS = {**SHAPE, "num_hidden_layers": 3}
DISTILLED = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
FAMILIES = {
    "XLMRoberta": ("unigram", LAYERS),
    "XLMRobertaXL": ("unigram", LAYERS),
    "Bert": ("wordpiece", LAYERS),
    "DistilBert": ("wordpiece", {**DISTILLED, "max_position_embeddings": 70}),
    "DebertaV2": ("unigram", {**LAYERS, **RELATIVE}),
    "ModernBert": ("bpe", {**LAYERS, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "EuroBert": ("bpe", LAYERS),
    "Electra": ("wordpiece", {**LAYERS, "embedding_size": 8}),
    "MT5": ("unigram", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}),
}
KNOWING = ("bert", "electra")
"""Those of them that tell the texts of a pair apart by segments."""
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = [word for words in [*ANIMALS.values(), *VERBS.values()] for word in words]
WORDS += [word for text in NEGATED.values() for word in text.split()]
TEXTS = ["dog sleeps 201", "Hund ist nicht da", "ndege hayupo"]


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind, trained on the tests' words and on some that are in none of them."""
    inputs = ["input_ids", "attention_mask"]
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trainer = WordPieceTrainer(vocab_size=320, special_tokens=TOKENS)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inputs = [*inputs, SEGMENTS]  # as BERT's, and more than others take
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = BpeTrainer(vocab_size=320, special_tokens=TOKENS)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    words = [*WORDS, *QUESTIONS.values(), "0 1 2 3 4 5 6 7 8 9", "zebra"] * 20
    unused = [f"{a}{b}{c}" for a in "qwxz" for b in "aeiou" for c in "jkvb"] * 3
    tokenizer.train_from_iterator(words + unused, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in TOKENS]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=ids
    )
    names = {"model_input_names": inputs, "model_max_length": 64, **SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tokenizer, tmp_path_factory):
    """A tiny model with random weights of a family, as a folder that AutoModel loads."""
    kind, shape = FAMILIES[request.param]
    if kind != "unigram":
        tokenizer = make_tokenizer(kind)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{request.param}Config")(**ids, **shape)
    torch.manual_seed(0)
    name = "MT5Encoder" if request.param == "MT5" else request.param
    model = getattr(transformers, f"{name}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # else a norm of what is normed changes nothing
            parameter.mul_(1 + torch.rand_like(parameter))
    made = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture
def loaded(folder):
    """The encoder for evaluation, its tokenizer and a batch of three texts."""
    encoder, tokenizer = encoders.load(folder)
    return encoder.eval(), tokenizer, batch(tokenizer, TEXTS)


def frozen_study(load, folder, frozen: int) -> Study:
    """The tests' study on that model: two of its three layers, some of them frozen."""
    phase = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 1}
    phases = dict.fromkeys(("intermediate", "target"), phase | {"frozen_layers": frozen})
    size = {**SIZE, "encoder": str(folder), "layers": 2}
    return load(read=True, sizes={"base": size}, phases=phases, precision="fp32")


def test_phase_1_and_a_training_from_its_folder(load, folder, tmp_path):
    """Lower layers, fewer tokens; frozen layers stay and trained ones go on to the next task."""
    study = frozen_study(load, folder, 1)
    home, after = study.encoder_folder("base"), tmp_path / "after"
    report = encoders.prepare(study, "base", home)
    encoder, tokenizer = encoders.start(home, None, 0.0)
    assert len(families.layers(encoder)) == encoder.config.num_hidden_layers == 2
    assert len(tokenizer) < report["tokens before"] == len(AutoTokenizer.from_pretrained(folder))
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    lower = families.lower_parameters(encoder, 1)
    model = encoders.EncoderModel(encoder, encoders.Head(encoder, "sequence", 3, "mean", 0.0))
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


@pytest.mark.parametrize("depth", [1, 2])
def test_kept_states_give_what_computed_ones_do(load, folder, depth):
    """Where every layer is frozen, what follows the last one is still applied, and once."""
    study = frozen_study(load, folder, depth)
    home = study.encoder_folder("base")
    encoders.prepare(study, "base", home)
    encoder, tokenizer = encoders.start(home, None, 0.0)
    states = encoders.frozen_states(home, encoder, depth)
    if states is None:
        pytest.skip("this family's are not kept")
    torch.manual_seed(0)
    model = encoders.EncoderModel(encoder, encoders.Head(encoder, "sequence", 3, "mean", 0.0))
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
    assert encoders.frozen_states(home, encoder, depth) is None  # not the pretrained ones any more


@torch.inference_mode()
def test_a_layer_below_the_last_is_read_as_the_model_gives_it(loaded):
    encoder, _, inputs = loaded
    expected = encoder(**inputs, output_hidden_states=True).hidden_states
    for depth in (1, 2):
        model = encoders.EncoderModel(encoder, layer=depth).eval()
        assert torch.allclose(model(**inputs), expected[depth], atol=1e-5)


def test_the_longest_text_is_the_longest_that_the_model_reads(loaded):
    encoder, *_ = loaded
    longest = families.longest(encoder)
    encoder(torch.full((1, min(longest, 200)), 5))
    if longest < 200:
        with pytest.raises((IndexError, RuntimeError)):
            encoder(torch.full((1, longest + 1), 5))


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
    pairs = features(tokenizer, TEXTS, TEXTS[::-1])
    model = encoders.EncoderModel(encoder).eval()
    [states, *_] = encoders.predict(model, pairs, tokenizer.pad_token_id)
    if knows:
        assert inputs[SEGMENTS].any()
        expected = encoder(**inputs).last_hidden_state
        assert torch.allclose(torch.tensor(states[0]), expected[0, : len(states[0])])
        del inputs[SEGMENTS]
        assert not torch.allclose(encoder(**inputs).last_hidden_state, expected, atol=1e-3)


def test_masked_words_are_learned_where_embeddings_are_narrower_than_states_too(loaded):
    encoder, _, inputs = loaded
    model = encoders.EncoderModel(encoder, encoders.MaskedHead(encoder))
    states = encoder(**inputs).last_hidden_state
    begun = model.head.dense(states)
    assert torch.equal(begun, states[..., : begun.shape[-1]])  # what pretraining left is kept
    chosen = inputs["attention_mask"] == 1
    logits = model(**inputs, chosen=chosen)
    assert logits.shape == (int(chosen.sum()), len(families.words(encoder)))
    cross_entropy(logits, inputs["input_ids"][chosen]).backward()
    assert families.words(encoder).grad.any()


@torch.no_grad()
def test_where_the_last_layer_is_read_so_is_what_follows_it(load, folder, loaded):
    condition = frozen_study(load, folder, 0).condition("base", "none", "pairs")
    encoder, _, inputs = loaded
    states = encoder(**inputs).last_hidden_state
    found = fine_tuning.untrained(condition, encoder)(**inputs)
    mask = inputs["attention_mask"][..., None]
    assert torch.allclose(found, (states * mask).sum(1) / mask.sum(1), atol=1e-6)


@torch.no_grad()
def test_a_studys_dropout_replaces_the_models_own_and_frozen_layers_have_none(folder):
    encoder, tokenizer = encoders.load(folder, dropout=0.0)
    inputs = batch(tokenizer, TEXTS)
    train, evaluate = (encoder.train(mode)(**inputs).last_hidden_state for mode in (True, False))
    assert torch.allclose(train, evaluate, atol=1e-6)
    encoder, _ = encoders.load(folder, dropout=0.5)
    whole, frozen = encoders.EncoderModel(encoder), encoders.EncoderModel(encoder, layer=2)
    for model in (whole, frozen):
        model.freeze(2)
        model.train()
    assert torch.equal(frozen(**inputs), frozen(**inputs))
    assert not torch.equal(whole(**inputs), whole(**inputs))


def test_long_texts_take_another_attention_and_give_the_same(loaded, monkeypatch):
    encoder, tokenizer, _ = loaded
    model, texts = encoders.EncoderModel(encoder), features(tokenizer, TEXTS)
    states = []
    for crossover in (256, 1):
        monkeypatch.setattr(families, "CROSSOVER", crossover)
        states += encoders.predict(model, texts, tokenizer.pad_token_id)
    for one, other in zip(states[:3], states[3:], strict=True):
        assert other == pytest.approx(one, abs=1e-5)
