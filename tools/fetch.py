"""Fetch a study's data sets and models into a mirror: ``python tools/fetch.py STUDY.yaml FOLDER``.

With ``HUB_MIRROR=FOLDER`` the study then needs no network. Data sets become parquet files, with a
README that tells ``load_dataset`` which file is which; models are as on the hub. A file or folder
gets its name when it is complete. What is there is not fetched again.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import command
import yaml
from huggingface_hub.constants import HF_HUB_CACHE

from helpers.study import ENGLISH, Study, StudyError
from helpers.study.catalogue import Source, reason
from helpers.study.files import write_text, write_whole

REPOSITORY = r"\w[\w.-]*(/\w[\w.-]*)?"
FETCHED = "A part of the hub's data set, fetched by tools/fetch.py."
FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


def sources(study: Study) -> Iterator[tuple[str, Source, str, str]]:
    """All that a study reads: task, source, split, and the language as the source names it."""
    cells = list(study.needed())
    for name in dict.fromkeys(task for task, *_ in cells):
        originals = [origin.split("/") for origin in study.tasks[name].translates.values()]
        cells += [(task, split, ENGLISH) for task, split in originals]
    for name, split, language in dict.fromkeys(cells):
        for part in study.tasks[name].parts or [name]:
            task = study.tasks[part]
            yield part, task.source(language), split, task.codes.get(language, language)


def models(study: Study) -> list[str]:
    """Hub ids of the encoders that are no folder here."""
    names = {size.encoder for size in study.sizes.values()}
    return sorted(n for n in names if re.fullmatch(REPOSITORY, n) and not Path(n).is_dir())


def missing(study: Study) -> list[str]:
    """What this machine lacks: own files, and hub data that no mirror or cache here has."""
    folder, users = study.files_folder or Path(), {}
    for name, source, split, code in sources(study):
        file = (source.files or "").format(language=code, split=source.splits.get(split, split))
        if source.files and not (folder / file).is_file():
            users.setdefault(f"file {folder / file}", {})[name] = study.tasks[name].obtain
        elif source.hub and not _is_here(source.hub):
            users.setdefault(f"data set {source.hub}", {})[name] = ""
    users |= {f"encoder {name}": {} for name in models(study) if not _is_here(name)}
    lines = [f"{what}: {', '.join(tasks)}" if tasks else what for what, tasks in users.items()]
    advice = {text for tasks in users.values() for text in tasks.values() if text}
    return lines + [f"to get: {text}" for text in sorted(advice)]


def _is_here(repository: str) -> bool:
    """Whether the mirror has a repository of the hub or, without a mirror, the cache."""
    if mirror := os.environ.get("HUB_MIRROR"):
        return (Path(mirror).expanduser() / repository).is_dir()
    return any(Path(HF_HUB_CACHE).glob(f"*--{repository.replace('/', '--')}"))


def fetch(study: Study, mirror: Path) -> Iterator[str]:
    """Fetch what is not there yet, a line for each; a StudyError names what cannot be fetched."""
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    wanted: dict[tuple, Callable] = {}
    for _, source, split, code in sources(study):
        config = source.config.format(language=code) if source.config else "default"
        for part in source.splits.get(split, "").split("+"):
            if source.hub and (name := re.sub(r"\[.*\]$", "", part)):
                wanted[source.hub, config, name, source.revision] = _data_set
    wanted |= {(name,): _model for name in models(study)}
    for (repository, *which), fetch_one in wanted.items():
        title = " ".join([repository, *which[:2]])
        if not re.fullmatch(REPOSITORY, repository):
            wrong = "no name of a repository; expected the hub's OWNER/NAME"
            raise StudyError(f"{repository}: {wrong}")
        try:
            yield f"{title}: {fetch_one(mirror / repository, repository, *which)}"
        except Exception as error:  # the libraries raise anything; the user needs one line
            wrong = f"cannot be fetched: {reason(error.__cause__ or error)}"
            raise StudyError(f"{title}: {wrong}") from error


def _data_set(folder: Path, name: str, config: str, split: str, revision: str | None) -> str:
    import datasets

    datasets.disable_progress_bars()
    version = f".{revision.replace('/', '-')}" if revision else ""
    path = folder / config / f"{split}{version}.parquet"
    if path.exists():
        return "there"
    card = folder / "README.md"
    if card.exists() and FETCHED not in card.read_text(encoding="utf-8"):
        raise StudyError(f"{folder}: a mirror that somebody else made; expected an empty folder")
    chosen = None if config == "default" else config
    rows = datasets.load_dataset(name, chosen, split=split, revision=revision)
    for other in folder.glob(f"{config}/{split}.*"):  # of another revision
        other.unlink()
    write_whole(path, rows.to_parquet)
    files: dict[str, list] = {}
    for file in sorted(folder.glob("*/*.parquet")):
        entry = {"split": file.name.split(".")[0], "path": f"{file.parent.name}/{file.name}"}
        files.setdefault(file.parent.name, []).append(entry)
    configs = [{"config_name": name, "data_files": entries} for name, entries in files.items()]
    names = yaml.safe_dump({"configs": configs}, sort_keys=False)
    write_text(card, f"---\n{names}---\n\n{FETCHED}\n")
    return f"fetched, {len(rows)} rows"


def _model(folder: Path, name: str) -> str:
    from huggingface_hub import snapshot_download

    if folder.exists():
        return "there"
    part = folder.with_name(f"{folder.name}.part")
    snapshot_download(name, local_dir=part, allow_patterns=FILES)
    if not any(part.glob("*.safetensors")):
        raise StudyError("it has no safetensors weights; pickled weights are never loaded")
    shutil.rmtree(part / ".cache")
    part.rename(folder)
    return "fetched"


if __name__ == "__main__":
    command.run(__doc__, fetch, "mirror")
