"""In: a params file. Out: all of its notebooks executed, by Snakemake and papermill, here or on a
cluster. Nothing here is needed to run a single notebook.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
# Optional to jsonschema, which has it build a grammar at import: 0.8 s of every notebook's 2.
