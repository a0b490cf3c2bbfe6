"""States after the layers that a study never trains, computed once for all runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from helpers import data
from helpers.encoders import families, hardware
from helpers.encoders.batches import collate
from helpers.encoders.model import EncoderModel, predict
from helpers.study import NONE, Study
from helpers.study.params import Phase

FILE = "frozen.safetensors"
"""Beside a pretrained encoder: ``pieces`` (all tokens), ``ends`` (of the sequences) and ``states``
(all tokens, hidden) after ``depth`` layers."""
LIMIT = 2**31
"""Bytes that the states of a size's texts may take; a run maps them into memory and reads its own.
"""


class States:
    """States (tokens, hidden) after an encoder's lowest ``depth`` layers, found by their tokens."""

    def __init__(self, depth: int, tokens: torch.Tensor, ends: torch.Tensor, states: torch.Tensor):
        texts, rows = (table.tensor_split(ends[:-1]) for table in (tokens, states))
        pairs = zip(texts, rows, strict=True)
        self.depth, self._states = depth, {tuple(ids.tolist()): found for ids, found in pairs}

    def find(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """States (sequences, tokens, hidden) of a padded batch; None unless all are there."""
        pairs = zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
        texts = [tuple(ids[:length]) for ids, length in pairs]
        if not all(text in self._states for text in texts):
            return None
        rows = [self._states[text] for text in texts]
        return pad_sequence(rows, batch_first=True).to(input_ids.device)


def depth(study: Study, size: str) -> int:
    """How many of a size's lowest layers no training of the study changes."""
    asked = (study.hyperparameters(phase, size, task) for phase, task in study.readings())
    return min(settings.frozen_layers for settings in asked)


def write(
    study: Study,
    size: str,
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> bool:
    """Keep the states of a study's texts in ``folder``, if all its trainings freeze layers.

    Where there is no room for all, those of the intermediate tasks are left out, then those that
    targets are trained on. False where nothing is kept: no layer is frozen, the states take too
    much room, or the upper layers do not make the model's own output of them.
    """
    below, room = depth(study, size), LIMIT // (4 * encoder.config.hidden_size)
    sequences = _sequences(study, size, tokenizer, room) if below else []
    if not sequences or not is_exact(encoder, below, sequences[:4], tokenizer.pad_token_id):
        return False
    lower = EncoderModel(encoder, below)
    lower.precision = hardware.precision(study)
    found = predict(lower, [{"input_ids": [ids]} for ids in sequences], tokenizer.pad_token_id)
    pairs = zip(found, sequences, strict=True)
    states = np.concatenate([rows[0, : len(ids)] for rows, ids in pairs])
    tables = {
        "pieces": torch.from_numpy(np.concatenate(sequences).astype(np.int32)),
        "ends": torch.tensor(np.cumsum([len(ids) for ids in sequences])),
        "states": torch.from_numpy(states),
        "depth": torch.tensor(below),
    }
    save_file(tables, folder / FILE)
    return True


def is_exact(encoder: PreTrainedModel, depth: int, sequences: list[tuple], pad: int) -> bool:
    """Whether the layers above ``depth`` make the model's own output of the states below them.

    The check is in float32, for architectures whose upper layers need more than states (mT5's need
    the position bias of the lowest).
    """
    inputs = collate([{"input_ids": sequences}], pad)
    encoder.eval()
    with torch.inference_mode():
        whole = encoder(**inputs).last_hidden_state
        states = families.states_after(encoder, depth, **inputs)
        joined = families.states_from(encoder, depth, states, **inputs)
    return torch.allclose(whole, joined, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


def load(folder: Path, encoder: PreTrainedModel, frozen_layers: int) -> States | None:
    """The states kept beside the pretrained encoder in ``folder``, if they are ``encoder``'s too.

    ``encoder`` is about to be trained with its lowest ``frozen_layers`` frozen. None where nothing
    is kept, a layer below the states would be trained, or a weight there is not the pretrained one.
    """
    if not frozen_layers or not (folder / FILE).is_file():
        return None
    kept = load_file(folder / FILE)
    below = int(kept["depth"])
    if below > frozen_layers:
        return None
    lower = families.lower_parameters(encoder, below)
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, "pt") as pretrained:
            both = lower.keys() & set(pretrained.keys())
            if not all(torch.equal(lower[x].cpu(), pretrained.get_tensor(x)) for x in both):
                return None
    return States(below, kept["pieces"], kept["ends"], kept["states"])


def _sequences(study: Study, size: str, tokenizer: PreTrainedTokenizerFast, room: int) -> list:
    """Every sequence of tokens that a size's runs read, once, by use as far as ``room`` tokens."""
    found: dict[tuple, None] = {}
    for texts in _by_use(study, size):
        more, cache = dict(found), data.token_cache(study)
        for name, rows, length in texts:
            task = data.labelled(study, name)
            for feature in data.tokenise(task, rows, tokenizer, length, cache):
                more.update(dict.fromkeys(tuple(ids.tolist()) for ids in feature["input_ids"]))
            if sum(map(len, more)) > room:
                return list(found)
        found = more
    return list(found)


def _by_use(study: Study, size: str) -> Iterator[list[tuple[str, list[dict], int]]]:
    """(task, rows, tokens at most) of what targets are scored on, then of what they are trained on,
    then of the intermediate tasks; of training sets what the study's seeds draw. A seed that is
    added later computes what it draws besides.
    """
    targets = [t.task for t in study.targets if study.tasks[t.task].format != "retrieval"]
    before = [name for name in study.intermediate if name != NONE]

    def english(phase: Phase, names: list[str], split: str) -> list[tuple[str, list[dict], int]]:
        found = []
        for name in names:
            settings = study.hyperparameters(phase, size, name)
            if phase == "target":
                parts, preceding = study.train_on(name), study.intermediate
            else:
                parts, preceding = study.components(name), [name]
            seeds = set(study.sweep.seeds if study.sweep else ())
            seeds |= {seed for task in preceding for seed in study.seeds_of(task)}
            for part in parts:
                if split == "train":
                    rows = data.drawn(study, part, settings, *sorted(seeds))
                else:
                    rows = data.held_out(study, part, settings)
                found.append((part, rows, settings.max_length))
        return found

    scored = english("target", targets, "validation")
    for name in targets:
        length = study.hyperparameters("target", size, name).max_length
        for code in study.languages(name):
            split = study.tasks[name].evaluate
            scored.append((name, data.examples(study, name, split, code), length))
    yield scored
    yield english("target", targets, "train")
    yield english("intermediate", before, "validation") + english("intermediate", before, "train")
