"""Bring a study's data and models into a mirror: ``python -m helpers.batch.fetch STUDY.yaml DIR``.

Afterwards the study runs with ``HUB_MIRROR=DIR`` and no network, as on a cluster's nodes. Data sets
are kept as parquet with a README that lists their configurations, so that ``load_dataset`` reads
the folder as it reads the hub; models as the folders that they are on the hub. What is there and
whole is not fetched again.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from helpers.study import ENGLISH, Study, StudyError, command
from helpers.study.catalogue import PIP, Source
from helpers.study.files import damage, read_json, write_json, write_whole

MANIFEST = ".fetched.json"
"""In each fetched folder: every file's bytes, and a data file's configuration, split, revision."""
_MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


def read(study: Study) -> Iterator[tuple[str, Source, str, str]]:
    """Everything that a study reads: task, where that lies, split, and the language as named there."""
    needed = list(study.needed())
    for name in dict.fromkeys(task for task, *_ in needed):
        translated = [origin.split("/") for origin in study.tasks[name].translates.values()]
        needed += [(task, split, ENGLISH) for task, split in translated]
    for name, split, language in dict.fromkeys(needed):
        for part in study.tasks[name].parts or [name]:
            task = study.tasks[part]
            yield part, task.source(language), split, task.codes.get(language, language)


def data_sets(study: Study) -> dict[tuple[str, str | None, str | None], set[str]]:
    """Hub data sets that the study reads: (id, configuration, revision) -> the hub's splits."""
    found: dict[tuple, set[str]] = {}
    for _, source, split, code in read(study):
        if source.hub and split in source.splits:
            config = source.config.format(language=code) if source.config else None
            names = {re.sub(r"\[.*\]$", "", s) for s in source.splits[split].split("+")}
            found.setdefault((source.hub, config, source.revision), set()).update(names)
    return found


def models(study: Study) -> list[str]:
    """Ids of the hub models that the study's sizes start from."""
    names = {size.encoder for size in study.sizes.values()}
    local = {name for name in names if (Path(name) / "config.json").is_file()}
    return sorted(name for name in names - local if not name.startswith((PIP, ".", "/")))


def fetch(study: Study, mirror: str) -> Iterator[str]:
    """Fetch what is not there yet; one line for everything, fetched or found whole.

    Raises
    ------
    StudyError
        Something is on no hub that answers, is not whole, or would lie outside the mirror.
    """
    for (name, config, revision), splits in data_sets(study).items():
        for split in sorted(splits):
            about = {"config": config or "default", "split": split, "revision": revision}
            yield _data_set(_inside(Path(mirror), name), name, config, about)
    for name in models(study):
        yield f"{name}: {_model(_inside(Path(mirror), name), name)}"


def _data_set(folder: Path, name: str, config: str | None, about: dict) -> str:
    import datasets

    datasets.disable_progress_bars()
    shown = " ".join(filter(None, (name, config, about["split"])))
    path = _inside(folder, f"{about['config']}/{about['split']}.parquet")
    file, manifest = path.relative_to(folder).as_posix(), read_json(folder / MANIFEST)
    if _is_whole(folder, file, manifest) and about.items() <= manifest[file].items():
        return f"{shown}: there"
    if (folder / "README.md").exists() and not manifest:
        wrong = f"a mirror of {name} that was not fetched by this program"
        raise StudyError(f"{folder}: {wrong}; expected an empty folder")
    split = {"split": about["split"], "revision": about["revision"]}
    rows = _from_hub(shown, datasets.load_dataset, name, config, **split)
    write_whole(path, rows.to_parquet)
    manifest[file] = {"bytes": path.stat().st_size, **about, "rows": len(rows)}
    files: dict[str, list] = {}
    for other, entry in manifest.items():
        files.setdefault(entry["config"], []).append({"split": entry["split"], "path": other})
    configs = [{"config_name": config, "data_files": paths} for config, paths in files.items()]
    card = yaml.safe_dump({"configs": configs}, sort_keys=False)
    text = f"---\n{card}---\n\nA part of the hub's {name}, as fetched.\n"
    write_whole(folder / "README.md", lambda beside: beside.write_text(text, encoding="utf-8"))
    write_json(folder / MANIFEST, manifest)
    return f"{shown}: fetched, {len(rows)} rows"


def _model(folder: Path, name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    manifest = read_json(folder / MANIFEST)
    damaged = [file for file in manifest if not _is_whole(folder, file, manifest)]
    if manifest and not damaged:
        return "there"
    for file in damaged:  # the library takes a file that is there for whole
        (folder / file).unlink(missing_ok=True)
    _from_hub(name, snapshot_download, name, local_dir=folder, allow_patterns=_MODEL_FILES)
    paths = [p for p in folder.rglob("*") if not p.relative_to(folder).parts[0].startswith(".")]
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    if not any(path.suffix == ".safetensors" for path in sizes):
        reason = "expected some, since pickled ones are never loaded"
        raise StudyError(f"{name}: has no safetensors weights; {reason}")
    for path in sizes:
        if wrong := damage(path):
            path.unlink()
            raise StudyError(f"{path}: {wrong} after it was fetched; fetch again")
    manifest = {path.relative_to(folder).as_posix(): {"bytes": sizes[path]} for path in sizes}
    write_json(folder / MANIFEST, manifest)
    return f"fetched, {sum(sizes.values()) / 1e6:.0f} MB"


def _from_hub(what: str, load, *args, **kwargs):
    """Call a loader of the libraries, which may raise anything; the user needs one line."""
    try:
        return load(*args, **kwargs)
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise StudyError(f"{what}: cannot be fetched: {reason}") from error


def _is_whole(folder: Path, file: str, manifest: dict[str, dict]) -> bool:
    path = folder / file
    if file not in manifest or damage(path):
        return False
    return path.is_file() and path.stat().st_size == manifest[file]["bytes"]


def _inside(folder: Path, name: str) -> Path:
    if folder.resolve() not in (folder / name).resolve().parents:
        raise StudyError(
            f"{name}: leads out of {folder}; expected the name of something on the hub"
        )
    return folder / name


if __name__ == "__main__":
    command.run("helpers.batch.fetch", __doc__, fetch, "mirror")
