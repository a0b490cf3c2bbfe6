"""Tags of words: labels on first tokens, entity F1 as seqeval has it, and CCGbank's files."""

import numpy as np
import pytest
from conftest import make_encoder
from seqeval.metrics import f1_score

from helpers import data, encoders, tasks
from helpers.data import reading, sources
from helpers.study import StudyError, Task
from helpers.tasks import tagging
from helpers.tasks.tagging import entity_credit

NER = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def task(**changes) -> Task:
    given = {
        "name": "ner",
        "format": "tagging",
        "files": "ner.jsonl",
        "labels": NER,
        "metric": "entity_f1",
    }
    given["columns"] = {"tokens": "tokens", "labels": "tags"}
    return Task(**{**given, "licence": "Apache-2.0", "citation": "the tests", **changes})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    make_encoder(folder)
    return encoders.load(folder)[1]


GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-LOC", "B-LOC", "I-LOC"]]
SAID = [["B-PER", "O", "O", "B-LOC"], ["O", "I-PER"], ["B-LOC", "I-LOC", "I-LOC"]]


@pytest.mark.parametrize(
    ("said", "gold"),
    [(SAID, GOLD), (GOLD, GOLD), ([["O"]], [["B-PER"]]), ([["I-LOC"]], [["B-LOC"]])],
)
def test_entity_f1_is_seqevals(said, gold):
    """Sang and De Meulder 2003: an entity is right if its borders and its type are."""
    credits, out_of = zip(*map(entity_credit, said, gold), strict=True)
    expected = 100 * f1_score(gold, said, zero_division=0)
    assert tasks.score(credits, out_of) == pytest.approx(expected)


def test_an_entity_with_one_wrong_border_is_wrong_twice():
    assert entity_credit(["B-PER", "O"], ["B-PER", "I-PER"]) == (0.0, 2.0)
    assert entity_credit(["O", "O"], ["O", "O"]) == (0.0, 0.0)


def test_parts_of_speech_are_scored_as_xtreme_scores_them():
    """XTREME's scorer gives tags to seqeval: neighbours of one tag are one entity.

    One wrong tag then costs them all.
    """
    gold, said = ["DET", "NOUN", "NOUN", "VERB"], ["DET", "NOUN", "VERB", "VERB"]
    got, out_of = entity_credit(said, gold)
    assert got / out_of == pytest.approx(f1_score([gold], [said])) == pytest.approx(1 / 3)


def test_only_a_words_first_token_carries_its_label(tokenizer):
    example = {"id": "0", "tokens": ["dog", "zebrazebra", "cat"], "labels": [1, 2, 0]}
    [feature] = tagging.features(task(), [example], tokenizer, 64)
    [marks], [tokens] = feature["labels"], feature["input_ids"]
    assert len(marks) == len(tokens) > 5
    assert [m for m in marks if m != tagging.IGNORED] == [1, 2, 0]
    assert marks[0] == marks[-1] == tagging.IGNORED and marks[1] == 1 and marks[2] == 2


def test_an_entity_broken_across_tokens_and_windows_is_put_together_again(tokenizer):
    tags = [0, 1, 2, 2, 0, 3, 4, 0] * 4
    example = {"id": "0", "tokens": ["zebrazebra", "dog", "cat", "zebra"] * 8, "labels": tags}
    features = tagging.features(task(), [example], tokenizer, 12)
    [feature] = features
    assert len(feature["input_ids"]) > 2 and max(map(len, feature["input_ids"])) <= 12
    longest = max(map(len, feature["input_ids"]))
    logits = np.zeros((len(feature["input_ids"]), longest + 2, len(NER)))
    for window, marks in enumerate(feature["labels"]):
        for at, mark in enumerate(marks):
            # Other tokens than a word's first say something else, which does not count.
            logits[window, at, mark if mark >= 0 else 3] = 5
    [row] = tagging.decode(task(), [example], features, [logits])
    assert row["prediction"] == row["label"] == " ".join(NER[t] for t in tags)
    assert row["credit"] == row["out_of"] > 0 and len(row["probabilities"]) == len(tags)


def test_a_word_that_vanishes_in_the_tokenizer_still_gets_a_tag(tokenizer):
    example = {"id": "0", "tokens": ["dog", "\u200b", "cat"], "labels": [1, 0, 3]}
    [feature] = tagging.features(task(), [example], tokenizer, 64)
    assert [m for m in feature["labels"][0] if m != tagging.IGNORED] == [1, 0, 3]


def test_accuracy_counts_words():
    accuracy = task(metric="accuracy")
    examples = [{"id": "0", "tokens": ["a", "b", "c"], "labels": [0, 0, 1]}]
    features = [{"input_ids": [[0, 5, 6, 7, 2]], "labels": [[-100, 0, 0, 1, -100]]}]
    [row] = tagging.decode(accuracy, examples, features, [np.eye(5)[None, [0, 0, 0, 0, 0]]])
    assert (row["credit"], row["out_of"]) == (2.0, 3.0)
    assert tasks.majority(accuracy, examples) == pytest.approx(200 / 3)
    assert tasks.majority(task(), examples) == 0.0  # naming everything O finds no entity


def test_as_many_labels_as_words():
    with pytest.raises(StudyError, match=r"row 0: 2 words and 1 labels"):
        tasks.normalise(task(), [{"tokens": ["a", "b"], "tags": ["O"]}], "ner")
    with pytest.raises(StudyError, match=r"row 0: label 'X'; expected one of 'O', 'B-PER'"):
        tasks.normalise(task(), [{"tokens": ["a"], "tags": ["X"]}], "ner")


AUTO = """\
ID=made_0001.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<T NP 1 2> (<L NP[nb]/N DT DT The x>) (<L N NN NN dog N>) ) \
(<L S[dcl]\\NP VBZ VBZ runs x>) )
ID=made_0001.2 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She NP>) (<L S[dcl]\\NP VBZ VBZ sleeps S[dcl]\\NP_2>) )
"""


def test_supertags_come_from_files_in_ccgbanks_format(tmp_path):
    (tmp_path / "ccg").mkdir()
    (tmp_path / "ccg/train.auto").write_text(AUTO, encoding="utf-8")
    (tmp_path / "ccg/dev.auto").write_text(
        AUTO.replace("(<L N NN NN dog N>)", "(<L N/N NN NN dog N/N>)"), encoding="utf-8"
    )
    columns = {"id": "id", "tokens": "tokens", "labels": "tags"}
    splits = {"train": "train", "validation": "dev"}
    ccg = task(
        files="ccg/{split}.auto",
        splits=splits,
        columns=columns,
        labels=[],
        unseen_label=True,
        metric="accuracy",
    )
    labels = sorted({"NP[nb]/N", "N", "S[dcl]\\NP", "NP"})

    class study:
        folder, data_dir, tasks = tmp_path / "outputs", str(tmp_path), {"ner": ccg}

    full = data.labelled(study, "ner")
    assert full.labels == [*labels, reading.UNSEEN]
    first = data.read(full, "train", "en", tmp_path)[0]
    assert first["id"] == "made_0001.1" and first["tokens"] == ["The", "dog", "runs"]
    assert [full.labels[i] for i in first["labels"]] == ["NP[nb]/N", "N", "S[dcl]\\NP"]
    assert (
        full.labels[data.read(full, "validation", "en", tmp_path)[0]["labels"][1]] == reading.UNSEEN
    )


def test_a_row_with_the_wrong_number_of_columns_is_named(tmp_path):
    pair = task(
        name="pair",
        format="sentence_pair",
        files="{language}.{split}.tsv",
        splits={"train": "train"},
        columns={"text_a": "a", "text_b": "b", "label": "label"},
        labels=["no", "yes"],
        metric="accuracy",
    )
    (tmp_path / "en.train.tsv").write_text(
        'a\tb\tlabel\nx "\ty\t1\nx\ty\nz\tw\tno\n', encoding="utf-8"
    )
    with pytest.raises(
        StudyError, match=r"pair \(files .*\), en train: row 1: 2 columns; expected 3: a, b, label"
    ):
        data.read(pair, "train", "en", tmp_path)
    skipped = []
    rows = data.read(pair, "train", "en", tmp_path, skipped=skipped)
    assert [r["label"] for r in rows] == [1, 0] and rows[0]["text_a"] == 'x "' and len(skipped) == 1
    assert len(sources.rows(pair, pair, "train", "en", tmp_path)) == 3
