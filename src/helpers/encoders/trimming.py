"""Trim a vocabulary to the tokens that a study's texts use; each text is tokenised as before."""

import json
import re
from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from helpers.encoders import families
from helpers.study import StudyError

_KINDS = ("Unigram", "WordPiece", "BPE")
_SINGLE = re.compile(r"(?:##|[▁Ġ])?.?|<0x[0-9A-F]{2}>", re.DOTALL)
"""Single characters, alone or marked as the begin or inside of a word, and bytes."""


def trim(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    used: Iterable[int],
    texts: Sequence[str] = (),
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[int]]:
    """Keep the embedding rows of the tokens in ``used``, of special tokens and single characters.

    A Unigram model keeps its scores, so the best segmentation stays the best; its least likely
    token stays too, since the score of unknown characters is derived from it. WordPiece takes the
    longest token that fits, which is still there. BPE keeps every merge that leads to a kept token,
    and so makes the same merges in the same order. Returns the original ids of the kept rows,
    ascending.

    Raises :class:`StudyError` if the tokenizer is of another kind, would tokenise one of ``texts``
    differently, or if padding, from which RoBERTa counts positions, would move; the model is then
    unchanged.
    """
    small, kept = _trimmed(tokenizer, used)
    pad = small.pad_token_id
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and part.padding_idx not in (None, pad):
            wrong = f"padding would be token {pad}, positions expect {part.padding_idx}"
            raise StudyError(f"trim: {wrong}")
    old, new = (t(list(texts))["input_ids"] if len(texts) else [] for t in (tokenizer, small))
    for text, before, after in zip(texts, old, new, strict=True):
        if [kept[i] for i in after] != before:
            raise StudyError(f"trim: {text[:60]!r} would get other tokens")
    rows = families.words(model).data[torch.tensor(kept)]
    model.set_input_embeddings(nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=pad))
    model.config.vocab_size, model.config.pad_token_id = len(kept), pad
    return model, small, kept


def _trimmed(
    tokenizer: PreTrainedTokenizerFast, used: Iterable[int]
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """A tokenizer of the tokens kept, and their original ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    if model["type"] not in _KINDS:
        wrong = f"found a {model['type']} tokenizer, expected one of {', '.join(_KINDS)}"
        raise StudyError(f"trim: {wrong}")
    number, unigram = model["vocab"], model["type"] == "Unigram"
    if unigram:  # a list of tokens and scores
        number = {token: i for i, (token, _) in enumerate(model["vocab"])}
    kept = {*map(int, used), *tokenizer.all_special_ids}
    kept |= {token["id"] for token in state["added_tokens"]}
    kept |= {i for token, i in number.items() if _SINGLE.fullmatch(token)}
    if unigram:
        kept.add(min(range(len(model["vocab"])), key=lambda i: model["vocab"][i][1]))
    if model["type"] == "BPE":
        kept, model["merges"] = _merges(model["merges"], number, kept)
    new = {old: i for i, old in enumerate(sorted(kept))}
    if unigram:
        model["vocab"] = [model["vocab"][i] for i in sorted(kept) if i < len(model["vocab"])]
        model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[i] for token, i in number.items() if i in kept}
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    state["post_processor"] = _renumbered(state["post_processor"], new)
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    )
    return small, sorted(kept)


def _merges(merges: list, number: dict[str, int], kept: set[int]) -> tuple[set[int], list]:
    """The kept ids with all tokens that they are merged from, and the merges that lead to them."""
    before = 0
    while len(kept) > before:
        before = len(kept)
        for pair in reversed(merges):  # a token is mostly merged after its parts
            if number["".join(pair)] in kept:
                kept.update(number[part] for part in pair)
    return kept, [pair for pair in merges if number["".join(pair)] in kept]


def _renumbered(processor, new: dict[int, int]):
    """A post-processor's state with the new ids of its special tokens, however deep they lie."""
    if isinstance(processor, dict):
        return {
            key: [new[i] for i in value] if key == "ids" else _renumbered(value, new)
            for key, value in processor.items()
        }
    if isinstance(processor, list):
        if len(processor) == 2 and isinstance(processor[1], int):  # [token, id]
            return [processor[0], new[processor[1]]]
        return [_renumbered(part, new) for part in processor]
    return processor
