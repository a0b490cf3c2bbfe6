"""Files that appear under their final name only when they are whole, and what is wrong with one that is not."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a name beside ``path`` (a file or a folder), then rename what it made to ``path``.

    When ``write`` raises, what it had begun is removed and what was at ``path`` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        for made in [beside, *(beside.rglob("*") if beside.is_dir() else [])]:
            fsync(made)  # else a power cut could leave the name with nothing behind it
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True) if beside.is_dir() else beside.unlink(
            missing_ok=True
        )
        raise


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_whole(
        path,
        lambda p: p.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"),
    )


def read_json(path: Path) -> dict:
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

    Reads no more than it must: a parquet file's footer, a safetensors file's header and size, JSON and notebooks whole.
    """
    try:
        if path.suffix in (".json", ".ipynb"):
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.read_metadata(path)
        elif path.suffix == ".safetensors":
            with path.open("rb") as file:
                header = int.from_bytes(file.read(8), "little")
                if header > path.stat().st_size:
                    return "truncated"
                ends = [
                    tensor["data_offsets"][1]
                    for name, tensor in json.loads(file.read(header)).items()
                    if name != "__metadata__"
                ]
            if path.stat().st_size != 8 + header + max(ends, default=0):
                return "truncated"
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, KeyError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    return None
