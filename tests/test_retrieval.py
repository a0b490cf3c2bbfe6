"""Retrieval: nearest neighbours, mining by margin, and mAP@20."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import data, formats
from helpers.formats import retrieval
from helpers.formats.retrieval import best_threshold, mine, neighbours
from helpers.study import Task, catalogue


def task(**changes) -> Task:
    entry = {"name": "pairs", "format": "retrieval", "files": "pairs.jsonl", "evaluate": "test"}
    return Task(**{**entry, "licence": "Apache-2.0", "citation": "the tests", **changes})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs(count: int, language: str = "de", split: str = "test") -> list[dict]:
    return [
        {"id": str(i), "source": f"s{i}", "target": f"t{i}", "language": language, "split": split}
        for i in range(count)
    ]


def test_accuracy_is_the_share_of_targets_whose_nearest_source_is_their_translation():
    """XTREME's similarity_search(x, y) indexes x, the foreign sentences, and searches y, English.

    utils_retrieve.py of github.com/google-research/xtreme at da430dd: squared distances of unit
    vectors, the first of the nearest.
    """
    generator = np.random.default_rng(0)
    foreign, english = (generator.normal(size=(30, 4)) for _ in range(2))
    foreign += english
    rows = retrieval.decode(task(), pairs(30), [], list(np.stack([foreign, english], axis=1)))
    distances = ((unit(english)[:, None] - unit(foreign)[None]) ** 2).sum(axis=2)
    predictions = distances.argmin(axis=1)
    assert [row["prediction"] for row in rows] == [str(i) for i in predictions]
    assert [row["credit"] for row in rows] == list(predictions == np.arange(30))
    other_way = distances.argmin(axis=0)
    assert (other_way == np.arange(30)).sum() != sum(row["credit"] for row in rows)


def test_equal_sentences_are_one_while_mining_and_in_no_pair_afterwards():
    """As read_candidate2score of XTREME's utils_retrieve.py: nothing tells which is meant."""
    examples = pairs(4)
    examples[1]["source"] = examples[0]["source"]
    vectors = [np.stack([v, v]) for v in np.eye(4)]
    vectors[1][0] = vectors[0][0]
    rows = retrieval.decode(task(metric="mining_f1"), examples, [], vectors)
    assert [row["prediction"] for row in rows] == ["", "", "2", "3"]
    assert [(row["credit"], row["out_of"]) for row in rows] == [(0, 1), (0, 1), (2, 2), (2, 2)]


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
    assert right >= (neighbours(source, target, 1)[0][:, 0] == np.arange(40)).sum()
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
    mined = {(str(i), row["prediction"]) for i, row in enumerate(rows) if row["prediction"]}
    gold = {(str(i), str(i)) for i in range(28)}
    precision, recall = (len(mined & gold) / len(pairs) for pairs in (mined, gold))
    f1 = formats.score([row["credit"] for row in rows], [row["out_of"] for row in rows])
    # Zweigenbaum et al. 2018, BUCC: the harmonic mean over pairs of sentences.
    assert f1 == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert f1 > 90 and {row["label"] for row in rows[28:]} == {""}


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


def test_lareqa_is_read_from_its_own_files(tmp_path):
    (tmp_path / "lareqa/xquad-r").mkdir(parents=True)
    text = json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [PASSAGE]}]})
    (tmp_path / "lareqa/xquad-r/th.json").write_text(text, encoding="utf-8")
    tasks = catalogue.load(Path(__file__).parents[1] / "params/tasks.yaml")
    queries = data.read(tasks["lareqa"], "test", "th", tmp_path).examples
    assert [row["id"] for row in queries] == ["q1", "q3", "q2"]  # q4's is between two sentences
    assert len({row["group"] for row in queries}) == 1  # all questions are about one passage
    second = data.read(tasks["lareqa_sentences"], "test", "th", tmp_path).examples[1]
    assert second["answers"] == ["q1", "q3"] and second["id"] == "th_1_1"
    assert second["target"] == "cat runs. " + PASSAGE["context"] and second["source"] == ""
