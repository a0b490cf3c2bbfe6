"""Write a study's predictions in the folders that XTREME's evaluation reads: ``python -m
helpers.evaluation.export STUDY``.

One folder a run, ``outputs/STUDY/xtreme/SIZE/INTERMEDIATE/seed-S/TASK/test-LANGUAGE.tsv`` (or
``.json`` for answers): a label a line; for tagging a tag a line and an empty line after every
sentence; for answers a mapping from ids, for Mewsli-X and LAReQA to lists of ids, best first; for
BUCC mined pairs of ids; for Tatoeba the number of the sentence found, from 0.
"""

import json
import shutil
from pathlib import Path

import pandas as pd

from helpers.study import Study, StudyError, Task, command
from helpers.study.files import write_text

FOLDERS = {"paws_x": "pawsx", "bucc": "bucc2018", "mewsli_x": "mewslix"}
"""XTREME's names of tasks where they differ from the catalogue's."""
LABELS = {"paws_x": {"different": "0", "paraphrase": "1"}}
"""XTREME's names of labels where they differ from the catalogue's."""


def export(study: Study, folder: Path | None = None) -> list[Path]:
    """Write every finished run of the study; returns the folders written, one a (size,
    intermediate, seed).

    Raises
    ------
    StudyError
        No run is finished.
    """
    folder = folder or study.folder / "xtreme"
    written = []
    for run in study.runs():
        predictions = study.run_folder(run) / "predictions.parquet"
        if not predictions.exists():
            continue
        chosen = folder / run.size / run.intermediate / f"seed-{run.seed}"
        task = study.tasks[run.target]
        target = chosen / FOLDERS.get(run.target, run.target)
        shutil.rmtree(target, ignore_errors=True)
        for language, rows in pd.read_parquet(predictions).groupby("language", sort=False):
            suffix = "json" if task.format == "span_extraction" or task.candidates else "tsv"
            text = page(task, str(language), rows)
            write_text(target / f"test-{language}.{suffix}", text)
        written.append(chosen)
    if not written:
        raise StudyError(
            f"{study.path}: no run is finished; expected predictions in {study.folder}"
        )
    return list(dict.fromkeys(written))


def page(task: Task, language: str, rows: pd.DataFrame) -> str:
    """The predictions of one language as XTREME's evaluation reads them."""
    begin = "" if task.parallel else f"{language}/"
    ids = [i.removeprefix(begin) for i in rows["id"]]
    said = list(rows["prediction"])
    if task.format == "span_extraction":
        return json.dumps(dict(zip(ids, said, strict=True)), ensure_ascii=False) + "\n"
    if task.candidates:
        ranked = dict(zip(ids, (found.split(" ") for found in said), strict=True))
        return json.dumps(ranked, ensure_ascii=False) + "\n"
    if task.format == "tagging":
        return "".join("\n".join(tags.split(" ")) + "\n\n" for tags in said)
    if task.metric == "mining_f1":
        return "".join(f"{i}\t{found}\n" for i, found in zip(ids, said, strict=True) if found)
    names = LABELS.get(task.name, {})
    return "".join(f"{names.get(label, label)}\n" for label in said)


if __name__ == "__main__":
    command.run("helpers.evaluation.export", __doc__, export)
