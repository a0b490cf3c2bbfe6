"""The study of record, with fewer steps and languages, on a hub of the tests' own.

Every task and every format is in it.
"""

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import hub
import pytest
import xtreme
import yaml

from helpers import data
from helpers.evaluation import export
from helpers.study import Study, StudyError
from helpers.study.params import Target

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "params/xtreme-r.yaml"
AUTO = """\
ID=made_{0}.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<T NP 1 2> (<L NP[nb]/N DT DT The x>) (<L N NN NN dog x>) ) \
(<L S[dcl]\\NP VBZ VBZ runs{0} x>) )
ID=made_{0}.2 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She x>) (<L S[dcl]\\NP VBZ VBZ sleeps{0} x>) )
"""


LARGE = ["xnli", "tatoeba", "bucc"]
"""Targets that run at large too: an ordinary one, and those whose layer follows from the depth."""
LANGUAGES = ["en", "de", "sw", "te", "ur", "zh"]


def shortened(folder: Path) -> Path:
    """The study of record with two steps a training, and these of each target's languages."""
    study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    for values in [*study["phases"].values(), *(o["set"] for o in study["overrides"])]:
        if values.pop("epochs", None):
            values |= {"steps": 2, "evaluations": 1}
    tasks = yaml.safe_load((ROOT / "params/tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    study["targets"] = [
        {
            "task": name,
            "languages": [code for code in LANGUAGES if code in tasks[name]["languages"]],
        }
        for name in study["targets"]
    ]
    path = folder / "xtreme-r.yaml"
    catalogue = str(ROOT / "params/tasks.yaml")
    path.write_text(
        yaml.safe_dump({**study, "catalogue": catalogue, "check_sizes": False}), encoding="utf-8"
    )
    return path


def made(folder: Path) -> Path:
    """The study's outputs, made by another process: the hub's address is read at import."""
    server = hub.Hub(hub.make_models(folder / "models"))
    (folder / "files/ccg").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"files/ccg/{split}.auto").write_text(AUTO.format(split), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "HUB_MIRROR"}
    environment |= hub.environment(server.url, folder / "home")
    environment |= {
        "DATA_DIR": str(folder / "files"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, __file__, str(shortened(folder)), str(folder / "outputs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return folder / "outputs"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_study_of_record_runs_on_every_task(tmp_path):
    """One test, so that the study runs once however many processes test."""
    outputs = made(tmp_path)
    study = Study.load(tmp_path / "xtreme-r.yaml", outputs)
    for name in study.intermediate[1:]:
        assert read(study.encoder_folder("base", name, 1).parent / "run.json")["steps"] == 2
    results = {}
    for size in study.sizes:
        for target in study.targets:
            if size == "large" and target.task not in LARGE:
                continue
            [found] = (study.folder / size).glob(f"*/{target.task}/seed-1/scores.json")
            results[size, target.task] = found
            scores = read(found)
            assert list(scores["languages"]) == study.languages(target.task)
            assert all(0 <= cell["score"] <= 100 for cell in scores["languages"].values())

    # Answers are scored twice; retrieval is not trained and reads the layers of XTREME's scripts.
    assert all(
        "exact_match" in cell for cell in read(results["base", "mlqa"])["languages"].values()
    )
    for size, task, layer in (
        ("base", "tatoeba", 7),
        ("large", "tatoeba", 13),
        ("large", "bucc", 7),
    ):
        record = read(results[size, task].parent / "run.json")
        assert record["layer"] == layer and record["train_flops"] == 0

    # SNLI's rows without a label are left out by declaration; ANLI's three rounds are one task.
    rows = read(study.folder / "data/summary.json")["splits"]["anli_plus/train/en"]["rows"]
    assert rows == 3 * hub.COUNTS["train"] + hub.COUNTS["train"] + hub.COUNTS["train"] - 1

    # What is exported is read and scored by XTREME-R's script to the same numbers, task by task.
    written = export.export(study)
    names = {export.FOLDERS.get(target.task, target.task): target.task for target in study.targets}
    assert {path.name for folder in written for path in folder.iterdir()} == set(names)
    for folder, name in names.items():
        entry, scores = study.tasks[name], read(results["base", name])["languages"]
        exported = study.folder / "xtreme/base" / results["base", name].parts[-4] / "seed-1"
        for language, ours in scores.items():
            examples = data.examples(study, name, entry.evaluate, language)
            gold = xtreme.gold(folder, entry, examples)
            said = xtreme.read(folder, exported, language)
            theirs = xtreme.score(folder, gold, said, language)
            assert list(theirs.values())[-1] == pytest.approx(ours["score"]), (name, language)
            assert theirs.get("exact_match") == pytest.approx(ours.get("exact_match"))


def test_two_versions_of_one_task_are_not_exported_into_one_folder(tmp_path):
    study = Study.load(STUDY, tmp_path)
    both = [*study.targets, Target(task="wikiann")]
    with pytest.raises(StudyError, match=r"xtreme-r.yaml: targets: several are XTREME's 'panx'"):
        export.export(study.model_copy(update={"targets": both}))


def run(path: str, outputs: str) -> None:
    """Phases 1 to 3 of runs that cover all code.

    At base every intermediate task and target, at large what depends on an encoder's depth.
    """
    yaml.SafeLoader = yaml.CSafeLoader  # google/xtreme's long card is read for every configuration
    from helpers import data, encoders, evaluation, training
    from helpers.study import NONE, Run

    gc.freeze()  # as in conftest.py
    begin = time.time()
    study = Study.load(path, outputs)
    data.prepare(study)
    print(f"data {time.time() - begin:.0f} s", flush=True)
    targets = [t.task for t in study.targets]
    for size in study.sizes:
        encoders.prepare(study, size)
        tasks = study.intermediate[1:] if size == "base" else study.intermediate[-1:]
        for task in tasks:
            evaluation.write_intermediate(
                study, size, task, 1, training.intermediate(study, size, task, 1)
            )
        for i, target in enumerate(targets):
            if size == "large" and target not in LARGE:
                continue
            after = NONE if size == "large" and i % 2 else tasks[i % len(tasks)]
            cell = Run(size, after, target, 1)
            trained = training.target(study, cell)
            evaluation.write_run(study, cell, trained, evaluation.zero_shot(study, target, trained))
        print(f"{size} {time.time() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    run(*sys.argv[1:])
