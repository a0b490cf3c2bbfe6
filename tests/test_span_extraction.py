"""Questions answered by spans: windows, decoding to text, and scores as in SQuAD and MLQA."""

import numpy as np
import pytest
import torch
from conftest import make_task
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers import encoders, formats
from helpers.formats import span_extraction
from helpers.formats.answers import credit, mlqa_tokens, squad_tokens
from helpers.study import Task

CONTEXT = "dog runs cat sleeps horse eats catbird runs fish sleeps cow eats"


def task(**changes) -> Task:
    columns = {name: name for name in ("id", "context", "question", "answers")}
    return make_task(**{"format": "span_extraction", "metric": "f1", "columns": columns} | changes)


def example(answer: str | None, context: str = CONTEXT, **more) -> dict:
    golds = [answer] if answer else []
    answers = {"text": golds, "answer_start": [context.index(gold) for gold in golds]}
    return {"id": "1", "context": context, "question": "What runs?", "answers": answers, **more}


def right(feature: dict, height: float = 9.0) -> np.ndarray:
    """Logits that point at the answer in every window that has it, and at nothing elsewhere."""
    longest = max(map(len, feature["input_ids"]))
    logits = np.zeros((len(feature["input_ids"]), longest + 3, 2))
    for window, (start, end) in enumerate(feature["labels"]):
        if end:
            logits[window, start, 0] = logits[window, end, 1] = height
    return logits


SQUAD, MLQA = squad_tokens, mlqa_tokens


@pytest.mark.parametrize(
    ("answer", "golds", "tokens", "language", "exact", "f1"),
    [
        # Rajpurkar et al. 2016: lower case, no punctuation, no a/an/the, white space collapsed.
        ("the Eiffel-Tower", ["Eiffel Tower"], SQUAD, "en", 0, 0),  # it becomes eiffeltower
        ("The U.S.", ["us"], SQUAD, "en", 1, 1),
        ("The  Normans, (a people)!", ["normans people"], SQUAD, "en", 1, 1),
        # F1 is of tokens with their counts, against the best gold answer.
        ("the the new York city", ["York", "new new York"], SQUAD, "en", 0, 2 * 2 / (3 + 3)),
        # Rajpurkar et al. 2018: where either side is empty, F1 is 1 if both are, else 0.
        ("", [], SQUAD, "en", 1, 1),
        ("something", [], SQUAD, "en", 0, 0),
        ("", ["something"], SQUAD, "en", 0, 0),
        ("...", ["something"], SQUAD, "en", 0, 0),
        # Lewis et al. 2020: Chinese characters are tokens; other text is cut at white space.
        ("於1990年IBM，發布", ["於 1990 年 ibm 發 布"], MLQA, "zh", 1, 1),
        ("北京市", ["北京"], MLQA, "zh", 0, 0.8),
        ("北京市", ["北京"], MLQA, "zh-CN", 0, 0.8),
        ("「北京」。", ["北京"], MLQA, "zh", 1, 1),
        # SQuAD's punctuation is ASCII alone, and no script is cut; Thai has no word borders.
        ("北京市", ["北京"], SQUAD, "zh", 0, 0),
        ("北京。", ["北京"], SQUAD, "zh", 0, 0),
        ("กรุงเทพมหานคร", ["กรุงเทพ"], SQUAD, "th", 0, 0),
    ],
)
def test_answers_are_scored_as_squad_and_mlqa_do(answer, golds, tokens, language, exact, f1):
    assert credit(answer, golds, tokens, language) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("language", "answer", "gold"),
    [
        ("de", "der Große Bär", "großen bär"),
        ("de-DE", "der Bär", "Bär"),
        ("es", "los Estados", "estados"),
        ("vi", "những ngôi nhà", "ngôi nhà"),
        ("ar", "الكتاب", "كتاب"),
        ("en", "the book", "book"),
        ("hi", "एक किताब।", "एक किताब"),
    ],
)
def test_every_language_loses_its_own_articles(language, answer, gold):
    assert (credit(answer, [gold], mlqa_tokens, language)[0] == 1.0) == (gold != "großen bär")
    assert credit(answer, [answer], mlqa_tokens, language) == (1.0, 1.0)
    assert "der" not in mlqa_tokens(answer, language)


@pytest.mark.parametrize("answer", ["dog runs", "bird", "cow eats", "fish sleeps cow", CONTEXT[:8]])
def test_an_answer_anywhere_in_a_long_text_comes_back_from_its_windows(tokenizer, answer):
    item = example(answer, question="What runs? " * 20)
    feature = span_extraction.features(task(), [item], tokenizer, 16)[0]
    assert len(feature["input_ids"]) > 1 and max(map(len, feature["input_ids"])) <= 16
    windows = zip(feature["input_ids"], feature["labels"], strict=True)
    assert all(end < len(ids) - 1 for ids, (_, end) in windows)
    assert [0, 0] in feature["labels"]  # a window without the whole answer
    [row] = span_extraction.decode(task(), [item], [feature], [right(feature)])
    assert row["prediction"] == answer and row["credit"] == row["exact_match"] == 1.0


def test_no_answer_is_said_only_where_a_task_has_it_and_every_window_says_so(tokenizer):
    """Rajpurkar et al. 2018. As in XTREME's scripts, an answer has at most 30 tokens, and 64 of a
    question are read.
    """
    item = example(None, " ".join(["dog"] * 180), question="dog " * 100)
    [feature] = span_extraction.features(task(), [item], tokenizer, 200)
    begin, logits = feature["begin"], np.zeros((2, 200, 2))
    assert begin == 64 + 3 and feature["labels"] == [[0, 0]] * 2
    logits[:, 0] = 9
    [row] = span_extraction.decode(task(unanswerable=True), [item], [feature], [logits])
    assert (row["prediction"], row["label"], row["credit"]) == ("", "", 1.0)
    assert span_extraction.decode(task(), [item], [feature], [logits])[0]["prediction"] != ""
    logits[1, 0] = 0
    logits[1, begin, 0], logits[1, begin + 29, 1], logits[1, begin + 30, 1] = 5, 4, 5
    [row] = span_extraction.decode(task(unanswerable=True), [item], [feature], [logits])
    assert row["prediction"] == " ".join(["dog"] * 30)


def test_the_end_never_lies_before_the_start_nor_in_the_question(tokenizer):
    item = example("dog")
    feature = span_extraction.features(task(), [item], tokenizer, 64)[0]
    begin = feature["begin"]
    logits = np.zeros((1, len(feature["input_ids"][0]), 2))
    logits[0, 1] = 50  # in the question
    logits[0, begin + 6, 0], logits[0, begin + 2, 1], logits[0, begin + 7, 1] = 9, 9, 5
    [row] = span_extraction.decode(task(), [item], [feature], [logits])
    assert row["prediction"] and row["prediction"] in CONTEXT
    assert row["probabilities"][0] == max(row["probabilities"])


def test_the_language_of_an_item_chooses_its_articles(tokenizer):
    item = example("der Hund", "der Hund rennt", language="de")
    feature = span_extraction.features(task(), [item], tokenizer, 64)[0]
    item["answers"]["text"] = ["Hund"]
    [row] = span_extraction.decode(task(answers="mlqa"), [item], [feature], [right(feature)])
    assert row["prediction"] == "der Hund" and row["credit"] == 1.0
    [row] = span_extraction.decode(task(), [item], [feature], [right(feature)])
    assert row["credit"] == pytest.approx(2 / 3)


def test_bert_is_told_which_text_is_which():
    """Segment ids of questions, pairs and choices are those that the tokenizer itself gives."""
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", "runs"])}
    cut = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    cut.pre_tokenizer = pre_tokenizers.Whitespace()
    cut.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=cut, pad_token="[PAD]")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    pair = tokenizer("who", "runs runs")
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    texts = {"text_a": "who", "text_b": "runs runs", "question": "who", "context": "runs runs"}
    example = {"id": "1", "answers": {"text": []}, "label": 0, **texts}
    choice = {**example, "context": "who", "question": "", "choices": ["runs runs"]}
    for kind in ("sentence_pair", "span_extraction", "multiple_choice"):
        metric = "f1" if kind == "span_extraction" else "accuracy"
        entry = task(format=kind, metric=metric, columns={}, labels=["x"])
        given = choice if kind == "multiple_choice" else example
        [feature] = formats.of(entry).features(entry, [given], tokenizer, 16)
        for name in ("token_type_ids", "input_ids"):
            assert list(feature[name][0]) == pair[name]
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    [feature] = formats.of(entry).features(entry, [choice], tokenizer, 16)
    assert "token_type_ids" not in feature


def test_no_answer_is_expected_in_padding(tiny_sources):
    head = encoders.Head(encoders.load(tiny_sources / "encoder")[0], "token", 2, "mean", 0.0).eval()
    states, mask, ends = torch.randn(1, 9, 16), torch.tensor([[1] * 6 + [0] * 3]), torch.ones(1, 2)
    padded, alone = head(states, mask), head(states[:, :6], mask[:, :6])
    losses = [span_extraction.loss(logits, ends.long()).item() for logits in (padded, alone)]
    assert losses[0] == pytest.approx(losses[1]) and padded[0, :6].equal(alone[0])
