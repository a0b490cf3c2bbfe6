"""What a study reads from the hub is in a mirror after fetching it, whole; it needs no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import pytest
import yaml
from conftest import write_study
from helpers.batch import fetch

from helpers import encoders
from helpers.data import sources
from helpers.study import Study, StudyError

PARAMS = Path(__file__).parents[1] / "params"
CHANGES = {
    "catalogue": str(PARAMS / "tasks.yaml"),
    "sizes": {
        "base": {"encoder": "FacebookAI/xlm-roberta-base", "title": "base", "pooling": "cls"}
    },
    "intermediate": ["none", "cosmosqa"],
    "targets": [{"task": "xcopa", "languages": ["sw", "th"]}],
    "check_sizes": False,
}


@pytest.fixture(scope="module")
def fetched(tiny_sources, tmp_path_factory):
    """A study file, its mirror, and what fetching says each time; at the second a file is cut."""
    root = tmp_path_factory.mktemp("fetch")
    known = yaml.safe_load((PARAMS / "tasks.yaml").read_text())["tasks"]
    cosmos = next(name for name, task in known.items() if task.get("hub") == "allenai/cosmos_qa")
    params = write_study(
        root / "params", tiny_sources, **{**CHANGES, "intermediate": ["none", cosmos]}
    )
    server = hub.Hub(hub.make_models(root / "models"))
    environment = {k: v for k, v in os.environ.items() if k != "HUB_MIRROR"} | hub.environment(
        server.url, root / "home"
    )
    command = [sys.executable, "-m", "helpers.batch.fetch", str(params), str(root / "mirror")]
    outputs = [subprocess.run(command, env=environment, capture_output=True, text=True)]
    weights = root / "mirror/FacebookAI/xlm-roberta-base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    outputs.append(subprocess.run(command, env=environment, capture_output=True, text=True))
    server.shutdown()
    offline = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    outputs.append(subprocess.run(command, env=offline, capture_output=True, text=True))
    assert all(o.returncode == 0 for o in outputs), [o.stderr[-2000:] for o in outputs]
    return params, root / "mirror", [o.stdout.splitlines() for o in outputs]


def test_everything_that_the_study_reads_is_fetched_once(fetched):
    params, mirror, (first, second, *_, last) = fetched
    study = Study.load(params)
    assert any("xcopa th" in line and "fetched" in line for line in first)
    assert any("cosmos" in line and "fetched" in line for line in first)
    assert (
        sum("there" in line for line in second) == len(second) - 1
    )  # all but the file that was cut short
    assert all(line.endswith("there") for line in last)
    for repository, *_ in fetch.data_sets(study):
        manifest = json.loads((mirror / repository / fetch.MANIFEST).read_text())
        assert all(
            (mirror / repository / file).stat().st_size == about["bytes"]
            for file, about in manifest.items()
        )


def test_the_mirror_is_read_as_the_hub_is(fetched, monkeypatch):
    params, mirror, _ = fetched
    monkeypatch.setenv(sources.MIRROR, str(mirror))
    study = Study.load(params)
    for task, split, language in study.needed():
        entry = study.tasks[task]
        assert len(sources.rows(entry, entry.source(language), split, language, None)) > 0
    model, tokenizer = encoders.pretrained(study.sizes["base"])
    assert len(model.encoder.layer) == 12 and len(tokenizer) > 10


def test_a_name_that_leads_out_of_the_mirror_is_refused(tmp_path):
    for name in ("../elsewhere", "/etc/elsewhere", "a/../../elsewhere", "."):
        with pytest.raises(StudyError, match="leads out"):
            fetch._inside(tmp_path / "mirror", name)
