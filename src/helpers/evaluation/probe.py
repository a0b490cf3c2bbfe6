"""What an encoder knows of translations, before any training or after."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import data, formats
from helpers.encoders.model import embed
from helpers.formats.retrieval import neighbours, unit
from helpers.study import ENGLISH, Condition, Task
from helpers.training import Training

PAIRS = 1000
"""The most pairs of a language that are compared in every layer; Tatoeba has no more."""
_COLUMNS = ["language", "layer", "centred", "accuracy"]


def parallel_sentences(
    folder: Path, task: Task, languages: list[str], count: int | None = None
) -> dict[str, list]:
    """The first texts of a target's items by language, English first, each row a translation.

    Items are parallel if languages share ids; otherwise, or without English, the result is empty. A
    sentence of two items is taken once, because it has two translations.
    """
    if ENGLISH not in languages or not task.parallel:
        return {}
    sentences = {}
    for language in dict.fromkeys([ENGLISH, *languages]):
        rows = data.examples(folder, task, task.evaluate, language)
        sentences[language] = {row["id"]: formats.of(task).texts(row)[0] for row in rows}
    once = {text: i for i, text in reversed(sentences[ENGLISH].items())}
    ids = list(once.values())[:count]
    return {
        language: [texts[i] for i in ids]
        for language, texts in sentences.items()
        if texts.keys() >= set(ids)
    }


def retrieval(vectors: dict[str, np.ndarray]) -> pd.DataFrame:
    """Retrieval accuracy from English, in %, by language and layer, of vectors by `encoders.embed`.

    It is the share of English sentences whose nearest sentence is the translation (the same row).
    Layer 0 is the embeddings.
    """
    tables = [pd.DataFrame(columns=_COLUMNS)]
    for language, states in vectors.items():
        if language != ENGLISH:
            tables.append(nearest(states, vectors[ENGLISH]).assign(language=language))
    table = pd.concat(tables)
    return table.loc[table["centred"].eq(False), ["language", "layer", "accuracy"]]


def by_layer(condition: Condition, trained: Training) -> pd.DataFrame:
    """Retrieval accuracy from English of a retrieval target's pairs, at every layer.

    Columns: language, layer, centred, accuracy (%), of the first ``PAIRS`` pairs of each language.
    ``centred`` subtracts the mean vector of each side. If only the centred vectors keep their
    neighbours, the languages moved apart as a whole (Libovický et al. 2020, arXiv 2004.05160).
    """
    task, tables = condition.evaluated, [pd.DataFrame(columns=_COLUMNS)]
    assert task is not None
    for language in condition.languages:
        rows = data.examples(condition.study.data, task, task.evaluate, language)
        pairs = [row for row in rows if row["source"] and row["target"]][:PAIRS]
        prefix = condition.encoder.retrieval_prefix
        sides = [[prefix + row[side] for row in pairs] for side in ("source", "target")]
        encoder, tokenizer = trained.model.encoder, trained.tokenizer
        vectors = [embed(encoder, tokenizer, texts, task.pooling) for texts in sides]
        tables.append(nearest(*vectors).assign(language=language))
    return pd.concat(tables)


def nearest(source: np.ndarray, target: np.ndarray) -> pd.DataFrame:
    """How often, in %, a target's nearest source is its own; vectors (layers, texts, hidden) of
    length 1. Columns: layer, centred, accuracy.
    """
    rows = []
    for layer, sides in enumerate(zip(source, target, strict=True)):
        moved = [side - side.mean(axis=0) for side in sides]
        units = [unit(list(side)) for side in moved]
        for centred, (one, other) in ((False, sides), (True, units)):
            closest = neighbours(other, one, 1)[0][:, 0]
            share = 100 * float(np.mean(closest == np.arange(len(one))))
            rows.append((layer, centred, share))
    return pd.DataFrame(rows, columns=_COLUMNS[1:])
