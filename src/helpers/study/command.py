"""The one command line of every module that does one thing with a study."""

import argparse
import sys
from collections.abc import Callable, Iterable

from helpers.study.catalogue import StudyError
from helpers.study.study import Study


def run(prog: str, doc: str, work: Callable[..., Iterable[object]], *more: str) -> None:
    """``python -m PROG params/STUDY.yaml [MORE ...] [--outputs DIR]``: print what ``work`` returns.

    ``work`` gets the study and, as strings, the arguments that ``more`` names. What cannot be done
    ends the process with one line that says why.
    """
    parser = argparse.ArgumentParser(prog=prog, description=doc.splitlines()[0])
    for name in ("study", *more):
        parser.add_argument(name)
    parser.add_argument("--outputs", default="outputs")
    given = parser.parse_args()
    try:
        study = Study.load(given.study, given.outputs)
        for line in work(study, *(getattr(given, name) for name in more)):
            print(line, flush=True)
    except (StudyError, OSError) as error:
        sys.exit(str(error))
