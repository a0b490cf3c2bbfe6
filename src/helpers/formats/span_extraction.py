"""Answer a question by a span of a text: SQuAD, XQuAD, MLQA, TyDiQA.

A text that does not fit is read in overlapping windows. Two outputs per token score it as the
answer's first and last; the first token of a window stands for "no answer here". Answers are cut
from the text by character offsets.
"""

from typing import Any

import numpy as np
from scipy.special import softmax

from helpers.formats import answers, labels
from helpers.formats.texts import items, special_tokens, text
from helpers.study import Task

STRIDE = 128
"""Tokens by which a window moves on, as in XTREME's scripts; half of a short window."""
QUESTION = 64
"""Tokens of a question that are read, as in XTREME's scripts."""
ANSWER = 30
"""The most tokens of an answer, as in XTREME's scripts."""
BEST = 20
"""How many best starts and ends of a window are combined."""


def normalise(task: Task, row: dict) -> dict:
    example = {name: text(name, row[name]) for name in ("context", "question")}
    golds, starts = _golds(row["answers"])
    if not golds and not task.unanswerable:
        hint = "a task with questions that have none says unanswerable: true"
        raise ValueError(f"no answer; expected one ({hint})")
    for answer, at in zip(golds, starts, strict=True):
        there = example["context"][at : at + len(answer)]
        if there != answer:
            shown = f"the context has {there[:60]!r} there"
            raise ValueError(f"answer {answer[:60]!r} at {at}; {shown}")
    return {"id": row["id"], **example, "answers": {"text": golds, "answer_start": starts}}


def _golds(answers: Any) -> tuple[list[str], list[int]]:
    """Answers and where they begin: SQuAD's list of both, or the hub's two lists."""
    if isinstance(answers, list) and all(isinstance(one, dict) for one in answers):
        answers = {name: [one.get(name) for one in answers] for name in ("text", "answer_start")}
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        expected = "expected text and answer_start, or a list of them"
        raise ValueError(f"answers is {answers!r:.80}; {expected}")
    golds = [text("answer", gold) for gold in items("answers.text", answers["text"])]
    starts = items("answers.answer_start", answers["answer_start"])
    if len(golds) != len(starts):
        raise ValueError(f"{len(golds)} answers and {len(starts)} starts; expected as many of both")
    for start in starts:
        if not isinstance(start, int) or start < 0:
            raise ValueError(f"answer_start is {start!r}; expected a number of characters")
    return golds, starts


def texts(example: dict) -> list[str]:
    return [example["context"], example["question"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    """As in all formats, and ``offsets`` by window (tokens, 2): the character positions of the
    context's tokens, which start at position ``begin``.
    """
    before, between, after = special_tokens(tokenizer, 2)
    room = max_length - len(before + between + after)
    asked = _tokens(tokenizer, [example["question"] for example in examples])
    most, segments = min(QUESTION, room // 2), tokenizer("a", "a").get("token_type_ids")
    contexts = list(dict.fromkeys(example["context"] for example in examples))
    cut = dict(zip(contexts, _tokens(tokenizer, contexts), strict=True))  # questions share them
    out = []
    for example, (question, _) in zip(examples, asked, strict=True):
        tokens, offsets = cut[example["context"]]
        begin = [*before, *question[:most], *between]
        bounds = _windows(len(tokens), max_length - len(begin) - len(after))
        windows = [np.array([*begin, *tokens[a:b], *after], np.int32) for a, b in bounds]
        feature = {
            "input_ids": windows,
            "labels": [_mark(example, offsets, *window, len(begin)) for window in bounds],
            "offsets": [offsets[a:b] for a, b in bounds],
            "begin": len(begin),
        }
        if segments:
            lengths = [(len(begin), len(window) - len(begin)) for window in windows]
            ends = np.array([segments[0], segments[-1]], np.int32)
            feature["token_type_ids"] = [np.repeat(ends, pair) for pair in lengths]
        out.append(feature)
    return out


def head(task: Task) -> tuple[str, int]:
    return "token", 2


def loss(logits, targets):
    return labels.loss(logits.transpose(1, 2), targets)


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    tokens, rows = answers.RULES[task.answers], []
    for example, feature, scores in zip(examples, features, logits, strict=True):
        answer, probabilities = _answer(task, example, feature, scores)
        golds = example["answers"]["text"]
        exact, f1 = answers.credit(answer, golds, tokens, example.get("language", "en"))
        row = labels.row(golds[0] if golds else "", answer, probabilities, f1)
        rows.append(row | {"exact_match": exact})
    return rows


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """Never answering is right where there is no answer."""
    return float(sum(not e["answers"]["text"] for e in examples)), float(len(examples))


def _tokens(tokenizer, texts: list[str]) -> list[tuple]:
    """Token ids (tokens) and character offsets (tokens, 2) of each text."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    offsets = [np.array(at, np.int32).reshape(-1, 2) for at in encoded["offset_mapping"]]
    return list(zip(encoded["input_ids"], offsets, strict=True))


def _windows(tokens: int, room: int) -> list[tuple[int, int]]:
    """First and last token (exclusive) of every window of ``room`` tokens."""
    stride = min(STRIDE, max(1, room // 2))
    starts = range(0, max(1, tokens - room + stride), stride)
    return [(low, min(low + room, tokens)) for low in starts]


def _mark(example: dict, offsets: np.ndarray, low: int, high: int, begin: int) -> list[int]:
    """Positions of the first gold answer's two ends; [0, 0] if it is not all in the window."""
    if not example["answers"]["text"]:
        return [0, 0]
    start = example["answers"]["answer_start"][0]
    end = start + len(example["answers"]["text"][0])
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return [begin + first - low, begin + last - low] if low <= first <= last < high else [0, 0]


def _answer(
    task: Task, example: dict, feature: dict, scores: np.ndarray
) -> tuple[str, list[float]]:
    """The best span over all windows, or "", and probabilities of the best ones, best first."""
    spans, begin = [], feature["begin"]
    for window, offsets in zip(scores, feature["offsets"], strict=True):
        inside = window[begin : begin + len(offsets)]
        starts, ends = (np.argsort(-inside[:, side], kind="stable")[:BEST] for side in (0, 1))
        length = ends - starts[:, None] + 1
        total = inside[starts, 0][:, None] + inside[ends, 1]
        total = np.where((length > 0) & (length <= ANSWER), total, -np.inf)
        for flat in np.argsort(-total, axis=None, kind="stable")[:BEST]:
            row, column = divmod(int(flat), len(ends))
            if np.isfinite(total[row, column]):
                first, last = offsets[starts[row], 0], offsets[ends[column], 1]
                spans.append((float(total[row, column]), example["context"][first:last].strip()))
    if task.unanswerable:
        spans.append((min(float(window[0].sum()) for window in scores), ""))
    spans = sorted(spans or [(0.0, "")], key=lambda span: -span[0])[:BEST]
    return spans[0][1], softmax([score for score, _ in spans]).tolist()
