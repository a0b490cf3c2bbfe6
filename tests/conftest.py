"""A study small enough to run in seconds: a tiny random encoder and a handful of rows."""

import gc
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from helpers.study import Size, Study, StudyError, Task

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SLOW = ["lab", "batch", "interrupted", "hub_study", "page", "charts", "types", "lora", "scaling"]
SLOW += ["limits", "encoders", "retrieval", "families", "fetch", "checkpoints", "safety", "results"]
SLOW += ["pack", "check_gpu", "gpu", "intervals", "demo"]
"""The longest test files: ``make test-fast`` leaves them out."""
ORDER = [*SLOW, "training", "mixture", "plan"]
"""The files that begin, so that no worker is left with a long one at the end."""


def pytest_configure():
    gc.disable()  # while tests are collected: imports make many objects and no garbage


def pytest_collection_modifyitems(items):
    gc.freeze()  # every training ends with a collection, which need not read all libraries
    gc.enable()
    names = {item: item.path.stem.removeprefix("test_") for item in items}
    items.sort(key=lambda item: ORDER.index(names[item]) if names[item] in ORDER else len(ORDER))
    for item in items:
        if names[item] in SLOW:
            item.add_marker(pytest.mark.slow)


ANIMALS = {
    "en": ["dog", "cat", "horse", "bird", "fish", "cow"],
    "de": ["Hund", "Katze", "Pferd", "Vogel", "Fisch", "Kuh"],
    "sw": ["mbwa", "paka", "farasi", "ndege", "samaki", "ng'ombe"],
}
VERBS = {
    "en": ["sleeps", "runs", "eats"],
    "de": ["schläft", "rennt", "frisst"],
    "sw": ["analala", "anakimbia", "anakula"],
}
NEGATED = {"en": "is not there", "de": "ist nicht da", "sw": "hayupo"}
LABELS = ["entailment", "neutral", "contradiction"]


def pair_rows(language: str, begin: int, count: int) -> list[dict]:
    """Rows of sentence pairs; those of one index are translations of each other."""
    rows, animals = [], ANIMALS[language]
    for i in range(begin, begin + count):
        animal, another, verb = animals[i % 6], animals[(i + 1) % 6], VERBS[language][(i // 6) % 3]
        text = f"{animal} {verb} {i}"
        other = [text, f"{another} {verb}", f"{animal} {NEGATED[language]}"]
        rows.append({"pair": str(i), "a": text, "b": other[i % 3], "label": LABELS[i % 3]})
    return rows


def choice_rows(language: str, begin: int, count: int) -> list[dict]:
    """Rows of two choices."""
    rows, verbs = [], VERBS[language]
    for i in range(begin, begin + count):
        animal = ANIMALS[language][i % 6]
        choices = [f"{animal} {verbs[1]}", f"{animal} {NEGATED[language]}"]  # the first is right
        if i % 2:
            choices.reverse()
        row = {"premise": f"{animal} {verbs[0]} {i}", "choice1": choices[0], "choice2": choices[1]}
        rows.append(row | {"question": "cause" if i % 3 else "effect", "label": i % 2})
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tsv":
        lines = ["\t".join(rows[0])] + ["\t".join(str(v) for v in row.values()) for row in rows]
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


SPLITS = {"train": "train", "validation": "validation", "test": "test"}
KNOWN = {"splits": SPLITS, "licence": "Apache-2.0", "citation": "the tests"}
QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}
TASKS = {
    "pairs": {
        "format": "sentence_pair",
        "files": "pairs/{language}.{split}.tsv",
        "columns": {"id": "pair", "text_a": "a", "text_b": "b", "label": "label"},
        "labels": LABELS,
        "languages": ["en", "de", "sw"],
        "train_on": ["pairs"],
        **KNOWN,
    },
    "choices": {
        "format": "multiple_choice",
        "hub": "tests/choices",
        "config": "{language}",
        "columns": {"context": "premise", "question": "question", "label": "label"}
        | {"choices": ["choice1", "choice2"]},
        "values": {"question": QUESTIONS},
        "labels": ["choice1", "choice2"],
        "languages": ["en", "de"],
        "train_on": ["choices"],
        **KNOWN,
    },
}


@pytest.fixture(scope="session")
def tiny_sources(tmp_path_factory) -> Path:
    """A folder with own files, a mirror, and a tiny random encoder."""
    root = tmp_path_factory.mktemp("sources")
    for number, split in enumerate(SPLITS):
        for language in TASKS["pairs"]["languages"]:
            rows = pair_rows(language, 100 * number, 24)
            write_rows(root / f"files/pairs/{language}.{split}.tsv", rows)
        for language in TASKS["choices"]["languages"]:
            rows = choice_rows(language, 100 * number, 12)
            write_rows(root / f"hub/tests/choices/{language}/{split}.jsonl", rows)
    configs = []
    for language in TASKS["choices"]["languages"]:
        files = [{"split": split, "path": f"{language}/{split}.jsonl"} for split in SPLITS]
        configs.append({"config_name": language, "data_files": files})
    card = f"---\n{yaml.safe_dump({'configs': configs})}---\n"
    (root / "hub/tests/choices/README.md").write_text(card, encoding="utf-8")
    make_encoder(root / "encoder")
    return root


SPECIAL = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
SPECIAL |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
SHAPE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE |= {"max_position_embeddings": 70}


def make_encoder(folder: Path, layers=2, family="XLMRoberta", kind="Model", **shape) -> None:
    """A tiny random XLM-R, or model like it, with a Unigram tokenizer over characters and words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [w for lists in (ANIMALS, VERBS) for ws in lists.values() for w in ws]
    questions = "What was the cause? happened as a result 0123456789"
    characters = {c for text in [*words, *NEGATED.values(), questions] for c in text} - {" "}
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(c, -8.0) for c in sorted(characters)]
    pieces += [(f"▁{w}", -5.0) for w in dict.fromkeys(words)]
    pieces += [("zebra", -9.0), ("▁never", -11.5), ("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Replace("\u200b", "")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **SPECIAL)
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    shape = {**SHAPE, "num_hidden_layers": layers, "vocab_size": len(fast), **ids, **shape}
    config = getattr(transformers, f"{family}Config")(**shape)
    options = {"add_pooling_layer": False} if kind == "Model" else {}
    getattr(transformers, f"{family}{kind}")(config, **options).save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def tokenizer(tiny_sources):
    """The tokenizer of the tiny encoder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_sources / "encoder")


SIZE = {"title": "tiny", "pooling": "mean"}


def make_size(folder: Path, **changes) -> Size:
    """A size whose encoder lies in a folder."""
    return Size(**{**SIZE, "encoder": str(folder), **changes})


def make_task(**changes) -> Task:
    """An entry of a catalogue, as far as its other keys say what it is."""
    known = {"name": "t", "files": "t.jsonl", "licence": "Apache-2.0", "citation": "the tests"}
    return Task.model_validate(known | changes)


def features(tokenizer, *texts: list[str]) -> list[dict]:
    """A feature a text, or a pair of texts, with what the tokenizer gives."""
    cut = tokenizer(*texts)
    names = [name for name in ("input_ids", "token_type_ids") if name in cut]
    return [{name: [cut[name][i]] for name in names} for i in range(len(texts[0]))]


def batch(tokenizer, *texts: list[str]) -> dict:
    """These texts, or pairs, as a model takes them."""
    from helpers.encoders.batches import collate

    return collate(features(tokenizer, *texts), tokenizer.pad_token_id)


@contextmanager
def refused(*parts: str):
    """What is done here is refused in one line, which says all of these."""
    with pytest.raises(StudyError) as error:
        yield
    message = str(error.value)
    assert all(part in message for part in parts) and "\n" not in message, message


def change_task(study_file: Path, name: str, **changes) -> None:
    """Change an entry of the catalogue beside a study's file, or add one."""
    path = study_file.parent / "tasks.yaml"
    catalogue = yaml.safe_load(path.read_text(encoding="utf-8"))
    catalogue["tasks"][name] = catalogue["tasks"].get(name, {}) | changes
    path.write_text(yaml.safe_dump(catalogue), encoding="utf-8")


def write_study(folder: Path, sources: Path, **changes) -> Path:
    """A study file and its catalogue in ``folder``; ``changes`` replace keys of the study."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = str(sources / "encoder")
    base = {"encoder": encoder, "title": "1 tiny random layer", "layers": 1, "pooling": "mean"}
    large = {"encoder": encoder, "title": "2 tiny random layers", "pooling": "cls"}
    recipe = {"batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 2}
    study = {
        "name": "tiny",
        "description": "a study for the tests",
        "data_dir": str(sources / "files"),
        "sizes": {"base": base, "large": large},
        "intermediate": ["none", "choices"],
        "targets": ["pairs"],
        "seeds": [1],
        "phases": {"intermediate": {"steps": 4, **recipe}, "target": {"epochs": 1, **recipe}},
    } | changes
    if forced := os.environ.get("TEST_PRECISION"):
        study.setdefault("precision", forced)
    path = folder / "tiny.yaml"
    for file, content in ((path, study), (folder / "tasks.yaml", {"tasks": TASKS})):
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def sources(tiny_sources, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny sources that a test may break, with HUB_MIRROR set to it."""
    copy = tmp_path / "sources"
    shutil.copytree(tiny_sources, copy)
    monkeypatch.setenv("HUB_MIRROR", str(copy / "hub"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    return copy


@pytest.fixture
def tiny_study(sources, tmp_path) -> Path:
    """The params file of a tiny study."""
    return write_study(tmp_path / "params", sources)


@pytest.fixture
def load(sources, tmp_path):
    """Loads a tiny study whose ``changes`` replace keys, and reads its data if that is asked for;
    its outputs are the test's own.
    """
    from helpers import data

    def load_study(read: bool = False, **changes) -> Study:
        params = write_study(tmp_path / "params", sources, **changes)
        study = Study.load(params, tmp_path / "outputs")
        if read:
            data.prepare(study)
        return study

    return load_study
