"""A training that is stopped and goes on gives the same bits as one that was never stopped."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from running import predict, prepare, run, train

from helpers import evaluation
from helpers.study import Condition
from helpers.study.condition import AGAIN
from helpers.training import Stopped, checkpoints, trainer

STEPS = 18
"""Of each of the target's two tasks: three epochs of pairs, six of choices, in batches of 4."""


@pytest.fixture
def condition(load) -> Condition:
    """A target that is trained on two tasks, one after the other, several epochs each."""
    recipe = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32}
    recipe |= {"evaluations": 5, "train_embeddings": False}
    targets = [{"task": "pairs", "train_on": ["choices", "pairs"]}]
    phases = {"intermediate": recipe, "target": recipe}
    changes = {"checkpoint_minutes": 1000, "precision": "fp32", "compare_selections": True}
    study = load(targets=targets, phases=phases, **changes)
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


def check_same(one, other, where) -> None:
    """Two trainings gave the same best, last and mean weights to the bit, and the same scores."""
    for name, kept in one.others.items():
        assert all(torch.equal(weight, other.others[name][n]) for n, weight in kept.items()), where
    weights, others = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items()), where
    logs = [[line for line in some.log if "validation_score" in line] for some in (one, other)]
    assert logs[0] == logs[1] and one.selection == other.selection, where


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_step_resumes_to_the_same_bits(condition, signal_after, number):
    """Within an epoch, in two different ones, between the tasks, in the second task, at the end."""
    folder = condition.seed_folder(1) / checkpoints.FOLDER
    whole = train(condition)
    assert not list(folder.glob("*/*"))  # a short training writes no checkpoint
    for stops in ([4], [5, 9], [STEPS], [STEPS + 1, 12], [2 * STEPS]):
        for step in stops:
            signal_after(step, number)
            with pytest.raises(Stopped):
                train(condition)
        assert len(list(folder.glob("stage-*/checkpoint-*"))) == 1
        trained = train(condition)
        check_same(trained, whole, stops)
        trained.checkpoints.remove()


def test_a_stop_during_a_repetition_loses_and_mixes_nothing(condition, signal_after):
    study = condition.study.model_copy(update={"retry_collapsed": True})
    again = replace(condition, study=study)
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


def test_a_checkpoint_is_used_only_if_whole_and_of_the_same_settings(condition, signal_after):
    def saved(seed: int):
        settings = {**condition.settings, "seed": seed}
        return checkpoints.Checkpoints(condition.seed_folder(1), settings, 1).saved

    signal_after(4, signal.SIGTERM)
    with pytest.raises(Stopped):
        train(condition)
    (newest,) = condition.seed_folder(1).glob(".checkpoint/stage-*/checkpoint-*")
    archives = {path for end in ("pt", "pth", "bin", "pkl") for path in newest.glob(f"*.{end}")}
    assert {path.name for path in archives} == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    torch.load(newest / "optimizer.pt", weights_only=True)  # no pickle that runs code
    assert saved(seed=1) == newest and saved(seed=2) is None
    (newest / "progress.json").unlink()  # as if the process had been killed while it wrote
    assert saved(seed=1) is None
