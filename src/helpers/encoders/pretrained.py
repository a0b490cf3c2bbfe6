"""Phase 1: get an encoder, keep its lower layers, trim its vocabulary, save it as a folder."""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from helpers import data, tasks
from helpers.encoders import adapters, families, hardware, hidden_states
from helpers.encoders.trimming import trim, used_tokens
from helpers.study import NONE, Size, Study, StudyError, opening
from helpers.study.architectures import MIRROR, local_folder
from helpers.study.files import read_json, write_json, write_whole

disable_progress_bar()

VOCABULARY = "vocabulary.json"
"""Beside a trimmed model: the original id of every row that was kept."""
_CHECKED = 2000
"""Texts that are cut with the whole vocabulary and the trimmed one, to compare."""


def pretrained(size: Size) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A size's pretrained encoder with its lower ``layers`` only, and its tokenizer.

    Raises
    ------
    StudyError
        The folder or hub model is missing or broken or of an unknown architecture, its
        tokenizer has more tokens than it has, or it has fewer layers than the size asks for.
    """
    where = f"encoder {size.encoder}"
    model, tokenizer = load(_source(size.encoder))
    tokens, rows = len(tokenizer), len(families.words(model))
    if tokens > rows:
        wrong = f"its tokenizer has {tokens} tokens; expected at most the model's {rows}"
        raise StudyError(f"{where}: {wrong}")
    found = len(families.layers(model))
    for asked, there in ((size.layers, found), (size.retrieval_layer, size.layers or found)):
        if asked and asked > there:
            raise StudyError(f"{where}: has {there} layers, the study asks for {asked}")
    if size.layers is not None:
        families.keep_lower(model, size.layers)
    return model, tokenizer


def prepare(study: Study, name: str) -> dict:
    """Phase 1 for one size: get the encoder, keep its lower layers, trim and save it.

    Returns what the notebook shows: parameters before and after by part, tokens, and notes on what
    could not be done.
    """
    model, tokenizer = pretrained(study.sizes[name])
    adapters.targets(model, study.sizes[name])  # what is wrong there is said now
    for phase, task in study.readings():
        settings = study.hyperparameters(phase, name, task)
        families.check(model, settings, f"{study.path}: {phase} {task}, size {name}")
    report: dict[str, Any] = {"parameters before": parameters(model), "notes": []}
    report["tokens before"], texts, kept = len(tokenizer), _texts(study), None
    used = used_tokens(tokenizer, texts)
    if study.trim:
        try:
            some = texts[:: max(1, len(texts) // _CHECKED)]
            model, tokenizer, kept = trim(model, tokenizer, used, some)
        except StudyError as error:
            report["notes"].append(f"{error}: the vocabulary stays whole")
    report |= {"tokens in the texts": len(used), "tokens": len(tokenizer)}
    report |= {"parameters": parameters(model), "precision": hardware.precision(study)}
    total = report["parameters"]["total"]
    tables = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    record = {"parameters": study.settings(name), "texts": study.texts(), "made": report}
    record |= {"parameters_all": total, "parameters_without_embeddings": total - sum(tables)}

    def write(folder: Path) -> None:
        save(model, tokenizer, folder, kept)
        cached = hidden_states.write(study, name, model, tokenizer, folder)
        if hidden_states.depth(study, name) and not cached:
            report["notes"].append("every run computes the states of the frozen layers anew")
        write_json(folder / "run.json", record)

    write_whole(study.encoder_folder(name, new=True), write)
    return report


def load(
    folder: str | Path, dropout: float | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """An encoder without pooler and its tokenizer from a model folder or the hub, in float32.

    An adapter comes added to the encoder that it was trained for. ``dropout`` replaces the
    probabilities in the model's configuration.

    Raises
    ------
    StudyError
        Nothing can be loaded from there, or the architecture is not one of the package's.
    """
    if adapters.is_in(folder):
        base = read_json(Path(folder) / adapters.CONFIG)["base_model_name_or_path"]
        model, whole = load(base, dropout)
        return adapters.merge(model, Path(folder)), whole
    try:
        config = AutoConfig.from_pretrained(folder)
        names = families.family(config).dropout
        config.update({} if dropout is None else dict.fromkeys(names, dropout))
        auto = AutoModel._model_mapping
        kind: Any = families.CLASSES.get(config.model_type) or auto[type(config)]
        options = {"config": config, "attn_implementation": "eager", "dtype": torch.float32}
        if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
            options["add_pooling_layer"] = False
        model, found = kind.from_pretrained(folder, output_loading_info=True, **options)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise ValueError(f"its tokenizer is a {type(tokenizer).__name__}; expected a fast one")
    except StudyError as error:
        raise StudyError(f"encoder {folder}: {error}") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StudyError(f"encoder {folder}: cannot be loaded: {reason}") from error
    if lost := sorted(found["missing_keys"]):  # the library would begin with random ones
        raise StudyError(f"encoder {folder}: {len(lost)} weights are missing, {lost[0]} among them")
    return model, tokenizer


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, kept: list[int] | None
) -> None:
    """Write a model folder for ``AutoModel``; ``kept`` are a trimmed model's original ids.

    Of a model with adapters these alone are written, with the name of the folder they belong to.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if kept is not None:
        write_json(folder / VOCABULARY, kept)


def _texts(study: Study) -> list[str]:
    """Every text of the study, training and evaluation, every language, and its prefixes."""
    texts = [size.retrieval_prefix for size in study.sizes.values() if size.retrieval_prefix]
    for task, split, language in study.needed():
        rows = data.examples(study, task, split, language)
        texts += [text for row in rows for text in tasks.of(study.tasks[task]).texts(row)]
    return texts


def initial_encoder(study: Study, size: str, intermediate: str, seed: int, dropout: float):
    """The encoder that a target training starts from, and its tokenizer; a person's notebook makes
    the pretrained one where it is not there.

    The vocabulary is always the size's own. Where it has grown since the intermediate task was
    trained (a task was added to the study), the tokens that are new keep their pretrained rows.
    """
    if not (study.encoder_folder(size) / "config.json").exists() and opening.is_interactive():
        prepare(study, size)
    home = _made(study, size)
    folder = _made(study, size, intermediate, seed)
    old, new, adapted = kept_ids(folder), kept_ids(home), adapters.is_in(folder)
    if old == new and not adapted:
        return load(folder, dropout)
    model, tokenizer = load(home, dropout)
    if adapted:
        return adapters.merge(model, folder), tokenizer
    trained, _ = load(folder)
    if old and new:
        rows = families.words(model).detach().clone()
        _, here, there = np.intersect1d(new, old, return_indices=True)
        rows[here] = families.words(trained).detach()[there]
        trained.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
    model.load_state_dict(trained.state_dict())
    return model, tokenizer


def _made(study: Study, size: str, intermediate: str = NONE, seed: int | None = None) -> Path:
    """The folder of an encoder; where it is not there, the error says which notebook makes it."""
    folder = study.encoder_folder(size, intermediate, seed)
    if (folder / "config.json").exists() or adapters.is_in(folder):
        return folder
    notebook, given = "1_encoder", {"study": study.path, "outputs": study.outputs, "size": size}
    if intermediate != NONE:
        notebook, given = "2_intermediate", {**given, "task": intermediate, "seed": seed}
    asked = " ".join(f"-p {name} {value}" for name, value in given.items())
    command = f"papermill notebooks/{notebook}.ipynb {folder.parent}/notebook.ipynb {asked}"
    first = f"run notebook {notebook} first: open it, set these parameters and run all cells"
    raise StudyError(f"{folder}: not there; {first}, or: {command}")


def kept_ids(folder: Path) -> list[int] | None:
    """The original ids of a trimmed model's rows; None for a model with its whole vocabulary."""
    file = Path(folder) / VOCABULARY
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def parameters(model: PreTrainedModel) -> dict[str, int]:
    """Number of parameters by part."""
    words = families.words(model).numel()
    layers = sum(p.numel() for p in families.layers(model).parameters())
    total = sum(p.numel() for p in model.parameters())
    rest = total - words - layers
    return {"word embeddings": words, "layers": layers, "other": rest, "total": total}


def _source(encoder: str) -> str:
    """The folder or hub id that a study's name of an encoder stands for."""
    folder = local_folder(encoder)
    if not folder and (os.environ.get(MIRROR) or encoder.startswith((".", "/"))):
        expected = "expected a model folder or a hub id"
        raise StudyError(f"encoder {encoder}: no folder with a config.json there; {expected}")
    return str(folder or encoder)
