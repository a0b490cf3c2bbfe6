"""What a gain is held against: the same data again, a placebo, longer training, other weights."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TASKS, change_task, make_task, write_study
from running import prepare, run, train

from helpers import encoders, evaluation, formats, training
from helpers.study import Study, StudyError
from helpers.study.files import read_json
from helpers.training import fine_tuning
from helpers.training.examples import Examples

RECIPE = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 3}
ASKED = ["none", "choices", {"placebo": "choices"}, "longer"]


@pytest.fixture
def study(sources, tmp_path):
    """Makes a study of one size, with its encoder."""

    def make(entries: dict | None = None, **changes) -> Study:
        phases = {"intermediate": {**RECIPE, "steps": 4}, "target": RECIPE}
        changes = {"intermediate": ASKED, "phases": phases, "seeds": [1, 2], **changes}
        path = write_study(tmp_path / "p", sources, **changes)
        for name, entry in (entries or {}).items():
            change_task(path, name, **entry)
        made = Study.load(path, tmp_path / "outputs")
        prepare(made)
        return made

    return make


EXAMPLES = {
    "sentence_pair": [{"id": str(i), "text_a": f"a{i}", "label": i % 3} for i in range(30)],
    "multiple_choice": [{"id": str(i), "context": f"c{i}", "label": i % 2} for i in range(30)],
    "tagging": [{"tokens": ["x"] * (i + 1), "labels": [i % 3] * (i + 1)} for i in range(9)],
    "retrieval": [{"id": str(i), "source": f"s{i}", "target": f"t{i}"} for i in range(30)],
    "span_extraction": [
        {"context": "x" * (i + 5), "answers": {"text": ["x" * (i % 4 + 1)], "answer_start": [i]}}
        for i in range(30)
    ],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_placebo_has_the_texts_and_the_labels_but_not_which_belong_together(name):
    """Each text is there once and each label as often as before; most have changed places."""
    examples = EXAMPLES[name]
    metric = "f1" if name == "span_extraction" else "accuracy"
    entry = make_task(format=name, metric=metric, labels=["x", "y", "z"])
    shuffled = formats.shuffled(entry, examples, 1)
    learned = {"tagging": "labels", "retrieval": "target", "span_extraction": "answers"}
    key = learned.get(name, "label")
    assert [{**one, key: 0} for one in examples] == [{**one, key: 0} for one in shuffled]
    before, after = ([one[key] for one in rows] for rows in (examples, shuffled))
    if name == "span_extraction":  # an answer keeps its length, and its relative position
        for one in shuffled:
            text, start = one["answers"]["text"][0], one["answers"]["answer_start"][0]
            assert one["context"][start : start + len(text)] == text
        starts = {one["answers"]["answer_start"][0] for one in shuffled}
        assert len(starts) > 9 and max(starts) > 20
        before, after = ([len(one["text"][0]) for one in answers] for answers in (before, after))
    assert Counter(np.hstack(before).tolist()) == Counter(np.hstack(after).tolist())
    assert formats.shuffled(entry, examples, 2) != shuffled
    assert sum(a[key] != b[key] for a, b in zip(examples, shuffled, strict=True)) > 4


def test_a_placebo_is_selected_on_true_labels_and_never_counts_as_collapsed(study, monkeypatch):
    made = study()
    real, placebo = made.condition("base", "choices"), made.condition("base", "placebo-choices")
    tokenizer = encoders.start(placebo.home, None, 0.0)[1]
    (one,), (other,) = (training.english(c, tokenizer, 1) for c in (real, placebo))
    assert one.validation["choices"].rows == other.validation["choices"].rows
    items = [part.items["choices"] for part in (one, other)]
    texts, labels = ([[row[k] for row in some] for some in items] for k in ("input_ids", "labels"))
    np.testing.assert_equal(*texts)
    assert labels[0] != labels[1] and sorted(labels[0]) == sorted(labels[1])
    (again,) = training.english(placebo, tokenizer, 2, draw=1)  # the seed shuffles, not the draw
    assert [row["labels"] for row in again.items["choices"]] != labels[1]
    assert placebo.settings != real.settings
    monkeypatch.setattr(fine_tuning, "is_collapsed", lambda *_: True)
    run(placebo, [1])
    assert read_json(placebo.seed_folder(1) / "scores.json")["selection"]["collapsed"] is False


def test_longer_adds_the_mean_steps_of_the_intermediate_trainings_to_the_target(study):
    twelve = {"epochs": 2}  # 24 pairs in batches of four
    override = {"phase": "intermediate", "task": "pairs", "set": twelve}
    made = study(intermediate=[*ASKED, "pairs"], overrides=[override])
    longer, none = (made.condition("base", name, "pairs") for name in ("longer", "none"))
    assert none.steps() == [6]
    assert longer.steps() == [6 + (4 + 12) // 2]  # the placebo does not count
    assert longer.start(1) is None and longer.settings != none.settings
    run(longer, [1])
    log = read_json(longer.seed_folder(1) / "run.json")["log"]
    assert max(line["step"] for line in log) == 14


PREFIX = "0 1 2 3 4 5 6 7 8 9 "
FOUND = {"format": "retrieval", "languages": ["en", "de"], "train_on": [], "labels": []}
FOUND |= {"columns": {"id": "pair", "source": "a", "target": "b"}}


def test_longer_is_not_asked_for_where_the_target_is_not_trained(study):
    made = study({"found": {**TASKS["pairs"], **FOUND}}, targets=["pairs", "found"])
    asked = {run[1:3] for run in made.runs()}
    assert ("longer", "pairs") in asked and ("longer", "found") not in asked
    assert ("placebo-choices", "found") in asked
    with pytest.raises(StudyError, match="found is not trained; 'longer' does not apply"):
        made.condition("base", "longer", "found")


@pytest.fixture
def found(study) -> Study:
    """A study of retrieval, whose smaller encoder reads a prefix."""
    made = study({"found": {**TASKS["pairs"], **FOUND}}, targets=["found"])
    made.sizes["base"] = made.sizes["base"].model_copy(update={"retrieval_prefix": PREFIX})
    return made


def test_retrieval_at_the_layer_that_is_read_is_the_targets_score(found):
    for size, depth in (("base", 1), ("large", 2)):
        condition = found.condition(size, "none", "found")
        run(condition, [1])
        scores = read_json(condition.seed_folder(1) / "scores.json")
        table = pd.DataFrame(scores["layers"]).set_index(["language", "layer", "centred"])
        assert len(table) == 2 * (depth + 1) * 2
        for code, row in scores["languages"].items():
            assert table.loc[(code, depth, False), "accuracy"] == pytest.approx(row["score"])


def test_an_encoders_prefix_stands_before_both_texts_of_a_pair(found):
    condition = found.condition("base", "none", "found")
    tokenizer = encoders.start(condition.home, None, 0.0)[1]
    items = evaluation.items(condition, tokenizer)
    texts = [PREFIX + items.examples[1][side] for side in ("source", "target")]
    assert [ids.tolist() for ids in items.features[1]["input_ids"]] == tokenizer(texts)["input_ids"]


def test_the_catalogue_tells_which_cells_are_the_same_data_again(study):
    mixtures = {"both": {"tasks": ["choices", "pairs"]}}
    made = study(intermediate=["none", "choices", "pairs", "both"], mixtures=mixtures)
    assert made.same_data("pairs") == ["pairs", "both"]
    copied = made.tasks["choices"].model_copy(update={"contains": ["pairs"]})
    made.tasks["choices"] = copied
    assert made.same_data("pairs") == ["choices", "pairs", "both"]


SEEDS = {"intermediate": [1, 2], "target": [1, 3], "draw": [1, 2]}
CROSSED = {"size": "base", "intermediate": "choices", "target": "pairs", "seeds": SEEDS}
UNKNOWN = SEEDS | {"intermediate": [1, 9]}


def test_crossed_seeds_vary_one_thing_at_a_time(study):
    phases = {"intermediate": RECIPE, "target": {**RECIPE, "train_examples": 12}}
    made = study(crossed=CROSSED, phases=phases, intermediate=["none", "choices"])
    run(made.condition("base", "choices"))
    condition = made.condition("base", "choices", "pairs")
    attempts = condition.crossed_attempts()
    assert len(attempts) == 8 and not condition.is_whole()
    tokenizer = encoders.start(condition.home, None, 0.0)[1]

    def drawn(seed, draw):
        (part,) = training.english(condition, tokenizer, seed, draw)
        return sorted(tuple(map(tuple, item["input_ids"])) for item in part.items["pairs"])

    assert drawn(1, 1) == drawn(3, 1) != drawn(1, 2)
    run(condition, condition.chosen(None))  # as notebook 3 does
    assert condition.is_whole()
    record = made.record()["crossed"]
    assert [(r["intermediate_seed"], r["target_seed"], r["draw"]) for r in record] == list(attempts)
    tables = [pd.read_parquet(made.folder / r["folder"] / "predictions.parquet") for r in record]
    assert len({json.dumps(table["probabilities"].map(list).tolist()) for table in tables}) == 8
    own = pd.read_parquet(condition.seed_folder(1) / "predictions.parquet")
    pd.testing.assert_frame_equal(tables[list(attempts).index((1, 1, 1))], own)


def test_last_and_averaged_weights_are_evaluated_beside_the_best(study, monkeypatch):
    """The average is that of the weights at every validation."""
    seen, score = [], Examples.score

    def noting(self, model):
        seen.append({name: w.clone() for name, w in model.state_dict().items()})
        return score(self, model)

    monkeypatch.setattr(Examples, "score", noting)
    condition = study(compare_selections=True).condition("base", "none", "pairs")
    trained = train(condition)
    assert len(seen) == RECIPE["evaluations"]
    for name, last in trained.others["last"].items():
        assert torch.equal(last, seen[-1][name])
        mean = torch.stack([weights[name] for weights in seen]).mean(0)
        assert torch.allclose(trained.others["average"][name], mean, atol=1e-6)
    items = evaluation.items(condition, trained.tokenizer)
    before, others = evaluation.predict(trained, items), evaluation.predict_others(trained, items)
    pd.testing.assert_frame_equal(evaluation.predict(trained, items), before)  # the best again
    run(condition, [1])
    for name, table in others.items():
        kept = pd.read_parquet(condition.seed_folder(1) / f"predictions-{name}.parquet")
        assert np.allclose(*(np.stack(t["probabilities"]) for t in (kept, table)))
    assert train(study().condition("base", "none", "pairs")).others == {}


def test_means_removed_bring_back_translations_that_a_language_moved_away_from():
    """All vectors of a language lie in one place: nearest neighbours are its own hubs."""
    generator = np.random.default_rng(0)
    english = generator.normal(size=(1, 50, 8))
    away = english + 30 * generator.normal(size=8) + 0.1 * generator.normal(size=(1, 50, 8))
    unit = [side / np.linalg.norm(side, axis=2, keepdims=True) for side in (away, english)]
    found = evaluation.nearest(*unit).set_index("centred")["accuracy"]
    assert found[False] + 30 < found[True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crossed": CROSSED | {"seeds": UNKNOWN}}, "crossed.seeds.intermediate: unknown seed '9'"),
        ({"intermediate": ["none", {"placebo": "none"}]}, "unknown task 'none'; expected"),
        ({"intermediate": ["none", {"placebo": "x"}]}, "unknown task 'x'"),
        ({"intermediate": ["none", "longer"]}, "found longer and no task"),
        ({"mixtures": {"longer": {"tasks": ["pairs"]}}}, "'longer' is the name of a control"),
    ],
)
def test_a_control_that_cannot_be_is_refused(study, changes, message):
    with pytest.raises(StudyError, match=message):
        study(**changes)
