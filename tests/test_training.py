"""Phases 2 and 3: what is trained, what it is selected on, and that the same seed gives the same
result.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused, write_study
from running import predict, prepare, run, run_notebook, train

from helpers import data, encoders, evaluation, training
from helpers.data import reading
from helpers.encoders import EncoderModel, families
from helpers.encoders import batches as batching
from helpers.study import Attempt, Condition, Study
from helpers.study.condition import AGAIN
from helpers.training import fine_tuning
from helpers.training.checkpoints import Checkpoints
from helpers.training.trainer import StageTrainer


def changed(condition: Condition, **values) -> Condition:
    """A condition with other hyperparameters."""
    new = condition.hyperparameters.model_copy(update=values)
    return replace(condition, hyperparameters=new)


def losses(trained: training.Training) -> list[float]:
    return [line["loss"] for line in trained.log if "loss" in line]


@pytest.fixture(scope="module")
def study(tiny_sources, tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("training")
    longer = {"steps": 40, "learning_rate": 5e-3, "batch_size": 8}
    changes = {"overrides": [{"phase": "target", "set": longer}], "precision": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
        patch.delenv("DATA_DIR", raising=False)
        path = write_study(folder / "params", tiny_sources, **changes)
        return prepare(Study.load(path, folder / "outputs"))


@pytest.fixture
def target(study) -> Condition:
    return study.condition("base", "none", "pairs")


def test_training_learns_and_keeps_the_weights_that_score_best_on_english_validation(
    target, monkeypatch
):
    judged = []
    monkeypatch.setattr(fine_tuning, "is_collapsed", lambda score, _: judged.append(score))
    trained = train(target, 2)  # its last weights are not the best
    assert np.mean(losses(trained)[-3:]) < 0.8 * np.mean(losses(trained)[:3])
    assert trained.selection["score"] > trained.selection["majority"] + 20
    scores = [line["validation_score"] for line in trained.log if "validation_score" in line]
    (examples,) = training.english(target, trained.tokenizer, 2)
    assert trained.selection["score"] == max(scores) == pytest.approx(examples.score(trained.model))
    assert trained.selection["last_score"] == scores[-1]
    assert judged == [(max(scores) + scores[-1]) / 2]


def test_the_rate_warms_up_and_falls_to_zero_and_biases_do_not_decay(target, monkeypatch):
    seen, compute = [], StageTrainer.compute_loss

    def noting(self, *arguments, **options):
        seen.append([(group["lr"], group["weight_decay"]) for group in self.optimizer.param_groups])
        return compute(self, *arguments, **options)

    monkeypatch.setattr(StageTrainer, "compute_loss", noting)
    values = {"steps": 8, "warmup": 0.25, "learning_rate": 6e-3, "weight_decay": 0.1}
    trained = train(changed(target, **values, evaluations=3))
    assert [weights[0] for weights, _ in seen] == pytest.approx(np.r_[0, 3, 6:0:-1] / 1000)
    assert [decay for _, decay in seen[0]] == [0.1, 0.0]
    steps = [line["step"] for line in trained.log if "validation_score" in line]
    assert steps == [3, 6, 8]  # of three parts, and at the end


def test_the_head_is_kept_while_the_next_tasks_outputs_mean_the_same(study, target):
    """Choices are told apart by their place, so a task's names for them say nothing."""
    for condition, is_kept in ((target, False), (study.condition("base", "choices"), True)):
        (stage,), (encoder, _) = condition.stages, encoders.start(condition.home, None, 0.0)
        (task,) = stage.tasks.values()
        turned = task.model_copy(update={"labels": task.labels[::-1]})
        other = replace(stage, tasks={task.name: turned})
        model = training.build(changed(condition, train_embeddings=False), stage, encoder)
        assert not families.words(model.encoder).requires_grad
        assert model.head.output[0].p == condition.hyperparameters.dropout > 0
        assert training.build(condition, stage, encoder, model) is model
        assert (training.build(condition, other, encoder, model) is model) == is_kept


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others(target):
    first, again, other = (predict(target, train(target, seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(np.stack(first["probabilities"]), np.stack(other["probabilities"]))


def test_a_seed_decides_the_head_and_the_order_and_not_what_models_are_selected_on(target):
    still = changed(target, learning_rate=0.0, steps=1)
    heads = [train(still, seed).model.head.output[1].weight for seed in (1, 2)]
    assert not torch.equal(*heads)
    few, tokenizer = changed(target, validation_examples=5), encoders.load(target.home)[1]
    one, other = (training.english(few, tokenizer, seed)[0] for seed in (1, 2))
    assert one.validation["pairs"].rows == other.validation["pairs"].rows
    orders = [np.concatenate([numbers for _, numbers in each.plan]) for each in (one, other)]
    assert (orders[0] != orders[1]).any()
    epochs = orders[0][: 13 * 24].reshape(13, 24)  # each takes every item once, in a new order
    assert (np.sort(epochs) == np.arange(24)).all() and len(np.unique(epochs, axis=0)) == 13


def test_target_language_labels_are_read_in_evaluation_alone(target, monkeypatch):
    read, cells = data.examples, []

    def noted(folder, task, split, language="en"):
        cells.append((task.name, split, language))
        return read(folder, task, split, language)

    for module in (data, reading):
        monkeypatch.setattr(module, "examples", noted)
    trained = train(target)
    assert cells and all(language == "en" for *_, language in cells)
    assert all(split in ("train", "validation") for _, split, _ in cells)
    items = evaluation.items(target, trained.tokenizer)
    assert ("pairs", "test", "sw") in cells
    assert evaluation.predict(trained, items)["id"].iloc[-1] == "223"
    apart = replace(items, task=items.task.model_copy(update={"parallel": False}))
    assert evaluation.predict(trained, apart)["id"].iloc[-1] == "sw/223"


def test_a_run_leaves_three_files_that_agree(study):
    condition = study.condition("large", "none", "pairs")
    run(condition)
    folder = condition.seed_folder(1)
    kept = pd.read_parquet(folder / "predictions.parquet")
    scores = json.loads((folder / "scores.json").read_text())
    for language, rows in kept.groupby("language"):
        right = (rows["label"] == rows["prediction"]).mean()
        assert scores["languages"][language]["score"] == pytest.approx(100 * right)
    assert np.allclose([p.sum() for p in kept["probabilities"]], 1)
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"] == condition.settings and record["cpu_seconds"] > 0
    assert record["hardware"]["processor"] and record["peak_memory_bytes"] > 10**7


def test_the_zero_shot_mean_leaves_out_the_languages_of_the_training_data(target, tmp_path):
    condition = replace(target, trained_in=["sw"])
    rows = [("en", 1.0), ("de", 0.5), ("sw", 0.0)]
    table = pd.DataFrame(rows, columns=["language", "credit"]).assign(out_of=1.0)
    table["exact_match"] = table["credit"]
    attempt = Attempt(1, tmp_path, None)
    trained = training.Training(None, None, checkpoints=Checkpoints(tmp_path, {}, 1))
    scores = evaluation.write(condition, attempt, trained, table)
    assert scores["zero_shot"] == pytest.approx(75.0)
    assert scores["languages"]["de"]["exact_match"] == 50.0
    with pytest.raises(AttributeError):  # half of the results is written
        evaluation.write(condition, attempt, trained, table, {"last": None})
    assert not (tmp_path / "scores.json").exists()


@pytest.fixture
def collapse(study, monkeypatch):
    """The first training collapses; the study says that it is then repeated."""
    monkeypatch.setattr(Study, "load", lambda *_: study.model_copy(update={"retry_collapsed": 1}))
    collapses = iter([True, False])
    monkeypatch.setattr(fine_tuning, "is_collapsed", lambda *_: next(collapses))


def test_a_collapsed_run_is_repeated_once_under_another_seed_and_both_are_kept(target, collapse):
    run_notebook("3_target", size="base", intermediate="none", target="pairs", join=True)
    results = evaluation.finished(target)
    assert [result["selection"]["collapsed"] for result in results.values()] == [True, False]
    assert list(results) == [1, 1 + AGAIN]


def test_the_repetition_of_a_collapsed_intermediate_training_is_handed_on(study, collapse):
    folder = study.condition("base", "choices").seed_folder(1)
    places = ("seed-1", "crossed/intermediate-1-target-2-draw-1", "seed-2")
    built_on = [folder.parent / "pairs" / place / "scores.json" for place in places]
    for file in built_on:  # all but the last are of the encoder that goes
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    run_notebook("2_intermediate", size="base", task="choices", join=True, again=True)
    assert [file.exists() for file in built_on] == [False, False, True]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["repeats"]["collapsed"] and not scores["selection"]["collapsed"]
    assert json.loads((folder / "run.json").read_text())["seed"] != 1
    assert sorted(path.name for path in folder.iterdir()) == ["encoder", "run.json", "scores.json"]


def test_a_target_starts_only_from_an_encoder_of_the_present_settings(study):
    condition = study.condition("base", "choices", "pairs")
    other = replace(condition, before=changed(condition.before, learning_rate=0.1))
    with refused("choices/seed-1: found no results of the study's present settings; run "):
        next(other.attempts())


@pytest.mark.parametrize("names", [("none", "pairs"), ("choices",)])
def test_a_batch_in_micro_batches_teaches_what_the_whole_batch_teaches(study, monkeypatch, names):
    condition = study.condition("large", *names)
    condition = changed(condition, dropout=0.0, batch_size=8, steps=4, epochs=None)
    whole = train(condition)
    several = train(changed(condition, gradient_accumulation=3))  # a step counts their mean
    assert losses(several)[0] == pytest.approx(losses(whole)[0], rel=0.3)
    monkeypatch.setitem(batching.TRAINING_BUDGET, "cpu", 64)
    cut = train(condition)
    assert losses(whole) == pytest.approx(losses(cut), abs=1e-5)
    state = cut.model.state_dict()
    for name, value in whole.model.state_dict().items():
        # The bias is the same for every choice: its gradient is nothing but rounding.
        if name != "head.output.1.bias":
            assert torch.allclose(value, state[name], atol=1e-4), name


def test_a_micro_batch_counts_by_its_labels(target):
    """Where words carry the labels, a micro-batch with more of them weighs more."""
    tokenizer = encoders.load(target.home)[1]
    (examples,) = training.english(target, tokenizer, 1)
    marks = [[-100, 0, 1, 2, -100], [-100, 1, -100], [-100, -100, -100]]
    items = [{"input_ids": [[5] * len(m)], "labels": [m], "length": len(m)} for m in marks]
    parts = training.training_parts(examples, {"component": "pairs", "batch": items}, 1)
    assert [part["share"] for part in parts] == [0.75, 0.25]  # what carries no label is left out


def test_where_memory_runs_out_the_step_is_done_again_in_smaller_parts(study, monkeypatch):
    """The error is made up: more than one item at once, or any without gradient checkpointing."""
    condition = changed(study.condition("large", "choices"), batch_size=8, dropout=0.0)
    whole, most = train(condition), 2  # an item has two choices
    forward = EncoderModel.forward

    def limited(self, input_ids, attention_mask, **more):
        is_whole = not self.encoder.is_gradient_checkpointing
        if self.training and (len(input_ids) > most or is_whole):
            raise torch.OutOfMemoryError("made up")
        return forward(self, input_ids, attention_mask, **more)

    monkeypatch.setattr(EncoderModel, "forward", limited)
    small = train(condition)
    assert losses(whole) == pytest.approx(losses(small), abs=1e-5)
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        train(condition)


def test_frozen_states_are_computed_once_and_change_nothing(study, tiny_sources, monkeypatch):
    """With the states that the encoder's phase kept, and without, a run gives the same losses and
    predictions.
    """
    monkeypatch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
    phases = {name: {**phase, "frozen_layers": 1} for name, phase in study.phases.items()}
    frozen = prepare(study.model_copy(update={"name": "frozen", "phases": phases}))
    run(frozen.condition("large", "choices"))
    for before in ("choices", "none"):  # the intermediate training froze the same layer
        condition = frozen.condition("large", before, "pairs")
        known = train(condition)
        assert known.model.cached_states.depth == 1
        predictions = predict(condition, known)
    encoder, _ = encoders.start(condition.home, None, 0.0)
    assert encoders.frozen_states(condition.home, encoder, 0) is None  # the layer is trained
    torch.nn.init.zeros_(families.words(encoder))
    assert encoders.frozen_states(condition.home, encoder, 1) is None  # it was trained before
    (states,) = condition.home.glob("frozen*")
    states.unlink()
    anew = train(condition)
    assert anew.model.cached_states is None
    assert losses(anew) == pytest.approx(losses(known), abs=1e-5)
    pairs = [np.stack(table["probabilities"]) for table in (predictions, predict(condition, anew))]
    assert np.allclose(*pairs, atol=1e-5)


@pytest.mark.parametrize(
    ("score", "majority", "collapsed"),
    [(33.0, 33.3, True), (39.9, 33.3, True), (40.1, 33.3, False), (94.5, 94.0, True)],
)
def test_a_training_collapsed_if_it_hardly_beats_a_constant(score, majority, collapsed):
    assert fine_tuning.is_collapsed(score, majority) is collapsed
