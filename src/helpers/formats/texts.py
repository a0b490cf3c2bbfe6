"""Texts of an example: what counts as one, how it is cut, and the tokens that go around it."""

from typing import Any

import numpy as np

_AT_ONCE = 10_000
"""Sequences that are cut in one call: the tokenizer keeps much more of each than its tokens."""


def text(name: str, value: Any) -> str:
    """``value``, if it is a text that says something; ``name`` is for the message of ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; expected a text")
    return value


def items(name: str, value: Any) -> list:
    """``value`` as a list; ``name`` is for the message of ValueError."""
    if isinstance(value, str | dict) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name} is {value!r:.80}; expected a list")
    return list(value)


def cut(tokenizer, max_length: int, *sides: list[str]) -> list[dict]:
    """Each text, or pair of texts, as token ids; what is too long loses its end.

    Where the tokenizer tells the two texts of a pair apart, so do ``token_type_ids``.
    """
    sequences = []
    for low in range(0, len(sides[0]), _AT_ONCE):
        some = [side[low : low + _AT_ONCE] for side in sides]
        encoded = tokenizer(*some, truncation="longest_first", max_length=max_length)
        names = [name for name in ("input_ids", "token_type_ids") if name in encoded]
        for row in zip(*(encoded[name] for name in names), strict=True):
            arrays = [np.asarray(ids, np.int32) for ids in row]
            sequences.append(dict(zip(names, arrays, strict=True)))
    return sequences


def joined(sequences: list[dict], label: Any) -> dict:
    """One example's feature: its sequences side by side, and its label."""
    return {name: [one[name] for one in sequences] for name in sequences[0]} | {"labels": label}


def special_tokens(tokenizer, count: int) -> list[list[int]]:
    """Special tokens before, between and after ``count`` texts (one or two) of a sequence."""
    encoded = tokenizer(*["a"] * count)
    around: list[list[int]] = [[] for _ in range(count + 1)]
    at = 0
    for token, inside in zip(encoded["input_ids"], encoded.sequence_ids(0), strict=True):
        if inside is None:
            around[at].append(token)
        else:
            at = inside + 1
    return around
