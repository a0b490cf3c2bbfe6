"""Reading and writing files. A file appears under its final name only when it is complete."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a name in a folder beside ``path``, then move what it made to ``path``.

    When ``write`` raises, what it had begun is removed and what was at ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        beside = Path(scratch) / f"new{path.suffix}"  # no reader takes it for the file
        write(beside)
        for made in [beside, *beside.rglob("*")]:
            fsync(made)  # otherwise a power cut could leave an empty file
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))


def read_json(path: Path) -> Any:
    """A JSON file's content; empty when the file is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def fsync(path: Path) -> None:
    """Write a file's or folder's content to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
