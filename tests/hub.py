"""A hub of the tests' own, from which ``datasets`` and ``transformers`` can load.

It serves a few rows of every hub data set of the catalogue under its real id, configurations,
splits and columns, with labels as numbers that the file names (ClassLabel), and model folders. A
process that is to use it starts with ``environment(url, home)``.
"""

import io
import json
import os
import threading
from functools import cache
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from conftest import ANIMALS, NEGATED, VERBS, make_encoder

from helpers.study import Task, catalogue

ROOT = Path(__file__).parents[1]
COMMIT = sha1(b"the tests").hexdigest()
COUNTS = {"train": 8, "validation": 6, "test": 6}
CONVERTED = {"allenai/cosmos_qa"}
"""What lies on another branch than main, whose script nobody runs."""


def environment(url: str, home: Path) -> dict[str, str]:
    """Environment of a process that loads from the hub at ``url`` and nowhere else."""
    known = {k: v for k, v in os.environ.items() if k not in ("HUB_MIRROR", "DATA_DIR")}
    known |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    for name in ("XET", "TELEMETRY", "PROGRESS_BARS", "IMPLICIT_TOKEN"):
        known[f"HF_HUB_DISABLE_{name}"] = "1"
    return known | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tools'}"}


def example(task: Task, split: str, language: str, i: int) -> dict:
    """An example of any format, with a text that no other split, language or task has."""
    spoken = language if language in ANIMALS else "en"
    animal, verb = ANIMALS[spoken][i % 6], VERBS[spoken][i // 6 % 3]
    label = i % max(1, len(task.labels))
    name = task.name if "train" in task.splits or not task.train_on else task.train_on[-1]
    first = f"{animal} {verb} {split} {i} {name}" + ("" if language == spoken else f" {language}")
    other = f"{animal} {NEGATED[spoken]}"
    question = list(task.values.get("question", {"What was it?": ""}))[i % 2 - 1]
    choices = [f"{animal} {verb}" if k == label else f"{other} {k}" for k in range(5)]
    none = task.unanswerable and i % 3 == 2
    return {
        **{"text_a": first, "text_b": other if label else f"{animal} {verb}"},
        **{"context": first, "question": question, "choices": choices[: len(task.labels)]},
        **{"tokens": first.split(), "labels": [i % len(task.labels or "x")] * len(first.split())},
        "answers": {"text": [] if none else [animal], "answer_start": [] if none else [0]},
        **{"source": first, "target": f"{first}!", "text": first, "label": label},
    }


def row(task: Task, split: str, language: str, i: int) -> dict:
    """An example under the source's columns; a row without a label where the task knows those."""
    made, columns = example(task, split, language, i), {}
    begin = task.where.get("id", "").format(language=task.codes.get(language, language))
    made["id"] = f"{begin}{split}-{i}"
    if task.skip_labels and i == COUNTS[split] - 1:
        made["label"] = int(task.skip_labels[0])
    elif task.label_values:
        made["label"] = task.label_values[made["label"]]
    for name, column in task.columns.items():
        if isinstance(column, list):
            values = made[name] if name == "choices" else [made["id"]] * len(column)
            columns |= dict(zip(column, values, strict=True))
        elif "." in column:
            columns[column.split(".")[0]] = {column.split(".")[1]: made[name]}
        elif task.metric != "map_20" or name != "answers":
            columns[column] = made[name]
    return columns


def entries() -> list[Task]:
    """The catalogue's entries on the hub, one a data set, configuration template and split set."""
    return [task for task in catalogue.load(ROOT / "params/tasks.yaml").values() if task.hub]


@cache
def files(repository: str) -> dict[str, tuple[Task, str, str, str] | bytes]:
    """Path -> content, or (task, our split, language, the source's split) of what it holds."""
    held: dict = {}
    configs: dict[str, dict[str, str]] = {}
    for task in entries():
        for language in task.languages:
            source = task.source(language)
            if source.hub != repository:
                continue
            code = task.codes.get(language, language)
            config = (source.config or "default").format(language=code)
            for split, spec in source.splits.items():
                for named in {part.partition("[")[0] for part in spec.split("+")}:
                    path = f"{config}/{named}-00000-of-00001.parquet"
                    configs.setdefault(config, {})[path] = named
                    held.setdefault(path, []).append((task, split, language, named))
    listed = []
    for name, paths in configs.items():
        data_files = [{"split": split, "path": path} for path, split in paths.items()]
        listed.append({"config_name": name, "data_files": data_files})
    if listed:
        held["README.md"] = f"---\n{yaml.safe_dump({'configs': listed})}---\n".encode()
    return held


@cache
def content(repository: str, path: str) -> bytes:
    """The bytes of a file of a data set; where languages share one, the rows of each."""
    import datasets as ds

    holders = files(repository)[path]
    if isinstance(holders, bytes):
        return holders
    holders = sorted(holders, key=lambda one: one[1] != one[3])  # not those that take a part
    first = holders[0][0]
    several = [one for one in holders if one[0].where] or holders[:1]
    rows = []
    for task, split, language, named in {one[2]: one for one in several}.values():
        for i in range(COUNTS[split]):
            made = row(task, split, language, i)
            if "_r" in named:  # one of ANLI's rounds
                made |= {"uid": f"{named}-{i}", "premise": f"{made['premise']} {named}"}
            rows.append(made)
    ds.disable_progress_bars()
    table = ds.Dataset.from_list(rows)
    label = first.columns.get("label") or first.columns.get("labels")
    if first.labels and not first.label_values and label:
        names = ds.ClassLabel(names=first.labels)
        kind = ds.List(names) if first.format == "tagging" else names
        table = table.cast_column(label, kind)
    out = io.BytesIO()
    table.to_parquet(out)
    return out.getvalue()


def make_models(folder: Path) -> dict[str, Path]:
    """Tiny random encoders: XLM-R with the depths of base and large, XLM-R XL with fewer layers."""
    models = {}
    shape = {"hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 514}
    for name, family, layers in (
        ("FacebookAI/xlm-roberta-base", "XLMRoberta", 12),
        ("FacebookAI/xlm-roberta-large", "XLMRoberta", 24),
        ("facebook/xlm-roberta-xl", "XLMRobertaXL", 3),
        ("facebook/xlm-roberta-xxl", "XLMRobertaXL", 4),
    ):
        models[name] = folder / name.rpartition("-")[2]
        make_encoder(models[name], layers, family, "ForMaskedLM", **shape)
    return models


class Hub(ThreadingHTTPServer):
    """The server; ``models`` are folders by id."""

    def __init__(self, models: dict[str, Path]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def listing(self, repository: str, revision: str) -> list[str] | None:
        """The path of every file, or None."""
        if folder := self.models.get(repository):
            return [file.name for file in folder.iterdir()]
        if repository in CONVERTED and revision == "main":
            return []
        return list(files(repository)) or None

    def read(self, repository: str, path: str) -> bytes:
        if folder := self.models.get(repository):
            return (folder / path).read_bytes()
        return content(repository, path)

    def entry(self, repository: str, path: str) -> dict:
        """What the hub says of a file, or of a folder."""
        if path not in self.listing(repository, COMMIT):
            return {"type": "directory", "oid": COMMIT, "size": 0, "path": path}
        body = self.read(repository, path)
        return {"type": "file", "oid": sha1(body).hexdigest(), "size": len(body), "path": path}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits for an acknowledgement
    server: Hub

    def do_GET(self):
        """OWNER/NAME[/VERB/REVISION/PATH], behind api/ and the kind."""
        names = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        names = [name for name in names if name not in ("api", "datasets", "models")]
        repository, verb, path = "/".join(names[:2]), "".join(names[2:3]), "/".join(names[4:])
        held = self.server.listing(repository, "".join(names[3:4]) or "main")
        if held is None or (verb == "resolve" and path not in held):
            code = "RepoNotFound" if held is None else "EntryNotFound"
            self._send(404, b"", {"X-Error-Code": code})
        elif verb == "resolve":
            body = self.server.read(repository, path)
            self._send(200, body, {"ETag": f'"{sha1(body).hexdigest()}"'})
        elif verb == "tree":
            inside = [name for name in held if name.startswith(f"{path}/" if path else "")]
            self._json([self.server.entry(repository, name) for name in inside])
        elif verb == "paths-info":
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            paths = json.loads(body)["paths"] if body[0] == "{" else parse_qs(body)["paths"]
            known = [p for p in paths if any(f"{name}/".startswith(f"{p}/") for name in held)]
            self._json([self.server.entry(repository, name) for name in known])
        else:
            about = {"id": repository, "sha": COMMIT, "tags": [], "private": False, "gated": False}
            self._json(about | {"siblings": [{"rfilename": name} for name in held]})

    do_HEAD = do_POST = do_GET

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]):
        self.send_response(status)
        headers |= {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass
