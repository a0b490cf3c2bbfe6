"""Bring every data set and model of a study into a mirror folder: ``python -m helpers.batch.fetch params/STUDY.yaml DIR``.

Afterwards the study runs with ``HUB_MIRROR=DIR`` and no network, as on a cluster's compute nodes. Data sets are kept as
parquet with a README that lists their configurations, so that ``load_dataset`` reads the folder as it reads the
hub; models as the folders that they are on the hub. What is there and whole is not fetched again.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import yaml

from helpers.study import ENGLISH, Study, StudyError
from helpers.study.catalogue import PIP
from helpers.study.files import damage, read_json, write_json, write_whole

MANIFEST = ".fetched.json"
"""In each fetched folder: every file's bytes and SHA-256, and a data file's configuration, split and revision."""
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


def data_sets(study: Study) -> dict[tuple[str, str | None, str | None], set[str]]:
    """Hub data sets that the study reads: (id, configuration, revision) -> splits, as the hub names them."""
    cells, found = list(study.needed()), {}
    for task, *_ in study.needed():
        translated = [origin.split("/") for origin in study.tasks[task].translates.values()]
        cells += [(name, split, ENGLISH) for name, split in translated]
    for name, split, language in cells:
        for part in study.tasks[name].parts or [name]:
            task = study.tasks[part]
            source = task.source(language)
            if source.hub and split in source.splits:
                code = task.codes.get(language, language)
                config = source.config.format(language=code) if source.config else None
                names = {re.sub(r"\[.*\]$", "", s) for s in source.splits[split].split("+")}
                found.setdefault((source.hub, config, source.revision), set()).update(names)
    return found


def models(study: Study) -> list[str]:
    """Ids of the hub models that the study's sizes start from."""
    names = {size.encoder for size in study.sizes.values()}
    return sorted(
        n
        for n in names
        if not n.startswith((PIP, ".", "/")) and not (Path(n) / "config.json").is_file()
    )


def fetch(study: Study, mirror: Path) -> list[str]:
    """Fetch what is not there yet; one line for everything, fetched or found whole.

    Raises
    ------
    StudyError
        Something is on no hub that answers, is not whole, or would lie outside the mirror.
    """
    lines = [
        _data_set(_inside(mirror, name), name, config, revision, split)
        for (name, config, revision), splits in data_sets(study).items()
        for split in sorted(splits)
    ]
    return lines + [_model(_inside(mirror, name), name) for name in models(study)]


def _data_set(folder: Path, name: str, config: str | None, revision: str | None, split: str) -> str:
    import datasets

    datasets.disable_progress_bars()
    manifest, shown = (
        read_json(folder / MANIFEST),
        f"{name} {config or ''} {split}".replace("  ", " "),
    )
    file = f"{config or 'default'}/{split}.parquet"
    if _whole(folder / file, manifest.get(file)) and manifest[file].get("revision") == revision:
        return f"{shown}: there"
    if (folder / "README.md").exists() and not manifest:
        raise StudyError(
            f"{folder}: a mirror of {name} that was not fetched by this program; expected an empty folder"
        )
    path = _inside(folder, file)
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # the loaders of datasets raise anything; the user needs one line
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise StudyError(f"{shown}: cannot be fetched: {reason}") from error
    write_whole(path, rows.to_parquet)
    about = {"config": config or "default", "split": split, "revision": revision, "rows": len(rows)}
    manifest[file] = {**_about(path), **about}
    card = {}
    for other, entry in manifest.items():
        card.setdefault(entry["config"], []).append({"split": entry["split"], "path": other})
    configs = [{"config_name": c, "data_files": files} for c, files in card.items()]
    text = f"---\n{yaml.safe_dump({'configs': configs}, sort_keys=False)}---\n\nA part of the hub's {name}, as fetched.\n"
    write_whole(folder / "README.md", lambda beside: beside.write_text(text, encoding="utf-8"))
    write_json(folder / MANIFEST, manifest)
    return f"{shown}: fetched, {len(rows)} rows"


def _model(folder: Path, name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    manifest = read_json(folder / MANIFEST)
    if manifest and all(_whole(folder / file, about) for file, about in manifest.items()):
        return f"{name}: there"
    for file, about in manifest.items():  # the library takes a file that is there for whole
        if not _whole(folder / file, about):
            (folder / file).unlink(missing_ok=True)
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=_MODEL_FILES)
    except Exception as error:  # as above
        raise StudyError(
            f"{name}: cannot be fetched: {' '.join(str(error).split())[:300]}"
        ) from error
    files = [
        p
        for p in folder.rglob("*")
        if p.is_file() and not p.relative_to(folder).parts[0].startswith(".")
    ]
    if not any(p.suffix == ".safetensors" for p in files):
        raise StudyError(
            f"{name}: has no safetensors weights; expected some, since pickled ones are never loaded"
        )
    for path in files:
        if wrong := damage(path):
            path.unlink()
            raise StudyError(f"{path}: {wrong} after it was fetched; fetch again")
    write_json(folder / MANIFEST, {p.relative_to(folder).as_posix(): _about(p) for p in files})
    return f"{name}: fetched, {sum(p.stat().st_size for p in files) / 1e6:.0f} MB"


def _about(path: Path) -> dict:
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _whole(path: Path, about: dict | None) -> bool:
    return bool(about) and path.is_file() and _about(path).items() <= about.items()


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise StudyError(
            f"{name}: leads out of {folder}; expected the name of something on the hub"
        )
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="helpers.batch.fetch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("study")
    parser.add_argument("mirror", type=Path)
    given = parser.parse_args()
    try:
        for line in fetch(Study.load(given.study), given.mirror):
            print(line, flush=True)
    except (StudyError, OSError) as error:
        sys.exit(str(error))
