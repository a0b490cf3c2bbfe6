"""The study of record and the evening's, with fewer steps and languages, on the tests' own hub.

Every task and every format is in the study of record. The evening's is fetched into a mirror, and
runs from there, offline.
"""

import subprocess
import sys
from pathlib import Path

import export
import fetch
import hub
import pytest
import xtreme
import yaml
from conftest import refused

import comparison
from helpers import data
from helpers.study import NONE, Study
from helpers.study.files import read_json
from helpers.study.params import Target

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "params/xtreme-r.yaml"
EVENING = ROOT / "params/evening.yaml"
AUTO = """\
ID=made_{0}.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She x>) (<L S[dcl]\\NP VBZ VBZ sleeps{0} x>) )
"""
LARGE = ["xnli", "tatoeba", "bucc"]
"""Targets that run at large too: an ordinary one, and those whose layer follows from the depth."""
LANGUAGES = ["en", "de", "sw", "te", "ur", "zh"]


def shortened(original: Path, folder: Path, changes: dict) -> Path:
    """A study with two steps a training, and these of each target's languages."""
    study = yaml.safe_load(original.read_text(encoding="utf-8")) | changes
    sets = [override["set"] for override in study.get("overrides", [])]
    for values in [*study["phases"].values(), *sets]:
        if values.pop("epochs", None):
            values |= {"steps": 2, "evaluations": 1}
    catalogue = ROOT / "params/tasks.yaml"
    tasks = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["tasks"]
    study["targets"] = [
        {"task": name, "languages": [c for c in LANGUAGES if c in tasks[name]["languages"]]}
        for name in study["targets"]
    ]
    study |= {"catalogue": str(catalogue), "check_sizes": False}
    path = folder / original.name
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def made(original: Path, folder: Path, mirror: Path | None = None, **changes) -> Study:
    """A study, run by another process: the hub's address is read at import."""
    server = hub.Hub(hub.make_models(folder / "models"))
    (folder / "files/ccg").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"files/ccg/{split}.auto").write_text(AUTO.format(split), encoding="utf-8")
    environment = hub.environment(server.url, folder / "home")
    environment["DATA_DIR"] = str(folder / "files")
    path = str(shortened(original, folder, changes))

    def call(*command):
        command = [sys.executable, *map(str, command)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    if mirror:
        call(ROOT / "tools/fetch.py", path, mirror)
        environment |= {"HUB_MIRROR": str(mirror), "HF_HUB_OFFLINE": "1"}
    call(__file__, path, folder / "outputs")
    study = Study.load(path, folder / "outputs")
    if mirror:
        program, compare = ROOT / "tools/run_notebook.py", ROOT / "notebooks/4_compare.ipynb"
        places = ["-p", "study", path, "-p", "outputs", study.outputs]
        call(program, "--report", compare, study.folder / compare.name, *places)
    server.shutdown()
    return study


def chosen(study: Study) -> list:
    """Conditions that cover all code: at base every intermediate task and target, at large what
    depends on an encoder's depth.
    """
    before = study.intermediate[1:]
    if study.sweep:
        return study.conditions()
    if study.name == EVENING.stem:  # all at base; at large the baseline and a run after a task
        after = [study.condition("large", before[0], aim) for aim in (None, study.targets[0].task)]
        return [c for c in study.conditions() if c.size == "base" or c.intermediate == NONE] + after
    conditions = [study.condition("base", name) for name in before]
    for i, target in enumerate(target.task for target in study.targets):
        conditions.append(study.condition("base", before[i % len(before)], target))
        if target in LARGE:
            conditions.append(study.condition("large", NONE, target))
    return conditions


def test_the_study_of_record_runs_on_every_task(tmp_path):
    """One test, so that the study runs once however many processes test."""
    study = made(STUDY, tmp_path)
    cells = read_json(study.data / "summary.json")["cells"]
    # SNLI's rows without a label are left out by declaration; ANLI's three rounds are one task.
    assert cells["anli_plus/train/en"]["rows"] == 5 * hub.COUNTS["train"] - 1

    results = {}
    for condition in chosen(study):
        folder = condition.seed_folder(1)
        assert condition.is_finished(folder)
        if condition.target is None:
            continue
        results[condition.size, condition.target] = folder
        scores = read_json(folder / "scores.json")["languages"]
        assert list(scores) == condition.languages
        assert all(0 <= cell["score"] <= 100 for cell in scores.values())

    # Retrieval is not trained, and reads jiant's layers (docs/tasks.md).
    for size, layer in (("base", 8), ("large", 14)):
        for task in ("tatoeba", "bucc"):
            record = read_json(results[size, task] / "run.json")
            assert record["layer"] == layer and not record["log"]

    # What is exported is read and scored by XTREME-R's script to the same numbers, task by task.
    export.export(study)
    for target in study.targets:
        task, folder = study.tasks[target.task], results["base", target.task]
        name = export.FOLDERS.get(task.name, task.name)
        exported = study.folder / "xtreme/base" / folder.parts[-3] / "seed-1"
        for language, ours in read_json(folder / "scores.json")["languages"].items():
            examples = data.examples(study.data, task, task.evaluate, language)
            gold = xtreme.gold(name, task, examples)
            theirs = xtreme.score(name, gold, xtreme.read(name, exported, language), language)
            assert list(theirs.values())[-1] == pytest.approx(ours["score"]), (task.name, language)
            assert theirs.get("exact_match") == pytest.approx(ours.get("exact_match"))


def test_the_evening_runs_offline_from_fetched_data_to_its_comparison(tmp_path, monkeypatch):
    study = made(EVENING, tmp_path, tmp_path / "mirror")
    monkeypatch.setenv("HUB_MIRROR", str(tmp_path / "mirror"))
    assert fetch.missing(study) == []
    assert all(part.is_finished(part.seed_folder(1)) for part in chosen(study))
    plan, runs, predictions, *_ = comparison.read_study(study.folder)
    effects = comparison.effects(predictions, runs, plan)
    gains = effects[effects["quantity"] == "gain"].dropna(subset="estimate")
    known = gains.groupby("size")["intermediate"].unique()  # at large one task has run
    assert set(known["large"]) == {study.intermediate[1]} < set(known["base"])
    planned, done = len(study.runs()), sum(part.target is not None for part in chosen(study))
    left = f"{planned - done} of {planned} runs are not finished"
    assert left in comparison.summary_sentence(effects, runs, plan)
    assert left in (study.folder / "report.html").read_text(encoding="utf-8")


def test_two_versions_of_one_task_are_not_exported_into_one_folder(tmp_path):
    study = Study.load(STUDY, tmp_path)
    both = [*study.targets, Target(task="wikiann")]
    with refused("xtreme-r.yaml: targets: several are XTREME's 'panx'"):
        export.export(study.model_copy(update={"targets": both}))


if __name__ == "__main__":
    import running

    prepared = running.prepare(Study.load(*sys.argv[1:]))
    where = dict(zip(("study", "outputs"), sys.argv[1:], strict=True))
    for name in prepared.sizes if prepared.sweep else ():
        running.run_notebook("sweep", **where, size=name, join=True)
    prepared.write_record()
    for part in chosen(prepared):
        running.run(part, [1])
