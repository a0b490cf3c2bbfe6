"""Files that appear under their final name only when they are whole; what is wrong with others."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors


def project(path: str | Path) -> Path:
    """The nearest folder, from here upwards, that ``path`` is relative to; here without one."""
    above = [Path(*[".."] * steps) for steps in range(len(Path.cwd().parts))]
    return next((folder for folder in above if (folder / path).exists()), Path())


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a name beside ``path``, then rename the file or folder that it made.

    When ``write`` raises, what it had begun is removed and what was at ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        for made in [beside, *beside.rglob("*")]:
            fsync(made)  # else a power cut could leave the name with nothing behind it
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)  # what is there is a folder
        beside.unlink(missing_ok=True)  # or a file
        raise


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
    """Have the system put a file's or folder's content on the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(path: Path) -> str | None:
    """What is wrong with a file that ought to be whole, in a few words; None when nothing is.

    JSON and notebooks are read whole, of parquet and safetensors files only what gives their size.
    """
    try:
        if path.suffix in (".json", ".ipynb"):
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.read_metadata(path)
        elif path.suffix == ".safetensors":
            with safetensors.safe_open(path, "numpy"):
                pass
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    return None
