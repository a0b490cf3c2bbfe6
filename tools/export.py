"""Write a study's results as other programs read them: ``python tools/export.py STUDY.yaml``.

``outputs/STUDY/xtreme/SIZE/INTERMEDIATE/seed-S/TASK/test-LANGUAGE.tsv`` has one label per line.
Tagging has one tag per line and an empty line after every sentence, BUCC has mined pairs of ids,
and Tatoeba the number of the sentence found, from 0. Choices are ``.jsonl``: each line maps "label"
to the choice's number. Answers are ``.json``: ids map to answers, for Mewsli-X and LAReQA to lists
of ids, best first. This is what evaluate.py of github.com/google-research/xtreme at da430dd reads.

``outputs/STUDY/results.json`` has the scores as github.com/EleutherAI/lm-evaluation-harness writes
them (lm_eval/result_schema.py at 4e7e0d4): as shares, with standard errors.
"""

import json
import shutil
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import command
import pandas as pd

from helpers.study import Study, StudyError, Task
from helpers.study.files import read_json, write_json, write_text
from helpers.study.params import Run

FOLDERS = {
    **{"paws_x": "pawsx", "bucc": "bucc2018", "mewsli_x": "mewslix"},
    **{"udpos_2_7": "udpos", "wikiann": "panx", "tatoeba_r": "tatoeba"},
}
"""XTREME's names of tasks where they differ from the catalogue's."""
LABELS = {"paws_x": {"different": "0", "paraphrase": "1"}}
"""XTREME's names of labels where they differ from the catalogue's."""
METRICS = {"accuracy": "acc", "entity_f1": "f1", "mining_f1": "f1"}
"""The harness's names of metrics where they differ from the catalogue's."""


def export(study: Study) -> list[Path]:
    """Write every finished run of the study; returns the file and the folder that were written.
    Raises StudyError if no run is finished, or if two targets are one of XTREME's tasks.
    """
    names = [FOLDERS.get(target.task, target.task) for target in study.targets]
    if twice := {name for name in names if names.count(name) > 1}:
        wrong = f"several are XTREME's '{min(twice)}'; expected one, as they would share a folder"
        raise StudyError(f"{study.path}: targets: {wrong}")
    file, home, results = study.folder / "results.json", study.folder / "xtreme", defaultdict(dict)
    shutil.rmtree(home, ignore_errors=True)  # what was exported before may have other settings
    for run in study.runs():
        condition = study.condition(run.size, run.intermediate, run.target)
        folder = condition.seed_folder(run.seed)
        if not condition.is_finished(folder):
            continue
        place = f"{run.size}/{run.intermediate}/seed-{run.seed}"
        target = home / place / FOLDERS.get(run.target, run.target)
        predictions = pd.read_parquet(folder / "predictions.parquet")
        tables = {str(code): rows for code, rows in predictions.groupby("language", sort=False)}
        for language, rows in tables.items():
            suffix, text = page(study.tasks[run.target], language, rows)
            write_text(target / f"test-{language}.{suffix}", text)
        add(results, study, run, folder, tables)
    if not results:
        wrong = f"no run is finished; expected predictions in {study.folder}"
        raise StudyError(f"{study.path}: {wrong}")
    write_json(file, results)
    return [file, home]


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


def add(results: dict[str, Any], study: Study, run: Run, folder: Path, tables: dict) -> None:
    """Add a run to the harness's results: a task for each language, its zero-shot mean as group."""
    task, record = study.tasks[run.target], read_json(folder / "run.json")
    metric = METRICS.get(task.metric, task.metric)
    group = f"{run.target}/{run.size}/{run.intermediate}/seed-{run.seed}"
    mean = {"name": group, "alias": group, f"{metric}_stderr,none": "N/A"}
    mean[f"{metric},none"] = read_json(folder / "scores.json")["zero_shot"] / 100
    results["groups"][group] = results["results"][group] = mean
    for language, rows in tables.items():
        name, source = f"{group}/{language}", task.source(language)
        about = {"name": name, "alias": name, "sample_len": len(rows)}
        results["results"][name] = about | scored(metric, rows)
        path = {"task": name, "dataset_path": source.hub or source.files}
        results["configs"][name] = path | {"metadata": record["settings"]}
        results["versions"][name] = version("intermediate-task-transfer")
        results["n-shot"][name] = 0
        results["n-samples"][name] = {"original": len(rows), "effective": len(rows)}
        results["higher_is_better"][name] = {metric: True}
        digest = record["settings"]["examples"][f"{run.target}/{task.evaluate}/{language}"]
        results["task_hashes"][name] = digest
    results["git_hash"], results["date"] = record["commit"], (folder / "run.json").stat().st_mtime


def scored(metric: str, rows: pd.DataFrame) -> dict[str, float | str]:
    """The score of one language with its standard error: of a ratio of sums, linearised."""
    credit, out_of = rows["credit"], rows["out_of"]
    score = credit.sum() / out_of.sum()
    error = (credit - score * out_of).sem() / out_of.mean()
    values = {f"{metric},none": score, f"{metric}_stderr,none": error}
    if "exact_match" in rows:
        values["exact_match,none"] = rows["exact_match"].mean()
        values["exact_match_stderr,none"] = rows["exact_match"].sem()
    return {key: "N/A" if pd.isna(value) else float(value) for key, value in values.items()}


if __name__ == "__main__":
    command.run(__doc__, export)
