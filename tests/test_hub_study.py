"""The data of the study of record, with fewer languages, from a hub of the tests' own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import yaml

ROOT = Path(__file__).parents[1]
AUTO = """\
ID=made_{0}.1 PARSER=GOLD NUMPARSE=1
(<T S[dcl] 0 2> (<L NP PRP PRP She x>) (<L S[dcl]\\NP VBZ VBZ sleeps{0} x>) )
"""
LANGUAGES = ["en", "de", "sw", "te", "ur", "zh"]
READ = """
import sys
from helpers import data
from helpers.study import Study
data.prepare(Study.load(sys.argv[1], sys.argv[2]))
"""


def shortened(folder: Path, models: dict[str, Path]) -> Path:
    """The study of record with these of each target's languages."""
    study = yaml.safe_load((ROOT / "params/xtreme-r.yaml").read_text(encoding="utf-8"))
    catalogue = ROOT / "params/tasks.yaml"
    tasks = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["tasks"]
    study["targets"] = [
        {"task": name, "languages": [c for c in LANGUAGES if c in tasks[name]["languages"]]}
        for name in study["targets"]
    ]
    path = folder / "xtreme-r.yaml"
    changes = {"catalogue": str(catalogue), "check_sizes": False}
    path.write_text(yaml.safe_dump({**study, **changes}), encoding="utf-8")
    return path


def made(folder: Path, code: str = READ, models: dict[str, Path] | None = None) -> Path:
    """The study's outputs, made by another process: the hub's address is read at import."""
    server = hub.Hub(models or {})
    (folder / "files/ccg").mkdir(parents=True)
    for split in ("train", "dev"):
        (folder / f"files/ccg/{split}.auto").write_text(AUTO.format(split), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "HUB_MIRROR"}
    environment |= hub.environment(server.url, folder / "home")
    environment |= {"DATA_DIR": str(folder / "files"), "PYTHONPATH": str(ROOT / "src")}
    study = shortened(folder, models or {})
    command = [sys.executable, "-c", code, str(study), str(folder / "outputs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "outputs/xtreme-r"


def test_every_data_set_of_the_study_of_record_is_read_from_the_hub(tmp_path):
    cells = json.loads((made(tmp_path) / "data/summary.json").read_text(encoding="utf-8"))["cells"]
    targets = yaml.safe_load((ROOT / "params/xtreme-r.yaml").read_text())["targets"]
    assert {name.split("/")[0] for name in cells} >= {*targets, "squad_v2", "ccg", "siqa"}
    assert all(cell["rows"] for cell in cells.values())
    # SNLI's rows without a label are left out by declaration; ANLI's three rounds are one task.
    assert cells["anli_plus/train/en"]["rows"] == 5 * hub.COUNTS["train"] - 1
    assert cells["squad_v2/train/en"]["labels"] == {"answer": 6, "no answer": 2}
    assert cells["tydiqa/validation/te"]["rows"] == hub.COUNTS["validation"]
    assert cells["ccg/validation/en"]["labels"]["<unseen>"] == 0
