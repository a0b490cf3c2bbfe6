"""Write docs/api.md: what each sub-package exports, with the first sentence of its docstring.

Usage: ``python docs/write_api.py``.
"""

import importlib
import inspect
import re
from pathlib import Path

PACKAGES = ("study", "tasks", "data", "encoders", "training", "evaluation", "comparison", "report")
PACKAGES += ("explore",)
PAGE = Path(__file__).with_name("api.md")


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# Public API",
        "",
        "What notebooks can call, by sub-package in the order in which data flows. Written by "
        "`python docs/write_api.py` from the docstrings, which say more.",
    ]
    for name in PACKAGES:
        package = importlib.import_module(f"helpers.{name}")
        lines += ["", f"## helpers.{name}", "", " ".join(inspect.getdoc(package).split()), ""]
        lines += [_line(export, getattr(package, export)) for export in sorted(package.__all__)]
    return "\n".join(lines) + "\n"


def _line(name: str, what: object) -> str:
    if not (callable(what) or inspect.ismodule(what)):
        return f"- `{name}` = `{what!r}`"
    if inspect.isfunction(what):
        name = f"{name}({', '.join(inspect.signature(what).parameters)})"
    summary = re.split(r"(?<=\.)\s", " ".join((inspect.getdoc(what) or "").split()), maxsplit=1)[0]
    return f"- `{name}`: {summary}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
