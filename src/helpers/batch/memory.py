"""What a study's encoders take of memory, phase by phase; docs/cost.md derives the figures."""

import pandas as pd

from helpers.encoders.batches import TRAINING_BUDGET
from helpers.study import Size, Study, Task
from helpers.study.params import Phase

ENCODERS = {
    "FacebookAI/xlm-roberta-base": (12, 768, 12),
    "FacebookAI/xlm-roberta-large": (24, 1024, 12),
    "facebook/xlm-roberta-xl": (36, 2560, 12),
    "facebook/xlm-roberta-xxl": (48, 4096, 12),
    "demo/encoder": (12, 384, 12),
    "intfloat/multilingual-e5-base": (12, 768, 12),
    "intfloat/multilingual-e5-large": (24, 1024, 12),
    "jhu-clsp/mmBERT-small": (22, 384, 13),
    "jhu-clsp/mmBERT-base": (22, 768, 8.5),
}
"""Layers and hidden size in the configurations of known encoders, and a layer's weights as a
multiple of the hidden size squared: 4 of attention, the rest feed-forward (twice 4; mmBERT's has
three matrices of 1,152 units). Others are counted as the first."""
VOCABULARY = {True: 150_000, False: 250_002}
"""Rows of a vocabulary, trimmed (assumed for a study of many languages) and XLM-R's whole one."""
CARDS, USABLE = (24, 40, 80), 0.9
"""GB of usual GPUs, and the share of them that a training can use."""
CONTEXT, AT_MOST = 1.0, 3
"""GB that each process takes of a GPU for CUDA itself, and runs that share one (assumed)."""
STATES, BETWEEN = 50, 4
"""Bytes a token and hidden unit that a layer keeps for the gradients, and of its input alone."""


def parameters(study: Study, size: Size) -> tuple[int, int, int]:
    """Parameters of a size's layers, of its word embeddings, and of adapters in all its layers."""
    layers, hidden = shape(size)
    own = layers * hidden * int(_known(size)[2] * hidden + 13)
    return own, hidden * VOCABULARY[study.trim], layers * 18 * hidden * size.lora.rank


def shape(size: Size) -> tuple[int, int]:
    """Layers and hidden size as a study uses an encoder."""
    layers, hidden, _ = _known(size)
    return size.layers or layers, hidden


def _known(size: Size) -> tuple[int, int, float]:
    return ENCODERS.get(size.encoder, ENCODERS["FacebookAI/xlm-roberta-base"])


def sequences(task: Task) -> int:
    """Sequences that an example of a task has: one a choice, one a side of a retrieval pair."""
    if task.format == "multiple_choice":
        return len(task.labels)
    return len({"source", "target"} & task.columns.keys()) or 1


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
    batch = settings.batch_size * max(map(sequences, entries)) * settings.max_length
    whole = any(entry.format == "retrieval" for entry in entries)  # a pair needs the others' too
    return batch if whole else min(batch, TRAINING_BUDGET["cuda"])


def side_by_side(study: Study, gigabytes: float) -> int:
    """How many of the study's runs fit a GPU at once, ``AT_MOST`` of them."""
    trainings = needed(study).query("phase != 'encoder'")
    return max(1, min(AT_MOST, int(USABLE * gigabytes / (trainings["total"].max() + CONTEXT))))


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
