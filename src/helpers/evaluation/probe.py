"""What an encoder knows of translations, before any training or after."""

import numpy as np

from helpers import data, encoders, tasks
from helpers.study import ENGLISH, Study
from helpers.tasks.mining import nearest


def retrieval_accuracy(source: np.ndarray, target: np.ndarray) -> float:
    """Share, in %, of source sentences whose nearest target is their own translation (same row).

    Both are unit vectors (sentences, hidden), so that products are cosines.
    """
    return 100 * float((nearest(source, target)[0] == np.arange(len(source))).mean())


def retrieval_probe(study: Study, size: str) -> dict[str, float]:
    """Retrieval accuracy to English over a study's parallel items, before training, by language.

    A target's items are parallel where languages share their ids; an item's first text is the
    sentence. A sentence that two items share is taken once: it has no one translation.
    """
    encoder, tokenizer = encoders.load(study.encoder_folder(size))
    layer, pooling = study.sizes[size].retrieval_layer, study.sizes[size].pooling
    probe = {}
    for target in (t.task for t in study.targets):
        entry, languages = study.tasks[target], study.languages(target)
        if ENGLISH not in languages or not entry.parallel:
            continue
        sentences = {}
        for language in languages:
            rows = data.examples(study, target, entry.evaluate, language)
            sentences[language] = {row["id"]: tasks.of(entry).texts(row)[0] for row in rows}
        once = {text: i for i, text in reversed(sentences[ENGLISH].items())}
        ids, vectors = list(once.values()), {}
        for language, texts in sentences.items():
            if texts.keys() >= set(ids):
                own = [texts[i] for i in ids]
                vectors[language] = encoders.embed(encoder, tokenizer, own, layer, pooling)
        for language in vectors.keys() - {ENGLISH}:
            score = retrieval_accuracy(vectors[language], vectors[ENGLISH])
            probe[f"{target} {language}"] = score
    return probe
