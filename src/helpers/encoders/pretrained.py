"""Phase 1: get an encoder, keep its lower layers, trim its vocabulary, and save it as a standard model folder."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from helpers import data, tasks
from helpers.data import sources
from helpers.encoders import bundled, hidden_states
from helpers.encoders.hardware import attention
from helpers.study import NONE, Size, Study, StudyError
from helpers.study.catalogue import PIP
from helpers.study.files import write_json, write_whole

disable_progress_bar()

VOCABULARY = "vocabulary.json"
"""Beside a trimmed model: the original id of every row that was kept."""
_WORDS = "▁"


def pretrained(size: Size) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A size's pretrained encoder with its lower ``layers`` only, and its tokenizer.

    Raises
    ------
    StudyError
        The package, folder or hub model is missing or broken, or has fewer layers than the size asks for.
    """
    if size.encoder.startswith(PIP):
        package = size.encoder.removeprefix(PIP)
        if package != bundled.PACKAGE:
            raise StudyError(
                f"encoder {size.encoder}: unknown package; expected {PIP}{bundled.PACKAGE}"
            )
        model, tokenizer = bundled.convert(bundled.locate())
    else:
        model, tokenizer = load(_source(size.encoder))
    layers = model.encoder.layer
    if size.layers is not None:
        if size.layers > len(layers):
            raise StudyError(
                f"encoder {size.encoder}: has {len(layers)} layers, the study asks for {size.layers}"
            )
        model.encoder.layer = nn.ModuleList(layers[: size.layers])
        model.config.num_hidden_layers = size.layers
    return model, tokenizer


def prepare(study: Study, name: str) -> dict:
    """Phase 1 for one size: get the encoder, keep its lower layers, trim it, save it with its run.json.

    Returns what the notebook shows: parameters before and after by part, pieces and bytes.
    """
    model, tokenizer = pretrained(study.sizes[name])
    report = {"parameters before": parameters(model), "pieces before": len(tokenizer)}
    used = used_tokens(study, tokenizer)
    kept = None
    if study.trim:
        model, tokenizer, kept = trim(model, tokenizer, used)
    report |= {
        "pieces in the texts": len(used),
        "pieces": len(tokenizer),
        "parameters": parameters(model),
    }
    record = {"parameters": study.settings(name), "texts": study.texts(), "made": report}

    def write(folder: Path) -> None:
        save(model, tokenizer, folder, kept)
        hidden_states.write(study, name, model, tokenizer, folder)
        write_json(folder / "run.json", record)

    write_whole(study.encoder_folder(name), write)
    return report


def load(
    folder: str | Path, dropout: float | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model without pooler and its tokenizer from a standard folder or the hub, in float32.

    ``dropout`` replaces the probabilities in the model's configuration.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        if dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        model = AutoModel.from_pretrained(
            folder,
            config=config,
            add_pooling_layer=False,
            attn_implementation=attention(),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"encoder {folder}: cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    return model, tokenizer


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, kept: list[int] | None
) -> None:
    """Write a folder that ``AutoModel`` and ``AutoTokenizer`` load; ``kept`` are a trimmed model's original ids."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kept is not None:
        write_json(folder / VOCABULARY, kept)


def used_tokens(study: Study, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Ids of the pieces that occur in any text of the study, training and evaluation, every language; sorted."""
    prefixes = [size.retrieval_prefix for size in study.sizes.values() if size.retrieval_prefix]
    used = {
        piece
        for text in prefixes
        for piece in tokenizer(text, add_special_tokens=False)["input_ids"]
    }
    for task, split, language in study.needed():
        rows = data.examples(study, task, split, language)
        texts = [text for row in rows for text in tasks.of(study.tasks[task]).texts(row)]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            used.update(ids)
    return np.array(sorted(used), dtype=np.int64)


def trim(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, used: Iterable[int]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[int]]:
    """Keep the embedding rows of the pieces in ``used``, of special tokens and of single characters.

    Every text made of kept pieces is cut as before: the pieces keep their scores, so the best segmentation stays the
    best. The least likely piece is kept too, since a Unigram model derives the score of unknown characters from it.
    The returned ids are the original id of each kept row, ascending.

    Raises
    ------
    StudyError
        The tokenizer is no Unigram model.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "Unigram":
        raise StudyError(
            f"trim: found a {state['model']['type']} tokenizer, expected Unigram; set trim: false"
        )
    vocabulary = state["model"]["vocab"]
    worst = min(range(len(vocabulary)), key=lambda i: vocabulary[i][1])
    single = [i for i, (piece, _) in enumerate(vocabulary) if len(piece.lstrip(_WORDS)) <= 1]
    special = [token["id"] for token in state["added_tokens"]]
    kept = sorted({*map(int, used), *single, *special, *tokenizer.all_special_ids, worst})
    new = {old: i for i, old in enumerate(kept)}
    state["model"]["vocab"] = [vocabulary[i] for i in kept if i < len(vocabulary)]
    state["model"]["unk_id"] = new[state["model"]["unk_id"]]
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in (state["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        **tokenizer.special_tokens_map,
    )
    rows = model.get_input_embeddings().weight.data[torch.tensor(kept)]
    model.set_input_embeddings(
        nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=small.pad_token_id)
    )
    model.config.vocab_size = len(kept)
    model.config.pad_token_id = small.pad_token_id
    return model, small, kept


def initial_encoder(study: Study, size: str, intermediate: str, seed: int, dropout: float):
    """The encoder that a target training starts from, and its tokenizer.

    The vocabulary is always the size's own. Where it has grown since the intermediate task was trained (a task was
    added to the study), the pieces that are new keep their pretrained rows.
    """
    model, tokenizer = load(study.encoder_folder(size), dropout)
    if intermediate != NONE:
        folder = study.encoder_folder(size, intermediate, seed)
        trained, _ = load(folder)
        state = trained.state_dict()
        words = "embeddings.word_embeddings.weight"
        old, new = kept_ids(folder), kept_ids(study.encoder_folder(size))
        if old != new:
            rows, at = (
                model.state_dict()[words].clone(),
                {piece: row for row, piece in enumerate(new)},
            )
            both = [(at[piece], row) for row, piece in enumerate(old) if piece in at]
            rows[[a for a, _ in both]] = state[words][[b for _, b in both]]
            state[words] = rows
        model.load_state_dict(state)
    return model, tokenizer


def kept_ids(folder: Path) -> list[int] | None:
    """The original ids of a trimmed model's rows; None for a model with its whole vocabulary."""
    file = Path(folder) / VOCABULARY
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def restore(trimmed: Path, size: Size) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A trimmed, perhaps fine-tuned encoder with the rows put back into the full matrix, for publishing."""
    model, tokenizer = pretrained(size)
    small, _ = load(trimmed)
    kept = kept_ids(trimmed)
    if kept is None:
        return small, tokenizer
    full = model.get_input_embeddings().weight.data.clone()
    full[torch.tensor(kept)] = small.get_input_embeddings().weight.data
    small.set_input_embeddings(
        nn.Embedding.from_pretrained(full, freeze=False, padding_idx=tokenizer.pad_token_id)
    )
    small.config.vocab_size = len(full)
    small.config.pad_token_id = tokenizer.pad_token_id
    return small, tokenizer


def parameters(model: PreTrainedModel) -> dict[str, int]:
    """Number of parameters by part."""
    words = model.get_input_embeddings().weight.numel()
    layers = sum(p.numel() for p in model.encoder.parameters())
    total = sum(p.numel() for p in model.parameters())
    return {
        "word embeddings": words,
        "layers": layers,
        "other": total - words - layers,
        "total": total,
    }


def fertility(study: Study, tokenizer: PreTrainedTokenizerFast, task: str) -> dict[str, float]:
    """Mean number of pieces of an evaluated item's texts, by language."""
    entry, means = study.tasks[task], {}
    for language in study.languages(task):
        rows = data.examples(study, task, entry.evaluate, language)
        texts = [text for row in rows for text in tasks.of(entry).texts(row)]
        means[language] = sum(
            map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
        ) / len(texts)
    return means


def _source(encoder: str) -> str:
    mirror = os.environ.get(sources.MIRROR)
    for folder in [Path(encoder), *([Path(mirror) / encoder] if mirror else [])]:
        if (folder / "config.json").is_file():
            return str(folder)
    if mirror or encoder.startswith((".", "/")):
        raise StudyError(
            f"encoder {encoder}: no folder with a config.json there; expected a model folder or a hub id"
        )
    return encoder
