"""A training that is stopped and goes on gives the same bits as one that was never stopped."""

import json
import os
import shutil
import signal

import pytest
import torch
from conftest import write_study

from helpers import data, encoders, evaluation, training
from helpers.study import Run, Study
from helpers.study.study import REPETITION
from helpers.training import checkpoints, fitting

RUN = Run("base", "none", "pairs", 1)
STEPS = 18
"""Of each of the two tasks that the target is trained on: three epochs of pairs and six of choices,
in batches of 4.
"""


@pytest.fixture
def study(sources, tmp_path) -> Study:
    """A study whose target is trained on two tasks, one after the other, several epochs each, with
    its encoder made.
    """
    recipe = {
        "steps": STEPS,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "max_length": 32,
        "evaluations": 5,
    }
    changes = {
        "targets": [{"task": "pairs", "train_on": ["choices", "pairs"]}],
        "phases": {"intermediate": recipe, "target": recipe},
        "checkpoint_minutes": 1000,
    }
    made = Study.load(write_study(tmp_path / "params", sources, **changes), tmp_path / "outputs")
    data.prepare(made)
    encoders.prepare(made, "base")
    return made


@pytest.fixture
def signal_after(monkeypatch):
    """Send this process a signal while a given one of all steps to come runs; its ``seen`` counts
    the steps.
    """
    seen, plan = [0], {}
    compute = fitting._Trainer.compute_loss

    def counting(self, *arguments, **options):
        seen[0] += 1
        if number := plan.get(seen[0]):
            os.kill(os.getpid(), number)
        return compute(self, *arguments, **options)

    monkeypatch.setattr(fitting._Trainer, "compute_loss", counting)

    def order(step: int, number: int) -> None:
        plan[seen[0] + step] = number

    order.seen = seen
    return order


def result(trained) -> tuple:
    weights = {name: value.clone() for name, value in trained.model.state_dict().items()}
    return weights, trained.log, trained.selection, trained.notes


def same(one: tuple, other: tuple) -> bool:
    return (
        one[0].keys() == other[0].keys()
        and all(torch.equal(value, other[0][name]) for name, value in one[0].items())
        and one[1:] == other[1:]
    )


def test_stopped_at_any_step_resumes_to_the_same_bits(study, signal_after):
    """Stopped within an epoch, in two different ones, between the tasks, in the second task, at the
    last step.
    """
    folder = study.run_folder(RUN) / checkpoints.FOLDER
    whole = result(training.target(study, RUN))
    assert not folder.exists()
    for stops in ([4], [5, 9], [STEPS], [STEPS + 1, 12], [2 * STEPS]):
        for step in stops:
            signal_after(step, signal.SIGTERM)
            with pytest.raises(checkpoints.Stopped):
                training.target(study, RUN)
        assert len(list(folder.iterdir())) == 1
        assert same(result(training.target(study, RUN)), whole), stops
        checkpoints.remove(folder.parent)


def test_a_stop_while_a_collapsed_run_is_repeated_loses_nothing_and_mixes_nothing(
    study, signal_after
):
    study = study.model_copy(update={"retry_collapsed": True})
    folder = study.run_folder(RUN)

    def run() -> dict[str, bytes]:
        trained = training.target(study, RUN)
        learned_nothing = dict.fromkeys(("score", "last_score"), trained.selection["majority"])
        trained.selection |= learned_nothing
        predictions = evaluation.zero_shot(study, "pairs", trained)
        again = training.target(study, RUN, study.next_seed(1))
        evaluation.write_run(study, RUN, again, evaluation.zero_shot(study, "pairs", again))
        evaluation.write_run(study, RUN, trained, predictions)
        assert not list(folder.rglob(checkpoints.FOLDER))
        logs = {str(f): json.loads(f.read_text())["log"] for f in folder.rglob("run.json")}
        files = [*folder.rglob("scores.json"), *folder.rglob("*.parquet")]
        return logs | {str(f): f.read_bytes() for f in files}

    whole = run()
    assert len(whole) == 6
    shutil.rmtree(folder)
    signal_after(2 * STEPS + 4, signal.SIGTERM)
    with pytest.raises(checkpoints.Stopped):
        run()
    assert sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob(f"{checkpoints.FOLDER}/*")
    ) == [
        f".checkpoint/1-{STEPS:09d}",
        f"{REPETITION}/.checkpoint/0-{4:09d}",
    ]
    assert not list(folder.rglob("scores.json"))
    before = signal_after.seen[0]
    assert run() == whole
    assert signal_after.seen[0] - before == 2 * STEPS - 4  # only the rest of the repetition


def test_a_warning_signal_saves_and_goes_on(study, signal_after):
    signal_after(4, signal.SIGUSR1)
    whole = result(training.target(study, RUN))
    folder = study.run_folder(RUN) / checkpoints.FOLDER
    assert [path.name for path in folder.iterdir()] == ["0-000000004"]
    assert same(result(training.target(study, RUN)), whole)


def test_checkpoints_come_by_wall_time_and_none_outlives_the_run(study):
    often = study.model_copy(update={"checkpoint_minutes": 0.0})
    trained = training.target(often, RUN)
    folder = study.run_folder(RUN)
    assert [path.name for path in (folder / checkpoints.FOLDER).iterdir()] == [f"1-{STEPS - 1:09d}"]
    evaluation.write_run(study, RUN, trained, evaluation.zero_shot(study, "pairs", trained))
    assert not (folder / checkpoints.FOLDER).exists()


def test_a_checkpoint_that_is_broken_or_of_other_settings_is_never_used(study, signal_after):
    folder = study.run_folder(RUN) / checkpoints.FOLDER
    signal_after(4, signal.SIGTERM)
    with pytest.raises(checkpoints.Stopped):
        training.target(study, RUN)
    (newest,) = folder.iterdir()
    settings = json.loads((newest / "checkpoint.json").read_text())["settings"]
    assert checkpoints.Checkpoints(folder.parent, settings, 1).found == newest
    with (newest / "optimizer.pt").open("r+b") as file:
        file.truncate(100)
    assert checkpoints.Checkpoints(folder.parent, settings, 1).found is None
    assert not newest.exists()

    signal_after(4, signal.SIGTERM)
    with pytest.raises(checkpoints.Stopped):
        training.target(study, RUN)
    assert checkpoints.Checkpoints(folder.parent, {**settings, "seed": 2}, 1).found is None
    assert list(folder.iterdir()) == []


def test_a_checkpoint_holds_no_pickle_that_runs_code(study, signal_after):
    signal_after(4, signal.SIGTERM)
    with pytest.raises(checkpoints.Stopped):
        training.target(study, RUN)
    (newest,) = (study.run_folder(RUN) / checkpoints.FOLDER).iterdir()
    names = {path.name for path in newest.iterdir()}
    archives = {name for name in names if name.endswith((".pt", ".pth", ".bin", ".pkl"))}
    assert archives == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    torch.load(newest / "optimizer.pt", weights_only=True)
