"""Phases 2 and 3: what is trained, what it is selected on, and that the same seed gives the same
result.
"""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_study

from helpers import comparison, data, encoders, evaluation, training
from helpers.data import reading
from helpers.encoders import batches as batching
from helpers.encoders import hardware, hidden_states
from helpers.encoders.batches import batches, collate, collate_labels, length
from helpers.encoders.model import EncoderWithHead, predict
from helpers.study import Run, Study
from helpers.study.params import Sweep
from helpers.training.training_set import TrainingSet, Validation


@pytest.fixture(scope="module")
def study(tiny_sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
        patch.delenv("DATA_DIR", raising=False)
        study = Study.load(
            write_study(
                folder / "params",
                tiny_sources,
                overrides=[
                    {
                        "phase": "target",
                        "set": {"steps": 40, "learning_rate": 5e-3, "batch_size": 8},
                    }
                ],
            ),
            folder / "outputs",
        )
        data.prepare(study)
        encoders.prepare(study, "base")
        encoders.prepare(study, "large")
    return study


def test_training_lowers_the_loss_and_fits_what_it_sees(study):
    trained = training.target(study, Run("base", "none", "pairs", 1))
    losses = [line["loss"] for line in trained.log if "loss" in line]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert trained.selection["score"] > trained.selection["majority"] + 20


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others(study):
    def run(seed):
        trained = training.target(study, Run("base", "none", "pairs", seed))
        return evaluation.zero_shot(study, "pairs", trained)

    first, again, other = run(1), run(1), run(2)
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(np.stack(first["probabilities"]), np.stack(other["probabilities"]))


def test_the_weights_that_are_kept_scored_best_on_english_validation(study):
    trained = training.target(study, Run("base", "none", "pairs", 1))
    best = max(line["validation_score"] for line in trained.log if "validation_score" in line)
    assert trained.selection["score"] == best
    task = study.tasks["pairs"]
    rows = data.examples(study, "pairs", "validation")
    validation = Validation(task, rows, trained.tokenizer, 32)
    assert validation.score(trained.model) == pytest.approx(best)


def test_the_encoder_is_handed_on_and_the_head_is_made_anew(study):
    before, _ = encoders.load(study.encoder_folder("base"))
    trained = training.intermediate(study, "base", "choices", 1)
    evaluation.write_intermediate(study, "base", "choices", 1, trained)
    handed, _ = encoders.initial_encoder(study, "base", "choices", 1, 0.0)
    state = trained.model.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in handed.state_dict().items())
    assert any(not torch.equal(value, state[name]) for name, value in before.state_dict().items())
    assert not list(study.encoder_folder("base", "choices", 1).glob("*head*"))


def test_target_language_labels_are_read_in_evaluation_alone(study, monkeypatch):
    asked = []
    read = data.examples
    for module in (data, reading):
        monkeypatch.setattr(module, "examples", lambda *a: asked.append(a[1:]) or read(*a))
    trained = training.target(study, Run("base", "none", "pairs", 1))
    assert asked and all(language == "en" for *_, language in [(*cell, "en")[:3] for cell in asked])
    assert all(split in ("train", "validation") for _, split, *_ in asked)
    evaluation.zero_shot(study, "pairs", trained)
    assert ("pairs", "test", "sw") in asked


def test_a_run_leaves_three_files_that_agree(study):
    run = Run("large", "none", "pairs", 1)
    trained = training.target(study, run)
    predictions = evaluation.zero_shot(study, "pairs", trained)
    result = evaluation.write_run(study, run, trained, predictions)
    kept = pd.read_parquet(study.run_folder(run) / "predictions.parquet")
    assert set(kept.columns) == {
        "language",
        "id",
        "label",
        "prediction",
        "probabilities",
        "credit",
        "out_of",
    }
    for language, rows in kept.groupby("language"):
        right = (rows["label"] == rows["prediction"]).mean()
        assert result["languages"][language]["score"] == pytest.approx(100 * right)
    assert result["zero_shot"] == pytest.approx(
        np.mean([result["languages"][x]["score"] for x in ("de", "sw")])
    )
    assert np.allclose([p.sum() for p in kept["probabilities"]], 1)


def features(lengths, sequences=1):
    return [{"input_ids": [[5] * n] * sequences} for n in lengths]


def test_batches_hold_every_feature_once_within_the_budget():
    some = features([3, 50, 7, 20, 20, 4, 60], sequences=2)
    found = list(batches(some, budget=160))
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert all(2 * len(b) * max(length(some[i]) for i in b) <= 160 for b in found)


def test_a_feature_longer_than_the_budget_is_a_batch_of_its_own():
    assert [0] in list(batches(features([500, 3]), budget=100))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_no_prediction(tiny_sources, pooling):
    encoder, _ = encoders.load(tiny_sources / "encoder")
    model = EncoderWithHead(encoder, "sequence", 3, pooling, 0.0).eval()
    short = {"input_ids": [[0, 7, 9, 2]]}
    with torch.inference_mode():
        alone = model(**collate([short], 1))
        padded = model(**collate([short, {"input_ids": [[0] + [8] * 20 + [2]]}], 1))[:1]
    assert torch.allclose(alone, padded, atol=1e-6)


def run_notebook(name: str, **parameters) -> dict:
    """Run a notebook's code cells in this process; returns the variables that it leaves."""
    cells = nbformat.read(Path("notebooks") / f"{name}.ipynb", 4).cells
    variables: dict = {"display": lambda *_: None}
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables |= parameters
    return variables


def test_a_collapsed_run_is_repeated_once_under_the_next_seed_and_both_are_kept(study, monkeypatch):
    study = study.model_copy(update={"retry_collapsed": True})
    run = Run("base", "none", "pairs", 1)
    monkeypatch.setattr(Study, "load", lambda *_: study)
    monkeypatch.setattr(training, "target", first_collapses(training.target))
    names = dict(zip(("size", "intermediate", "target", "seed"), run, strict=True))
    predictions = run_notebook("3_target", **names)["predictions"]
    runs, stacked, _ = comparison.finished_runs(study)
    here = runs[(runs["size"] == "base") & (runs["intermediate"] == "none")]
    assert here["seed"].tolist() == [1, study.next_seed(1)] and here["collapsed"].tolist() == [
        True,
        False,
    ]
    assert here["repeats"].tolist()[1] == 1
    assert stacked.groupby("seed").size().loc[study.next_seed(1)] == len(predictions)


def test_a_collapsed_intermediate_training_is_repeated_and_the_repetition_is_handed_on(
    study, monkeypatch
):
    study = study.model_copy(update={"retry_collapsed": True})
    monkeypatch.setattr(Study, "load", lambda *_: study)
    monkeypatch.setattr(training, "intermediate", first_collapses(training.intermediate))
    run_notebook("2_intermediate", size="base", task="choices", seed=1)
    folder = study.encoder_folder("base", "choices", 1).parent
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["repeats"]["collapsed"] and not scores["selection"]["collapsed"]
    assert json.loads((folder / "run.json").read_text())["seed"] == study.next_seed(1)
    assert sorted(path.name for path in folder.iterdir()) == ["encoder", "run.json", "scores.json"]


def test_what_follows_a_collapsed_intermediate_training_counts_as_collapsed(study):
    trained = training.intermediate(study, "base", "choices", 1)
    fall(trained.selection)
    evaluation.write_intermediate(study, "base", "choices", 1, trained)
    run = Run("base", "choices", "pairs", 1)
    after = training.target(study, run)
    evaluation.write_run(study, run, after, evaluation.zero_shot(study, "pairs", after))
    runs = comparison.finished_runs(study)[0].set_index(["intermediate", "target"])
    assert runs.loc[("choices", "pairs"), ["collapsed", "collapsed_in"]].tolist() == [
        True,
        "intermediate",
    ]


def first_collapses(train):
    """``train``, of which the first call collapses: the training itself, not its repetition."""
    collapses = iter([True, False])

    def trained(*given):
        made = train(*given)
        if next(collapses):
            fall(made.selection)
        return made

    return trained


def fall(selection: dict) -> None:
    """As if the training had learned nothing."""
    selection |= dict.fromkeys(("score", "last_score"), selection["majority"])


def test_frozen_layers_stay_as_they_were_and_the_others_learn(study):
    frozen = study.model_copy(
        update={
            "phases": {**study.phases, "target": {**study.phases["target"], "frozen_layers": 1}}
        }
    )
    before = encoders.load(study.encoder_folder("large"))[0].state_dict()
    after = training.target(frozen, Run("large", "none", "pairs", 1)).model.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("layer.1." in name for name in changed)


@pytest.mark.parametrize("task", ["pairs", "choices"])
def test_a_batch_in_micro_batches_teaches_what_the_whole_batch_teaches(
    study, monkeypatch, fp32, task
):
    phases = {
        **study.phases,
        "intermediate": {**study.phases["intermediate"], "dropout": 0.0, "batch_size": 8},
    }
    still = study.model_copy(update={"phases": phases})
    whole = training.intermediate(still, "large", task, 1)
    monkeypatch.setitem(batching.TRAINING_BUDGET, "cpu", 64)
    parts, cut_up = [], TrainingSet.micro_batches

    def noted(*given):
        parts.append(cut_up(*given))
        return parts[-1]

    monkeypatch.setattr(TrainingSet, "micro_batches", noted)
    cut = training.intermediate(still, "large", task, 1)
    assert (
        max(map(len, parts)) > 2
    )  # the batches were cut, and each micro-batch was within the budget
    assert max(part["input_ids"].numel() for batch in parts for part in batch) <= 64
    losses = [[line["loss"] for line in trained.log if "loss" in line] for trained in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    state = cut.model.state_dict()
    for name, value in whole.model.state_dict().items():
        if (
            name != "head.output.1.bias"
        ):  # the same for every choice: its gradient is nothing but rounding
            assert torch.allclose(value, state[name], atol=1e-4), name


MEANS = ("examples", "tokens", "sequences")


def test_a_micro_batch_counts_by_its_labels(monkeypatch):
    """Where words carry the labels, a micro-batch with more of them weighs more: the loss is the
    batch's mean over words.
    """
    marks = [[-100, 0, 1, 2, -100], [-100, 1, -100], [-100, -100, -100]]
    items = [{"input_ids": [[5] * len(m)], "labels": [m], "length": len(m)} for m in marks]
    logits = torch.randn(3, 5, 3)

    def mean(rows):
        return torch.nn.functional.cross_entropy(logits[rows].flatten(0, 1), whole[rows].flatten())

    whole = collate_labels(items)
    monkeypatch.setitem(batching.TRAINING_BUDGET, "cpu", 1)
    given = TrainingSet("words", items, {}, 1, **dict.fromkeys(MEANS, 1), lengths=[5, 3, 3])
    parts = given.micro_batches(items)
    assert [part["share"] for part in parts] == [0.75, 0.25]  # what carries no label is left out
    assert sum(part["share"] * mean([i]) for i, part in enumerate(parts)) == pytest.approx(
        mean([0, 1, 2])
    )


def test_a_text_that_occurs_twice_runs_once_and_gets_the_same_answer(study):
    """Within a language, across languages and splits; without a copy, batches are as they were."""
    encoder, _ = encoders.load(study.encoder_folder("large"))
    head = EncoderWithHead(encoder, "sequence", 3, "mean", 0.0)
    rows = [[0, 7, 2], [0, 8, 9, 2], [0, 7, 2], [0, 6, 2], [0, 8, 9, 2], [0, 7, 2]]
    some, ran = [{"input_ids": [ids]} for ids in rows], []
    head.register_forward_hook(lambda *given: ran.append(len(given[-1])))
    told: list[int] = []
    found = predict(head, some, 1, told.append)
    assert sum(ran) == 3 and sum(told) == 6
    for ids, one in zip(rows, found, strict=True):
        assert np.array_equal(one, found[rows.index(ids)])
        assert np.allclose(one, predict(head, [{"input_ids": [ids]}], 1)[0], atol=1e-6)
    assert (head.asked, head.spared) == (2 * (20 + sum(map(len, rows))), 2 * (3 + 4 + 3))


def test_the_sides_of_a_pair_run_once_each_and_no_layer_above_the_one_that_is_read(study):
    encoder, _ = encoders.load(study.encoder_folder("large"))
    head = EncoderWithHead(encoder, "vector", 0, "mean", 0.0, layer=1)
    pairs = [[[0, 7, 2], [0, 8, 9, 2]], [[0, 6, 2], [0, 8, 9, 2]]]
    encoder.encoder.layer[1].register_forward_hook(lambda *_: pytest.fail("a layer too many"))
    found = predict(head, [{"input_ids": pair} for pair in pairs], 1)
    assert [one.shape for one in found] == [(2, 16)] * 2
    assert np.array_equal(found[0][1], found[1][1])
    assert (head.asked, head.spared) == (2 * 14, 10 + 2 * 4)


def test_states_of_frozen_layers_are_computed_once_and_change_nothing(
    study, tiny_sources, monkeypatch
):
    """With the states that the encoder's phase kept, and without, a run gives the same losses and
    predictions.
    """
    target = {**study.phases["target"], "frozen_layers": 1, "dropout": 0.1}
    intermediate = {**study.phases["intermediate"], "frozen_layers": 1}
    once = study.model_copy(
        update={
            "name": "frozen",
            "phases": {**study.phases, "target": target, "intermediate": intermediate},
        }
    )
    monkeypatch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
    data.prepare(once)
    encoders.prepare(once, "large")
    middle = training.intermediate(once, "large", "choices", 1)
    evaluation.write_intermediate(once, "large", "choices", 1, middle)
    for before in ("choices", "none"):  # the intermediate training froze the same layer
        run = Run("large", before, "pairs", 1)
        known = training.target(once, run)
        assert known.model.cached_states.depth == 1
        predictions = evaluation.zero_shot(once, "pairs", known)
        layers = known.notes["prediction"]
        assert 2 * layers["not computed"] >= layers["token layers"]  # one of two, and copies
    below = known.model.encoder.encoder.layer[0]
    with monkeypatch.context() as patch:
        patch.setattr(
            below, "forward", lambda *_, **__: pytest.fail("a frozen layer was computed again")
        )
        evaluation.zero_shot(once, "pairs", known)
    (once.encoder_folder("large") / hidden_states.FILE).unlink()
    anew, again = training.target(once, run), training.intermediate(once, "large", "choices", 1)
    assert anew.model.cached_states is None
    for without, cached in ((anew, known), (again, middle)):
        assert without.flops > cached.flops  # the frozen layer's forward pass
        assert [line["loss"] for line in without.log if "loss" in line] == pytest.approx(
            [line["loss"] for line in cached.log if "loss" in line], abs=1e-5
        )
    other = evaluation.zero_shot(once, "pairs", anew)
    assert np.allclose(
        np.stack(predictions["probabilities"]), np.stack(other["probabilities"]), atol=1e-5
    )


def test_without_room_for_all_states_those_of_the_evaluated_texts_are_kept(
    study, tiny_sources, monkeypatch
):
    """What is trained on is then computed by every run, with the same losses. The intermediate
    tasks' texts are the first to go.
    """
    monkeypatch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
    phases = {name: {**phase, "frozen_layers": 1} for name, phase in study.phases.items()}
    frozen = study.model_copy(update={"name": "room", "phases": phases})
    data.prepare(frozen)
    tokenizer = encoders.load(study.encoder_folder("large"))[1]
    room, sizes = 2**31, []
    while found := hidden_states._sequences(frozen, "large", tokenizer, room):
        sizes.append(sum(map(len, found)))
        room = sizes[-1] - 1
    whole, targets, read = sizes
    kept, losses = [], []
    for limit in (4 * 16 * whole, 4 * 16 * targets, 4 * 16 * read, 64):
        monkeypatch.setattr(hidden_states, "LIMIT", limit)
        notes = encoders.prepare(frozen, "large")["notes"]
        trained = training.target(frozen, Run("large", "none", "pairs", 1))
        losses.append([line["loss"] for line in trained.log if "loss" in line])
        evaluation.zero_shot(frozen, "pairs", trained)
        kept.append((len(notes), trained.notes["prediction"]["not computed"] > 0))
    assert kept == [(0, True), (0, True), (0, True), (1, False)]
    assert all(found == pytest.approx(losses[0], abs=1e-5) for found in losses)


def test_states_are_kept_of_the_examples_that_a_seed_draws(study, tiny_sources, monkeypatch):
    """An example that no seed of the study or its sweep draws is not computed."""
    monkeypatch.setenv("HUB_MIRROR", str(tiny_sources / "hub"))
    few = {"frozen_layers": 1, "train_examples": 2}
    phases = {name: {**phase, **few} for name, phase in study.phases.items()}
    changes = {"name": "drawn", "phases": phases, "seeds": [1, 2]}
    frozen = study.model_copy(
        update=changes | {"sweep": Sweep(learning_rates=[1e-3, 1e-2], seeds=[7])}
    )
    data.prepare(frozen)
    tokenizer = encoders.load(study.encoder_folder("large"))[1]
    kept = set(hidden_states._sequences(frozen, "large", tokenizer, 2**31))
    for phase, name in (("target", "pairs"), ("intermediate", "choices")):
        settings = frozen.hyperparameters(phase, "large", name)

        def texts(rows, name=name, length=settings.max_length):
            features = data.tokenise(data.labelled(frozen, name), rows, tokenizer, length)
            return {tuple(ids) for feature in features for ids in feature["input_ids"]}

        drawn = [row for seed in (1, 2, 7) for row in data.drawn(frozen, name, settings, seed)]
        assert texts(drawn) <= kept
        assert texts(data.trained_on(frozen, name, "train")) - kept


def test_long_sequences_use_the_attention_that_is_faster_for_them(tiny_sources, monkeypatch):
    """Either attention gives the same logits; which one is in use follows the length."""
    encoder, _ = encoders.load(tiny_sources / "encoder")
    head = EncoderWithHead(encoder, "sequence", 3, "mean", 0.0).eval()
    batch = collate([{"input_ids": [[0, *[8] * 18, 2]]}, {"input_ids": [[0, 9, 2]]}], 1)
    found = {}
    for crossover in (21, 20):
        monkeypatch.setattr(hardware, "CROSSOVER", crossover)
        found[crossover] = head(**batch)
        assert encoder.config._attn_implementation == ("sdpa" if crossover == 20 else "eager")
    assert torch.allclose(found[21], found[20], atol=1e-6)
