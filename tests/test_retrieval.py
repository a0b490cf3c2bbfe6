"""Retrieval: nearest neighbours, mining by margin, and mAP@20."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_task

from helpers import data, formats
from helpers.formats import retrieval
from helpers.study import Task, catalogue


def task(**changes) -> Task:
    known = {"threshold": "validation", "candidates": ["pool"]}
    return make_task(format="retrieval", evaluate="test", **known | changes)


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
    examples, vectors = pairs(4), [np.stack([v, v]) for v in np.eye(4)]
    examples[1]["source"], vectors[1][0] = "s0 ", vectors[0][0]
    swapped = [{**row, "source": row["target"], "target": row["source"]} for row in examples]
    other = [vector[::-1] for vector in vectors]
    for some, states in ((examples, vectors), (swapped, other)):
        rows = retrieval.decode(task(metric="mining_f1"), some, [], states)
        assert [row["prediction"] for row in rows] == ["", "", "2", "3"]
        assert [(row["credit"], row["out_of"]) for row in rows] == [(0, 1), (0, 1), (2, 2), (2, 2)]
    alone = [*pairs(3), {**examples[3], "target": ""}]  # no translation, whatever its vector
    [*_, row] = retrieval.decode(
        task(metric="mining_f1"), alone, [], [np.stack([v, v]) for v in np.eye(4)]
    )
    assert row["out_of"] == 0


def test_languages_are_searched_apart():
    vectors = [[0, 0], [1, 1], [0, 1], [1, 0]]  # of the second language the wrong one is nearest
    logits = [np.eye(2)[numbers] for numbers in vectors]
    rows = retrieval.decode(task(), pairs(2) + pairs(2, "fr"), [], logits)
    assert [row["credit"] for row in rows] == [1, 1, 0, 0]


def test_mining_takes_a_hub_once_where_nearest_neighbours_take_it_always():
    """Artetxe and Schwenk 2019: a cosine over the mean cosine of both sides' nearest neighbours."""
    generator = np.random.default_rng(0)
    target = unit(generator.normal(size=(40, 8)))
    source = unit(target + 0.4 * generator.normal(size=(40, 8)))
    source[0] = unit(target.mean(axis=0, keepdims=True))  # near to everything
    vectors = list(np.stack([source, target], axis=1))
    metrics = ("mining_f1", "accuracy")
    mined, nearest = (retrieval.decode(task(metric=m), pairs(40), [], vectors) for m in metrics)
    assert sum(row["credit"] > 0 for row in mined) >= sum(row["credit"] for row in nearest)
    found = [(s, int(row["prediction"])) for s, row in enumerate(mined) if row["prediction"]]
    assert len({t for _, t in found}) == len(found) > 30
    near = [
        np.sort(cosines)[:, -4:].mean(axis=1) for cosines in (source @ target.T, target @ source.T)
    ]
    for s, t in found:
        margin = source[s] @ target[t] / np.mean([near[0][s], near[1][t]])
        assert mined[s]["probabilities"] == pytest.approx([margin], rel=1e-5)


def test_bucc_chooses_its_threshold_on_the_development_part_and_scores_mined_pairs():
    generator = np.random.default_rng(1)
    bucc = task(metric="mining_f1")
    examples, vectors = pairs(30) + pairs(30, split="validation"), []
    for example in examples:
        v, noise = generator.normal(size=(2, 16))
        if int(example["id"]) >= 20:  # sentences without a translation, on either side
            example["target" if int(example["id"]) < 25 else "source"] = ""
        vectors.append(np.stack([v, v + 0.3 * noise]))
    rows = retrieval.decode(bucc, examples, [], vectors)[:30]
    mined = {(str(i), row["prediction"]) for i, row in enumerate(rows) if row["prediction"]}
    gold = {(str(i), str(i)) for i in range(20)}
    precision, recall = (len(mined & gold) / len(pairs) for pairs in (mined, gold))
    f1 = formats.score([row["credit"] for row in rows], [row["out_of"] for row in rows])
    # Zweigenbaum et al. 2018, BUCC: the harmonic mean over pairs of sentences.
    assert f1 == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert f1 > 95 and len(mined - gold) == 1  # a second one is below the threshold
    assert {row["label"] for row in rows[20:]} == {""}
    margins = [(4.0, True), (3.0, False), (2.0, False), (1.0, True)]  # one or four: the same F1
    assert retrieval.best_threshold(margins, 2) == 3.5


def test_map_20_is_xtreme_rs_average_precision_over_all_candidates():
    """Right ones among the first 20, each by the precision at its rank, over those it could find.

    Ruder et al. 2021, XTREME-R: mAP@20 of LAReQA and Mewsli-X, written out.
    """
    keys = ["once", "often", "never", *["some"] * 4]
    about = [["once"], *[["often", "other"]] * 25, *[["some"]] * 3, *[[]] * 11]
    queries = [{"id": f"q{i}", "answers": [key], "source": "?"} for i, key in enumerate(keys)]
    pool = [{"id": f"c{i}", "answers": own, "target": "!"} for i, own in enumerate(about)]
    nothing = {"source": "", "target": "", "split": "test"}
    examples = [{**nothing, **row, "language": "en"} for row in queries]
    for i, row in enumerate(pool):  # every language is searched
        examples.append({**nothing, **row, "language": "en" if i % 2 else "sw"})
    vectors = np.random.default_rng(3).normal(size=(len(examples), 6))
    logits = [np.stack([vector, vector]) for vector in vectors]
    rows = retrieval.decode(task(metric="map_20"), examples, [], logits)
    searched = unit(vectors[len(queries) :])
    for query, vector, row in zip(queries, vectors, rows, strict=False):
        cosine = {one["id"]: vector @ v for one, v in zip(pool, searched, strict=True)}
        order = sorted(cosine, key=cosine.get, reverse=True)[:20]
        right = {one["id"] for one in pool if query["answers"][0] in one["answers"]}
        ranks = [rank for rank in range(1, 21) if order[rank - 1] in right]
        total = sum(len(right & set(order[:rank])) / rank for rank in ranks)
        assert row["prediction"].split() == order and row["out_of"] == 1
        assert row["credit"] == pytest.approx(total / min(len(right), 20) if right else 0)


def test_a_source_is_trained_to_find_its_own_target_among_the_batchs():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 4)).astype(np.float32)
    found = retrieval.loss(torch.tensor(logits), torch.zeros(3, dtype=torch.long))
    scores = 100 * (unit(logits[::2]) @ unit(logits[1::2]).T).astype(float)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores.diagonal()
    assert float(found) == pytest.approx(losses.mean(), rel=1e-4)


def test_lareqa_is_read_from_its_own_files(tmp_path):
    context, questions = "dog sleeps. cat runs. bird is here.", []
    for number, (answer, start) in enumerate([("cat", 12), ("bird", 22), ("runs", 16), (" ", 11)]):
        gold = [{"text": answer, "answer_start": start}]
        questions.append({"id": f"q{number + 1}", "question": "what?", "answers": gold})
    passage = {"context": context, "sentence_breaks": [[0, 11], [12, 21], [22, 35]]}
    passage["qas"] = questions
    (tmp_path / "lareqa/xquad-r").mkdir(parents=True)
    text = json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [passage]}]})
    (tmp_path / "lareqa/xquad-r/th.json").write_text(text, encoding="utf-8")
    tasks = catalogue.load(Path(__file__).parents[1] / "params/tasks.yaml")
    queries = data.read(tasks["lareqa"], "test", "th", tmp_path).examples
    assert [row["id"] for row in queries] == ["q1", "q3", "q2"]  # q4's is between two sentences
    assert len({row["group"] for row in queries}) == 1  # all questions are about one passage
    second = data.read(tasks["lareqa_sentences"], "test", "th", tmp_path).examples[1]
    assert second["answers"] == ["q1", "q3"] and second["id"] == "th_1_1"
    assert second["target"] == "cat runs. " + context and second["source"] == ""
