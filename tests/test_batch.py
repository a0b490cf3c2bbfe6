"""The whole study end to end: Snakemake, papermill, every notebook, on a tiny random encoder.

With a sweep: each size's learning rate is chosen on English, by the batch, before anything else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import write_study
from helpers.batch import plan, recovery
from helpers.batch import run as batch
from helpers.batch.run import progress

from helpers import comparison
from helpers.study import NONE, Run, Study, StudyError, sweeps

RATES = {"base": [1e-6, 1e-2], "large": [3e-6, 2e-2]}
FEW = {"batch_size": 4, "max_length": 32, "evaluations": 2}
CHANGES = {
    "sweep": {"learning_rates": RATES["base"], "sizes": {"large": RATES["large"]}, "seeds": [7, 8]},
    "phases": {"intermediate": {"steps": 2, **FEW}, "target": {"epochs": 6, **FEW}},
}


@pytest.fixture(scope="module")
def finished(tiny_sources, tmp_path_factory):
    """A finished tiny study: (params file, outputs folder, sources, what was printed)."""
    root = tmp_path_factory.mktemp("batch")
    params = write_study(root / "params", tiny_sources, **CHANGES)
    outcome = run(params, root / "outputs", tiny_sources)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return params, root / "outputs", tiny_sources, outcome


def run(params: Path, outputs: Path, sources: Path, *more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HUB_MIRROR": str(sources / "hub"), "HF_HUB_OFFLINE": "1"}
    environment.pop("DATA_DIR", None)
    command = [
        sys.executable,
        "-m",
        "helpers.batch",
        str(params),
        "--outputs",
        str(outputs),
        "--cores",
        "2",
        *more,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=params.parent, timeout=1500
    )


def times(outputs: Path) -> dict[str, int]:
    """When each result was written."""
    wanted = ("*.parquet", "scores.json", "notebook.ipynb", "*.safetensors")
    return {
        str(p.relative_to(outputs)): p.stat().st_mtime_ns
        for pattern in wanted
        for p in outputs.rglob(pattern)
    }


def test_every_phase_leaves_an_executed_notebook_and_its_results(finished):
    params, outputs, _, outcome = finished
    study = Study.load(params, outputs)
    assert len(comparison.missing_runs(study)) == 0
    for run_ in study.runs():
        notebook = nbformat.read(study.run_folder(run_) / "notebook.ipynb", 4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code if cell.source)
        assert any("image/svg+xml" in out.get("data", {}) for cell in code for out in cell.outputs)
    assert (study.folder / "report.html").exists()
    assert "report:" in outcome.stdout and "4 of 4 runs" in outcome.stdout


def test_parameters_reach_the_notebook(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    notebook = nbformat.read(
        study.run_folder(Run("large", "choices", "pairs", 1)) / "notebook.ipynb", 4
    )
    injected = next(
        c.source for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])
    )
    assert 'intermediate = "choices"' in injected and "seed = 1" in injected


def test_run_json_says_what_is_needed_to_trust_and_repeat_the_run(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    run_ = Run("base", "choices", "pairs", 1)
    record = json.loads((study.run_folder(run_) / "run.json").read_text())
    assert record["parameters"] == study.settings(*run_[:3])
    for key in (
        "seed",
        "versions",
        "git_commit",
        "hardware",
        "wall_seconds",
        "tokens_per_second",
        "peak_memory_bytes",
    ):
        assert key in record


def test_a_second_run_does_nothing(finished):
    params, outputs, sources, _ = finished
    before = times(outputs)
    again = run(params, outputs, sources)
    assert again.returncode == 0, again.stderr
    assert times(outputs) == before


def test_a_changed_hyperparameter_is_noticed_and_nothing_is_shown_under_it(finished, tmp_path):
    params, outputs, *_ = finished
    text = params.read_text().replace("epochs: 6", "epochs: 7")
    other = tmp_path / "tiny.yaml"
    other.write_text(text)
    shutil.copy(params.parent / "tasks.yaml", tmp_path)
    study = Study.load(other, outputs)
    stale = recovery.stale(study)
    assert {path.name for path in stale} == {"seed-1", "seed-7", "seed-8"}
    assert "other parameters" in str(stale)
    assert len(stale) == 4 + 8  # the target runs and the sweep's, not the intermediate ones
    assert len(comparison.missing_runs(study)) == 4 and len(comparison.finished_runs(study)[0]) == 0


def test_an_encoder_is_made_again_when_a_task_with_other_texts_is_added(finished, tmp_path):
    params, outputs, sources, _ = finished
    more = write_study(tmp_path / "more", sources, **CHANGES, targets=["pairs", "choices"])
    study = Study.load(more, outputs)
    assert [*recovery.stale(study)] == [study.encoder_folder(size) for size in ("base", "large")]
    assert recovery.stale(Study.load(params, outputs)) == {}


def test_what_was_deleted_is_made_again_alone_and_a_failed_run_is_named_and_stops_no_other(
    finished, tmp_path
):
    params, outputs, sources, _ = finished
    copy = tmp_path / "outputs"
    shutil.copytree(outputs, copy)
    study = Study.load(params, copy)
    broken, other = Run("base", "choices", "pairs", 1), Run("large", "none", "pairs", 1)
    tried, trial = sweeps.trials(study, "large")[0]
    for folder in (study.run_folder(broken), study.run_folder(other), tried.run_folder(trial)):
        (folder / "scores.json").unlink()
    (study.encoder_folder("base", "choices", 1) / "config.json").write_text("{}")
    before = times(copy)
    outcome = run(params, copy, sources)
    assert outcome.returncode != 0
    assert "FAILED" in outcome.stderr and "base/choices/pairs/seed-1" in outcome.stderr
    assert not (study.run_folder(broken) / "scores.json").exists()
    after = times(copy)
    changed = {
        Path(p).parent.as_posix() for p in after if after[p] != before.get(p) and "compare" not in p
    }
    lost = f"tiny/large/sweep/{tried.rate}/pairs/seed-7"
    assert changed - {"tiny"} == {"tiny/large/none/pairs/seed-1", lost}
    assert sweeps.chosen(study, "large") == sweeps.chosen(Study.load(params, outputs), "large")


def test_bad_params_stop_before_anything_is_made(sources, tmp_path):
    params = write_study(tmp_path / "params", sources, targets=["nothing"])
    outcome = run(params, tmp_path / "outputs", sources)
    assert outcome.returncode == 2
    assert (
        len(outcome.stderr.strip().splitlines()) == 1 and "unknown task 'nothing'" in outcome.stderr
    )
    assert not (tmp_path / "outputs").exists()


def test_the_rest_is_estimated_from_runs_of_the_same_kind(finished, tmp_path):
    params, outputs, *_ = finished
    shutil.copytree(outputs, tmp_path / "outputs")
    study = Study.load(params, tmp_path / "outputs")
    assert progress(study, at_once=2) == "14 of 14 runs done"
    study = study.model_copy(update={"sweep": None})
    assert progress(study, at_once=2) == "6 of 6 runs done"
    for scores, minutes in zip(
        sorted(path for path in study.results() if path.name == "scores.json"),
        range(60, 120, 10),
        strict=True,
    ):
        record = scores.with_name("run.json")
        record.write_text(json.dumps({"wall_seconds": 60 * minutes}))
    size = {run_.size: run_ for run_ in study.runs() if run_.intermediate == "none"}
    other = Run("base", "choices", "pairs", 1)
    for run_ in (size["base"], size["large"]):
        (study.run_folder(run_) / "scores.json").unlink()
    base, large = (
        json.loads((study.run_folder(run_) / "run.json").read_text())["wall_seconds"]
        for run_ in (other, other._replace(size="large"))
    )
    said = progress(study, at_once=2)
    assert said == f"4 of 6 runs done, about {(base + large) / 120:.0f} min left"
    for scores in study.folder.rglob("scores.json"):
        scores.unlink()
    assert progress(study, at_once=2) == "0 of 6 runs done"


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


def test_a_sweep_comes_before_all_else_only_where_a_result_may_be_of_another_rate(
    finished, tmp_path, monkeypatch
):
    params, outputs, sources, _ = finished
    shutil.copytree(outputs, tmp_path / "copy")
    asked: list = []

    def snakemake(study, cores, profile, more, waiting):
        asked.append(more)
        (study.folder / recovery.LOG).touch()
        return 0

    monkeypatch.setenv("HUB_MIRROR", str(sources / "hub"))
    monkeypatch.setattr(batch, "_snakemake", snakemake)
    assert batch.main([str(params), "--outputs", str(tmp_path / "copy")]) == 0
    assert asked == [["sweep"], []]
    assert batch.main([str(params), "--outputs", str(tmp_path / "fresh")]) == 1
    assert asked[2:] == [[]]


def test_the_plan_counts_the_sweep(finished):
    params, outputs, *_ = finished
    study = Study.load(params, outputs)
    phases = plan.plan(study)
    assert phases["runs"].to_dict() == {"encoder": 2, "intermediate": 2, "target": 4, "sweep": 8}
    assert phases.loc["sweep", "examples"] == 8 * 6 * 24
    assert "sweep " in plan.show(study, phases)


def test_without_a_choice_a_training_says_what_comes_first(sources, tmp_path):
    from helpers import data, encoders, training

    path = write_study(tmp_path / "p", sources, **CHANGES)
    study = Study.load(path, tmp_path / "outputs")
    data.prepare(study)
    encoders.prepare(study, "base")
    with pytest.raises(StudyError, match=r"base/sweep\.json: not there .*run the sweep first"):
        training.target(study, Run("base", NONE, "pairs", 1))
