"""A task's examples for a split and a language, whatever source they come from.

One code path: rows go through the task's format once, are checked, and are kept as parquet under
``outputs/STUDY/data``. Later phases read nothing else, so a study that has started needs no source
and no network.
"""

import shutil
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers import tasks
from helpers.data import sources
from helpers.study import ENGLISH, Hyperparameters, Study, StudyError, Task, prepared
from helpers.study.files import read_json, write_json, write_whole

UNSEEN = "<unseen>"
"""The label of whatever the training data has not: it is never right to predict it."""


def examples(study: Study, task: str, split: str, language: str = ENGLISH) -> list[dict]:
    """The normalised examples of one (task, split, language), from the study's copy if it has one.

    Raises
    ------
    StudyError
        The source cannot be found, a row does not fit the task, or what is kept lacks the group.
    """
    if task in study.mixtures:  # one of each of its tasks, to look at
        return [trained_on(study, name, split)[0] for name in study.mixtures[task].tasks]
    kept = prepared.rows(study, task, split, language)
    if kept.exists():
        rows = pq.read_table(kept)
        if study.tasks[task].group and "group" not in rows.column_names:
            raise StudyError(f"{kept}: no column 'group'; run `make study STUDY={study.path}`")
        return rows.to_pylist()
    return _read(study, task, split, language)[0]


def trained_on(study: Study, name: str, split: str) -> list[dict]:
    """Examples that a training draws from ("train") or selects on ("validation"), all languages."""
    entry = study.tasks[name]
    languages = entry.trained_in if split == "train" else entry.selected_in
    return [row for language in languages for row in examples(study, name, split, language)]


def sample(rows: list[dict], count: int | None, seed: int) -> list[dict]:
    """``count`` rows drawn without replacement, the same for a seed; all if there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[i] for i in np.sort(chosen)]


def drawn(study: Study, name: str, settings: Hyperparameters, *seeds: int) -> list[dict]:
    """The training examples of a task that trainings with these seeds see, each once."""
    rows = trained_on(study, name, "train")
    samples = (sample(rows, settings.train_examples, seed) for seed in seeds)
    return list({id(row): row for some in samples for row in some}.values())


def held_out(study: Study, name: str, settings: Hyperparameters) -> list[dict]:
    """The validation examples of a task that a training is selected on, the same for every seed."""
    return sample(trained_on(study, name, "validation"), settings.validation_examples, 0)


def read(
    task: Task,
    split: str,
    language: str,
    data_dir: Path | None = None,
    check_sizes: bool = False,
    skipped: list[str] | None = None,
) -> list[dict]:
    """Read and check one (task, split, language) at its source.

    With an empty list ``skipped``, bad rows are left out, counted in a line of output, and what is
    wrong with each is added to the list.

    Raises
    ------
    StudyError
        Unknown language or split, a missing mirror folder or file, a missing column, or a bad row;
        the message names the source, the key or row, what was found and what was expected.
    """
    if language not in task.languages:
        unknown = f"task {task.name}: unknown language '{language}'"
        raise StudyError(f"{unknown}; expected one of {', '.join(task.languages)}")
    source = task.source(language)
    where = f"{task.name} ({source.origin}), {language} {split}"
    found = sources.rows(task, source, split, language, data_dir)
    expected = task.sizes.get(split, len(found))
    if check_sizes and len(found) != expected:
        raise StudyError(
            f"{where}: found {len(found)} rows, expected {expected}: the data changed, "
            "or is a part of it (then set check_sizes: false in the study)"
        )
    good = tasks.normalise(task, found, where, skipped)
    if skipped:
        count = f"skipped {len(skipped)} of {len(skipped) + len(good)} rows"
        print(f"{where}: {count}; {skipped[0]}", flush=True)
    return good


def labelled(study: Study, name: str) -> Task:
    """A catalogue entry with its labels: of ``unseen_label``, its training data's and one more."""
    entry = study.tasks[name]
    if not entry.unseen_label:
        return entry
    labels, column = read_json(prepared.file(study, name, "labels.json")), entry.columns["labels"]
    if not labels:
        found: set[str] = set()
        for language in entry.trained_in:
            source, folder = entry.source(language), prepared.data_dir(study)
            for row in sources.rows(entry, source, "train", language, folder):
                found.update([] if isinstance(row, ValueError) else row[column])
        labels = [*sorted(found), UNSEEN]
    return entry.model_copy(update={"labels": labels})


def token_cache(study: Study) -> Path:
    """Where the study's texts are kept once they are tokenised (:mod:`helpers.data.tokens`)."""
    return prepared.file(study, "tokens")


def prepare(study: Study) -> dict:
    """Read, check and keep all that the study reads; returns and writes ``data/summary.json``.

    Raises
    ------
    StudyError
        Any source or row is bad, or something that is evaluated is also trained on and not dropped
        (``on_leak``).
    """
    splits: dict[str, dict] = {}
    trained: dict[tuple, dict] = {}
    evaluated: dict[str, dict] = {}
    shutil.rmtree(token_cache(study), ignore_errors=True)
    for name in {name for name, *_ in study.needed() if study.tasks[name].unseen_label}:
        prepared.file(study, name, "labels.json").unlink(missing_ok=True)
        write_json(prepared.file(study, name, "labels.json"), labelled(study, name).labels)
    for name, split, language in study.needed():
        entry = labelled(study, name)
        rows, skipped = _read(study, name, split, language)
        _keep(study, (name, split, language), rows)
        found = {"rows": len(rows), "labels": tasks.label_counts(entry, rows)}
        found["distinct"] = len({tuple(tasks.of(entry).texts(row)) for row in rows})
        splits[f"{name}/{split}/{language}"] = found | ({"skipped": skipped} if skipped else {})
        if split == "train":
            trained[name, split, language] = _items(entry, rows)
        elif language == ENGLISH and split == entry.evaluate and entry.train_on:
            evaluated[f"{name} {split}"] = _items(entry, rows)
    for cell, keys in _leaks(study, trained, evaluated).items():
        splits["/".join(cell)] |= _drop(study, cell, keys)
    summary = {"parameters": prepared.parameters(study), "splits": splits}
    write_json(prepared.file(study, "summary.json"), summary)
    return summary


def _read(study: Study, name: str, split: str, language: str) -> tuple[list[dict], list[str]]:
    """Examples as the study wants them read, and what is wrong with the rows that it skips.

    A pooled task is its parts one after the other.
    """
    entry, rows, skipped = study.tasks[name], [], []
    for part in entry.parts or [name]:
        bad: list[str] | None = [] if study.on_bad_row == "skip" else None
        task, folder = labelled(study, part), prepared.data_dir(study)
        found = read(task, split, language, folder, study.check_sizes, bad)
        rows += [row | {"id": f"{part}/{row['id']}"} for row in found] if entry.parts else found
        skipped += bad or []
    return rows, skipped


def _items(entry: Task, rows: list[dict]) -> dict[tuple, str]:
    """What makes each row the item that it is, and its id."""
    if entry.format == "tagging":  # short sentences recur between a treebank's splits
        return {}
    return {tasks.key(entry, row): row["id"] for row in rows}


def _leaks(study: Study, trained: dict, evaluated: dict) -> dict[tuple, set]:
    """Keys of each training set that an evaluated item, or what it translates, has as well.

    Raises unless the study drops them.
    """
    leaks: dict[tuple, set] = {}
    for entry in (study.tasks[target.task] for target in study.targets):
        if origin := entry.translates.get(entry.evaluate):
            name, split = origin.split("/")
            rows = read(study.tasks[name], split, ENGLISH, prepared.data_dir(study))
            evaluated[f"{origin} (translated in {entry.name})"] = _items(study.tasks[name], rows)
    for (name, items), (cell, others) in product(evaluated.items(), trained.items()):
        if not (shared := items.keys() & others.keys()):
            continue
        if study.on_leak == "error":
            first = items[min(shared, key=str)]
            raise StudyError(
                f"{study.path}: {len(shared)} items of {name} (the first has id {first}) are in "
                f"the training set of {cell[0]}; expected no evaluated item, nor its translation, "
                "in any training set (on_leak: drop leaves them out of training)"
            )
        leaks[cell] = leaks.get(cell, set()) | shared
    return leaks


def _drop(study: Study, cell: tuple, keys: set) -> dict:
    """Keep a training set without the items of these keys; what data/summary.json says of it."""
    entry, rows = labelled(study, cell[0]), examples(study, *cell)
    left = [row for row in rows if tasks.key(entry, row) not in keys]
    if not left:
        raise StudyError(f"{study.path}: on_leak: drop leaves nothing of {cell[0]} to train on")
    _keep(study, cell, left)
    counts = tasks.label_counts(entry, left)
    return {"rows": len(left), "labels": counts, "dropped": len(rows) - len(left)}


def _keep(study: Study, cell: tuple, rows: list[dict]) -> None:
    write_whole(prepared.rows(study, *cell), partial(pq.write_table, pa.Table.from_pylist(rows)))
