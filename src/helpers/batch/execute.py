"""Execute one notebook of the study through papermill: ``python -m helpers.batch.execute NOTEBOOK OUTPUT key=value ...``.

Parameters reach the notebook as data. The executed notebook appears under its name only when every cell has run; a
failed one stays beside it as ``*.failed.ipynb``, and one line says what went wrong.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from helpers.batch import devices

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def execute(notebook: str, output: Path, parameters: dict) -> None:
    """Run ``notebooks/NOTEBOOK.ipynb`` with ``parameters`` and write what came out to ``output``.

    Raises
    ------
    papermill.PapermillExecutionError
        A cell failed; the notebook as far as it came is at ``output`` with the suffix ``.failed.ipynb``.
    """
    import papermill

    from helpers.batch import engine

    begun = output.with_suffix(".failed.ipynb")
    papermill.execute_notebook(
        NOTEBOOKS / f"{notebook}.ipynb",
        begun,
        parameters=parameters,
        engine_name=engine.NAME,
        kernel_name="python3",
        progress_bar=False,
    )
    os.replace(begun, output)


def run(arguments: list[str]) -> tuple[int, str]:
    """Execute what a command line asks for; the exit status, and one line when it failed."""
    from helpers.batch import locks

    parser = argparse.ArgumentParser(
        prog="helpers.batch.execute", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--study", required=True)
    parser.add_argument("--outputs", default="outputs")
    parser.add_argument(
        "--report", action="store_true", help="make a report of the executed notebook too"
    )
    parser.add_argument("notebook")
    parser.add_argument("output", type=Path)
    parser.add_argument("parameters", nargs="*", metavar="key=value")
    given = parser.parse_args(arguments)
    parameters = dict(pair.split("=", 1) for pair in given.parameters)
    if "seed" in parameters:
        parameters["seed"] = int(parameters["seed"])
    try:
        devices.claim()
        _threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
        given.output.parent.mkdir(parents=True, exist_ok=True)
        with locks.one_run(given.output.parent):
            execute(
                given.notebook,
                given.output,
                {"study": given.study, "outputs": given.outputs, **parameters},
            )
            if given.report:
                from helpers.report import page

                page.write(given.output)
    except (Exception, KeyboardInterrupt) as error:
        reason = (
            f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
        )
        return 1, f"FAILED {given.output}: {' '.join(reason.split())[:600]}"
    return 0, ""


def _threads(count: int) -> None:
    """Jobs run side by side, one a core: more threads each would only fight."""
    import torch

    torch.set_num_threads(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if __name__ == "__main__":
    from helpers.batch import server

    signal.signal(
        signal.SIGUSR1, signal.SIG_IGN
    )  # a checkpoint is asked for: there is none before the training
    server.end_with_batch()
    status = server.ask(sys.argv[1:])
    if status is None:
        status, message = run(sys.argv[1:])
        if message:
            print(message, file=sys.stderr)
    sys.exit(status)
