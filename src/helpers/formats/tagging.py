"""Tag every word of a sentence: named entities, parts of speech, supertags.

A word is cut into tokens; its first token carries the label and gives the prediction. A sentence
that does not fit is read in several windows, so that no word goes without a tag.
"""

import warnings
from collections import Counter

import numpy as np
from scipy.special import softmax

from helpers.formats import labels
from helpers.formats.labels import IGNORED
from helpers.formats.texts import items, special_tokens
from helpers.study import Task

loss = labels.loss


def normalise(task: Task, row: dict) -> dict:
    words, tags = (items(name, row[name]) for name in ("tokens", "labels"))
    if len(words) != len(tags):
        numbers = f"{len(words)} words and {len(tags)} labels"
        raise ValueError(f"{numbers}; expected as many labels as words")
    if not words:
        raise ValueError("no words; expected a sentence")
    for word in words:
        if not isinstance(word, str) or not word:
            raise ValueError(f"word is {word!r}; expected a text")
    return {"id": row["id"], "tokens": words, "labels": [labels.read(task, tag) for tag in tags]}


def texts(example: dict) -> list[str]:
    return example["tokens"]


def features(task: Task, examples: list[dict], tokenizer, max_length: int) -> list[dict]:
    before, after = special_tokens(tokenizer, 1)
    room = max_length - len(before) - len(after)
    out = []
    for example in examples:
        words = tokenizer(example["tokens"], add_special_tokens=False)["input_ids"]
        windows: list[tuple[list, list]] = [([], [])]  # tokens and their labels
        for tokens, label in zip(words, example["labels"], strict=True):
            tokens = (tokens or [tokenizer.unk_token_id])[:room]
            if len(windows[-1][0]) + len(tokens) > room:
                windows.append(([], []))
            windows[-1][0].extend(tokens)
            windows[-1][1].extend([label] + [IGNORED] * (len(tokens) - 1))
        begin, end = [IGNORED] * len(before), [IGNORED] * len(after)
        ids = [before + tokens + after for tokens, _ in windows]
        out.append({"input_ids": ids, "labels": [begin + marks + end for _, marks in windows]})
    return out


def head(task: Task) -> tuple[str, int]:
    return "token", len(task.labels)


def decode(task: Task, examples: list[dict], features: list[dict], logits: list) -> list[dict]:
    rows = []
    for example, feature, scores in zip(examples, features, logits, strict=True):
        windows = zip(scores, map(np.array, feature["labels"]), strict=True)
        words = [window[: len(marks)][marks != IGNORED] for window, marks in windows]
        probabilities = softmax(np.concatenate(words).astype(np.float64), axis=1)
        chosen = [task.labels[i] for i in probabilities.argmax(axis=1)]
        gold = [task.labels[i] for i in example["labels"]]
        names, best = (" ".join(gold), " ".join(chosen)), probabilities.max(axis=1).tolist()
        rows.append(labels.row(*names, best, *_credit(task, chosen, gold)))
    return rows


def constant(task: Task, examples: list[dict]) -> tuple[float, float]:
    """Giving every word the most frequent label."""
    gold = [[task.labels[i] for i in example["labels"]] for example in examples]
    counts = Counter(tag for tags in gold for tag in tags)
    most = max(counts, key=lambda tag: (counts[tag], tag))
    credits = [_credit(task, [most] * len(tags), tags) for tags in gold]
    return sum(got for got, _ in credits), sum(out_of for _, out_of in credits)


def _credit(task: Task, predicted: list[str], gold: list[str]) -> tuple[float, float]:
    if task.metric == "entity_f1":
        return entity_credit(predicted, gold)
    return float(sum(p == g for p, g in zip(predicted, gold, strict=True))), float(len(gold))


def entity_credit(predicted: list[str], gold: list[str]) -> tuple[float, float]:
    """(2 x true positives, predicted + gold entities); the ratio of their sums is the micro F1."""
    named, wanted = _entities(predicted), _entities(gold)
    return 2.0 * len(named & wanted), float(len(named) + len(wanted))


def _entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """(type, first word, last word) of every entity of a sentence as seqeval reads its tags.

    Tags without a prefix, such as parts of speech, are read as XTREME's scorer reads them:
    neighbours with the same tag mostly make one entity.
    """
    from seqeval.metrics.sequence_labeling import get_entities  # here: takes a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval complains of every tag without a prefix
        return set(get_entities(tags))
