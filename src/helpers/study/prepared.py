"""The data that a study has read and keeps: where it lies, and whether it is what is asked now."""

import os
from pathlib import Path

from helpers.study.files import read_json


def data_dir(study) -> Path | None:
    """The folder that own files are relative to: the environment's DATA_DIR, or the study's key."""
    given = os.environ.get("DATA_DIR") or study.data_dir
    return Path(given) if given else None


def file(study, *names: str) -> Path:
    """A file of the data that the study keeps."""
    return study.folder.joinpath("data", *names)


def rows(study, task: str, split: str, language: str) -> Path:
    """Where the examples of one (task, split, language) are kept."""
    return file(study, task, f"{language}.{split}.parquet")


def summary(study) -> dict:
    """What data/summary.json says: ``splits``, by ``TASK/SPLIT/LANGUAGE``; empty before."""
    return read_json(file(study, "summary.json"))


def parameters(study) -> dict:
    """All that the kept data depends on."""
    needed = study.needed()
    names = {name for task, *_ in needed for name in (task, *study.tasks[task].parts)}
    prose = {"licence", "citation", "obtain"}
    entries = {n: study.tasks[n].model_dump(mode="json", exclude=prose) for n in sorted(names)}
    return {
        "cells": study.texts(),
        "tasks": entries,
        "data_dir": str(data_dir(study)),
        "on_bad_row": study.on_bad_row,
        "on_leak": study.on_leak,
    }


def is_complete(study) -> bool:
    """Whether all that the study reads has been kept, from the sources that it names now."""
    current = summary(study).get("parameters") == parameters(study)
    return current and all(rows(study, *cell).exists() for cell in study.needed())
