"""Tags of words: labels on first tokens, entity F1 as seqeval has it, and CCGbank's files."""

import numpy as np
import pytest
from conftest import make_task, refused
from seqeval.metrics import f1_score

from helpers import data, formats
from helpers.data import reading
from helpers.encoders.batches import training_items
from helpers.formats import tagging
from helpers.formats.tagging import entity_credit
from helpers.study import Task

NER = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def task(**changes) -> Task:
    entry = {"format": "tagging", "labels": NER, "metric": "entity_f1"}
    columns = {"id": "id", "tokens": "tokens", "labels": "tags"}
    return make_task(**{**entry, "columns": columns, **changes})


GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-LOC", "B-LOC", "I-LOC"]]
PREDICTED = [["B-PER", "O", "O", "B-LOC"], ["O", "I-PER"], ["B-LOC", "I-LOC", "I-LOC"]]
POS = ["DET", "NOUN", "NOUN", "VERB"], ["DET", "NOUN", "VERB", "VERB"]


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [(PREDICTED, GOLD), (GOLD, GOLD), ([["O"]], [["B-PER"]]), ([POS[1]], [POS[0]])],
)
def test_entity_f1_is_seqevals(predicted, gold):
    """Sang and De Meulder 2003: an entity is right if its borders and its type are.

    XTREME's scorer gives parts of speech to seqeval too: neighbours of one tag are one entity.
    """
    credits, out_of = zip(*map(entity_credit, predicted, gold), strict=True)
    expected = 100 * f1_score(gold, predicted, zero_division=0)
    assert formats.score(credits, out_of) == pytest.approx(expected)


def test_only_a_words_first_token_carries_its_label(tokenizer):
    example = {"id": "0", "tokens": ["dog", "zebrazebra", "\u200b", "cat"], "labels": [1, 2, 3, 0]}
    [feature] = tagging.features(task(), [example], tokenizer, 64)
    [marks], [tokens] = feature["labels"], feature["input_ids"]
    assert len(marks) == len(tokens) > 6  # a word that vanishes in the tokenizer has a token too
    assert [m for m in marks if m != tagging.IGNORED] == [1, 2, 3, 0]
    assert marks[0] == marks[-1] == tagging.IGNORED and marks[1] == 1 and marks[2] == 2


def test_an_entity_broken_across_tokens_and_windows_is_put_together_again(tokenizer):
    tags = [0, 1, 2, 2, 0, 3, 4, 0] * 4
    example = {"id": "0", "tokens": ["zebrazebra", "dog", "cat", "zebra" * 12] * 8, "labels": tags}
    [feature] = features = tagging.features(task(), [example], tokenizer, 12)
    longest = max(map(len, feature["input_ids"]))
    assert len(feature["input_ids"]) > 2 and longest <= 12
    items = training_items(features)  # a window is an item of a training, with its own labels
    assert [item["input_ids"] for item in items] == [[ids] for ids in feature["input_ids"]]
    assert [item["labels"] for item in items] == [[marks] for marks in feature["labels"]]
    logits = np.zeros((len(feature["input_ids"]), longest + 2, len(NER)))
    for window, marks in enumerate(feature["labels"]):
        for at, mark in enumerate(marks):
            # Other tokens than a word's first name something else, which does not count.
            logits[window, at, mark if mark >= 0 else 3] = 5
    [row] = tagging.decode(task(), [example], features, [logits])
    assert row["prediction"] == row["label"] == " ".join(NER[t] for t in tags)
    assert row["credit"] == row["out_of"] > 0 and len(row["probabilities"]) == len(tags)


def test_accuracy_counts_words():
    accuracy = task(metric="accuracy", labels=["a", "b", "c", "d", "e"])
    examples = [{"id": "0", "tokens": ["a", "b", "c"], "labels": [0, 0, 1]}]
    features = [{"input_ids": [[0, 5, 6, 7, 2]], "labels": [[-100, 0, 0, 1, -100]]}]
    [row] = tagging.decode(accuracy, examples, features, [np.eye(5)[None, [0, 0, 0, 0, 0]]])
    assert (row["credit"], row["out_of"]) == (2.0, 3.0)
    assert formats.majority(accuracy, examples) == pytest.approx(200 / 3)
    assert formats.majority(task(), examples) == 0.0  # naming everything O finds no entity


AUTO = """\
ID=made_0001.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<T NP 1 2> (<L NP[nb]/N DT DT The x>) (<L N NN NN dog N>) ) \
(<L S[dcl]\\NP VBZ VBZ runs x>) )
ID=made_0001.2 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She NP>) (<L S[dcl]\\NP VBZ VBZ sleeps S[dcl]\\NP_2>) )
"""


def test_supertags_come_from_files_in_ccgbanks_format(tmp_path):
    (tmp_path / "en.train.auto").write_text(AUTO, encoding="utf-8")
    more = AUTO.replace("NP PRP PRP She NP", "NP/N PRP PRP Sie NP/N")
    (tmp_path / "de.train.auto").write_text(more, encoding="utf-8")
    unknown = AUTO.replace("(<L N NN NN dog N>)", "(<L N/N NN NN dog N/N>)")
    (tmp_path / "en.dev.auto").write_text(unknown, encoding="utf-8")
    splits = {"train": "train", "validation": "dev"}
    entry = {"files": "{language}.{split}.auto", "splits": splits, "metric": "accuracy"}
    entry |= {"languages": ["en", "de"], "trained_in": ["en", "de"]}
    ccg = task(**entry, labels=[], unseen_label=True)
    labels = [*sorted({"NP[nb]/N", "N", "S[dcl]\\NP", "NP", "NP/N"}), reading.UNSEEN]
    assert reading.read_labels(ccg, tmp_path) == labels
    full = ccg.model_copy(update={"labels": labels})
    first = data.read(full, "train", "en", tmp_path).examples[0]
    assert first["id"] == "made_0001.1" and first["tokens"] == ["The", "dog", "runs"]
    assert [labels[i] for i in first["labels"]] == ["NP[nb]/N", "N", "S[dcl]\\NP"]
    second = data.read(full, "validation", "en", tmp_path).examples[0]
    assert labels[second["labels"][1]] == reading.UNSEEN
    with refused("unseen_label: expected to be trained on its own training data"):
        formats.check_match(ccg, ccg.model_copy(update={"name": "other"}))
