"""A finished study of many runs whose results are made up: `python benchmarks/many_runs.py FOLDER`.

It has all files that a batch, a plan, a comparison and a notebook look at; nothing was trained.
"""

import argparse
import json
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

SIZES = {"base": "base", "large": "large", "xl": "xl", "xxl": "xxl"}
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
NOTEBOOK_BYTES = 150_000
"""What a run's executed notebook takes, pictures and all."""


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
            name: {"encoder": f"FacebookAI/xlm-roberta-{kind}", "title": name, "pooling": "cls"}
            for name, kind in [*SIZES.items()][:sizes]
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
    for name in ("config.json", "tokenizer.json"):
        (template / name).write_text("{}", encoding="utf-8")
    parameters = {size: 10**8 * 4**n for n, size in enumerate(study.sizes)}
    rng, scores, records = np.random.default_rng(0), _Scores(study, items), {}
    log = [{"step": step, "loss": 10 / step} for step in range(10, 210, 10)]
    selection = {"score": 60.0, "n": 1000, "majority": 33.3, "collapsed": False}
    for path in study.results():
        folder, names = path.parent, path.relative_to(study.folder).parts[:-2]
        folder.mkdir(parents=True)
        if names not in records:
            cost = {"wall_seconds": 100.0, "train_seconds": 90.0, "train_flops": 1e15}
            records[names] = {"parameters": study.settings(*names), "log": log, **cost}
        record = dict(records[names])
        if len(names) < 3:
            encoder = folder if len(names) == 1 else folder / "encoder"
            encoder.mkdir(exist_ok=True)
            for name in ("model.safetensors", "config.json", "tokenizer.json"):
                os.link(template / name, encoder / name)
        else:
            seed = record["seed"] = int(folder.name.removeprefix("seed-"))
            scores.draw(names, seed, rng).to_parquet(folder / "predictions.parquet", index=False)
        if len(names) == 1:
            record |= {"parameters_without_embeddings": parameters[names[0]]}
            record |= {"texts": study.texts()}
        else:
            _json(folder / "scores.json", {"metric": "accuracy", "selection": selection})
        _json(folder / "run.json", record)
        beside = folder.parent if len(names) == 1 else folder
        os.link(template / "notebook.ipynb", beside / "notebook.ipynb")


class _Scores:
    """Draws predictions: items are as difficult for all runs, tasks help by up to five points."""

    def __init__(self, study: Study, items: int):
        rng, self.study = np.random.default_rng(1), study
        keys = product(study.sizes, study.intermediate, [t.task for t in study.targets])
        self.gains = {key: rng.uniform(0, 5) * (key[1] != NONE) for key in keys}
        self.difficulty = {t.task: rng.normal(0, 15, items) for t in study.targets}

    def draw(self, names: tuple, seed: int, rng: np.random.Generator) -> pd.DataFrame:
        size, _, target = names
        languages, difficulty = self.study.languages(target), self.difficulty[target]
        level = 60 + 8 * list(self.study.sizes).index(size) + self.gains[names] + rng.normal()
        points = level - 2 * np.arange(len(languages))[:, None] + difficulty
        right = rng.uniform(0, 100, points.shape) < points
        return pd.DataFrame(
            {
                "language": np.repeat(languages, len(difficulty)),
                "id": np.tile([str(i) for i in range(len(difficulty))], len(languages)),
                "credit": right.ravel().astype(float),
                "out_of": 1.0,
            }
        )


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for key, count in {"sizes": 2, "tasks": 10, "targets": 10, "seeds": 5}.items():
        parser.add_argument(f"--{key}", type=int, default=count)
    for key, count in {"languages": 10, "items": 50}.items():
        parser.add_argument(f"--{key}", type=int, default=count)
    given = vars(parser.parse_args())
    print(len(write(**given).runs()), "runs")
