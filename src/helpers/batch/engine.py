"""A papermill engine that runs a notebook's cells in this process.

A kernel of its own would import torch and transformers anew for every run, and papermill hands a
kernel no signals (its issue 508), so that a training in it could not be asked for a checkpoint.
"""

import base64
import re

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines

NAME = "in_process"


class InProcessEngine(Engine):
    """Runs the code cells one after the other in one IPython shell, up to the first that fails."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        """What papermill asks of an engine; outputs, counts and errors land where a kernel's would.

        papermill finds the error of a failed cell among its outputs and raises it.
        """
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(colors="nocolor")
        shell.cache_size = 0
        shell._showtraceback = lambda *_: None  # it would stand in what the cell printed
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            error = None
            if cell.cell_type == "code" and cell.source.strip():
                error = _run(shell, cell)
            if error is not None:
                nb_man.cell_exception(cell, index)
            nb_man.cell_complete(cell, index)
            if isinstance(error, Exception):
                return
            if error is not None:  # an interrupt ends the process, not only the cell
                raise error


def _run(shell: InteractiveShell, cell: NotebookNode) -> BaseException | None:
    """Run a cell and give it its outputs; returns what it raised."""
    results = []
    shell.displayhook.write_output_prompt = lambda: None
    shell.displayhook.write_format_data = lambda *formatted: results.append(formatted)
    with capture_output() as captured:
        outcome = shell.run_cell(cell.source, store_history=True)
    count = cell.execution_count = shell.execution_count - 1
    cell.outputs = [*_stream("stdout", captured.stdout), *_stream("stderr", captured.stderr)]
    cell.outputs += [_shown("display_data", o.data, o.metadata) for o in captured.outputs]
    cell.outputs += [_shown("execute_result", *r, execution_count=count) for r in results]
    error = outcome.error_before_exec or outcome.error_in_exec
    if error is not None:
        kind = type(error)
        trace = shell.InteractiveTB.structured_traceback(kind, error, error.__traceback__)
        said = {"ename": kind.__name__, "evalue": str(error), "traceback": trace}
        cell.outputs.append(new_output("error", **said))
    return error


def _stream(name: str, text: str) -> list[NotebookNode]:
    """What was printed, as it stands on a terminal: a carriage return begins its line anew."""
    shown = re.sub(r"[^\n]*\r(?!\n)", "", text).strip("\n")
    return [new_output("stream", name=name, text=shown + "\n")] if shown.strip() else []


def _shown(kind: str, data: dict, metadata: dict | None = None, **more) -> NotebookNode:
    """An output with its pictures as base64 text, as notebook files hold them."""
    text = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
    return new_output(kind, data=text, metadata=metadata or {}, **more)


papermill_engines.register(NAME, InProcessEngine)
