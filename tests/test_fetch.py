"""What a study reads from the hub is in a mirror after fetching it; it needs no network then."""

import subprocess
import sys
from pathlib import Path

import fetch
import hub
import pytest
import yaml
from conftest import write_study

from helpers import data, encoders
from helpers.study import Study, StudyError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fetched(tiny_sources, tmp_path_factory):
    """A study file, its mirror, and what fetching prints: at first, after a loss, offline."""
    root = tmp_path_factory.mktemp("fetch")
    known = yaml.safe_load((ROOT / "params/tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    cosmos = next(name for name, task in known.items() if task.get("hub") == "allenai/cosmos_qa")
    encoder = {"encoder": "FacebookAI/xlm-roberta-base", "title": "base", "pooling": "cls"}
    params = write_study(
        root / "params",
        tiny_sources,
        catalogue=str(ROOT / "params/tasks.yaml"),
        sizes={"base": encoder},
        intermediate=["none", cosmos],
        targets=[{"task": "xcopa", "languages": ["sw", "th"]}],
        check_sizes=False,
    )
    server = hub.Hub(hub.make_models(root / "models"))
    environment = hub.environment(server.url, root / "home")
    command = [sys.executable, str(ROOT / "tools/fetch.py"), str(params), str(root / "mirror")]

    def run(**more: str) -> list[str]:
        result = subprocess.run(command, env=environment | more, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stdout.splitlines()

    printed = [run()]
    lost = next((root / "mirror").rglob("*.parquet"))
    lost.unlink()
    printed.append(run())
    server.shutdown()
    printed.append(run(HF_ENDPOINT="http://127.0.0.1:9"))
    return params, root / "mirror", printed


def test_everything_that_the_study_reads_is_fetched_once(fetched):
    _, mirror, (first, second, last) = fetched
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


def test_the_mirror_is_read_as_the_hub_is(fetched, monkeypatch, tmp_path):
    params, mirror, _ = fetched
    monkeypatch.setenv("HUB_MIRROR", str(mirror))
    study = Study.load(params, tmp_path)
    cells = data.prepare(study)["cells"]
    assert len(cells) == len(study.needed()) and all(cell["rows"] for cell in cells.values())
    model, tokenizer = encoders.pretrained(study.sizes["base"])
    assert len(model.encoder.layer) == 12 and len(tokenizer) > 10


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/elsewhere", "a/../../elsewhere", "."])
def test_a_name_that_leads_out_of_the_mirror_is_refused(tmp_path, tiny_study, name):
    study = Study.load(tiny_study, tmp_path / "outputs")
    task = study.tasks["choices"].model_copy(update={"hub": name})
    study = study.model_copy(update={"tasks": {**study.tasks, "choices": task}})
    with pytest.raises(StudyError, match="no name of a repository"):
        list(fetch.fetch(study, tmp_path / "mirror"))
    assert not (tmp_path / "mirror").exists()
