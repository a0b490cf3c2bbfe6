"""The study of record, unchanged but for step counts, on a hub of the tests' own: every task and every format."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "params/xtreme-r.yaml"
AUTO = """\
ID=made_{0}.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<T NP 1 2> (<L NP[nb]/N DT DT The x>) (<L N NN NN dog x>) ) (<L S[dcl]\\NP VBZ VBZ runs{0} x>) )
ID=made_{0}.2 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She x>) (<L S[dcl]\\NP VBZ VBZ sleeps{0} x>) )
"""


def shortened(folder: Path) -> Path:
    """The study of record with two steps a training."""
    study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    for values in [*study["phases"].values(), *(o["set"] for o in study["overrides"])]:
        if values.pop("epochs", None):
            values |= {"steps": 2, "evaluations": 1}
    path = folder / "xtreme-r.yaml"
    catalogue = str(ROOT / "params/tasks.yaml")
    path.write_text(yaml.safe_dump({**study, "catalogue": catalogue, "check_sizes": False}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the outputs of the study, made by another process: the hub's address is read at import."""
    import hub

    folder = tmp_path_factory.mktemp("study")
    server = hub.Hub(hub.make_models(folder / "models"))
    (folder / "files/ccg").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"files/ccg/{split}.auto").write_text(AUTO.format(split), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("HUB_MIRROR", "HELPERS_WARM")}
    environment |= hub.environment(server.url, folder / "home")
    environment |= {"DATA_DIR": str(folder / "files"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, __file__, str(shortened(folder)), str(folder / "outputs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def study_of(folder: Path):
    from helpers.study import Study

    return Study.load(folder / "xtreme-r.yaml", folder / "outputs")


def test_every_task_of_the_study_of_record_runs(finished):
    folder, _ = finished
    study = study_of(folder)
    for name in study.intermediate[1:]:
        record = json.loads((study.encoder_folder("base", name, 1).parent / "run.json").read_text())
        assert record["steps"] == 2
    for size in study.sizes:
        for target in study.targets:
            found = [p for p in (study.folder / size).glob(f"*/{target.task}/seed-1/scores.json")]
            assert found, (size, target.task)
            scores = json.loads(found[0].read_text())
            assert list(scores["languages"]) == study.languages(target.task)
            assert all(0 <= cell["score"] <= 100 for cell in scores["languages"].values())


def test_answers_are_scored_twice_and_by_the_languages_own_rules(finished):
    folder, _ = finished
    scores = json.loads(next(folder.glob("outputs/xtreme-r/base/*/mlqa/seed-1/scores.json")).read_text())
    assert scores["metric"] == "f1" and all("exact_match" in cell for cell in scores["languages"].values())


def test_retrieval_reads_the_layers_of_xtremes_scripts(finished):
    folder, _ = finished
    for size, task, layer in (("base", "tatoeba", 7), ("large", "tatoeba", 13), ("large", "bucc", 7)):
        record = json.loads(next(folder.glob(f"outputs/xtreme-r/{size}/*/{task}/seed-1/run.json")).read_text())
        assert record["layer"] == layer and record["train_flops"] == 0


def test_snli_leaves_out_what_its_annotators_did_not_agree_on(finished):
    import hub

    folder, _ = finished
    splits = json.loads((folder / "outputs/xtreme-r/data/summary.json").read_text())["splits"]
    parts = 3 * hub.COUNTS["train"] + hub.COUNTS["train"] + hub.COUNTS["train"] - 1
    assert splits["anli_plus/train/en"]["rows"] == parts


def run(path: str, outputs: str) -> None:
    """Phases 1 to 3 of a covering part: every intermediate task, and every target at both sizes."""
    yaml.SafeLoader = yaml.CSafeLoader  # the card of google/xtreme is long, and is read for every configuration
    from helpers import data, encoders, evaluation, training
    from helpers.study import NONE, Run, Study

    begin = time.time()
    study = Study.load(path, outputs)
    data.prepare(study)
    print(f"data {time.time() - begin:.0f} s", flush=True)
    targets = [t.task for t in study.targets]
    for size in study.sizes:
        encoders.make(study, size)
        tasks = study.intermediate[1:] if size == "base" else study.intermediate[-1:]
        for task in tasks:
            evaluation.write_intermediate(study, size, task, 1, training.intermediate(study, size, task, 1))
        for i, target in enumerate(targets):
            after = NONE if size == "large" and i % 2 else tasks[i % len(tasks)]
            cell = Run(size, after, target, 1)
            trained = training.target(study, cell)
            length = study.hyperparameters("target", size, target).max_length
            evaluation.write_run(study, cell, trained, evaluation.zero_shot(study, target, trained, length))
        print(f"{size} {time.time() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    run(*sys.argv[1:])
