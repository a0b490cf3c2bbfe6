"""The sweep: each size's learning rate is chosen on English, by the batch, before anything else."""

import json
import shutil

import pytest
from conftest import write_study
from test_batch import run, times

from helpers.batch import plan, recovery
from helpers.study import NONE, Run, Study, sweeps

RATES = {"base": [1e-6, 1e-2], "large": [3e-6, 2e-2]}
FEW = {"epochs": 6, "batch_size": 4, "max_length": 32, "evaluations": 2}
CHANGES = {
    "sweep": {"learning_rates": RATES["base"], "sizes": {"large": RATES["large"]}, "seeds": [7, 8]},
    "phases": {"intermediate": {"steps": 2, **FEW}, "target": FEW},
}
CHANGES["phases"]["intermediate"].pop("epochs")


@pytest.fixture(scope="module")
def finished(tiny_sources, tmp_path_factory):
    """A finished study with a sweep: (params file, outputs folder, sources, what was printed)."""
    root = tmp_path_factory.mktemp("sweep")
    params = write_study(root / "params", tiny_sources, **CHANGES)
    outcome = run(params, root / "outputs", tiny_sources)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return params, root / "outputs", tiny_sources, outcome


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_run_has_the_rate_that_is_best_on_english_validation(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    for size, rates in RATES.items():
        means = {}
        for tried, trial in sweeps.trials(study, size):
            folder = tried.run_folder(trial)
            selection = read(folder / "scores.json")["selection"]
            assert (selection["split"], selection["language"]) == ("validation", "en")
            assert trial.seed in (7, 8) and not (folder / "predictions.parquet").exists()
            assert (folder / "notebook.ipynb").exists()
            record = read(folder / "run.json")
            settings = record["parameters"]["target"]["hyperparameters"]
            assert settings["learning_rate"] == tried.rate and record["seed"] == trial.seed
            means.setdefault(tried.rate, []).append(selection["score"])
        assert [*means] == rates and all(len(scores) == 2 for scores in means.values())
        best = max(rates, key=lambda rate: sum(means[rate]))
        assert sweeps.chosen(study, size) == best
        for folder in (study.folder / size / NONE, study.folder / size / "choices"):
            for path in folder.rglob("run.json"):
                parts = read(path)["parameters"]
                for phase in {"intermediate", "target"} & parts.keys():
                    assert parts[phase]["hyperparameters"]["learning_rate"] == best
    choices = sweeps.choices(study)
    assert len(choices) == 4 and choices.groupby("size")["chosen"].sum().tolist() == [1, 1]
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert "sweep.csv" in page and "recipes.csv" in page


def test_a_trial_that_was_lost_is_made_again_and_no_run_with_it(finished, tmp_path):
    params, outputs, sources, _ = finished
    copy = tmp_path / "outputs"
    shutil.copytree(outputs, copy)
    study = Study.load(params, copy)
    tried, trial = sweeps.trials(study, "large")[0]
    (tried.run_folder(trial) / "scores.json").unlink()
    before = times(copy)
    outcome = run(params, copy, sources)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    after = times(copy)
    changed = {path for path in after if after[path] != before.get(path) and "compare" not in path}
    lost = f"tiny/large/sweep/{tried.rate}/pairs/seed-7"
    assert {p.rpartition("/")[0] for p in changed if not p.endswith("ts.parquet")} == {lost}
    assert sweeps.chosen(study, "large") == sweeps.chosen(Study.load(params, outputs), "large")


def test_another_list_of_rates_makes_the_choice_anew(finished, tmp_path):
    _, outputs, sources, _ = finished
    copy = tmp_path / "outputs"
    shutil.copytree(outputs, copy)
    sweep = CHANGES["sweep"] | {"learning_rates": [1e-6, 2e-6]}
    other = Study.load(write_study(tmp_path / "p", sources, **CHANGES | {"sweep": sweep}), copy)
    assert sweeps.chosen(other, "base") is None and sweeps.chosen(other, "large") is not None
    assert recovery.stale(other) == {}  # nothing is said of base before its rate is chosen
    lines = recovery.repair(other)
    assert not sweeps.file(other, "base").exists() and sweeps.file(other, "large").exists()
    assert [line for line in lines if "again" in line and "report" not in line] == []
    for tried, trial in sweeps.trials(other, "base"):  # as the trials would leave them
        score = {"selection": {"score": 100 * tried.rate, "collapsed": False}}
        path = tried.run_folder(trial) / "scores.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(score))
    sweeps.choose(other, "base")
    assert sweeps.chosen(other, "base") == 2e-6
    again = {path.relative_to(other.folder).parts[0] for path in recovery.stale(other)}
    assert again == {"base"}


def test_the_plan_counts_the_sweep(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    phases = plan.plan(study)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4, "sweep": 8}
    assert phases.loc["sweep", "examples"] == 8 * 6 * 24
    assert "sweep " in plan.show(study, phases)


def test_without_a_choice_a_training_says_what_comes_first(sources, tmp_path):
    from helpers import data, encoders, training
    from helpers.study import StudyError

    path = write_study(tmp_path / "p", sources, **CHANGES)
    study = Study.load(path, tmp_path / "outputs")
    data.prepare(study)
    encoders.prepare(study, "base")
    with pytest.raises(StudyError, match=r"base/sweep\.json: not there .*run the sweep first"):
        training.target(study, Run("base", NONE, "pairs", 1))
