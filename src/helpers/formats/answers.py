"""Exact match and F1 of answers that are spans of text, under SQuAD's rules and under MLQA's."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable

Rules = Callable[[str, str], list[str]]
"""(answer, language) -> the tokens that are compared."""

_ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "ال",
}


def squad_tokens(answer: str, language: str = "en") -> list[str]:
    """Lower case, no ASCII punctuation, no English articles, cut at white space.

    The same for every language: a Thai or Chinese answer is mostly one token. Rajpurkar et al. 2016
    (the evaluation script of SQuAD); XTREME scores XQuAD and TyDiQA so.
    """
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return re.sub(_ARTICLES["en"], " ", text).split()


def mlqa_tokens(answer: str, language: str) -> list[str]:
    """Lower case, no punctuation of any script, no articles of the language, cut at white space.

    Chinese characters are tokens of their own. Lewis et al. 2020 (the evaluation script of MLQA); a
    language that MLQA does not have keeps its articles. A region or script behind the language, as
    in zh-CN, changes nothing.
    """
    language = re.split("[-_]", language)[0].lower()
    kept = (c for c in answer.lower() if c not in string.punctuation)
    text = "".join(c for c in kept if not unicodedata.category(c).startswith("P"))
    if language in _ARTICLES:
        text = re.sub(_ARTICLES[language], " ", text)
    if language == "zh":
        text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
    return text.split()


RULES: dict[str, Rules] = {"squad": squad_tokens, "mlqa": mlqa_tokens}


def credit(
    prediction: str, golds: list[str], tokens: Rules, language: str = "en"
) -> tuple[float, float]:
    """(exact match, F1), both 0..1, against the gold answer that fits best. Without golds only an
    empty answer is right (Rajpurkar et al. 2018, SQuAD 2.0).
    """
    predicted = tokens(prediction, language)
    wanted = [w for w in (tokens(gold, language) for gold in golds) if w] or [[]]
    return max(float(predicted == w) for w in wanted), max(_f1(predicted, w) for w in wanted)


def _f1(predicted: list[str], wanted: list[str]) -> float:
    if not predicted or not wanted:
        return float(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * shared / (len(predicted) + len(wanted))
