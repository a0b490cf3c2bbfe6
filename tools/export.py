"""Write a study's predictions as XTREME's evaluation reads them: ``python tools/export.py STUDY``.

Every run has files ``outputs/STUDY/xtreme/SIZE/INTERMEDIATE/seed-S/TASK/test-LANGUAGE.tsv`` with
one label per line. Tagging has one tag per line and an empty line after every sentence, BUCC has
mined pairs of ids, and Tatoeba the number of the sentence found, from 0. Choices are ``.jsonl``:
each line maps "label" to the choice's number. Answers are ``.json``: ids map to answers, for
Mewsli-X and LAReQA to lists of ids, best first. This is what evaluate.py of
github.com/google-research/xtreme at da430dd reads.
"""

import json
import shutil
from pathlib import Path

import command
import pandas as pd

from helpers.study import Study, StudyError, Task
from helpers.study.files import write_text

FOLDERS = {
    **{"paws_x": "pawsx", "bucc": "bucc2018", "mewsli_x": "mewslix"},
    **{"udpos_2_7": "udpos", "wikiann": "panx", "tatoeba_r": "tatoeba"},
}
"""XTREME's names of tasks where they differ from the catalogue's."""
LABELS = {"paws_x": {"different": "0", "paraphrase": "1"}}
"""XTREME's names of labels where they differ from the catalogue's."""


def export(study: Study, folder: Path | None = None) -> list[Path]:
    """Write every finished run of the study; returns the folders written, one for each size,
    intermediate task and seed.

    Raises
    ------
    StudyError
        No run is finished, or two targets are one of XTREME's tasks.
    """
    folder = folder or study.folder / "xtreme"
    names = [FOLDERS.get(target.task, target.task) for target in study.targets]
    if twice := {name for name in names if names.count(name) > 1}:
        wrong = f"several are XTREME's '{min(twice)}'; expected one, as they would share a folder"
        raise StudyError(f"{study.path}: targets: {wrong}")
    written: list[Path] = []
    for run in study.runs():
        condition = study.condition(run.size, run.intermediate, run.target)
        results = condition.seed_folder(run.seed)
        if not condition.is_finished(results):
            continue
        home = folder / run.size / run.intermediate / f"seed-{run.seed}"
        task = study.tasks[run.target]
        target = home / FOLDERS.get(run.target, run.target)
        shutil.rmtree(target, ignore_errors=True)
        for language, rows in pd.read_parquet(results / "predictions.parquet").groupby(
            "language", sort=False
        ):
            suffix, text = page(task, str(language), rows)
            write_text(target / f"test-{language}.{suffix}", text)
        written.append(home)
    if not written:
        raise StudyError(
            f"{study.path}: no run is finished; expected predictions in {study.folder}"
        )
    return list(dict.fromkeys(written))


def page(task: Task, language: str, rows: pd.DataFrame) -> tuple[str, str]:
    """The predictions of one language as XTREME's evaluation reads them: file suffix and text."""
    begin = "" if task.parallel else f"{language}/"
    answers = list(rows["prediction"])
    by_id = dict(zip((i.removeprefix(begin) for i in rows["id"]), answers, strict=True))
    if task.format == "span_extraction":
        return "json", json.dumps(by_id, ensure_ascii=False) + "\n"
    if task.candidates:
        ranked = {i: best.split(" ") for i, best in by_id.items()}
        return "json", json.dumps(ranked, ensure_ascii=False) + "\n"
    if task.format == "multiple_choice":
        numbers = [{"label": task.labels.index(label)} for label in answers]
        return "jsonl", "".join(json.dumps(number) + "\n" for number in numbers)
    if task.format == "tagging":
        return "tsv", "".join("\n".join(tags.split(" ")) + "\n\n" for tags in answers)
    if task.metric == "mining_f1":
        return "tsv", "".join(f"{i}\t{pair}\n" for i, pair in by_id.items() if pair)
    names = LABELS.get(task.name, {})
    return "tsv", "".join(f"{names.get(label, label)}\n" for label in answers)


if __name__ == "__main__":
    command.run(__doc__, export)
