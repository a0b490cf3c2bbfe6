"""A papermill engine that runs a notebook's cells in this process.

A kernel of its own would import torch and transformers anew for every run, several seconds each; in this process they
are imported once, and :mod:`helpers.batch.server` shares them between runs.
"""

import io
import re
from contextlib import redirect_stderr, redirect_stdout

import nbformat
import papermill
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from papermill.engines import Engine, papermill_engines

NAME = "in_process"


class _Publisher(DisplayPublisher):
    """Collects what cells display, as outputs of a notebook."""

    outputs: list

    def publish(self, data, metadata=None, **_):
        self.outputs.append(
            nbformat.v4.new_output("display_data", data=_plain(data), metadata=metadata or {})
        )


class InProcessEngine(Engine):
    """Runs the code cells one after the other in one IPython shell and stops at the first that fails."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        """What papermill asks of an engine; outputs, counts and errors land in the cells as a kernel's would."""
        InteractiveShell.clear_instance()
        shell = InteractiveShell.instance(display_pub_class=_Publisher, colors="nocolor")
        shell.cache_size = 0
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            try:
                if cell.cell_type == "code" and cell.source.strip():
                    _run(shell, cell)
            except Exception:
                nb_man.cell_exception(cell, index)
                raise
            finally:
                nb_man.cell_complete(cell, index)


def _run(shell: InteractiveShell, cell) -> None:
    shell.display_pub.outputs = outputs = []
    printed, complained, results = io.StringIO(), io.StringIO(), []
    shell.displayhook.write_output_prompt = lambda: None
    shell.displayhook.write_format_data = lambda data, metadata=None: results.append(
        (data, metadata)
    )
    with redirect_stdout(printed), redirect_stderr(complained):
        result = shell.run_cell(cell.source, store_history=True, silent=False)
    cell.execution_count = shell.execution_count - 1
    cell.outputs = [*_stream("stdout", printed), *_stream("stderr", complained), *outputs]
    for data, metadata in results:
        cell.outputs.append(
            nbformat.v4.new_output(
                "execute_result",
                data=_plain(data),
                metadata=metadata or {},
                execution_count=cell.execution_count,
            )
        )
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        trace = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        cell.outputs = [
            o for o in cell.outputs if o.get("name") != "stdout" or "Traceback" not in o["text"]
        ]
        cell.outputs.append(
            nbformat.v4.new_output(
                "error", ename=type(error).__name__, evalue=str(error), traceback=trace
            )
        )
        if not isinstance(error, Exception):  # an interrupt ends the process, not only the cell
            raise error
        raise papermill.PapermillExecutionError(
            cell_index=0,
            exec_count=cell.execution_count,
            source=cell.source,
            ename=type(error).__name__,
            evalue=str(error),
            traceback=trace,
        )


def _stream(name: str, text: io.StringIO) -> list:
    """What was printed, as it stands on a terminal: a carriage return begins its line anew."""
    shown = re.sub(r"[^\n]*\r(?!\n)", "", text.getvalue()).strip("\n")
    return [nbformat.v4.new_output("stream", name=name, text=shown + "\n")] if shown.strip() else []


def _plain(data: dict) -> dict:
    """Pictures as base64 text, as notebook files hold them."""
    import base64

    return {
        k: base64.b64encode(v).decode("ascii") if isinstance(v, bytes) else v
        for k, v in data.items()
    }


papermill_engines.register(NAME, InProcessEngine)
