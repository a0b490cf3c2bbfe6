"""What an encoder knows of translations, before any training or after."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import data, formats
from helpers.formats.retrieval import neighbours
from helpers.study import ENGLISH, Task


def parallel_sentences(
    folder: Path, task: Task, languages: list[str], count: int | None = None
) -> dict[str, list]:
    """The first texts of a target's items by language, English first, each row a translation.

    Items are parallel where languages share their ids; else, or without English, there is none. A
    sentence that two items share is taken once: it has no one translation.
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
    """Retrieval accuracy to English, in %, by language and layer, of what `encoders.embed` gives.

    It is the share of English sentences whose nearest sentence is the translation (the same row).
    Layer 0 are the embeddings, before the first layer.
    """
    rows = []
    for language in (code for code in vectors if code != ENGLISH):
        for layer, states in enumerate(vectors[language]):  # unit vectors: products are cosines
            closest = neighbours(vectors[ENGLISH][layer], states, 1)[0][:, 0]
            rows.append((language, layer, 100 * np.mean(closest == np.arange(len(states)))))
    return pd.DataFrame(rows, columns=["language", "layer", "accuracy"])


def cka(one: np.ndarray, other: np.ndarray) -> float:
    """Likeness of two representations (texts, hidden) of the same texts, 0..1.

    Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414).
    """
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norms = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    return float(np.linalg.norm(one.T @ other) ** 2 / norms)
