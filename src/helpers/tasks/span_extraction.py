"""Answer a question by a span of a text: SQuAD, XQuAD, MLQA, TyDiQA.

A text that does not fit is read in overlapping windows. Two outputs per piece score it as the answer's first and last;
the first piece of a window stands for "no answer here". Answers are cut from the text by character offsets.
"""

from functools import lru_cache

import numpy as np
import torch

from helpers.study import Task
from helpers.tasks import labels

STRIDE = 128
"""Pieces by which a window moves on, as in XTREME's scripts; half a window where windows are short."""
QUESTION = 64
"""Pieces of a question that are read, as in XTREME's scripts."""
ANSWER = 30
"""Pieces that an answer has at the most, as in XTREME's scripts."""
BEST = 20
"""Starts and ends of a window that are tried with each other."""


def normalise(task: Task, row: dict, index: int) -> dict:
    answers = row[task.columns["answers"]]
    return {
        "id": labels.identity(task, row, index),
        "context": row[task.columns["context"]],
        "question": row[task.columns["question"]],
        "answers": {
            "text": list(answers["text"]),
            "answer_start": [int(at) for at in answers["answer_start"]],
        },
    }


def check(task: Task, example: dict) -> str | None:
    for name in ("context", "question"):
        if not isinstance(example[name], str) or not example[name].strip():
            return f"{name} is {example[name]!r}; expected a text"
    answers = example["answers"]
    if not answers["text"] and not task.unanswerable:
        return (
            "no answer; expected one (a task with questions that have none says unanswerable: true)"
        )
    for text, at in zip(answers["text"], answers["answer_start"], strict=True):
        if not text.strip():
            return f"answer is {text!r}; expected a text"
        if example["context"][at : at + len(text)] != text:
            found = example["context"][at : at + len(text)]
            return f"answer {text[:60]!r} at {at}; the context has {found[:60]!r} there"
    return None


def texts(example: dict) -> list[str]:
    return [example["context"], example["question"]]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    first, middle, last = template(tokenizer)
    room = max_length - len(first) - len(middle) - len(last)
    questions = _pieces(tokenizer, [e["question"] for e in examples], min(QUESTION, room // 2))
    contexts: dict[str, tuple] = {}
    for text in dict.fromkeys(e["context"] for e in examples):  # many questions share a context
        contexts[text] = _pieces(tokenizer, [text])[0]
    out = []
    for example, (question, _) in zip(examples, questions, strict=True):
        pieces, offsets = contexts[example["context"]]
        begin = np.concatenate([first, question, middle]).astype(np.int32)
        windows, shown, marks = [], [], []
        for low, high in _windows(len(pieces), max_length - len(begin) - len(last)):
            windows.append(np.concatenate([begin, pieces[low:high], last]).astype(np.int32))
            shown.append(offsets[low:high])
            marks.append(_mark(example, offsets, low, high, len(begin)))
        out.append({"input_ids": windows, "labels": marks, "offsets": shown, "begin": len(begin)})
    return out


def head(task: Task) -> tuple[str, int]:
    return "token", 2


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return labels.cross_entropy(logits.transpose(1, 2).flatten(0, 1), targets.flatten())


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    from helpers.tasks.answers import RULES, credit

    tokens, rows = RULES[task.answers], []
    for example, feature, scores in zip(examples, features, logits, strict=True):
        text, probabilities = _answer(task, example, feature, scores)
        golds = example["answers"]["text"]
        exact, f1 = credit(text, golds, tokens, example.get("language", "en"))
        rows.append(
            {
                "label": golds[0] if golds else "",
                "prediction": text,
                "probabilities": probabilities,
                "credit": f1,
                "out_of": 1.0,
                "exact_match": exact,
            }
        )
    return rows


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """Never answering is right where there is no answer."""
    return float(sum(not e["answers"]["text"] for e in examples)), float(len(examples))


def counts(task: Task, examples: list[dict]) -> dict[str, int]:
    without = sum(not e["answers"]["text"] for e in examples)
    return {"answer": len(examples) - without} | (
        {"no answer": without} if task.unanswerable else {}
    )


def template(tokenizer) -> tuple[list[int], list[int], list[int]]:
    """Special pieces before, between and after the two texts of a pair."""
    pair = tokenizer("a", "a")
    parts, at = ([], [], []), 0
    for piece, text in zip(pair["input_ids"], pair.sequence_ids(0), strict=True):
        if text is None:
            parts[at].append(piece)
        else:
            at = text + 1
    return parts


def _pieces(
    tokenizer, texts: list[str], limit: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Piece ids and character offsets (pieces, 2) of each text."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    return [
        (np.array(ids[:limit], dtype=np.int32), np.array(at[:limit], dtype=np.int32).reshape(-1, 2))
        for ids, at in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


@lru_cache(maxsize=4096)
def _windows(pieces: int, room: int) -> list[tuple[int, int]]:
    """First and last piece (exclusive) of every window of ``room`` pieces."""
    stride = min(STRIDE, max(1, room // 2))
    starts = range(0, max(1, pieces - room + stride), stride)
    return [(low, min(low + room, pieces)) for low in starts]


def _mark(example: dict, offsets: np.ndarray, low: int, high: int, begin: int) -> list[int]:
    """Positions of the first gold answer's first and last piece in a window; [0, 0] where it is not wholly there."""
    if not example["answers"]["text"]:
        return [0, 0]
    start = example["answers"]["answer_start"][0]
    end = start + len(example["answers"]["text"][0])
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    if not low <= first <= last < high:
        return [0, 0]
    return [begin + first - low, begin + last - low]


def _answer(
    task: Task, example: dict, feature: dict, scores: np.ndarray
) -> tuple[str, list[float]]:
    """The best span over all windows, or "" for no answer; and the probabilities of the best spans, best first."""
    spans, nothing, begin = [], np.inf, feature["begin"]
    for window, offsets in zip(scores, feature["offsets"], strict=True):
        nothing = min(nothing, float(window[0].sum()))
        inside = window[begin : begin + len(offsets)]
        starts, ends = (np.argsort(-inside[:, side], kind="stable")[:BEST] for side in (0, 1))
        length = ends[None, :] - starts[:, None] + 1
        total = np.where(
            (length > 0) & (length <= ANSWER), inside[starts, 0][:, None] + inside[ends, 1], -np.inf
        )
        for flat in np.argsort(-total, axis=None, kind="stable")[:BEST]:
            row, column = divmod(int(flat), len(ends))
            if np.isfinite(total[row, column]):
                cut = offsets[starts[row], 0], offsets[ends[column], 1]
                spans.append(
                    (float(total[row, column]), example["context"][cut[0] : cut[1]].strip())
                )
    if task.unanswerable:
        spans.append((nothing, ""))
    spans = sorted(spans or [(0.0, "")], key=lambda span: -span[0])[:BEST]
    weights = np.exp(np.array([score for score, _ in spans]) - spans[0][0])
    return spans[0][1], (weights / weights.sum()).tolist()
