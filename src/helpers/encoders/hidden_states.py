"""States after the layers that a study never trains, computed once for every text and used by every run."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from helpers import data
from helpers.encoders import model
from helpers.study import NONE, Study

FILE = "frozen.safetensors"
"""Beside a pretrained encoder: ``pieces`` (all), ``ends`` (sequences) and ``states`` (all, hidden) after ``depth``."""
LIMIT = 2**30
"""Bytes that the states of a study's targets may take; larger ones are computed anew by every run."""
_TRAINED_ON = ("train", "validation")


class States:
    """States (pieces, hidden) after an encoder's first ``depth`` layers, found by a sequence's pieces."""

    def __init__(self, depth: int, pieces: torch.Tensor, ends: torch.Tensor, states: torch.Tensor):
        self.depth, self._states, self._where = depth, states, {}
        begin, flat = 0, pieces.tolist()
        for end in ends.tolist():
            self._where[tuple(flat[begin:end])] = slice(begin, end)
            begin = end

    def find(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """States (sequences, pieces, hidden) of a padded batch; None unless every one of its sequences is known."""
        rows = [
            tuple(ids[:n])
            for ids, n in zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
        ]
        if any(row not in self._where for row in rows):
            return None
        out = self._states.new_zeros((*input_ids.shape, self._states.shape[1]))
        for at, row in enumerate(rows):
            out[at, : len(row)] = self._states[self._where[row]]
        return out.to(input_ids.device)


def depth(study: Study, size: str) -> int:
    """How many of a size's lowest layers no training of the study changes."""
    trained = [("target", target.task) for target in study.targets]
    trained += [("intermediate", task) for task in study.intermediate if task != NONE]
    return min(study.hyperparameters(phase, size, task).frozen_layers for phase, task in trained)


def write(
    study: Study,
    size: str,
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> None:
    """Compute the states of every text of the study's targets, where every training freezes some layers."""
    below = depth(study, size)
    sequences = _sequences(study, size, tokenizer) if below else []
    hidden = encoder.config.hidden_size
    if not sequences or sum(map(len, sequences)) * hidden * 4 > LIMIT:
        return
    features = [{"input_ids": [ids]} for ids in sequences]
    found = model.predict(model.Lower(encoder, below), features, tokenizer.pad_token_id)
    states = np.concatenate(
        [rows[0, : len(ids)] for rows, ids in zip(found, sequences, strict=True)]
    )
    save_file(
        {
            "pieces": torch.tensor(
                [piece for ids in sequences for piece in ids], dtype=torch.int32
            ),
            "ends": torch.tensor(np.cumsum([len(ids) for ids in sequences])),
            "states": torch.from_numpy(states),
            "depth": torch.tensor(below),
        },
        folder / FILE,
    )


def load(folder: Path, encoder: PreTrainedModel, frozen_layers: int) -> States | None:
    """The states kept beside the pretrained encoder in ``folder``, where they are those of ``encoder`` too.

    ``encoder`` is about to be trained with its lowest ``frozen_layers`` frozen. None where nothing is kept, a layer
    below the states would be trained, or a weight differs from the pretrained one.
    """
    if not frozen_layers or not (folder / FILE).is_file():
        return None
    kept, now = load_file(folder / FILE), encoder.state_dict()
    below = int(kept["depth"])
    used = ("embeddings.", *(f"encoder.layer.{i}." for i in range(below)))
    with safe_open(folder / "model.safetensors", "pt") as pretrained:
        names = [name for name in now if name.startswith(used)]
        same = all(torch.equal(now[name].cpu(), pretrained.get_tensor(name)) for name in names)
    return (
        States(below, kept["pieces"], kept["ends"], kept["states"])
        if same and below <= frozen_layers
        else None
    )


def _sequences(
    study: Study, size: str, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[int, ...]]:
    found = {}
    for target in (t.task for t in study.targets if study.tasks[t.task].format != "retrieval"):
        length, evaluated = (
            study.hyperparameters("target", size, target).max_length,
            study.tasks[target].evaluate,
        )
        sets = [
            (name, data.trained_on(study, name, s))
            for name in study.train_on(target)
            for s in _TRAINED_ON
        ]
        sets += [
            (target, data.examples(study, target, evaluated, language))
            for language in study.languages(target)
        ]
        for name, rows in sets:
            task = data.labelled(study, name)
            for feature in data.tokenise(task, rows, tokenizer, length, data.token_cache(study)):
                found.update(dict.fromkeys(tuple(ids.tolist()) for ids in feature["input_ids"]))
    return list(found)
