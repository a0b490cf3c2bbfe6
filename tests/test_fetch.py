"""What a study reads from the hub is in a mirror after fetching it; it needs no network then."""

import subprocess
import sys
from pathlib import Path

import fetch
import hub
import pytest
import yaml
from conftest import write_study

from helpers.study import Study, StudyError

ROOT = Path(__file__).parents[1]


def test_everything_that_the_study_reads_is_fetched_once(tiny_sources, tmp_path):
    known = yaml.safe_load((ROOT / "params/tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    cosmos = next(name for name, task in known.items() if task.get("hub") == "allenai/cosmos_qa")
    encoder = {"encoder": "FacebookAI/xlm-roberta-base", "title": "base", "pooling": "cls"}
    params = write_study(
        tmp_path / "params",
        tiny_sources,
        catalogue=str(ROOT / "params/tasks.yaml"),
        sizes={"base": encoder},
        intermediate=["none", cosmos],
        targets=[{"task": "xcopa", "languages": ["sw", "th"]}],
        check_sizes=False,
    )
    server = hub.Hub(hub.make_models(tmp_path / "models"))
    environment = hub.environment(server.url, tmp_path / "home")
    mirror = tmp_path / "mirror"
    command = [sys.executable, str(ROOT / "tools/fetch.py"), str(params), str(mirror)]

    def run(**more: str) -> list[str]:
        result = subprocess.run(command, env=environment | more, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stdout.splitlines()

    first = run()
    next(mirror.rglob("*.parquet")).unlink()
    second = run()
    server.shutdown()
    last = run(HF_ENDPOINT="http://127.0.0.1:9")
    assert any("xcopa th" in line and "fetched" in line for line in first)
    assert any("cosmos" in line and "fetched" in line for line in first)
    assert all("fetched" in line for line in first)
    assert sum(line.endswith("there") for line in second) == len(second) - 1
    assert all(line.endswith("there") for line in last)
    card = (mirror / "allenai/cosmos_qa/README.md").read_text(encoding="utf-8").split("---")[1]
    (config,) = yaml.safe_load(card)["configs"]  # of a revision whose name has slashes
    files = {file["split"]: file["path"] for file in config["data_files"]}
    name = "default/{}.refs-convert-parquet.parquet"
    assert files == {split: name.format(split) for split in ("train", "validation")}


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/elsewhere", "a/../../elsewhere", "."])
def test_a_name_that_leads_out_of_the_mirror_is_refused(tmp_path, tiny_study, name):
    study = Study.load(tiny_study, tmp_path / "outputs")
    task = study.tasks["choices"].model_copy(update={"hub": name})
    study = study.model_copy(update={"tasks": {**study.tasks, "choices": task}})
    with pytest.raises(StudyError, match="no name of a repository"):
        list(fetch.fetch(study, tmp_path / "mirror"))
    assert not (tmp_path / "mirror").exists()
