"""What happens in a notebook's process: papermill runs the cells there, without a kernel.

A kernel would import torch anew for every run, and papermill passes it no signals (its issue 508),
so that a training could not be asked for a checkpoint.
"""

import os
import re
from base64 import b64encode
from pathlib import Path

import papermill
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines

from helpers.batch import recovery
from helpers.report import page

SAVED_EVERY = 10
"""Seconds after which a notebook is written before its next cell: to be read when it is killed."""


def run(source: Path, output: Path, parameters: dict, report: bool = False) -> str | None:
    """Execute a notebook in this process, which holds the lock of the output's folder meanwhile.

    ``output`` appears only when every cell has run, with ``report`` a page too; a failed notebook
    stays beside it as ``*.failed.ipynb``. Returns one line when something failed.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))  # runs have a core each
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    unfinished = output.with_suffix(".failed.ipynb")
    how = {"engine_name": InProcessEngine.__name__, "kernel_name": "python3", "progress_bar": False}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with recovery.held(output.parent):
            papermill.execute_notebook(source, unfinished, parameters, **how)
            os.replace(unfinished, output)
            if report:
                page.write(output)
    except (Exception, KeyboardInterrupt) as error:
        kind = getattr(error, "ename", type(error).__name__)
        reason = f"{kind}: {getattr(error, 'evalue', error)}"
        return f"FAILED {output}: {' '.join(reason.split())[:600]}"
    return None


class InProcessEngine(Engine):
    """Runs the code cells one after the other in one IPython shell, up to the first that fails."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        """Give cells what a kernel would; an error among the outputs is papermill's to raise."""
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(colors="nocolor")
        shell.cache_size = 0
        shell._showtraceback = lambda *_: None  # it would stand in what the cell printed
        save, nb_man.save = nb_man.save, lambda: None  # two of the whole notebook a cell
        try:
            for index, cell in enumerate(nb_man.nb.cells):
                nb_man.cell_start(cell, index)
                if (nb_man.now() - nb_man.last_save_time).total_seconds() > SAVED_EVERY:
                    save()
                error = _run(shell, cell) if cell.cell_type == "code" else None
                if error is not None:
                    nb_man.cell_exception(cell, index)
                nb_man.cell_complete(cell, index)
                if isinstance(error, Exception):
                    return
                if error is not None:  # an interrupt ends the process, not only the cell
                    raise error
        finally:
            nb_man.save = save


def _run(shell: InteractiveShell, cell) -> BaseException | None:
    """Run a cell and give it its outputs; returns what it raised."""
    results: list[tuple] = []
    shell.displayhook.write_output_prompt = lambda: None
    shell.displayhook.write_format_data = lambda *formatted: results.append(formatted)
    with capture_output() as captured:
        outcome = shell.run_cell(cell.source, store_history=True)
    count = cell.execution_count = outcome.execution_count
    for name in ("stdout", "stderr"):  # as a terminal has it: after a \r the line begins anew
        text = re.sub(r"[^\n]*\r(?!\n)", "", getattr(captured, name)).strip("\n")
        if text.strip():
            cell.outputs.append(new_output("stream", name=name, text=text + "\n"))
    shown: list[tuple] = [("display_data", o.data, o.metadata, {}) for o in captured.outputs]
    shown += [("execute_result", *result, {"execution_count": count}) for result in results]
    for kind, data, about, more in shown:  # pictures are base64 text in notebook files
        data = {k: b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
        cell.outputs.append(new_output(kind, data=data, metadata=about or {}, **more))
    error = outcome.error_before_exec or outcome.error_in_exec
    if error is not None:
        name, text = type(error).__name__, str(error)
        trace = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        cell.outputs.append(new_output("error", ename=name, evalue=text, traceback=trace))
    return error


papermill_engines.register(InProcessEngine.__name__, InProcessEngine)
