"""transformers' own run_xnli.py, executed as a script, offline and unchanged.

``RUN_XNLI`` says where the file lies: examples/pytorch/text-classification/run_xnli.py of the
library's repository, at the tag of the installed version. The wheel does not have it.

Data and metric lie where it looks before the hub: ``xnli`` or ``facebook/xnli`` in the working
directory, and evaluate's module cache.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from datasets import ClassLabel, Dataset

LABELS = ["entailment", "neutral", "contradiction"]
AS_IT_COMES = {
    "do_train": "True",
    "do_predict": "True",
    "language": "en",
    "per_device_train_batch_size": "32",  # as its documentation has it
    "learning_rate": "5e-5",
    "max_seq_length": "128",
    "save_strategy": "no",
    "report_to": "none",
}
BEST = {
    "pad_to_max_length": "False",
    "train_sampling_strategy": "group_by_length",
    "per_device_eval_batch_size": "64",
}
METRIC = """import datasets
import evaluate


class Accuracy(evaluate.Metric):
    def _info(self):
        features = datasets.Features(
            {name: datasets.Value("int64") for name in ("predictions", "references")}
        )
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        right = sum(p == r for p, r in zip(predictions, references, strict=True))
        return {"accuracy": right / len(references)}
"""


def located() -> Path:
    """The script, and on stderr a line if it is of another version; exits with one if missing."""
    value = os.environ.get("RUN_XNLI", "")
    path = Path(value)
    if not path.is_file():
        sys.exit(
            f"RUN_XNLI: found {value!r}, expected the path of examples/pytorch/"
            f"text-classification/run_xnli.py from transformers' repository, tag "
            f"v{version('transformers')}"
        )
    found = re.search(r'check_min_version\("(.+?)"\)', path.read_text(encoding="utf-8"))
    if found and found[1] != version("transformers"):
        wrong = f"of version {found[1]}, installed is {version('transformers')}"
        print(f"RUN_XNLI: {path} is {wrong}", file=sys.stderr)
    return path.resolve()


def prepare(folder: Path, train: list[dict], test: list[dict]) -> None:
    """Lay out data and metric in ``folder``, in which the script runs."""
    data = folder / "xnli"
    data.mkdir(parents=True)
    files = []
    for split, rows in (("train", train), ("test", test)):
        columns = {"premise": "text_a", "hypothesis": "text_b", "label": "label"}
        table = Dataset.from_dict({name: [r[key] for r in rows] for name, key in columns.items()})
        table = table.cast_column("label", ClassLabel(names=LABELS))
        table.to_parquet(data / f"{split}.parquet")
        files.append({"split": split, "path": f"{split}.parquet"})
    card = yaml.safe_dump({"configs": [{"config_name": "en", "data_files": files}]})
    (data / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")
    (folder / "facebook").mkdir()
    (folder / "facebook" / "xnli").symlink_to(data.resolve())
    module = folder / "modules/evaluate_modules/metrics/evaluate-metric--xnli" / ("0" * 64)
    module.mkdir(parents=True)
    (module / "xnli.py").write_text(METRIC, encoding="utf-8")
    for package in [module, *list(module.parents)[:3]]:
        (package / "__init__.py").touch()


def measured(script: Path, folder: Path, flags: dict, steps: int, predicted: int) -> dict:
    """Seconds of training and prediction as the script reports them, and memory in bytes."""
    at = folder / f"out-{steps}"
    options = AS_IT_COMES | flags
    options |= {
        "model_name_or_path": str(folder / "full"),
        "output_dir": str(at),
        "max_steps": str(steps),
        "max_predict_samples": str(predicted),
    }
    if not torch.cuda.is_available():
        options["use_cpu"] = "True"  # else the library takes bf16 on a GPU only
    command = [sys.executable, str(script)]
    for name, value in options.items():
        command += [f"--{name}", value]
    memory = run(command, folder)
    seconds = {
        kind: json.loads((at / f"{kind}_results.json").read_text())[f"{kind}_runtime"]
        for kind in ("train", "predict")
    }
    return {**seconds, "peak training memory, bytes": memory}


def run(command: list[str], folder: Path) -> int:
    """Run a script in ``folder`` on all cores, offline; the largest memory it took, in bytes."""
    offline = dict.fromkeys(["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"], "1")
    caches = {"HF_HOME": folder / "cache", "HF_MODULES_CACHE": folder / "modules"}
    cores = {"OMP_NUM_THREADS": str(os.cpu_count())}
    environment = {**os.environ, **offline, **{k: str(v) for k, v in caches.items()}, **cores}
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}\n{log.read_text()[-3000:]}")
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
