"""Retrieval: nearest neighbours, mining by margin, the layer that is read; and mAP@20."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xtreme
import yaml
from conftest import TASKS, make_encoder, write_rows, write_study

from helpers import data, encoders, evaluation, tasks, training
from helpers.encoders.model import EncoderWithHead, pool, predict
from helpers.evaluation import export
from helpers.study import Run, Study, Task
from helpers.tasks import retrieval
from helpers.tasks.mining import best_threshold, mine, nearest


def task(**changes) -> Task:
    given = {"name": "pairs", "format": "retrieval", "files": "pairs.jsonl", "evaluate": "test"}
    return Task(**{**given, "licence": "Apache-2.0", "citation": "the tests", **changes})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs(count: int, language: str = "de", split: str = "test") -> list[dict]:
    return [
        {"id": str(i), "source": f"s{i}", "target": f"t{i}", "language": language, "split": split}
        for i in range(count)
    ]


def test_accuracy_is_the_share_whose_nearest_neighbour_is_the_translation():
    target = np.eye(4)
    # The second is nearer to the first.
    source = np.array([[1, 0.1, 0, 0], [0.9, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0.2, 3.0]])
    rows = retrieval.decode(task(), pairs(4), [], list(np.stack([source, target], axis=1)))
    assert [row["credit"] for row in rows] == [1, 0, 1, 1]
    assert [row["prediction"] for row in rows] == ["0", "0", "2", "3"]


def test_languages_are_searched_apart():
    vectors = [np.stack([v, v]) for v in np.eye(2)] + [
        np.stack([v, w]) for v, w in zip(np.eye(2), np.eye(2)[::-1], strict=True)
    ]
    rows = retrieval.decode(task(), pairs(2) + pairs(2, "fr"), [], vectors)
    assert [row["credit"] for row in rows] == [1, 1, 0, 0]


def test_mining_takes_a_hub_once_where_nearest_neighbours_take_it_always():
    """Artetxe and Schwenk 2019: a cosine over the mean cosine of both sides' nearest neighbours."""
    generator = np.random.default_rng(0)
    target = unit(generator.normal(size=(40, 8)))
    source = unit(target + 0.4 * generator.normal(size=(40, 8)))
    target[0] = unit(source.mean(axis=0, keepdims=True))  # near to everything
    found = mine(source, target)
    assert len({s for s, *_ in found}) == len({t for _, t, _ in found}) == len(found)
    assert [m for *_, m in found] == sorted((m for *_, m in found), reverse=True)
    right = sum(s == t for s, t, _ in found)
    assert right >= (nearest(source, target)[0] == np.arange(40)).sum()
    s, t, margin = found[0]
    around = np.sort(source[s] @ target.T)[-4:].mean(), np.sort(target[t] @ source.T)[-4:].mean()
    assert margin == pytest.approx(source[s] @ target[t] / np.mean(around), rel=1e-5)


def test_the_threshold_has_the_best_f1_of_all():
    scored = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False), (0.4, False)]
    chosen = best_threshold(scored, gold=4)

    def f1(threshold):
        kept = [right for score, right in scored if score >= threshold]
        return 2 * sum(kept) / (len(kept) + 4)

    assert f1(chosen) == max(f1(t) for t in np.linspace(0, 1, 101)) and 0.5 < chosen < 0.6


def test_bucc_chooses_its_threshold_on_the_development_part_and_scores_mined_pairs():
    generator = np.random.default_rng(1)
    bucc = task(metric="mining_f1", threshold="validation")
    examples = pairs(30, split="validation") + pairs(30)
    for at in (28, 29, 58, 59):
        examples[at]["target"] = ""  # sentences without a translation
    vectors = []
    for example in examples:
        v = generator.normal(size=16)
        w = v + 0.3 * generator.normal(size=16) if example["target"] else np.zeros(16)
        vectors.append(np.stack([v, w]))
    rows = retrieval.decode(bucc, examples, [], vectors)[30:]
    said = {(str(i), row["prediction"]) for i, row in enumerate(rows) if row["prediction"]}
    gold = {(str(i), str(i)) for i in range(28)}
    precision, recall = (len(said & gold) / len(pairs) for pairs in (said, gold))
    f1 = tasks.score([row["credit"] for row in rows], [row["out_of"] for row in rows])
    # Zweigenbaum et al. 2018, BUCC: the harmonic mean over pairs of sentences.
    assert f1 == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert f1 > 90 and {row["label"] for row in rows[28:]} == {""}


def test_vectors_are_pooled_states_of_the_chosen_layer(tmp_path, fp32):
    make_encoder(tmp_path)
    encoder, tokenizer = encoders.load(tmp_path)
    for layer, pooling in itertools.product((1, 2), ("mean", "cls")):
        model = EncoderWithHead(encoder, *tasks.of(task()).head(task()), pooling, 0.0, layer)
        examples = [{"source": "dog runs", "target": "Hund rennt 1", "prefix": "cat "}]
        features = retrieval.features(task(), examples, tokenizer, 32)
        [vectors] = predict(model, features, tokenizer.pad_token_id)
        inputs = tokenizer(["cat dog runs", "cat Hund rennt 1"], padding=True, return_tensors="pt")
        states = encoder.eval()(**inputs, output_hidden_states=True).hidden_states[layer]
        assert np.allclose(
            vectors, pool(states, inputs["attention_mask"], pooling).detach().numpy(), atol=1e-6
        )


@pytest.mark.skipif(
    "HUB_MIRROR" not in os.environ, reason="HUB_MIRROR names no mirror with XTREME's Tatoeba"
)
def test_tatoeba_of_the_stand_in_is_what_its_conversion_gave():
    """The table that the conversion of multilingual-e5-small was checked with.

    It is of mean pooling over `query: TEXT`. A sentence or two more or less may be right on
    another processor.
    """
    study = Study.load("params/xtreme-r.yaml")
    entry = study.tasks["tatoeba"]
    rows = data.read(entry, "validation", "ta")
    encoder, tokenizer = encoders.pretrained(
        study.sizes["base"].model_copy(update={"encoder": "demo/encoder", "layers": None})
    )
    examples = [
        {**row, "language": "ta", "split": "validation", "prefix": "query: "} for row in rows
    ]
    features = retrieval.features(entry, examples, tokenizer, 128)
    for layer, expected in ((6, 64.2), (12, 86.3)):
        model = EncoderWithHead(encoder, *retrieval.head(entry), "mean", 0.0, layer)
        found = retrieval.decode(
            entry, examples, features, predict(model, features, tokenizer.pad_token_id)
        )
        assert 100 * sum(row["credit"] for row in found) / len(found) == pytest.approx(
            expected, abs=max(0.3, 150 / len(found))
        )


def ranked(queries: list[dict], pool: list[dict], vectors: list[np.ndarray]) -> list[dict]:
    nothing = {"source": "", "target": "", "language": "en", "split": "test"}
    examples = [{**nothing, **row, "source": "?"} for row in queries]
    examples += [{**nothing, **row, "target": "!"} for row in pool]
    pairs = [np.stack([v, v]) for v in vectors]
    return retrieval.decode(task(metric="map_20"), examples, [], pairs)[: len(queries)]


def test_map_20_is_xtreme_rs_average_precision_over_all_candidates():
    """Right ones among the first 20, each by the precision at its rank, over those it could find.

    Ruder et al. 2021, XTREME-R: mAP@20 of LAReQA and Mewsli-X, written out.
    """
    generator = np.random.default_rng(3)
    keys = ["once", "often", "never", *["some"] * 4]
    queries = [{"id": f"q{i}", "answers": [key]} for i, key in enumerate(keys)]
    about = [["once"], *[["often", "other"]] * 25, *[["some"]] * 3, *[[]] * 11]
    pool = [{"id": f"c{i}", "answers": own} for i, own in enumerate(about)]
    for i, row in enumerate(pool):
        row["language"] = "en" if i % 2 else "sw"  # every language is searched
    vectors = generator.normal(size=(len(queries) + len(pool), 6))
    rows = ranked(queries, pool, list(vectors))
    asked, searched = vectors[: len(queries)], vectors[len(queries) :]
    for query, vector, row in zip(queries, asked, rows, strict=True):
        cosine = {
            one["id"]: vector @ v / np.linalg.norm(vector) / np.linalg.norm(v)
            for one, v in zip(pool, searched, strict=True)
        }
        order = sorted(cosine, key=cosine.get, reverse=True)[:20]
        right = {one["id"] for one in pool if query["answers"][0] in one["answers"]}
        total = sum(
            len(right & set(order[:rank])) / rank
            for rank in range(1, 21)
            if order[rank - 1] in right
        )
        assert row["prediction"].split() == order and row["out_of"] == 1
        assert row["credit"] == pytest.approx(total / min(len(right), 20) if right else 0)
    assert tasks.score([r["credit"] for r in rows], [1] * len(rows)) == pytest.approx(
        100 * np.mean([r["credit"] for r in rows])
    )


def test_map_20_of_one_right_answer_is_its_reciprocal_rank():
    line = [np.array([1.0, angle]) for angle in (0.0, 0.1, 0.2, 0.3, *[0.4 + i for i in range(30)])]
    for at in (1, 2, 3, 20, 21):
        pool = [{"id": str(i), "answers": ["x"] if i == at else []} for i in range(1, 34)]
        [row] = ranked([{"id": "q", "answers": ["x"]}], pool, line)
        assert row["credit"] == pytest.approx(1 / at if at <= 20 else 0)


def test_exported_entities_have_the_score_of_xtreme_rs_script():
    generator = np.random.default_rng(4)
    pool = [{"id": f"Q{i}", "answers": [f"Q{i}"]} for i in range(40)]
    queries = [{"id": f"m{i}", "answers": [f"Q{3 * i}"]} for i in range(12)]
    rows = ranked(queries, pool, list(generator.normal(size=(52, 4))))
    table = pd.DataFrame(rows).assign(id=[query["id"] for query in queries])
    entry = task(metric="map_20", candidates=["entities"])
    suffix, text = export.page(entry, "en", table)
    labels = xtreme.gold("mewslix", entry, queries)
    found = xtreme.score("mewslix", labels, json.loads(text), "en")["map@20"]
    assert suffix == xtreme.SUFFIXES["mewslix"] and 0 < found < 100
    assert found == pytest.approx(tasks.score(table["credit"], table["out_of"]))


def test_a_source_is_trained_to_find_its_own_target_among_the_batchs():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 4)).astype(np.float32)
    found = retrieval.loss(torch.tensor(logits), torch.zeros(3, dtype=torch.long))
    sources, targets = unit(logits[::2]), unit(logits[1::2])
    losses = []
    for i, source in enumerate(sources):
        scores = [100 * float(source @ target) for target in targets]
        losses.append(np.log(np.sum(np.exp(np.array(scores) - scores[i]))))
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-4)


PASSAGE = {
    "context": "dog sleeps. cat runs. bird is here.",
    "sentence_breaks": [[0, 11], [12, 21], [22, 35]],
    "qas": [
        {"id": "q1", "question": "cat?", "answers": [{"text": "cat", "answer_start": 12}]},
        {"id": "q2", "question": "bird?", "answers": [{"text": "bird", "answer_start": 22}]},
        {"id": "q3", "question": "both?", "answers": [{"text": "runs", "answer_start": 16}]},
        {"id": "q4", "question": "gap?", "answers": [{"text": " ", "answer_start": 11}]},
    ],
}


def searching(sources) -> dict:
    """The catalogue's entries of LAReQA on files in its layout, and pairs to train on."""
    known = yaml.safe_load(Path("params/tasks.yaml").read_text(encoding="utf-8"))["tasks"]
    chosen = {name: known[name] for name in ("lareqa", "lareqa_sentences", "squad_pairs")}
    for entry in chosen.values():
        entry.pop("sizes", None)
    chosen["squad_pairs"] = {
        **{key: known["squad_pairs"][key] for key in ("format", "columns", "metric", "splits")},
        **{"files": "squad.{split}.jsonl", "licence": "the tests", "citation": "the tests"},
    }
    folder = sources / "files/lareqa/xquad-r"
    folder.mkdir(parents=True)
    for language in known["lareqa"]["languages"]:
        text = json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [PASSAGE]}]})
        (folder / f"{language}.json").write_text(text, encoding="utf-8")
    for split, count in (("train", 24), ("validation", 6)):
        rows = [
            {"id": str(i), "question": f"dog {i}?", "context": f"cat runs {i // 2} {split}"}
            for i in range(count)
        ]
        write_rows(sources / f"files/squad.{split}.jsonl", rows)
    return chosen


def test_lareqa_goes_the_whole_way(sources, tmp_path, monkeypatch):
    for name, entry in searching(sources).items():
        monkeypatch.setitem(TASKS, name, entry)
    targets = [{"task": "lareqa", "languages": ["en", "de"]}]
    path = write_study(tmp_path / "p", sources, targets=targets, intermediate=["none"])
    study = Study.load(path, tmp_path / "outputs")
    summary = data.prepare(study)["splits"]
    assert summary["lareqa/test/de"]["rows"] == 3  # q4's answer begins between two sentences
    assert sum(cell.startswith("lareqa_sentences") for cell in summary) == 11
    second = data.examples(study, "lareqa_sentences", "test", "th")[1]
    assert second["answers"] == ["q1", "q3"] and second["id"] == "th_1_1"
    assert second["target"] == "cat runs. " + PASSAGE["context"] and second["source"] == ""
    encoders.prepare(study, "base")
    run = Run("base", "none", "lareqa", 1)
    trained = training.target(study, run)
    assert trained.selection["task"] == "squad_pairs" and trained.log
    before = encoders.load(study.encoder_folder("base"))[0].get_input_embeddings().weight
    after = trained.model.encoder.get_input_embeddings().weight
    assert not torch.equal(before, after.cpu())
    predictions = evaluation.zero_shot(study, "lareqa", trained)
    assert list(predictions["language"]) == ["en"] * 3 + ["de"] * 3
    assert predictions["group"].nunique() == 1  # all questions are about one passage
    first = predictions.iloc[0]
    assert len(set(first["prediction"].split())) == 20 and 0 <= first["credit"] <= 1
    evaluation.write_run(study, run, trained, predictions)
    [folder] = export.export(study)
    exported = json.loads((folder / "lareqa/test-de.json").read_text(encoding="utf-8"))
    assert (
        set(exported) == {"q1", "q2", "q3"}
        and exported["q1"][0].split("_")[0] in study.tasks["lareqa"].languages
    )
