"""Results that travel: base trained on one machine and large on another are one comparison."""

import shutil
import tarfile
from pathlib import Path

import export
import pack
import pandas as pd
import pytest
import yaml
from conftest import write_study
from running import prepare, run
from stress import start
from study import check_encoders, write_settings

import comparison
from helpers.study import Study, StudyError, files

PLACE = Path("tiny/base/none/pairs/seed-1")


@pytest.fixture(scope="module")
def machines(tiny_sources, tmp_path_factory):
    """A study's outputs on three machines: `one` has made all, `mine` base and `yours` large."""
    root = tmp_path_factory.mktemp("machines")
    (root / "sources").symlink_to(tiny_sources)
    params = write_study(root, tiny_sources, precision="auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_MIRROR", str(root / "sources/hub"))
        for name, sizes in {"one": ["base", "large"], "mine": ["base"], "yours": ["large"]}.items():
            study = Study.load(params, root / name)
            prepare(study.model_copy(update={"sizes": {s: study.sizes[s] for s in sizes}}))
            study.write_record()
            write_settings(study)
            for condition in study.conditions(*sizes):
                run(condition)
                (condition.folder / "notebook.ipynb").write_text(f"executed for {name}")
            for size in sizes:
                (study.folder / size / "notebook.ipynb").write_text(f"executed for {name}")
    pack.pack(Study.load(params, root / "mine"))
    return root


@pytest.fixture
def root(machines, tmp_path, monkeypatch) -> Path:
    """A copy that a test may change."""
    monkeypatch.setenv("HUB_MIRROR", str(machines / "sources/hub"))
    return Path(shutil.copytree(machines, tmp_path / "root", symlinks=True))


def add(root: Path, **changes) -> list[str]:
    """Unpack the archive into `yours`, whose study file has changes; returns what is printed."""
    raw = yaml.safe_load((root / "tiny.yaml").read_text(encoding="utf-8"))
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw | changes), encoding="utf-8")
    study = Study.load(root / "tiny.yaml", root / "yours")
    return list(pack.carry(study, str(root / "mine/tiny.tar.gz")))


def test_results_of_two_machines_are_compared_as_those_of_one_and_not_made_again(root):
    with tarfile.open(root / "mine/tiny.tar.gz") as tar:
        kinds = {Path(name).suffix for name in tar.getnames()}
    assert kinds == {".parquet", ".json", ".ipynb", ".yaml"}  # no weights, no pickles
    assert "3 trainings, 3 of them new" in add(root)[0]
    assert "3 trainings, 0 of them new" in add(root)[0]
    assert start(Path("tiny.yaml"), root, "yours").wait() == 0
    assert "Nothing to be done" in (root / "yours/tiny/snakemake.log").read_text(encoding="utf-8")
    assert (root / "yours/tiny/base/notebook.ipynb").read_text() == "executed for mine"
    plan, runs, predictions, *_ = comparison.read_study(root / "one/tiny")
    expected = comparison.effects(predictions, runs, plan)
    pd.testing.assert_frame_equal(pd.read_parquet(root / "yours/tiny/effects.parquet"), expected)
    assert (root / "yours/tiny/report.html").is_file()


def test_scores_are_exported_as_the_harness_writes_them(root):
    """Shares with standard errors of means; every part speaks of the same tasks."""
    study = Study.load(root / "tiny.yaml", root / "one")
    export.export(study)
    results = files.read_json(study.folder / "results.json")
    tasks = {key: set(results[key]) for key in ("configs", "versions", "n-samples", "task_hashes")}
    languages = {f"pairs/{run.size}/{run.intermediate}/seed-1" for run in study.runs()}
    assert set(results["groups"]) == languages
    expected = {f"{group}/{code}" for group in languages for code in study.languages("pairs")}
    assert all(names == expected for names in tasks.values())
    assert set(results["results"]) == expected | languages
    scores = files.read_json(root / "one" / PLACE / "scores.json")
    made = files.read_json(root / "one" / PLACE / "run.json")
    row = results["results"]["pairs/base/none/seed-1/de"]
    share, n = scores["languages"]["de"]["score"] / 100, scores["languages"]["de"]["n"]
    assert row["acc,none"] == pytest.approx(share) and row["sample_len"] == n
    assert row["acc_stderr,none"] == pytest.approx((share * (1 - share) / (n - 1)) ** 0.5)
    mean = results["groups"]["pairs/base/none/seed-1"]["acc,none"]
    assert mean == pytest.approx(scores["zero_shot"] / 100)
    digest = made["settings"]["examples"]["pairs/test/de"]
    assert results["task_hashes"]["pairs/base/none/seed-1/de"] == digest
    assert results["higher_is_better"]["pairs/base/none/seed-1/de"] == {"acc": True}
    assert results["git_hash"] == made["commit"] and results["date"] > 1e9


def written(root: Path) -> dict[Path, bytes]:
    """All results and notebooks."""
    kinds = (".parquet", ".json", ".ipynb")
    paths = [path for path in root.rglob("*.*") if path.suffix in kinds]
    return {path: path.read_bytes() for path in paths if "data" not in path.parts}


RATE = "settings.target.hyperparameters.learning_rate: found 0.001, expected 0.5"


@pytest.mark.parametrize(
    ("changes", "file", "message"),
    [
        ({"overrides": [{"set": {"learning_rate": 0.5}, "phase": "target"}]}, "", RATE),
        ({"keep_models": True}, "", "keep_models: found true, expected false"),
        ({"name": "other"}, "", "found study tiny, expected other"),
        ({}, "yours/tiny/precision.cpu.json", "precision: found (fp32|bf16), expected fp8 as in"),
        ({}, f"yours/{PLACE}/scores.json", "scores.json: found another result here, expected none"),
        ({}, "mine/tiny.tar.gz", "tiny.tar.gz: cannot be unpacked: "),
    ],
)
def test_an_archive_that_does_not_fit_is_one_line_and_changes_nothing(root, changes, file, message):
    if file:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text('{"precision": "fp8"}', encoding="utf-8")
    before = written(root)
    with pytest.raises(StudyError, match=message) as error:
        add(root, **changes)
    assert "\n" not in str(error.value)
    assert before == written(root)


def test_no_file_of_an_archive_is_written_outside_of_the_study(root):
    with tarfile.open(root / "mine/tiny.tar.gz", "w:gz") as tar:
        tar.add(root / "tiny.yaml", "../../escaped.yaml")
    with pytest.raises(StudyError, match=r"cannot be unpacked: .*outside the destination"):
        add(root)
    assert not list(root.rglob("escaped.yaml"))


def test_what_would_start_from_weights_that_stayed_elsewhere_is_named(root):
    add(root)
    study = Study.load(root / "tiny.yaml", root / "yours")
    check_encoders(study, ["base", "large"])  # nothing is left to train
    shutil.rmtree(root / "yours" / "tiny/base/choices/pairs/seed-1")
    check_encoders(study, ["large"])
    with pytest.raises(StudyError, match="found results without the encoder, which pairs after"):
        check_encoders(study, ["base"])
