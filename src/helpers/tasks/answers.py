"""Exact match and F1 of answers that are spans of text, under SQuAD's rules and under MLQA's."""

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable

import datasets
import evaluate

Rules = Callable[[str, str], list[str]]
"""(answer, language) -> the tokens that are compared."""

_PUNCTUATION = {c for c in map(chr, range(sys.maxunicode)) if unicodedata.category(c)[0] == "P"} | {
    *string.punctuation
}
_ARTICLES = {
    "en": "a an the",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
    "de": "ein eine einen einem eines einer der die das den dem des",
}
_PATTERNS = {
    code: re.compile(rf"\b({'|'.join(words.split())})\b") for code, words in _ARTICLES.items()
}
_PATTERNS["ar"] = re.compile("ال")
_HAN = re.compile("([\u4e00-\u9fa5])")


def squad_tokens(answer: str, language: str = "en") -> list[str]:
    """Lower case, no ASCII punctuation, no English articles, cut at white space; whatever the language.

    Rajpurkar et al. 2016 (the evaluation script of SQuAD). XTREME scores XQuAD and TyDiQA so. A Thai or Chinese
    answer is mostly one token under these rules.
    """
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return _PATTERNS["en"].sub(" ", text).split()


def mlqa_tokens(answer: str, language: str) -> list[str]:
    """Lower case, no punctuation of any script, none of the language's articles, cut at white space.

    Chinese characters are tokens of their own. Lewis et al. 2020 (the evaluation script of MLQA); a language that MLQA
    does not have is cut at white space and keeps its articles.
    """
    text = "".join(c for c in answer.lower() if c not in _PUNCTUATION)
    if language in _PATTERNS:
        text = _PATTERNS[language].sub(" ", text)
    return (_HAN.sub(r" \1 ", text) if language == "zh" else text).split()


RULES: dict[str, Rules] = {"squad": squad_tokens, "mlqa": mlqa_tokens}


def credit(
    prediction: str, golds: list[str], tokens: Rules, language: str = "en"
) -> tuple[float, float]:
    """(exact match, F1), both 0..1, against the gold answer that fits best; no golds mean that there is no answer.

    An empty answer is right exactly where there is none to give (Rajpurkar et al. 2018, SQuAD 2.0).
    """
    said = tokens(prediction, language)
    wanted = [w for w in (tokens(gold, language) for gold in golds) if w] or [[]]
    return max(float(said == w) for w in wanted), max(_f1(said, w) for w in wanted)


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


class Answers(evaluate.Metric):
    """Exact match and F1 of answers, in points, as the evaluation scripts of SQuAD and MLQA define them."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Exact match and F1 of answers that are spans of text.",
            citation="Rajpurkar et al. 2018; Lewis et al. 2020",
            inputs_description="predictions: texts; references: lists of gold texts, empty where there is no answer",
            features=datasets.Features({"predictions": text, "references": datasets.List(text)}),
        )

    def _compute(self, predictions, references, rules="squad", language="en"):
        pairs = [
            credit(p, r, RULES[rules], language)
            for p, r in zip(predictions, references, strict=True)
        ]
        exact, f1 = zip(*pairs, strict=True)
        return {"exact_match": 100 * sum(exact) / len(exact), "f1": 100 * sum(f1) / len(f1)}
