"""The steps of notebooks 1 to 3 without their charts, for tests of what they train."""

import ast
import shutil
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from helpers import data, encoders, evaluation, training
from helpers.study import Attempt, Condition, Study


def prepare(study: Study) -> Study:
    """Phase 1 of every size."""
    data.prepare(study)
    for size in study.sizes:
        encoders.prepare(study, size, study.encoder_folder(size))
    return study


def train(condition: Condition, seed: int = 1, attempt: Attempt | None = None) -> training.Training:
    """The encoder, the examples, the fine-tuning; nothing is written but checkpoints."""
    attempt = attempt or Attempt(seed, condition.seed_folder(seed), condition.start(seed))
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
        trained = train(condition, attempt=attempt)
        tables = {}
        if condition.target:
            items = evaluation.items(condition, trained.tokenizer)
            tables["predictions"] = evaluation.predict(trained, items)
            tables["others"] = evaluation.predict_others(trained, items)
        evaluation.write(condition, attempt, trained, **tables)


def run_cells(path: Path, **parameters) -> tuple[dict, list]:
    """Run a notebook's code cells in this process; its variables, and what it shows."""
    shown: list = []
    variables: dict = {"display": lambda *values: shown.extend(values)}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code":
            continue
        tree, value = ast.parse(cell.source), None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            value = ast.Expression(tree.body.pop().value)
        exec(compile(tree, cell.id, "exec"), variables)
        shown.append(value and eval(compile(value, cell.id, "eval"), variables))
        if "parameters" in cell.metadata.get("tags", []):
            variables |= {name: v for name, v in parameters.items() if name in variables}
    return variables, shown


def run_notebook(name: str, **parameters) -> dict:
    """Run one of the project's notebooks; its variables."""
    return run_cells(Path(__file__).parents[1] / f"notebooks/{name}.ipynb", **parameters)[0]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@contextmanager
def chromium(*flags: str):
    """A browser without a window; it keeps what pages ask for and complain of."""
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in found:
        pytest.skip("needs Chromium and its driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", *flags):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(found[1]))
    try:
        yield browser
    finally:
        browser.quit()


def logs(folder: Path) -> str:
    return "".join(f"{path}: {path.read_text()[-5000:]}\n" for path in folder.rglob("*.log"))


def until(condition, folder: Path, seconds: float) -> None:
    """Wait for something to happen; otherwise the logs in a folder say what did."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, logs(folder)
        time.sleep(0.2)
