"""Import what every training needs, with Python's garbage collector off.

These libraries make a million objects that stay until the process ends. The collector would look
through them a hundred times while they are imported, at every full collection of a training, and
once more at the end: together two seconds of a process.
"""

import gc
from importlib import import_module

gc.disable()
for library in ("torch", "transformers.trainer", "evaluate"):
    import_module(library)
gc.freeze()  # the collector leaves out all that is there now
gc.enable()
