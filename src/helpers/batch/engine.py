"""A papermill engine that runs a notebook's cells in this process.

A kernel of its own would import torch anew for every run, and papermill passes it no signals (its
issue 508), so that a training could not be asked for a checkpoint.
"""

import base64
import re

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines

NAME = "in_process"


class InProcessEngine(Engine):
    """Runs the code cells one after the other in one IPython shell, up to the first that fails."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        """Give cells what a kernel would; an error among the outputs is papermill's to raise."""
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(colors="nocolor")
        shell.cache_size = 0
        shell._showtraceback = lambda *_: None  # it would stand in what the cell printed
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            error = _run(shell, cell) if cell.cell_type == "code" else None
            if error is not None:
                nb_man.cell_exception(cell, index)
            nb_man.cell_complete(cell, index)
            if isinstance(error, Exception):
                return
            if error is not None:  # an interrupt ends the process, not only the cell
                raise error


def _run(shell: InteractiveShell, cell) -> BaseException | None:
    """Run a cell and give it its outputs; returns what it raised."""
    results = []
    shell.displayhook.write_output_prompt = lambda: None
    shell.displayhook.write_format_data = lambda *formatted: results.append(formatted)
    with capture_output() as captured:
        outcome = shell.run_cell(cell.source, store_history=True)
    count = cell.execution_count = outcome.execution_count
    for name in ("stdout", "stderr"):  # as a terminal has it: after a \r the line begins anew
        text = re.sub(r"[^\n]*\r(?!\n)", "", getattr(captured, name)).strip("\n")
        if text.strip():
            cell.outputs.append(new_output("stream", name=name, text=text + "\n"))
    cell.outputs += [_shown("display_data", o.data, o.metadata) for o in captured.outputs]
    cell.outputs += [_shown("execute_result", *r, execution_count=count) for r in results]
    error = outcome.error_before_exec or outcome.error_in_exec
    if error is not None:
        kind = type(error)
        trace = shell.InteractiveTB.structured_traceback(kind, error, error.__traceback__)
        said = {"ename": kind.__name__, "evalue": str(error), "traceback": trace}
        cell.outputs.append(new_output("error", **said))
    return error


def _shown(kind: str, data: dict, metadata: dict | None = None, **more):
    """An output with its pictures as base64 text, as notebook files hold them."""
    text = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
    return new_output(kind, data=text, metadata=metadata or {}, **more)


papermill_engines.register(NAME, InProcessEngine)
