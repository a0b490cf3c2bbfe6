"""What the fork server imports once for all notebooks, out of the reach of garbage collection.

A fork that collects would read, and so copy, all that it shares with its server; and at its end the
server itself would spend as long on it as on a third of its imports.
"""

import gc
from importlib import import_module

gc.disable()  # an import makes many objects and no garbage
try:
    for _name in (
        "helpers.batch.engine",
        "helpers.evaluation",
        "helpers.report.run_charts",
        "helpers.tasks.metrics",
    ):
        import_module(_name)
    import nbformat
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("")  # both compile what every notebook needs
    nbformat.reads(nbformat.writes(nbformat.v4.new_notebook()), as_version=4)
finally:  # the server passes over what it cannot import
    gc.freeze()
    gc.enable()
