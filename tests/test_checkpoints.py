"""A training that is stopped and goes on gives the same bits as one that was never stopped."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from conftest import write_study
from running import predict, prepare, run, train

from helpers import evaluation
from helpers.study import Attempt, Condition, Study
from helpers.study.condition import AGAIN
from helpers.training import Stopped, checkpoints, trainer

STEPS = 18
"""Of each of the two tasks that the target is trained on: three epochs of pairs and six of choices,
in batches of 4.
"""


@pytest.fixture
def condition(sources, tmp_path) -> Condition:
    """A target that is trained on two tasks, one after the other, several epochs each."""
    recipe = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    recipe |= {"evaluations": 5, "train_embeddings": False}
    changes = {
        "targets": [{"task": "pairs", "train_on": ["choices", "pairs"]}],
        "phases": {"intermediate": recipe, "target": recipe},
        "checkpoint_minutes": 1000,
        "precision": "fp32",
    }
    study = Study.load(write_study(tmp_path / "params", sources, **changes), tmp_path / "outputs")
    return prepare(study).condition("base", "none", "pairs")


@pytest.fixture
def signal_after(monkeypatch):
    """Send this process a signal while a step to come runs; ``seen`` counts the steps."""
    seen, plan = [0], {}
    compute = trainer.StageTrainer.compute_loss

    def counting(self, *arguments, **options):
        seen[0] += 1
        if number := plan.get(seen[0]):
            os.kill(os.getpid(), number)
        return compute(self, *arguments, **options)

    monkeypatch.setattr(trainer.StageTrainer, "compute_loss", counting)

    def order(step: int, number: int) -> None:
        plan[seen[0] + step] = number

    order.seen = seen
    return order


def result(trained) -> tuple:
    weights = {name: value.clone() for name, value in trained.model.state_dict().items()}
    scores = [line for line in trained.log if "validation_score" in line]
    return weights, scores, trained.selection


def same(one: tuple, other: tuple) -> bool:
    return one[1:] == other[1:] and all(
        torch.equal(value, other[0][name]) for name, value in one[0].items()
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_step_resumes_to_the_same_bits(condition, signal_after, number):
    """Within an epoch, in two different ones, between the tasks, in the second task, at the end."""
    folder = condition.seed_folder(1) / checkpoints.FOLDER
    whole = result(train(condition))
    assert not folder.exists()
    for stops in ([4], [5, 9], [STEPS], [STEPS + 1, 12], [2 * STEPS]):
        for step in stops:
            signal_after(step, number)
            with pytest.raises(Stopped):
                train(condition)
        assert len(list(folder.glob("stage-*/checkpoint-*"))) == 1
        trained = train(condition)
        assert same(result(trained), whole), stops
        trained.checkpoints.remove()


def test_a_stop_while_a_collapsed_run_is_repeated_loses_nothing_and_mixes_nothing(
    condition, signal_after
):
    again = replace(condition, retry_collapsed=True)
    folder = again.seed_folder(1)
    (attempt,) = again.attempts()
    trained = train(again)
    trained.selection["collapsed"] = True
    evaluation.write(again, attempt, trained, predict(again, trained))
    assert not again.is_complete(1)

    signal_after(4, signal.SIGTERM)
    with pytest.raises(Stopped):
        run(again)
    assert (folder / "retry/.checkpoint/stage-0/checkpoint-4/progress.json").exists()
    before = signal_after.seen[0]
    run(again)
    assert signal_after.seen[0] - before == 2 * STEPS - 4  # only the rest of the repetition
    assert again.is_complete(1) and not list(folder.rglob(checkpoints.FOLDER))
    results = evaluation.finished(again)
    assert list(results) == [1, 1 + AGAIN]
    assert results[1]["selection"]["collapsed"]
    assert results[1 + AGAIN]["repeats"] == 1


def test_checkpoints_come_by_wall_time_and_none_outlives_the_run(condition):
    often = replace(condition, checkpoint_minutes=0.0)
    folder = often.seed_folder(1)
    trained = train(often)
    (newest,) = (folder / checkpoints.FOLDER).glob("stage-*/checkpoint-*")
    assert newest.parent.name == "stage-1" and newest.name == f"checkpoint-{STEPS}"
    attempt = Attempt(1, folder, None)
    evaluation.write(often, attempt, trained, predict(often, trained))
    assert not (folder / checkpoints.FOLDER).exists()


@pytest.fixture
def stopped(condition, signal_after):
    """The checkpoint of a training that was stopped."""
    signal_after(4, signal.SIGTERM)
    with pytest.raises(Stopped):
        train(condition)
    (newest,) = condition.seed_folder(1).glob(".checkpoint/stage-*/checkpoint-*")
    return newest


def test_a_checkpoint_that_is_unfinished_or_of_other_settings_is_never_used(condition, stopped):
    def saved(seed: int):
        settings = {**condition.settings, "seed": seed}
        return checkpoints.Checkpoints(condition.seed_folder(1), settings, 1).saved

    assert saved(seed=1) == stopped and saved(seed=2) is None
    (stopped / "progress.json").unlink()  # as if the process had been killed while it wrote
    assert saved(seed=1) is None


def test_a_checkpoint_holds_no_pickle_that_runs_code(stopped):
    names = {path.name for path in stopped.iterdir()}
    archives = {name for name in names if name.endswith((".pt", ".pth", ".bin", ".pkl"))}
    assert archives == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    torch.load(stopped / "optimizer.pt", weights_only=True)
