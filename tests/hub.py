"""A hub of the tests' own, from which ``datasets`` and ``transformers`` can load.

It serves a few rows, written here, of every hub data set of the catalogue under its real id,
configurations, columns and label encoding, and a tiny random XLM-R under the ids of base and large.
A process that is to use it starts with ``environment(url, home)``.
"""

import hashlib
import io
import json
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import transformers
import yaml
from conftest import ANIMALS, NEGATED, VERBS, make_encoder

COMMIT = hashlib.sha1(b"the tests").hexdigest()
CONVERTED = "refs/convert/parquet"
COUNTS = {"train": 8, "validation": 6, "test": 6}
BUCC = ["de", "fr", "ru", "zh"]


def environment(url: str, home: Path) -> dict[str, str]:
    """Environment variables of a process that loads from the hub at ``url`` and nowhere else."""
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": "",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


def words(split: str, i: int, language: str = "en") -> tuple[str, str, str]:
    """A sentence, one that follows from it, one that does not; other ones for every split and i."""
    spoken = language if language in ANIMALS else "en"
    begin = {"train": 100, "validation": 200, "test": 300}[split]
    animal, verb = ANIMALS[spoken][i % 6], VERBS[spoken][i // 6 % 3]
    return f"{animal} {verb} {begin + i}", f"{animal} {verb}", f"{animal} {NEGATED[spoken]}"


def pair(names: list[str], a: str = "premise", b: str = "hypothesis", skip: bool = False, **more):
    """Rows of sentence pairs; with ``skip`` the last label is -1."""
    import datasets as ds

    def rows(config, split, language="en"):
        out = []
        for i in range(COUNTS[split]):
            first, same, other = words(split, i, language)
            label = -1 if skip and i == COUNTS[split] - 1 else i % len(names)
            out.append(
                {
                    a: f"{config or ''} {first}".strip(),
                    b: other if i % len(names) else same,
                    "label": label,
                }
            )
            out[-1] |= {key: f"{config}-{split}-{i}" for key in more}
        return out, ds.Features(
            {a: ds.Value("string"), b: ds.Value("string"), "label": ds.ClassLabel(names=names)}
            | {key: ds.Value("string") for key in more}
        )

    return rows


def copa(config, split, language="en"):
    import datasets as ds

    out = []
    for i in range(COUNTS[split]):
        first, same, other = words(split, i, language)
        question = "cause" if i % 2 else "effect"
        choices = (other, same) if i % 2 else (same, other)
        out.append(
            {"premise": first, "choice1": choices[0], "choice2": choices[1], "question": question}
        )
        out[-1] |= {"idx": i, "label": i % 2}
    text = ds.Value("string")
    return out, ds.Features(
        {key: text for key in ("premise", "choice1", "choice2", "question")}
        | {"idx": ds.Value("int32"), "label": ds.ClassLabel(names=["choice1", "choice2"])}
    )


def siqa(config, split, language="en"):
    rows = []
    for i in range(COUNTS[split]):
        first, same, other = words(split, i)
        answers = {"answerA": other, "answerB": other, "answerC": other} | {
            f"answer{'ABC'[i % 3]}": same
        }
        rows.append(
            {
                "context": f"siqa {first}",
                "question": "What happened?",
                **answers,
                "label": str(i % 3 + 1),
            }
        )
    return rows, None


def cosmos(config, split, language="en"):
    rows = []
    for i in range(COUNTS[split]):
        first, same, other = words(split, i)
        answers = {f"answer{k}": same if k == i % 4 else f"{other} {k}" for k in range(4)}
        row = {
            "id": f"c{split}{i}",
            "context": f"cosmos {first}",
            "question": "What was the cause?",
        }
        rows.append({**row, **answers, "label": i % 4})
    return rows, None


def hellaswag(config, split, language="en"):
    rows = []
    for i in range(COUNTS[split]):
        first, same, other = words(split, i)
        endings = [same if k == i % 4 else f"{other} {k}" for k in range(4)]
        row = {
            "ind": i,
            "activity_label": "a",
            "ctx_a": first,
            "ctx_b": "",
            "ctx": f"swag {first}",
            "endings": endings,
        }
        rows.append(
            {
                **row,
                "source_id": str(i),
                "split": split,
                "split_type": "indomain",
                "label": str(i % 4),
            }
        )
    return rows, None


def commonsense(config, split, language="en"):
    rows = []
    for i in range(COUNTS[split]):
        first, same, other = words(split, i)
        choices = {
            "label": list("ABCDE"),
            "text": [same if k == i % 5 else f"{other} {k}" for k in range(5)],
        }
        row = {
            "id": f"q{split}{i}",
            "question": f"csqa {first}?",
            "question_concept": "dog",
            "choices": choices,
        }
        rows.append({**row, "answerKey": "ABCDE"[i % 5]})
    return rows, None


def answers(begin: str = "", without: bool = False):
    """Rows of questions; with ``without`` every third has no answer."""
    import datasets as ds

    def rows(config, split, language="en"):
        out = []
        for i in range(COUNTS[split]):
            first, same, other = words(split, i, language)
            context = f"{begin} {config or ''} {other}. {first}, {same}!".strip()
            said = {"text": [first], "answer_start": [context.index(first)]}
            if without and i % 3 == 2:
                said = {"text": [], "answer_start": []}
            out.append(
                {
                    "id": f"{begin}{split}{i}",
                    "title": "t",
                    "context": context,
                    "question": "What was it?",
                }
            )
            out[-1]["answers"] = said
        text = ds.Value("string")
        features = {key: text for key in ("id", "title", "context", "question")}
        features["answers"] = {"text": ds.List(text), "answer_start": ds.List(ds.Value("int32"))}
        return out, ds.Features(features)

    return rows


def tydiqa(languages: list[str]):
    """All languages in one configuration, told apart by the begin of their ids."""

    def rows(config, split, language="en"):
        out, features = [], None
        for name in languages:
            more, features = answers("ty")(name, split, "sw" if name == "swahili" else "en")
            out += [{**row, "id": f"{name}-{i}-0"} for i, row in enumerate(more)]
        return out, features

    return rows


def tags(column: str, names: list[str], gold):
    """Rows of tagged sentences."""
    import datasets as ds

    def rows(config, split, language="en"):
        out = []
        for i in range(COUNTS[split]):
            tokens = words(split, i, language)[0].split()
            row = {"tokens": tokens, column: gold(i, len(tokens))}
            out.append(row | ({"langs": [language] * len(tokens)} if column == "ner_tags" else {}))
        text = ds.Value("string")
        features = {"tokens": ds.List(text), column: ds.List(ds.ClassLabel(names=names))}
        return out, ds.Features(
            features | ({"langs": ds.List(text)} if column == "ner_tags" else {})
        )

    return rows


def translations(config, split, language="en"):
    rows = []
    for i in range(COUNTS[split]):
        source = words(split, i, language)[0]
        rows.append({"source_sentence": source, "target_sentence": words(split, i)[0]})
        rows[-1] |= {"source_lang": language, "target_lang": "eng"}
    return rows, None


NLI = ["entailment", "neutral", "contradiction"]
NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
POS = [
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
]
LEARN, ALL = ["train", "validation"], ["train", "validation", "test"]


@cache
def repositories() -> dict[str, dict]:
    """Hub id -> configuration -> (splits, what makes their rows, language)."""
    tasks = yaml.safe_load(
        (Path(__file__).parents[1] / "params/tasks.yaml").read_text(encoding="utf-8")
    )["tasks"]

    def each(task: str, template: str, splits: list[str], rows) -> dict:
        entry = tasks[task]
        codes = entry.get("codes", {})
        return {template.format(codes.get(c, c)): (splits, rows, c) for c in entry["languages"]}

    ner = tags("ner_tags", NER, lambda i, n: [2 * (i % 3) + 1, 2 * (i % 3) + 2, *[0] * (n - 2)])
    pos = tags("pos_tags", POS, lambda i, n: [7, 15, *[8] * (n - 2)])
    spoken = list(tasks["tydiqa"]["codes"].values())
    xcopa = {c: (["validation", "test"], copa, c) for c in tasks["xcopa"]["languages"] if c != "en"}
    return {
        "nyu-mll/glue": {
            "mnli": (["train", "validation_matched"], pair(NLI), "en"),
            "qqp": (LEARN, pair(["not_duplicate", "duplicate"], "question1", "question2"), "en"),
        },
        "facebook/anli": {
            "plain_text": (
                [f"{s}_r{k}" for s in ("train", "dev", "test") for k in (1, 2, 3)],
                pair(NLI, uid=1),
                "en",
            )
        },
        "stanfordnlp/snli": {"plain_text": (ALL, pair(NLI, skip=True), "en")},
        "rajpurkar/squad": {"plain_text": (LEARN, answers("one"), "en")},
        "rajpurkar/squad_v2": {"squad_v2": (LEARN, answers("two", without=True), "en")},
        "Rowan/hellaswag": {"default": (ALL, hellaswag, "en")},
        "tau/commonsense_qa": {"default": (ALL, commonsense, "en")},
        "allenai/cosmos_qa": {"default": (ALL, cosmos, "en")},
        "lighteval/siqa": {"default": (LEARN, siqa, "en")},
        "aps/super_glue": {"copa": (ALL, copa, "en")},
        "pkavumba/balanced-copa": {"default": (["train", "test"], copa, "en")},
        "cambridgeltl/xcopa": xcopa,
        "facebook/xnli": each("xnli", "{}", ALL, pair(NLI)),
        "google-research-datasets/paws-x": each(
            "paws_x", "{}", ALL, pair(["0", "1"], "sentence1", "sentence2", id=1)
        ),
        "google/xquad": each("xquad", "xquad.{}", ["validation"], answers("x")),
        "google/xtreme": {
            "tydiqa": (LEARN, tydiqa(spoken), "en"),
            **each("mlqa", "MLQA.{0}.{0}", ["validation", "test"], answers("m")),
            **each("udpos", "udpos.{}", ALL, pos),
            **each("panx", "PAN-X.{}", ALL, ner),
            **each("tatoeba", "tatoeba.{}", ["validation"], translations),
            **{f"bucc18.{code}": (["validation", "test"], translations, code) for code in BUCC},
        },
    }


@cache
def files(repository: str) -> dict[str, tuple[str, str, str] | bytes]:
    """Path -> content, or the (repository, configuration, split) that it holds."""
    configs, held = [], {}
    for config, (splits, _, _) in repositories()[repository].items():
        if (
            repository == "allenai/cosmos_qa"
        ):  # a script on the main branch, converted files on another
            held |= {
                f"{config}/{split}/0000.parquet": (repository, config, split) for split in splits
            }
            continue
        named = {split: f"{config}/{split}-00000-of-00001.parquet" for split in splits}
        held |= {path: (repository, config, split) for split, path in named.items()}
        configs.append(
            {
                "config_name": config,
                "data_files": [{"split": s, "path": p} for s, p in named.items()],
            }
        )
    if configs:
        held["README.md"] = f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()
    return held


@cache
def content(repository: str, path: str) -> bytes:
    """The bytes of a file of a data set."""
    import datasets as ds

    held = files(repository)[path]
    if isinstance(held, bytes):
        return held
    _, config, split = held
    _, make, language = repositories()[repository][config]
    named = "validation" if split.startswith(("dev", "validation")) else split.split("_")[0]
    shown = split if "_r" in split else config if config not in ("default", "plain_text") else ""
    rows, features = make(shown, named, language)
    ds.disable_progress_bars()
    out = io.BytesIO()
    ds.Dataset.from_list(rows, features=features).to_parquet(out)
    return out.getvalue()


def make_models(folder: Path) -> dict[str, Path]:
    """Tiny random encoders: XLM-R with the depths of base and large, XLM-R XL with fewer layers."""
    found = {}
    for name, kind, layers in (
        ("FacebookAI/xlm-roberta-base", "XLMRoberta", 12),
        ("FacebookAI/xlm-roberta-large", "XLMRoberta", 24),
        ("facebook/xlm-roberta-xl", "XLMRobertaXL", 3),
        ("facebook/xlm-roberta-xxl", "XLMRobertaXL", 4),
    ):
        path = folder / name.rpartition("-")[2]
        make_encoder(path, 1, kind)
        config = getattr(transformers, f"{kind}Config").from_pretrained(path)
        config.num_hidden_layers, config.hidden_size, config.intermediate_size = layers, 8, 16
        config.max_position_embeddings = 514
        for file in path.glob("*.safetensors"):
            file.unlink()
        getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(path)
        found[name] = path
    return found


class Hub(ThreadingHTTPServer):
    """The server; ``asked`` lists what it had no answer to."""

    def __init__(self, models: dict[str, Path]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.asked = models, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def listing(self, kind: str, repository: str, revision: str = "main") -> dict[str, int] | None:
        """Path -> bytes of every file, or None."""
        if kind == "models":
            folder = self.models.get(repository)
            return folder and {f.name: f.stat().st_size for f in folder.iterdir()}
        if repository not in repositories():
            return None
        if repository == "allenai/cosmos_qa" and revision not in (CONVERTED, COMMIT):
            return {}
        return dict.fromkeys(files(repository), 0)

    def read(self, kind: str, repository: str, path: str) -> bytes:
        return (
            (self.models[repository] / path).read_bytes()
            if kind == "models"
            else content(repository, path)
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits for an acknowledgement
    server: Hub

    def do_GET(self):
        kind, repository, verb, rest = self._parse()
        revision = rest[0] if rest else "main"
        held = self.server.listing(kind, repository, revision)
        if held is None:
            return self._missing("RepoNotFound")
        if verb == "resolve":
            path = "/".join(rest[1:])
            return (
                self._file(self.server.read(kind, repository, path))
                if path in held
                else self._missing("EntryNotFound")
            )
        if verb == "tree":
            return self._tree(kind, repository, held, "/".join(rest[1:]))
        return self._json(
            {
                **{
                    "id": repository,
                    "_id": "0",
                    "sha": COMMIT,
                    "private": False,
                    "gated": False,
                    "disabled": False,
                },
                **{
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "lastModified": "2026-01-01T00:00:00.000Z",
                },
                "siblings": [{"rfilename": path} for path in held],
            }
        )

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, repository, _, _ = self._parse()
        asked = (
            json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        )
        held = self.server.listing(kind, repository, COMMIT) or {}
        found = [self._entry(kind, repository, path) for path in asked if path in held]
        found += [
            _folder(path) for path in asked if any(name.startswith(f"{path}/") for name in held)
        ]
        self._json(found)

    def _parse(self) -> tuple[str, str, str, list[str]]:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        kind = parts.pop(0) if parts[0] in ("datasets", "models") else "models"
        return kind, "/".join(parts[:2]), parts[2] if len(parts) > 2 else "", parts[3:]

    def _tree(self, kind, repository, held, folder):
        deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        begin = f"{folder}/" if folder else ""
        inside = [path for path in held if path.startswith(begin)]
        if folder and not inside:
            return self._missing("EntryNotFound")
        shown = [
            self._entry(kind, repository, p) for p in inside if deep or "/" not in p[len(begin) :]
        ]
        folders = {begin + p[len(begin) :].split("/")[0] for p in inside if "/" in p[len(begin) :]}
        return self._json(shown + [_folder(path) for path in sorted(folders)])

    def _entry(self, kind, repository, path) -> dict:
        data = self.server.read(kind, repository, path)
        return {
            "type": "file",
            "oid": hashlib.sha1(data).hexdigest(),
            "size": len(data),
            "path": path,
        }

    def _file(self, data: bytes):
        tag = hashlib.sha1(data).hexdigest()
        begin, status = 0, 200
        if wanted := self.headers.get("Range"):
            low, high = wanted.removeprefix("bytes=").split("-")
            begin, status = int(low), 206
            data = data[begin : int(high) + 1 if high else None]
        self._send(
            status, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        )

    def _json(self, value):
        self._send(
            200,
            json.dumps(value).encode(),
            {"Content-Type": "application/json", "X-Repo-Commit": COMMIT},
        )

    def _missing(self, code: str):
        self.server.asked.append(self.path)
        self._send(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def _send(self, status: int, data: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def _folder(path: str) -> dict:
    return {
        "type": "directory",
        "oid": hashlib.sha1(path.encode()).hexdigest(),
        "size": 0,
        "path": path,
    }
