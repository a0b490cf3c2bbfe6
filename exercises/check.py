"""Checkers of the exercises: each says in one line what is wrong, or that it is right."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch.nn import functional

from helpers import data, encoders, evaluation, tasks
from helpers.study import NONE, Study, StudyError, prepared


class Wrong(AssertionError):
    """An answer that is not right yet; a notebook shows the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


def number(answer, name: str) -> float:
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise Wrong(f"{name} is {answer!r}; expected a number") from None


def effects(study: Study) -> pd.DataFrame:
    """The study's table of effects; without one, the line says what makes it."""
    path = study.folder / "effects.parquet"
    if not path.exists():
        raise StudyError(f"{path}: not there; run `make study STUDY={study.path}` first")
    return pd.read_parquet(path)


def own_study(study: Study, name: str, entries: dict, steps: int = 24, **changes) -> Study:
    """A small study of your own: the smallest encoder of `study`, one seed, few steps.

    `entries` are tasks beside those of the catalogue; their files lie in its folder.
    """
    folder = study.outputs / "exercises" / name
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = yaml.safe_load((study.path.parent / study.catalogue).read_text(encoding="utf-8"))
    raw = yaml.safe_load(study.path.read_text(encoding="utf-8"))
    size = next(iter(raw["sizes"]))
    phase = raw["phases"]["target"] | {"steps": steps, "evaluations": 1}
    raw |= {"name": name, "catalogue": "tasks.yaml", "seeds": [1]}
    raw |= {"sizes": {size: raw["sizes"][size]}, "overrides": [], "intermediate": [NONE]}
    raw |= {"phases": {"intermediate": phase, "target": phase}, "keep_models": False, **changes}
    for task, entry in entries.items():
        catalogue["tasks"][task] = entry
        if "files" in entry:  # the whole path, for data_dir holds the files of `study`
            absolute = {"files": f"{folder.resolve()}/{entry['files']}"}
            catalogue["tasks"][task] = {**entry, **absolute}
    for file, content in (("tasks.yaml", catalogue), ("study.yaml", raw)):
        (folder / file).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Study.load(folder / "study.yaml", folder.parent)


def write_tsv(study_folder: Path, name: str, rows: list[dict] | pd.DataFrame) -> None:
    study_folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(study_folder / name, sep="\t", index=False)


def gain(study: Study, answer) -> None:
    task, size = next(t for t in study.intermediate if t != NONE), list(study.sizes)[-1]
    rows = effects(study).query("quantity == 'gain' and language == 'zero-shot'")
    rows = rows[(rows["size"] == size) & (rows["intermediate"] == task)]
    right = float(rows[rows["target"] == study.targets[0].task]["estimate"].iloc[0])
    given = number(answer, "gain")
    if abs(given + right) < 0.5 <= abs(given - right):
        raise Wrong("the sign is the other way: right of the line, the task helps")
    expect(
        abs(given - right) < 0.5, f"{given} is {abs(given - right):.1f} points off; hover a mark"
    )
    print(f"Right: {task} brings {right:+.1f} points at {size}.")


def price(function, tokenizer) -> None:
    for text in ("The dogs sleep.", "nobody knew"):
        expected = len(tokenizer.tokenize(text)) / len(text.split())
        given = number(function(tokenizer, text), f"price of {text!r}")
        expect(
            abs(given - expected) < 1e-6,
            f"{text!r} costs {expected:.2f} tokens a word, not {given:.2f}",
        )
    print("Right.")


def best_layer(study: Study, size: str, answer) -> None:
    encoder, tokenizer = encoders.load(study.encoder_folder(size))
    sentences = evaluation.parallel_sentences(study, study.targets[0].task, 100)
    pooling = study.sizes[size].pooling
    vectors = {k: encoders.embed(encoder, tokenizer, v, pooling) for k, v in sentences.items()}
    means = evaluation.retrieval(vectors).groupby("layer")["accuracy"].mean()
    given = number(answer, "best_layer")
    expect(given in means.index, f"there is no layer {given:g}; expected 0 to {means.index.max()}")
    expect(
        means[given] >= means.max() - 0.5,
        f"layer {given:g} finds {means[given]:.1f} %, another layer {means.max():.1f} %",
    )
    print(f"Right: {means[given]:.1f} % of translations are found there.")


def cross_entropy(function) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    for scale, hint in ((1, ""), (500, "; large logits overflow exp: take the largest away first")):
        given = number(function(scale * logits, labels), "the loss")
        right = float(functional.cross_entropy(scale * logits, labels))
        if math.isclose(given, len(labels) * right, rel_tol=1e-4):
            hint = "; that is the sum over items, take their mean"
        expect(
            math.isclose(given, right, rel_tol=1e-4, abs_tol=1e-5),
            f"found {given:.4f}, expected {right:.4f}{hint}",
        )
    print("Right: it is what the trainer computes.")


def transfer_gap(function) -> None:
    rows = [("en", 1.0)] * 8 + [("de", 1.0)] * 3 + [("de", 0.0)] + [("sw", 0.0)] * 12
    table = pd.DataFrame(rows, columns=["language", "credit"]).assign(out_of=1.0)
    given = number(function(table), "the gap")
    hints = {37.5: "", 87.5 - 6.25: "the mean runs over languages, not over items"}
    hints |= {100 - 175 / 3: "English is no zero-shot language", 0.625: "points run to 100"}
    near = min(hints, key=lambda value: abs(value - given))
    hint = hints[near] if abs(near - given) < 0.5 else "English minus the mean of the others"
    expect(abs(given - 62.5) < 0.01, f"found {given:.2f}, expected 62.50: {hint}")
    print("Right.")


def not_zero_shot(study: Study, target: str, still_zero_shot) -> None:
    trained_in, languages = study.tasks[target].trained_in, study.languages(target)
    expect("en" in trained_in, "English should still give labels")
    expect("de" in trained_in, "German gives no labels yet: who is listed in trained_in?")
    expect(
        isinstance(still_zero_shot, (list, tuple, set)),
        f"still_zero_shot is {still_zero_shot!r}; expected a list of language codes",
    )
    others = {language for language in languages if language not in trained_in}
    expect({*still_zero_shot} == others, f"{still_zero_shot} is not it: who gave no labels?")
    print(f"Right: {', '.join(sorted(others))}: still zero-shot. German's score is not.")


def task_from_tsv(study: Study, file: str, entry: dict) -> None:
    try:
        own = own_study(study, "tsv", {"mine": entry}, targets=["mine"])
        rows = data.read(own.tasks["mine"], "test", "en", prepared.data_dir(own))
    except StudyError as error:
        raise Wrong(str(error)) from None
    lines = pd.read_csv(own.folder / file, sep="\t")
    expect(len(rows) == len(lines), f"found {len(rows)} items, the file has {len(lines)}")
    named = [own.tasks["mine"].labels[row["label"]] for row in rows]
    wanted = lines["gold"].map({"yes": "entailment", "maybe": "neutral", "no": "contradiction"})
    expect(named == list(wanted), f"labels read as {named}; expected {list(wanted)}")
    print("Right:", len(rows), "items, labels by name.")


def own_task(study: Study, make) -> list[dict]:
    """Check a generator of pairs; returns what it made."""
    rows = make(300, 1)
    expect(bool(rows), "make returned nothing")
    columns = {"text_a", "text_b", "label"}
    expect(
        all(columns <= row.keys() for row in rows), f"every row needs {', '.join(sorted(columns))}"
    )
    expect(len(rows) == 300, f"found {len(rows)} rows, expected 300")
    shares = pd.Series([row["label"] for row in rows]).value_counts(normalize=True)
    expect(len(shares) == 2, f"found labels {list(shares.index)}, expected two")
    expect(
        shares.max() < 0.65, f"'{shares.idxmax()}' has {100 * shares.max():.0f} %: a constant wins"
    )
    expect(make(300, 1) == rows, "the same seed should make the same rows")
    pairs = {(row["text_a"], row["text_b"]) for row in rows}
    expect(len(pairs) > 150, f"only {len(pairs)} different pairs; vary the words")
    for target in study.targets:
        entry = study.tasks[target.task]
        items = data.examples(study, entry.name, entry.evaluate, study.languages(entry.name)[0])
        tested = {tuple(tasks.of(entry).texts(item)[:2]) for item in items}
        expect(not pairs & tested, f"an item of {entry.name}'s test set is among them")
    print("Right: a task to train on.")
    return rows


def seeds(function) -> None:
    for sd, half in ((1.0, 1.0), (2.0, 1.0), (1.5, 0.5)):
        right = math.ceil(2 * (1.96 * sd / half) ** 2)
        given = number(function(sd, half), f"seeds({sd}, {half})")
        hint = (
            "a gain is a difference of two means"
            if given in (right // 2, math.ceil(right / 2))
            else "1.96 standard errors"
        )
        expect(given == right, f"found {given:g} for sd {sd} and ±{half}; expected {right}: {hint}")
    print("Right.")


def ece(function) -> None:
    sure, right = np.array([0.95, 0.91, 1.0, 0.55]), np.array([1.0, 0.0, 0.0, 1.0])
    high, low = (0.95 + 0.91 + 1.0 - 1.0) / 3, 0.45  # by how much a bin's sureness is off
    given, expected = number(function(sure, right), "ECE"), (3 * high + low) / 4
    mistakes = {
        (high + low) / 2: "weight each bin by its items",
        (2 * 0.43 + low) / 4: "the highest bin has those of sureness 1 too",
        (2 * 0.43 + low) / 3: "the highest bin has those of sureness 1 too",
        float(np.abs(sure - right).mean()): "take the difference of means in a bin, not of items",
        (3 * high - low) / 4: "take the difference without its sign",
    }
    why = next((why for x, why in mistakes.items() if abs(given - x) < 1e-6), "see the text")
    expect(abs(given - expected) < 1e-6, f"found {given:.4f}, expected {expected:.4f}: {why}")
    print("Right.")
