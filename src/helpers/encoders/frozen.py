"""States after the layers that a study never trains, computed once for all runs."""

from itertools import product
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from helpers import data, formats
from helpers.encoders import families, hardware
from helpers.encoders.adapters import adapt
from helpers.encoders.batches import SEGMENTS
from helpers.encoders.model import EncoderModel, predict
from helpers.study import Study, Task
from helpers.study.files import read_json

FILE = "frozen.safetensors"
"""Beside a pretrained encoder: by a text's tokens their states (tokens, hidden)."""
LIMIT = 2**31
"""Bytes that the states of a size's texts may take; a run maps them into memory."""


class States:
    """States after an encoder's lowest ``depth`` layers, looked up by a text's tokens."""

    def __init__(self, file: Path, depth: int):
        self.depth, self._states = depth, load_file(file)

    def find(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """States (sequences, tokens, hidden) of a padded batch; None unless all are there."""
        pairs = zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
        texts = [_name(ids[:length]) for ids, length in pairs]
        if not all(text in self._states for text in texts):
            return None
        rows = [self._states[text] for text in texts]
        return pad_sequence(rows, batch_first=True).to(input_ids.device)


def write(study: Study, name: str, encoder: PreTrainedModel, tokenizer, folder: Path) -> bool:
    """Save the states of a size's texts in ``folder``; afterwards ``encoder`` can only predict.

    False if nothing is saved: the states take too much room, or the lower layers need or give more
    than tokens and states, such as BERT's segments.
    """
    if SEGMENTS in tokenizer.model_input_names or not families.family(encoder.config).apart:
        return False
    texts = _texts(study, name, tokenizer)
    tokens = sum(map(len, texts.values()))
    if not texts or tokens > LIMIT // (4 * encoder.config.hidden_size):
        return False
    depth = study.encoder_settings(name)["frozen_layers"]
    adapt(encoder, study.sizes[name], hardware.precision(study.precision, study.folder), False)
    features = [{"input_ids": [text]} for text in texts.values()]
    states = predict(EncoderModel(encoder, layer=depth), features, tokenizer.pad_token_id)
    pairs = zip(texts.items(), states, strict=True)
    tables = {name: torch.tensor(rows[0, : len(text)]) for (name, text), rows in pairs}
    save_file(tables, folder / FILE)
    return True


def frozen_states(home: Path, encoder: PreTrainedModel, frozen_layers: int) -> States | None:
    """The states saved beside the pretrained encoder in ``home``, if ``encoder`` has the same ones.

    None if nothing is saved, if a layer below the states would be trained (``frozen_layers`` are
    not), or if a weight there differs from the pretrained one. ``encoder`` has no adapter yet.
    """
    if not (home / FILE).is_file():
        return None
    depth = read_json(home / "run.json")["settings"]["frozen_layers"]
    if depth > frozen_layers:
        return None
    lower = families.lower_parameters(encoder, depth)
    for file in home.glob("model*.safetensors"):
        for name, weight in load_file(file).items():
            if name in lower and not torch.equal(lower[name].cpu(), weight):
                return None
    return States(home / FILE, depth)


def _name(text: list[int]) -> str:
    """A text's tokens as the name of its states."""
    return " ".join(map(str, text))


def _texts(study: Study, name: str, tokenizer) -> dict[str, list[int]]:
    """Every sequence of tokens that a size's runs read, by name; of training sets what is drawn."""
    cells: dict[tuple, Task] = {}
    for condition in study.conditions(name):
        scored, values = condition.evaluated, condition.hyperparameters
        if scored and scored.format == "retrieval":
            continue  # it reads a layer of its own
        drawn = [("train", values.train_examples, seed) for seed in condition.seeds]
        drawn.append(("validation", values.validation_examples, 0))
        for stage in condition.stages:
            for task, (split, most, seed) in product(stage.tasks.values(), drawn):
                languages = tuple(task.trained_in if split == "train" else task.selected_in)
                length = stage.max_lengths[task.name]
                cells[task.name, split, languages, most, seed if most else 0, length] = task
        if scored:
            languages = tuple(condition.languages)
            cells[scored.name, scored.evaluate, languages, None, 0, values.max_length] = scored
    texts: dict[str, list[int]] = {}
    for (_, split, languages, most, seed, length), task in cells.items():
        rows = [row for code in languages for row in data.examples(study.data, task, split, code)]
        some = data.sample(rows, most, seed)
        for feature in formats.of(task).features(task, some, tokenizer, length):
            texts |= {_name(text): text for text in map(list, feature["input_ids"])}
    return texts
