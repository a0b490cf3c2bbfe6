"""``python -m helpers.data STUDY``: read, check and keep a study's data."""

import argparse
import sys

from helpers import data
from helpers.study import Study, StudyError

parser = argparse.ArgumentParser(prog="helpers.data", description=__doc__)
parser.add_argument("study")
parser.add_argument("--outputs", default="outputs")
given = parser.parse_args()
try:
    data.prepare(Study.load(given.study, given.outputs))
except StudyError as error:
    sys.exit(str(error))
