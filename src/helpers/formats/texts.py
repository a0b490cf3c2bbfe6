"""Texts of an example: what counts as one, how it is cut, and the tokens that go around it."""

from typing import Any

import numpy as np

_AT_ONCE = 10_000
"""Sequences tokenised in one call, to save memory: a tokenizer keeps much more than the tokens."""


def text(name: str, value: Any) -> str:
    """``value``, if it is a text and not blank; ``name`` is for the message of ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; expected a text")
    return value


def items(name: str, value: Any) -> list:
    """``value`` as a list; ``name`` is for the message of ValueError."""
    if isinstance(value, str | dict) or not hasattr(value, "__iter__"):
        raise ValueError(f"{name} is {value!r:.80}; expected a list")
    return list(value)


def features(tokenizer, max_length: int, examples: list[list], labels: list) -> list[dict]:
    """Features of examples; each example is a list of sequences, all of one text or all of a pair.

    Long sequences are cut at the end. If the tokenizer tells the two texts of a pair apart, there
    are ``token_type_ids``.
    """
    sequences = [sequence for example in examples for sequence in example]
    encoded: list[dict] = []
    for low in range(0, len(sequences), _AT_ONCE):
        sides = map(list, zip(*sequences[low : low + _AT_ONCE], strict=True))
        cut = tokenizer(*sides, truncation="longest_first", max_length=max_length)
        cut.pop("attention_mask", None)  # nothing is padded yet
        for row in zip(*cut.values(), strict=True):
            arrays = [np.asarray(ids, np.int32) for ids in row]
            encoded.append(dict(zip(cut, arrays, strict=True)))
    parts, out = iter(encoded), []
    for example, label in zip(examples, labels, strict=True):
        some = [next(parts) for _ in example]
        out.append({name: [one[name] for one in some] for name in some[0]} | {"labels": label})
    return out


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
