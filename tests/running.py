"""The steps of notebooks 1 to 3 without their charts, for tests of what they train."""

from pathlib import Path

import nbformat

from helpers import data, encoders, evaluation, training
from helpers.study import Attempt, Condition, Study


def prepare(study: Study) -> Study:
    """Phase 1 of every size."""
    data.prepare(study)
    for size in study.sizes:
        encoders.prepare(study, size, study.encoder_folder(size))
    return study


def train(condition: Condition, seed: int = 1) -> training.Training:
    """One training of a condition; nothing is written but its checkpoints."""
    return train_attempt(
        condition, Attempt(seed, condition.seed_folder(seed), condition.start(seed))
    )


def train_attempt(condition: Condition, attempt: Attempt) -> training.Training:
    """The encoder, the examples, the fine-tuning."""
    dropout = condition.hyperparameters.dropout
    encoder, tokenizer = encoders.start(condition.home, attempt.start, dropout)
    examples = training.english(condition, tokenizer, attempt.seed, attempt.draw)
    return training.fine_tune(condition, attempt, encoder, tokenizer, examples)


def predict(condition: Condition, trained: training.Training):
    """Predictions in every language."""
    return evaluation.predict(trained, evaluation.items(condition, trained.tokenizer))


def run(condition: Condition, seeds=None) -> None:
    """Train every seed that is not finished, and write what it leaves."""
    for attempt in condition.attempts(seeds):
        trained = train_attempt(condition, attempt)
        tables = {}
        if condition.target:
            items = evaluation.items(condition, trained.tokenizer)
            tables["predictions"] = evaluation.predict(trained, items)
            tables["others"] = evaluation.predict_others(trained, items)
        evaluation.write(condition, attempt, trained, **tables)


def run_notebook(name: str, **parameters) -> dict:
    """Run a notebook's code cells in this process; returns the variables that it leaves."""
    cells = nbformat.read(Path(__file__).parents[1] / "notebooks" / f"{name}.ipynb", 4).cells
    variables: dict = {"display": lambda *_: None}
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables |= parameters
    return variables
