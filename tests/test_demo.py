"""The demo's data is complete, parallel, held out, and unreadable from surface cues; its encoder is
the one that the file holds.
"""

import re
import shutil
from collections import Counter
from functools import cache
from itertools import combinations

import encoder
import generate
import lexicon
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from transformers import AutoModel, AutoTokenizer

from helpers import encoders

CELLS = generate.cells()
TRAINED_ON = [(task, split) for task, split, _ in CELLS if split != "test"]
DENIED = re.compile(r"\b(no|not|none|nothing|cannot|never|empty)\b", re.IGNORECASE)
CHOICES = ("choice1", "choice2")
TEXTS = ("premise", "context", "sentence1", "hypothesis", "sentence2", *CHOICES)


@cache
def table(task: str, split: str, language: str = "en") -> list[dict[str, str]]:
    """The rows of one of the demo's tables."""
    path = generate.DATA / task / f"{language}.{split}.tsv"
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def texts(row: dict) -> list[str]:
    """The premise, and the hypothesis or the two choices."""
    return [row[name] for name in TEXTS if name in row]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_the_generator_writes_exactly_the_tables_that_are_kept(tmp_path):
    generate.write(tmp_path)
    made, kept = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.tsv")}
        for folder in (tmp_path, generate.DATA)
    )
    assert made == kept, "python demo/generate.py"


def test_every_split_has_its_number_of_balanced_examples_and_none_occurs_twice():
    seen = Counter()
    for task, split, language in CELLS:
        rows = table(task, split, language)
        counts = Counter(row["label"] for row in rows)
        assert len(rows) == generate.sizes(task)[split]
        assert len(counts) == (3 if "nli" in task else 2)
        assert max(counts.values()) - min(counts.values()) <= 1, (task, split, counts)
        seen += Counter((language, row.get("question"), *texts(row)) for row in rows)
        for text in (text for row in rows for text in texts(row)):  # whole sentences
            assert not re.search(r"[<>\[\]|{}\"\t]|  | \.$", text), text
            assert text.endswith((".", "。")) and text[0] == text[0].upper(), text
    assert [example for example, times in seen.items() if times > 1] == []


def test_items_are_parallel_across_languages():
    for task in generate.TARGETS:
        tables = [table(task, "test", language) for language in lexicon.LANGUAGES]
        assert len({tuple((row["id"], row["label"]) for row in rows) for rows in tables}) == 1
    lexicons = [lexicon.of_test_sets(language) for language in lexicon.LANGUAGES]
    for part in ("nouns", "sentences", "events"):
        assert len({tuple(getattr(one, part)) for one in lexicons}) == 1, part


def test_words_and_sentences_of_the_test_sets_occur_in_no_training_set():
    tested = lexicon.of_test_sets("en")
    held_out = {form for forms in tested.nouns.values() for form in (forms["sg"], forms["pl"])}
    held_out |= {"buy", "buys", "bought", "draw", "draws", "drew"}
    held_out |= {"swim", "swims", "swam", "swimming", "jump", "jumps", "jumped", "jumping"}
    held_out |= {name.lower() for name in _names(tested)}
    for task, split in TRAINED_ON:
        used = {word.lower() for row in table(task, split) for t in texts(row) for word in words(t)}
        assert not used & held_out, (task, split, used & held_out)
        assert not _sentences(tested) & _sentences(generate.words_of(task, split)), (task, split)


def test_training_validation_and_test_of_a_target_share_no_word_family_or_sentence():
    for task in generate.TARGETS:
        lexicons = [generate.words_of(task, split) for split in ("train", "validation", "test")]
        for left, right in combinations(lexicons, 2):
            assert not _sentences(left) & _sentences(right) and not _names(left) & _names(right)
            assert not {*left.nouns} & {*right.nouns} and not {*left.events} & {*right.events}


@pytest.mark.parametrize("task", generate.ROWS)
def test_the_label_cannot_be_read_without_the_premise(task):
    """A linear classifier that sees character n-grams of the hypothesis alone, or scores
    each choice by itself, stays within 5 points of chance.

    In English it learns from the training set, elsewhere even from the test set itself.
    """
    split = "test" if task in generate.TARGETS else "validation"
    for language in lexicon.LANGUAGES if split == "test" else ("en",):
        rows = table(task, split, language)
        n_grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))
        model = make_pipeline(n_grams, LogisticRegression(max_iter=200, tol=1e-3))
        train = table(task, "train") if language == "en" else rows
        model.fit(
            [t for row in train for t in texts(row)[1:]], [y for row in train for y in _y(row)]
        )
        probabilities = model.predict_proba([t for row in rows for t in texts(row)[1:]])
        if len(texts(rows[0])) == 3:  # choices: the one that looks more like a right one
            guesses = np.take(CHOICES, probabilities[:, 1].reshape(-1, 2).argmax(1))
        else:
            guesses = model.classes_[probabilities.argmax(1)]
        labels = np.array([row["label"] for row in rows])
        assert abs((guesses == labels).mean() - 1 / len({*labels})) <= 0.05, language


def _y(row: dict) -> list:
    """What the classifier learns of each text of a row."""
    return [name == row["label"] for name in CHOICES] if "choice1" in row else [row["label"]]


@pytest.mark.parametrize(
    ("task", "most"), zip(generate.ROWS, (63, 55, 68, 59, 66), strict=True), ids=str
)
def test_who_sees_only_negation_and_shared_words_learns_little(task, most):
    """In percent; of the inferences, ruling out one label and guessing gets 50 (docs/demo.md)."""

    def features(row: dict) -> list[int]:
        first, *others = texts(row)
        values = [bool(DENIED.search(text)) for text in (first, *others)]
        for other in others:
            one, two = words(first), words(other)
            values += [len(one & two), len(one - two), len(two - one)]
        return values

    split = "test" if task in generate.TARGETS else "validation"
    train, rows = table(task, "train"), table(task, split)
    tree = DecisionTreeClassifier(max_leaf_nodes=16, random_state=0)
    tree.fit([features(row) for row in train], [row["label"] for row in train])
    right = tree.predict([features(row) for row in rows]) == [row["label"] for row in rows]
    assert 100 * right.mean() <= most


def _sentences(words: lexicon.Lexicon) -> set[str]:
    """Everything that the words are put into, whoever and whatever is named."""
    sentences = [*words.sentences.values()]
    for some in (words.events, words.frames):
        sentences += [sentence for family in some.values() for sentence in family]
    return {re.sub("<[AB]>", "<S>", re.sub(r"<[ab]\.\w+>", "<a>", s)) for s in sentences}


def _names(words: lexicon.Lexicon) -> set[str]:
    return {name for names in words.names.values() for name in names}


def test_the_encoder_is_an_ordinary_folder_in_which_translations_lie_nearest(tmp_path):
    encoder.write(tmp_path / "encoder", encoder.package_file())
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]  # nothing is left beside it
    model = AutoModel.from_pretrained(tmp_path / "encoder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    shutil.rmtree(tmp_path / "encoder")  # 490 MB, which pytest would keep
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (12, 384)
    assert len(tokenizer) == 250_002 and tokenizer.mask_token_id == 250_001
    assert tokenizer("a", "b")["input_ids"] == [0, 10, 2, 2, 876, 2]  # <s> a </s></s> b </s>
    assert tokenizer.tokenize("ﬁ ①") == tokenizer.tokenize("fi 1")  # as the package's NFKC
    vectors = []
    for language in ("de", "en"):
        sentences = dict.fromkeys(row["premise"] for row in table("mini_xnli", "test", language))
        queries = [f"query: {sentence}" for sentence in [*sentences][:60]]
        vectors.append(encoders.embed(model, tokenizer, queries)[-1])
    nearest = (vectors[0] @ vectors[1].T).argmax(1)
    assert (nearest == np.arange(60)).mean() > 0.9


def test_a_wrong_file_or_folder_is_one_line_and_leaves_nothing(tmp_path):
    content = encoder.package_file().read_bytes()
    (tmp_path / "cut.bin").write_bytes(content[:1_000_000])
    (tmp_path / "other.bin").write_bytes(content[:-1] + b"?")
    for source, folder, line in (
        ("cut.bin", "new", r"cut\.bin: found 1000000 bytes, expected 71622400$"),
        ("other.bin", "new", r"other\.bin: found SHA-256 \w+, expected 1571fc\w+$"),
        ("nowhere.bin", "new", r"nowhere\.bin: found 0 bytes"),
        ("cut.bin", ".", r"exists; expected a new folder"),
        ("cut.bin", "cut.bin", r"exists; expected a new folder"),
    ):
        with pytest.raises(SystemExit, match=line):
            encoder.write(tmp_path / folder, tmp_path / source)
    assert {path.name for path in tmp_path.iterdir()} == {"cut.bin", "other.bin"}
