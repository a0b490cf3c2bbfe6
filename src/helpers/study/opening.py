"""A study as a notebook opens it: from any folder, its choices checked, its results apart."""

import os
from pathlib import Path

from IPython import get_ipython

from helpers.study.catalogue import NONE, StudyError, unknown
from helpers.study.files import project
from helpers.study.study import Study


def open_study(
    study: str | Path | Study, outputs: str | Path = "outputs", join: bool = False, **chosen
) -> Study:
    """The study that a notebook's parameters name.

    The project's folder becomes the working folder, for params name files relative to it. Where a
    person runs the notebook, results go to a folder of their own unless they ``join`` the batch's.

    Parameters
    ----------
    chosen
        The other parameters: ``size``, ``task``, ``intermediate``, ``target``, ``seed``.

    Raises
    ------
    StudyError
        The study cannot be used, or does not have what was chosen.
    """
    if not isinstance(study, Study):  # as it is when a cell is run again
        os.chdir(project(study))
        study = Study.load(study, outputs)
    known = {
        "size": study.sizes,
        "intermediate": study.intermediate,
        "task": [task for task in study.intermediate if task != NONE],
        "target": [target.task for target in study.targets],
        "seed": study.seeds_of(chosen.get("intermediate") or chosen.get("task") or NONE),
    }
    for name, value in chosen.items():
        if value not in known[name]:
            raise StudyError(f"{study.path}: {unknown(name, value, known[name])}")
    if not is_interactive():
        return study
    study = study.model_copy(update={"workspace": Path("" if join else "interactive")})
    beside = "the batch's results" if join else f"{study.folder} (join = True writes there)"
    print(f"Results go to {study.folder / study.workspace}, {'among' if join else 'not'} {beside}.")
    return study


def is_interactive() -> bool:
    """Whether a person runs this notebook: the kernel's client would answer ``input()``.

    JupyterLab and VS Code do; papermill, nbconvert and the batch do not.
    """
    return getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False)
