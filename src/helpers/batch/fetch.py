"""Bring a study's data and models into a mirror: ``python -m helpers.batch.fetch STUDY.yaml DIR``.

``HUB_MIRROR=DIR`` then needs no network. Data sets are parquet with a README that tells
``load_dataset`` which file is which; models are as on the hub. What is whole is not fetched again.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from helpers.study import ENGLISH, Study, StudyError, command
from helpers.study.catalogue import Source
from helpers.study.files import damage, read_json, write_json, write_text, write_whole

MANIFEST = ".fetched.json"
"""In each fetched folder: every file's bytes, and a data file's configuration, split, revision."""


def read(study: Study) -> Iterator[tuple[str, Source, str, str]]:
    """All that a study reads: task, source, split, and the language as the source names it."""
    needed = list(study.needed())
    for name in dict.fromkeys(task for task, *_ in needed):
        translated = [origin.split("/") for origin in study.tasks[name].translates.values()]
        needed += [(task, split, ENGLISH) for task, split in translated]
    for name, split, language in dict.fromkeys(needed):
        for part in study.tasks[name].parts or [name]:
            task = study.tasks[part]
            yield part, task.source(language), split, task.codes.get(language, language)


def data_sets(study: Study) -> list[tuple[str, str | None, str | None, str]]:
    """Hub data that the study reads: (id, configuration, revision, split), in the hub's names."""
    found = []
    for _, source, split, code in read(study):
        config = source.config.format(language=code) if source.config else None
        for part in source.splits.get(split, "").split("+"):
            if source.hub and (name := re.sub(r"\[.*\]$", "", part)):
                found.append((source.hub, config, source.revision, name))
    return list(dict.fromkeys(found))


def models(study: Study) -> list[str]:
    """Ids of the hub models that the study's sizes start from."""
    names = {size.encoder for size in study.sizes.values()}
    local = {name for name in names if (Path(name) / "config.json").is_file()}
    return sorted(name for name in names - local if not name.startswith((".", "/")))


def fetch(study: Study, mirror: str) -> Iterator[str]:
    """Fetch what is not there yet, a line for each; a StudyError names what cannot be fetched."""
    home = Path(mirror)
    for name, config, revision, split in data_sets(study):
        shown = " ".join(filter(None, (name, config, split)))
        yield _line(shown, _data_set, home, name, config, revision, split)
    for name in models(study):
        yield _line(name, _model, home, name)


def _line(shown: str, fetch_one: Callable[..., str], *which) -> str:
    try:
        return f"{shown}: {fetch_one(*which)}"
    except Exception as error:  # the libraries raise anything; the user needs one line
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise StudyError(f"{shown}: cannot be fetched: {reason}") from error


def _data_set(mirror: Path, name: str, config: str | None, revision: str | None, split: str) -> str:
    import datasets

    datasets.disable_progress_bars()
    folder = _inside(mirror, name)
    about = {"config": config or "default", "split": split, "revision": revision}
    path, manifest = _inside(folder, f"{about['config']}/{split}.parquet"), _manifest(folder)
    file = path.relative_to(folder).as_posix()
    if about.items() <= manifest.get(file, {}).items():
        return "there"
    if (folder / "README.md").exists() and not (folder / MANIFEST).exists():
        wrong = f"a mirror of {name} that was not fetched by this program"
        raise StudyError(f"{folder}: {wrong}; expected an empty folder")
    rows = datasets.load_dataset(name, config, split=split, revision=revision)
    write_whole(path, rows.to_parquet)
    manifest[file] = {"bytes": path.stat().st_size, **about, "rows": len(rows)}
    files: dict[str, list] = {}
    for other, entry in manifest.items():
        files.setdefault(entry["config"], []).append({"split": entry["split"], "path": other})
    configs = [{"config_name": config, "data_files": paths} for config, paths in files.items()]
    card = yaml.safe_dump({"configs": configs}, sort_keys=False)
    text = f"---\n{card}---\n\nA part of the hub's {name}, as fetched.\n"
    write_text(folder / "README.md", text)
    write_json(folder / MANIFEST, manifest)
    return f"fetched, {len(rows)} rows"


def _model(mirror: Path, name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    folder = _inside(mirror, name)
    noted = read_json(folder / MANIFEST)
    if noted and noted == _manifest(folder):
        return "there"
    files = ["*.json", "*.safetensors", "*.model", "*.txt"]
    again = bool(noted)  # else the library would take a file that is there for whole
    snapshot_download(name, local_dir=folder, allow_patterns=files, force_download=again)
    paths = [p for p in folder.rglob("*") if not p.relative_to(folder).parts[0].startswith(".")]
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in paths if p.is_file()}
    if not any(file.endswith(".safetensors") for file in sizes):
        expected = "expected some, since pickled ones are never loaded"
        raise StudyError(f"{name}: has no safetensors weights; {expected}")
    write_json(folder / MANIFEST, {file: {"bytes": size} for file, size in sizes.items()})
    return f"fetched, {sum(sizes.values()) / 1e6:.0f} MB"


def _manifest(folder: Path) -> dict[str, dict]:
    """The entries of a folder's manifest whose files are there and whole."""
    whole = {}
    for file, entry in read_json(folder / MANIFEST).items():
        path = folder / file
        if path.is_file() and path.stat().st_size == entry["bytes"] and not damage(path):
            whole[file] = entry
    return whole


def _inside(folder: Path, name: str) -> Path:
    if folder.resolve() not in (folder / name).resolve().parents:
        expected = "expected the name of something on the hub"
        raise StudyError(f"{name}: leads out of {folder}; {expected}")
    return folder / name


if __name__ == "__main__":
    command.run("helpers.batch.fetch", __doc__, fetch, "mirror")
