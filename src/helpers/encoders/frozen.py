"""States after the layers that a study never trains, computed once for all runs."""

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
    """Save the states of all texts of a size in ``folder``; afterwards ``encoder`` can only
    predict.

    False if nothing is saved: the states take too much room, or the lower layers need or give more
    than tokens and states, such as BERT's segments.
    """
    if SEGMENTS in tokenizer.model_input_names or not families.family(encoder.config).apart:
        return False
    texts = _texts(study, name, tokenizer)
    if not texts or sum(map(len, texts)) > LIMIT // (4 * encoder.config.hidden_size):
        return False
    depth = study.encoder_settings(name)["frozen_layers"]
    adapt(encoder, study.sizes[name], hardware.precision(study.precision, study.folder), False)
    features = [{"input_ids": [text]} for text in texts]
    states = predict(EncoderModel(encoder, layer=depth), features, tokenizer.pad_token_id)
    pairs = zip(texts, states, strict=True)
    tables = {_name(text): torch.tensor(rows[0, : len(text)]) for text, rows in pairs}
    save_file(tables, folder / FILE)
    return True


def frozen_states(home: Path, encoder: PreTrainedModel, frozen_layers: int) -> States | None:
    """The states saved beside the pretrained encoder in ``home``, if ``encoder`` has the same ones.

    ``encoder`` will be trained with its lowest ``frozen_layers`` frozen, and has no adapter yet.
    None if nothing is saved, if a layer below the states would be trained, or if a weight there
    differs from the pretrained one.
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


def _texts(study: Study, name: str, tokenizer) -> list[list[int]]:
    """Every sequence of tokens that a size's runs read, once; of training sets what is drawn."""
    cells: dict[tuple, Task] = {}
    for condition in study.conditions(name):
        scored, values = condition.evaluated, condition.hyperparameters
        if scored and scored.format == "retrieval":
            continue  # it reads a layer of its own
        drawn = [("train", values.train_examples, seed) for seed in condition.seeds]
        drawn.append(("validation", values.validation_examples, 0))
        for stage in condition.stages:
            for task in stage.tasks.values():
                length = stage.max_lengths[task.name]
                for split, most, seed in drawn:
                    cells[task.name, split, None, most, seed if most else 0, length] = task
        if scored:
            for code in condition.languages:
                cells[scored.name, scored.evaluate, code, None, 0, values.max_length] = scored
    texts = {}
    for (_, split, language, most, seed, length), task in cells.items():
        if language is None:
            rows = data.sample(data.trained_on(study.data, task, split), most, seed)
        else:
            rows = data.examples(study.data, task, split, language)
        for feature in formats.of(task).features(task, rows, tokenizer, length):
            for text in map(list, feature["input_ids"]):
                texts[_name(text)] = text
    return list(texts.values())
