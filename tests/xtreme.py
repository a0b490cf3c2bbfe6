"""XTREME-R's evaluation in words of our own: what its script reads, and its formulas.

evaluate.py, third_party/evaluate_squad.py, evaluate_mlqa.py and utils_mewslix.py of
github.com/google-research/xtreme at da430dd. Scores are in points.
"""

import json
import re
import string
import sys
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

from seqeval.metrics import f1_score

QUESTIONS = ("xquad", "mlqa", "tydiqa")
TAGS = ("udpos", "panx")
SUFFIXES = {**dict.fromkeys([*QUESTIONS, "mewslix"], "json"), "xcopa": "jsonl"}
ARTICLES = {"en": r"\b(a|an|the)\b", "ar": "ال"}
ARTICLES["de"] = r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"
MARKS = {c for c in map(chr, range(sys.maxunicode)) if unicodedata.category(c).startswith("P")}
MARKS |= {*string.punctuation}


def read(task: str, folder: Path, language: str):
    """A task's file of predictions, under the name that the script looks for."""
    path = folder / task / f"test-{language}.{SUFFIXES.get(task, 'tsv')}"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".jsonl":
        return [json.loads(line)["label"] for line in text.splitlines()]
    if task in TAGS:
        return [sentence.split("\n") for sentence in text.strip("\n").split("\n\n")]
    return [line.strip() for line in text.splitlines()]


def gold(task: str, entry, examples: list[dict]):
    """What the script's file of labels holds for these examples."""
    if task in QUESTIONS:
        return {e["id"]: e["answers"]["text"] for e in examples}
    if task == "mewslix":
        return {e["id"]: e["answers"] for e in examples}
    if task == "xcopa":
        return [e["label"] for e in examples]
    if task in TAGS:
        return [[entry.labels[i] for i in e["labels"]] for e in examples]
    if task == "bucc2018":
        return [f"{e['id']}\t{e['id']}" for e in examples]
    if task == "tatoeba":
        return [e["id"] for e in examples]
    return [str(e["label"]) if task == "pawsx" else entry.labels[e["label"]] for e in examples]


def score(task: str, labels, predictions, language: str) -> dict[str, float]:
    """The script's metrics by name."""
    if task in QUESTIONS:
        tokens = _mlqa if task == "mlqa" else _squad
        cut = [
            (tokens(predictions[i], language), [tokens(g, language) for g in golds])
            for i, golds in labels.items()
        ]
        exact = [max(said == gold for gold in golds) for said, golds in cut]
        return {
            "exact_match": _mean(exact),
            "f1": _mean([max(_f1(said, gold) for gold in golds) for said, golds in cut]),
        }
    if task == "mewslix":
        found = [(own[0], predictions.get(i, [])[:20]) for i, own in labels.items()]
        return {"map@20": _mean([1 / (said.index(g) + 1) if g in said else 0 for g, said in found])}
    if task == "bucc2018":
        wanted, said = ({tuple(row.split("\t")) for row in rows} for rows in (labels, predictions))
        right = len(wanted & said)
        precision, recall = right / max(1, len(said)), right / len(wanted)
        return {"f1": 200 * precision * recall / (precision + recall) if right else 0.0}
    assert len(labels) == len(predictions)
    if task in TAGS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of speech have no prefixes
            return {"f1": 100 * float(f1_score(labels, predictions))}
    return {"accuracy": _mean([p == g for p, g in zip(predictions, labels, strict=True)])}


def _mean(values: list) -> float:
    return 100 * sum(values) / len(values)


def _f1(said: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def _squad(answer: str, language: str) -> list[str]:
    kept = "".join(c for c in answer.lower() if c not in string.punctuation)
    return re.sub(ARTICLES["en"], " ", kept).split()


def _mlqa(answer: str, language: str) -> list[str]:
    kept = "".join(c for c in answer.lower() if c not in MARKS)
    kept = re.sub(ARTICLES[language], " ", kept) if language in ARTICLES else kept
    return (re.sub("([\u4e00-\u9fa5])", r" \1 ", kept) if language == "zh" else kept).split()
