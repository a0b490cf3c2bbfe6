"""Texts of an example: what counts as one, and the special tokens that go around them."""


def text(name: str, value) -> str:
    """``value``, if it is a text that says something; ``name`` is for the message of ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; expected a text")
    return value


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
