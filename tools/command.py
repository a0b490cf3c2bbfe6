"""The command line of the scripts that do one thing with a study."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from helpers.study import Study, StudyError


def run(doc: str, work: Callable[..., Iterable[object]], *more: str, **options: str) -> None:
    """``python tools/NAME.py params/STUDY.yaml [MORE ...] [--outputs DIR]``: print what is made.

    ``work`` gets the study and, as paths, the arguments that ``more`` names; ``options``, by name
    with their help, go to it as texts. An error ends the process with one line.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name in ("study", *more):
        parser.add_argument(name, type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    for name, text in options.items():
        parser.add_argument(f"--{name}", default="", help=text)
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it may be in latin-1
    try:
        paths = [getattr(arguments, name).expanduser().absolute() for name in more]
        study = Study.load(arguments.study, arguments.outputs)  # which may change the folder
        for line in work(study, *paths, **{name: getattr(arguments, name) for name in options}):
            print(line, flush=True)
    except (StudyError, OSError) as error:
        sys.exit(str(error))
