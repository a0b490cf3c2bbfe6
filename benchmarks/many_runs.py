"""A finished study of many runs whose results are made up: `python benchmarks/many_runs.py FOLDER`.

It has all files that a batch, a plan, a comparison and a notebook look at; nothing was trained.
"""

import argparse
import os
from itertools import product
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

from helpers.study import NONE, Study
from helpers.study.files import write_json

SIZES = ["base", "large", "xl", "xxl"]
LANGUAGES = ["en", "ar", "bg", "de", "el", "es", "et", "fi", "fr", "hi", "id", "it", "ja", "ko"]
LANGUAGES += ["ru", "sw", "ta", "th", "tr", "ur", "vi", "zh"]
PAIRS = {
    "format": "sentence_pair",
    "columns": {"text_a": "a", "text_b": "b", "label": "label"},
    "labels": ["entailment", "neutral", "contradiction"],
    "splits": {"train": "train", "validation": "validation", "test": "test"},
    "licence": "Apache-2.0",
    "citation": "made up",
    "sizes": {"train": 10_000, "validation": 1000, "test": 1000},
}
NOTEBOOK_BYTES = 150_000  # pictures and all


def write(
    folder: Path, sizes=2, tasks=10, targets=10, seeds=5, languages=10, items=50, finished=True
) -> Study:
    """The study, ``finished`` with all its results: sizes x (1 + tasks) x targets x seeds runs."""
    params, names = folder / "params/many.yaml", [f"task-{n:02}" for n in range(tasks)]
    aims, spoken = [f"target-{n:02}" for n in range(targets)], LANGUAGES[:languages]
    entries = {name: PAIRS | {"files": f"{name}/{{split}}.tsv"} for name in names}
    for name in aims:
        files = f"{name}/{{language}}.{{split}}.tsv"
        entries[name] = PAIRS | {"files": files, "languages": spoken, "train_on": [name]}
    training = {"epochs": 3, "batch_size": 32, "learning_rate": 2e-5, "max_length": 128}
    study = {
        "name": "many",
        "description": "results that are made up",
        "data_dir": str(folder / "files"),
        "sizes": {
            name: {"encoder": f"FacebookAI/xlm-roberta-{name}", "title": name, "pooling": "cls"}
            for name in SIZES[:sizes]
        },
        "intermediate": [NONE, *names],
        "targets": aims,
        "seeds": list(range(1, seeds + 1)),
        "phases": {"intermediate": training, "target": training},
    }
    params.parent.mkdir(parents=True, exist_ok=True)
    params.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    catalogue = yaml.safe_dump({"tasks": entries}, sort_keys=False)
    params.with_name("tasks.yaml").write_text(catalogue, encoding="utf-8")
    made = Study.load(params, folder / "outputs")
    if finished:
        _finish(made, folder / "template", items)
    return made


def _finish(study: Study, template: Path, items: int) -> None:
    """Write the results of every phase; files that are alike are one file under many names."""
    template.mkdir()
    shown = nbformat.v4.new_output("display_data", {"image/png": "A" * NOTEBOOK_BYTES})
    cell = nbformat.v4.new_code_cell("", outputs=[shown])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), template / "notebook.ipynb")
    save_file({"weight": torch.zeros(8, 8)}, template / "model.safetensors")
    cells = {"/".join(cell): {"digest": "made up"} for cell in study.needed()}
    write_json(study.data / "summary.json", {"cells": cells})
    for n, size in enumerate(study.sizes):
        record = {"settings": study.encoder_settings(size)}
        record["parameters_without_embeddings"] = 10**8 * 4**n
        write_json(study.encoder_folder(size) / "run.json", record)
        _link(template / "model.safetensors", study.encoder_folder(size))
        _link(template / "notebook.ipynb", study.folder / size)
    scores = _Scores(study, items)
    log = [{"step": step, "loss": 10 / step} for step in range(10, 210, 10)]
    costs = {"wall_seconds": 100.0, "cpu_seconds": 190.0, "log": log}
    selection = {"score": 60.0, "n": 1000, "majority": 33.3, "collapsed": False}
    for condition in study.conditions():
        for seed in condition.seeds:
            folder = condition.seed_folder(seed)
            write_json(folder / "run.json", {"settings": condition.settings, "seed": seed, **costs})
            write_json(folder / "scores.json", {"metric": "accuracy", "selection": selection})
            if condition.target is None:
                _link(template / "model.safetensors", condition.encoder_folder(seed))
            else:
                names = (condition.size, condition.intermediate, condition.target)
                scores.draw(names).to_parquet(folder / "predictions.parquet", index=False)
        _link(template / "notebook.ipynb", condition.folder)
    study.write_record()


def _link(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.link(file, folder / file.name)


class _Scores:
    """Draws predictions: items are as difficult for all runs, tasks help by up to five points."""

    def __init__(self, study: Study, items: int):
        rng, self.study, self.rng = np.random.default_rng(1), study, np.random.default_rng(0)
        keys = product(study.sizes, study.intermediate, [t.task for t in study.targets])
        self.gains = {key: rng.uniform(0, 5) * (key[1] != NONE) for key in keys}
        self.difficulty = {t.task: rng.normal(0, 15, items) for t in study.targets}

    def draw(self, names: tuple[str, str, str]) -> pd.DataFrame:
        size, _, target = names
        languages, difficulty = self.study.languages(target), self.difficulty[target]
        level = 60 + 8 * list(self.study.sizes).index(size) + self.gains[names] + self.rng.normal()
        points = level - 2 * np.arange(len(languages))[:, None] + difficulty
        right = self.rng.uniform(0, 100, points.shape) < points
        return pd.DataFrame(
            {
                "language": np.repeat(languages, len(difficulty)),
                "id": np.tile([str(i) for i in range(len(difficulty))], len(languages)),
                "credit": right.ravel().astype(float),
                "out_of": 1.0,
            }
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    counts = {"sizes": 2, "tasks": 10, "targets": 10, "seeds": 5, "languages": 10, "items": 50}
    for key, count in counts.items():
        parser.add_argument(f"--{key}", type=int, default=count)
    print(len(write(**vars(parser.parse_args())).runs()), "runs")
