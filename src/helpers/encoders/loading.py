"""Phase 1: get an encoder, keep its lower layers, trim its vocabulary, save it as a folder."""

import os
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from helpers import data, formats
from helpers.encoders import adapters, families, frozen, hardware
from helpers.encoders.batches import SEGMENTS
from helpers.encoders.trimming import trim
from helpers.study import Size, Study, StudyError
from helpers.study.architectures import MIRROR, local_folder, weights
from helpers.study.catalogue import reason
from helpers.study.files import read_json, write_json, write_whole

disable_progress_bar()

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerFast]

VOCABULARY = "vocabulary.json"
"""Beside a trimmed model: the original id of every row that was kept."""
CHECKED = 2000
"""Texts that are tokenised with both the whole and the trimmed vocabulary, to compare."""


def pretrained(size: Size) -> Loaded:
    """A size's pretrained encoder with its lower ``layers`` only, and its tokenizer.

    Raises :class:`StudyError` if the model is missing, broken or of an unknown architecture, has
    fewer layers than the size asks for, or fewer tokens than its tokenizer.
    """
    name, folder = size.encoder, local_folder(size.encoder)
    is_path = name.startswith((".", "/", "~")) or Path(name).parts[0] in os.listdir()
    if folder is None and (is_path or os.environ.get(MIRROR)):
        expected = "expected a model folder or a hub id"
        raise StudyError(f"encoder {name}: no folder with a config.json there; {expected}")
    model, tokenizer = load(folder or name)
    if not all(weights.isfinite().all() for weights in model.parameters()):
        raise StudyError(f"encoder {name}: found weights that are no numbers; expected finite ones")
    tokens, rows = len(tokenizer), len(families.words(model))
    if tokens > rows:
        wrong = f"its tokenizer has {tokens} tokens; expected at most the model's {rows}"
        raise StudyError(f"encoder {name}: {wrong}")
    depth = len(families.layers(model))
    for asked, there in ((size.layers, depth), (size.retrieval_layer, size.layers or depth)):
        if asked and asked > there:
            raise StudyError(f"encoder {name}: has {there} layers, the study asks for {asked}")
    if size.layers is not None:
        families.keep_lower(model, size.layers)
    if _lowers_capitals(tokenizer):
        rule = "tokenizer_config.json with do_lower_case: false would keep them"
        message = f"encoder {name}: tokens have capitals, but texts are lower-cased; {rule}"
        warnings.warn(message, stacklevel=2)
    return model, tokenizer


def _lowers_capitals(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer lower-cases texts although its vocabulary has capitals."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return False
    words = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
    return any(word != word.lower() for word in words if not word.startswith("["))


def prepare(study: Study, name: str, folder: Path) -> dict:
    """Phase 1 for one size: get the encoder, keep its lower layers, trim it, save it in ``folder``.

    Returns what the notebook shows: parameters by part, tokens, notes on what could not be done.
    """
    size, settings = study.sizes[name], study.encoder_settings(name)
    model, tokenizer = pretrained(size)
    adapters.targets(model, size)  # reports its errors now
    most = {"max_length": families.longest(model), "frozen_layers": len(families.layers(model))}
    for (phase, task), (key, limit) in product(study.trainings(untrained=True), most.items()):
        if (value := getattr(study.hyperparameters(phase, name, task), key)) > limit:
            where = f"{study.path}: {phase} {task}, size {name}: {key}"
            raise StudyError(f"{where}: found {value}, expected at most {limit}")
    report: dict[str, Any] = {"parameters before": parameters(model), "notes": []}
    report["weights"] = {size.encoder: weights(size.encoder)}
    cells, kept = _texts(study), None
    texts = [text for cell in cells.values() for text in cell]
    cut = tokenizer(texts, add_special_tokens=False)["input_ids"]
    used = np.unique(np.concatenate(cut).astype(int))
    report |= {"tokens before": len(tokenizer), "tokens in the texts": len(used)}
    if study.trim:
        unknown = tokenizer.unk_token_id  # fewer tokens may cut an unknown word otherwise
        checked = [text for text, ids in zip(texts, cut, strict=True) if unknown in ids]
        checked += texts[:: max(1, len(texts) // CHECKED)]
        try:
            model, tokenizer, kept = trim(model, tokenizer, used, checked)
        except StudyError as error:
            report["notes"].append(f"{error}: the vocabulary stays whole")
    report |= {"tokens": len(tokenizer), "parameters": parameters(model)}
    tables = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    report["parameters_without_embeddings"] = report["parameters"]["total"] - sum(tables)
    report["precision"] = hardware.precision(study.precision, study.folder)
    report["fertility"] = _fertility(study, cells, tokenizer)

    def write(beside: Path) -> None:
        save(model, tokenizer, beside, kept)
        if settings["frozen_layers"] and not frozen.write(study, name, model, tokenizer, beside):
            report["notes"].append("every run computes the states of the frozen layers anew")
        write_json(beside / "run.json", {"settings": settings, **report})

    write_whole(folder, write)
    return report


def _texts(study: Study) -> dict[tuple, list[str]]:
    """Every text of the study by task, split and language, and the prefixes of its sizes."""
    prefixes = [size.retrieval_prefix for size in study.sizes.values() if size.retrieval_prefix]
    cells: dict[tuple, list[str]] = {("prefixes",): prefixes}
    for name, split, language in study.needed():
        task = study.tasks[name]
        rows = data.examples(study.data, task, split, language)
        cells[name, split, language] = [t for row in rows for t in formats.of(task).texts(row)]
    return cells


def _fertility(study: Study, cells: dict[tuple, list[str]], tokenizer) -> dict[str, dict]:
    """Mean number of tokens of a target's evaluated texts, by target and language."""
    means: dict[str, dict[str, float]] = {}
    for target in study.targets:
        task = study.tasks[target.task]
        for code in study.languages(task.name):
            texts = cells[task.name, task.evaluate, code]
            cut = tokenizer(texts, add_special_tokens=False)["input_ids"]
            means.setdefault(task.name, {})[code] = sum(map(len, cut)) / len(texts)
    return means


def load(folder: str | Path, dropout: float | None = None) -> Loaded:
    """An encoder without pooler and its tokenizer from a model folder or the hub, in float32.

    ``dropout`` replaces the probabilities in the model's configuration. Raises StudyError if
    nothing can be loaded, or the architecture is not known.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        options: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32}
        if families.family(config).pooler:
            options["add_pooling_layer"] = False
        if dropout is not None:
            config.update({key: dropout for key in config.to_dict() if "dropout" in key})
        is_mt5 = config.model_type == "mt5"  # AutoModel would add its decoder
        kind: Any = transformers.MT5EncoderModel if is_mt5 else transformers.AutoModel
        options |= {"config": config, "output_loading_info": True}
        model, info = kind.from_pretrained(folder, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ValueError(f"its tokenizer is a {type(tokenizer).__name__}; expected a fast one")
        if tokenizer.pad_token_id is None:
            raise ValueError("its tokenizer has no padding token; expected one")
    except StudyError as error:
        raise StudyError(f"encoder {folder}: {error}") from None
    except Exception as error:  # broken files raise anything
        raise StudyError(f"encoder {folder}: cannot be loaded: {reason(error)}") from error
    if lost := sorted(info["missing_keys"]):  # the library would use random ones
        raise StudyError(f"encoder {folder}: {len(lost)} weights are missing, {lost[0]} among them")
    if getattr(config, "type_vocab_size", 0) < 2:  # the model cannot tell a pair's texts apart
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != SEGMENTS]
    return model, tokenizer


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, kept: list[int] | None
) -> None:
    """Write a model folder for ``AutoModel``; ``kept`` are a trimmed model's original ids. Of a
    model with adapters only these are written, with the name of their encoder's folder.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kept is not None:
        write_json(folder / VOCABULARY, kept)


def start(home: Path, after: Path | None, dropout: float | None) -> Loaded:
    """The encoder that a training starts from, and its tokenizer.

    ``home`` is the size's pretrained encoder, ``after`` what an intermediate training left. The
    vocabulary is always that of ``home``. If it has grown since (a task was added to the study),
    new tokens keep their pretrained rows.
    """
    for folder, notebook in ((home, "1_encoder"), (after, "2_intermediate")):
        if folder and not any((folder / f).is_file() for f in ("config.json", adapters.CONFIG)):
            raise StudyError(f"{folder}: no encoder there; run notebook {notebook} first")
    model, tokenizer = load(home, dropout)
    if after is None:
        return model, tokenizer
    if (after / adapters.CONFIG).is_file():  # it is added to the weights, in float32
        from peft import PeftModel

        return PeftModel.from_pretrained(model, after).merge_and_unload(), tokenizer
    trained, _ = load(after)
    old, new = kept_ids(after), kept_ids(home)
    if old != new and old and new:
        rows = families.words(model).detach().clone()
        _, here, there = np.intersect1d(new, old, return_indices=True)
        rows[here] = families.words(trained).detach()[there]
        trained.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
    model.load_state_dict(trained.state_dict())
    return model, tokenizer


def kept_ids(folder: Path) -> list[int] | None:
    """The original ids of a trimmed model's rows; None for a model with its whole vocabulary."""
    return read_json(folder / VOCABULARY) or None


def parameters(model: PreTrainedModel) -> dict[str, int]:
    """Number of parameters by part."""
    words = families.words(model).numel()
    layers = sum(p.numel() for p in families.layers(model).parameters())
    total = sum(p.numel() for p in model.parameters())
    other = total - words - layers
    return {"word embeddings": words, "layers": layers, "other": other, "total": total}
