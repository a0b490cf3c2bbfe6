"""Checkers of the exercises: each says in one line what is wrong, or that it is right."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch.nn import functional

from helpers import data, encoders, evaluation, formats, training
from helpers.study import LONGER, NONE, Condition, Study, StudyError


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
    return pd.read_parquet(path).query("analysis == 'all runs'")


def small_study(
    study: Study, name: str, entries: dict, steps: int = 24, size: str = "", **changes
) -> Study:
    """A small study beside `study`: one of its encoders (the smallest), one seed, few steps.

    `entries` are tasks beside those of the catalogue; their files lie in the new study's folder.
    `changes` replace keys of the params file.
    """
    folder = study.outputs / "exercises" / name
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = yaml.safe_load((study.path.parent / study.catalogue).read_text(encoding="utf-8"))
    raw = yaml.safe_load(study.path.read_text(encoding="utf-8"))
    size = size or next(iter(raw["sizes"]))
    phase = dict(raw["phases"]["target"])
    for override in raw.get("overrides", []):
        fits = override.get("size") in (None, size) and override.get("phase") in (None, "target")
        if fits and "task" not in override:
            phase |= override["set"]
    phase |= {"steps": steps, "evaluations": 1}
    raw |= {"name": name, "catalogue": "tasks.yaml", "seeds": [1]}
    raw |= {"sizes": {size: raw["sizes"][size]}, "overrides": [], "intermediate": [NONE]}
    raw |= {"phases": {"intermediate": phase, "target": phase}, "keep_models": False, **changes}
    for task, entry in entries.items():
        catalogue["tasks"][task] = dict(entry)
        if "files" in entry:  # the whole path, for data_dir holds the files of `study`
            catalogue["tasks"][task]["files"] = f"{folder.resolve()}/{entry['files']}"
    for file, content in (("tasks.yaml", catalogue), ("study.yaml", raw)):
        (folder / file).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Study.load(folder.resolve() / "study.yaml", study.outputs / "exercises")


def prepare(study: Study) -> None:
    """Read the study's data and prepare its encoders, as notebook 1 does."""
    data.prepare(study)
    for size in study.sizes:
        encoders.prepare(study, size, study.encoder_folder(size))


def train(condition: Condition) -> dict[int, dict]:
    """Train the seeds that are not finished, as notebooks 2 and 3 do; returns their results."""
    for attempt in condition.attempts():
        dropout = condition.hyperparameters.dropout
        encoder, tokenizer = encoders.start(condition.home, attempt.start, dropout)
        examples = training.english(condition, tokenizer, attempt.seed)
        trained = training.fine_tune(condition, attempt, encoder, tokenizer, examples)
        predictions = None
        if condition.target is not None:
            predictions = evaluation.predict(trained, evaluation.items(condition, tokenizer))
        evaluation.write(condition, attempt, trained, predictions)
    return evaluation.finished(condition)


def translations(study: Study, count: int) -> dict[str, list]:
    """Sentences of the study's first target by language, each row a translation."""
    name = study.targets[0].task
    return evaluation.parallel_sentences(
        study.data, study.labelled(name), study.languages(name), count
    )


def write_tsv(folder: Path, name: str, rows: list[dict] | pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, sep="\t", index=False)


def gain(study: Study, answer) -> None:
    task, size = next(t for t in study.intermediate if t != NONE), list(study.sizes)[-1]
    rows = effects(study).query("quantity == 'gain' and language == 'zero-shot'")
    rows = rows[(rows["size"] == size) & (rows["intermediate"] == task)]
    right = float(rows[rows["target"] == study.targets[0].task]["estimate"].iloc[0])
    value = number(answer, "gain")
    if abs(value + right) < 0.5 <= abs(value - right):
        raise Wrong("the sign is the other way: right of the line, the task helps")
    expect(
        abs(value - right) < 0.5, f"{value} is {abs(value - right):.1f} points off; hover a mark"
    )
    print(f"Right: {task} brings {right:+.1f} points at {size}.")


def price(function, tokenizer) -> None:
    for text in ("The dogs sleep.", "nobody knew"):
        expected = len(tokenizer.tokenize(text)) / len(text.split())
        value = number(function(tokenizer, text), f"price of {text!r}")
        expect(
            abs(value - expected) < 1e-6,
            f"{text!r} costs {expected:.2f} tokens a word, not {value:.2f}",
        )
    print("Right.")


def best_layer(study: Study, size: str, answer) -> None:
    encoder, tokenizer = encoders.load(study.encoder_folder(size))
    sentences = translations(study, 100)
    pooling = study.sizes[size].pooling
    vectors = {k: encoders.embed(encoder, tokenizer, v, pooling) for k, v in sentences.items()}
    means = evaluation.retrieval(vectors).groupby("layer")["accuracy"].mean()
    value = number(answer, "best_layer")
    expect(value in means.index, f"there is no layer {value:g}; expected 0 to {means.index.max()}")
    expect(
        means[value] >= means.max() - 0.5,
        f"layer {value:g} finds {means[value]:.1f} %, another layer {means.max():.1f} %",
    )
    print(f"Right: {means[value]:.1f} % of translations are found there.")


def cross_entropy(function) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    for scale in (1, 500):
        value = number(function(scale * logits, labels), "the loss")
        right = float(functional.cross_entropy(scale * logits, labels))
        hint = "the mean of −log of the right label's probability"
        if math.isclose(value, len(labels) * right, rel_tol=1e-4):
            hint = "that is the sum over items; take their mean"
        elif math.isinf(value):
            hint = (
                "a very small probability is rounded to 0, which has no logarithm; subtract"
                " logits.logsumexp(dim=1, keepdim=True) from the logits instead of taking a softmax"
            )
        elif math.isnan(value):
            hint = "exp of a large logit is infinite; subtract each row's largest logit first"
        expect(
            math.isclose(value, right, rel_tol=1e-4, abs_tol=1e-5),
            f"for logits up to {scale * logits.max():.0f} the loss is {value:.4f},"
            f" expected {right:.4f}: {hint}",
        )
    print("Right: it is what the trainer computes.")


def transfer_gap(function) -> None:
    rows = [("en", 1.0)] * 8 + [("de", 1.0)] * 3 + [("de", 0.0)] + [("sw", 0.0)] * 12
    table = pd.DataFrame(rows, columns=["language", "credit"]).assign(out_of=1.0)
    value = number(function(table), "the gap")
    hints = {37.5: "", 87.5 - 6.25: "the mean runs over languages, not over items"}
    hints |= {100 - 175 / 3: "English is no zero-shot language", 0.625: "points run to 100"}
    near = min(hints, key=lambda hint: abs(hint - value))
    hint = hints[near] if abs(near - value) < 0.5 else "English minus the mean of the others"
    expect(abs(value - 62.5) < 0.01, f"the gap is {value:.2f}, expected 62.50: {hint}")
    print("Right.")


def not_zero_shot(study: Study, target: str, still_zero_shot) -> None:
    trained_in, languages = study.tasks[target].trained_in, study.languages(target)
    expect("en" in trained_in, "English should still give labels")
    expect("sw" in trained_in, "Swahili gives no labels yet: who is listed in trained_in?")
    expect(
        isinstance(still_zero_shot, (list, tuple, set)),
        f"still_zero_shot is {still_zero_shot!r}; expected a list of language codes",
    )
    others = {language for language in languages if language not in trained_in}
    expect({*still_zero_shot} == others, f"{still_zero_shot} is not it: who gave no labels?")
    print(f"Right: {', '.join(sorted(others))}: still zero-shot. Swahili's score is not.")


def task_from_tsv(study: Study, file: str, entry: dict) -> None:
    """Read the entry's data, and with it what it trains on, as far as the first batch."""
    try:
        changed = small_study(study, "tsv", {"mine": entry}, targets=["mine"], steps=1)
        data.prepare(changed)
        task, size = changed.tasks["mine"], next(iter(changed.sizes))
        rows = data.examples(changed.data, task, "test")
        condition = changed.condition(size, NONE, "mine")
        _, tokenizer = encoders.load(study.encoder_folder(size))
        training.english(condition, tokenizer, 1)
        evaluation.items(condition, tokenizer)
    except StudyError as error:
        raise Wrong(str(error)) from None
    lines = pd.read_csv(changed.folder / file, sep="\t")
    expect(len(rows) == len(lines), f"{len(rows)} items were read; the file has {len(lines)}")
    expect("en" in task.languages, f"its languages are {task.languages}, but its texts are English")
    labels = [task.labels[row["label"]] for row in rows]
    wanted = lines["gold"].map({"yes": "entailment", "maybe": "neutral", "no": "contradiction"})
    expect(labels == list(wanted), f"labels were read as {labels}; expected {list(wanted)}")
    trained_on = ", ".join(changed.train_on("mine"))
    print(f"Right: {len(rows)} items, labels by name, and {trained_on} to train on.")


def own_task(study: Study, make) -> list[dict]:
    """Check a generator of pairs; returns what it made."""
    rows = make(300, 1)
    expect(bool(rows), "make returned nothing")
    columns = {"text_a", "text_b", "label"}
    expect(
        all(columns <= row.keys() for row in rows), f"every row needs {', '.join(sorted(columns))}"
    )
    expect(len(rows) == 300, f"make(300, 1) returned {len(rows)} rows, expected 300")
    shares = pd.Series([row["label"] for row in rows]).value_counts(normalize=True)
    expect(len(shares) == 2, f"the labels are {list(shares.index)}, expected two")
    expect(
        shares.max() < 0.65, f"'{shares.idxmax()}' has {100 * shares.max():.0f} %, expected near 50"
    )
    expect(make(300, 1) == rows, "the same seed should make the same rows")
    pairs = {(row["text_a"], row["text_b"]) for row in rows}
    expect(len(pairs) > 150, f"only {len(pairs)} different pairs; vary the words")
    for target in study.targets:
        entry = study.tasks[target.task]
        items = data.examples(study.data, entry, entry.evaluate, study.languages(entry.name)[0])
        tested = {tuple(formats.of(entry).texts(item)[:2]) for item in items}
        expect(not pairs & tested, f"an item of {entry.name}'s test set is among them")
    print("Right: a task to train on.")
    return rows


def controls(study: Study, intermediate: list, steps: int) -> Study:
    """A small study of the middle size with the task and its two controls."""
    size = list(study.sizes)[len(study.sizes) // 2]
    try:
        small = small_study(study, "placebo", {}, steps, size, intermediate=intermediate)
    except StudyError as error:
        raise Wrong(str(error)) from None
    for name in (NONE, "mini_nli", "placebo-mini_nli", LONGER):
        expect(name in small.intermediate, f"{name} is missing from {small.intermediate}")
    print(f"Right: {', '.join(small.intermediate)}.")
    return small


def seeds(function) -> None:
    for sd, half in ((1.0, 1.0), (2.0, 1.0), (1.5, 0.5)):
        right = math.ceil(2 * (1.96 * sd / half) ** 2)
        value = number(function(sd, half), f"seeds({sd}, {half})")
        hint = (
            "a gain is a difference of two means"
            if value in (right // 2, math.ceil(right / 2))
            else "1.96 standard errors"
        )
        expect(value == right, f"{value:g} for sd {sd} and ±{half}; expected {right}: {hint}")
    print("Right.")


def ece(function) -> None:
    sure, right = np.array([0.95, 0.91, 1.0, 0.55]), np.array([1.0, 0.0, 0.0, 1.0])
    high, low = (0.95 + 0.91 + 1.0 - 1.0) / 3, 0.45  # by how much a bin's sureness is off
    value, expected = number(function(sure, right), "ECE"), (3 * high + low) / 4
    mistakes = {
        (high + low) / 2: "weight each bin by its items",
        (2 * 0.43 + low) / 4: "the highest bin has those of sureness 1 too",
        (2 * 0.43 + low) / 3: "the highest bin has those of sureness 1 too",
        float(np.abs(sure - right).mean()): "take the difference of means in a bin, not of items",
        (3 * high - low) / 4: "take the difference without its sign",
    }
    why = next((why for x, why in mistakes.items() if abs(value - x) < 1e-6), "see the text")
    expect(abs(value - expected) < 1e-6, f"ECE is {value:.4f}, expected {expected:.4f}: {why}")
    print("Right.")
