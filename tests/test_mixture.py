"""Several tasks at once: which task a batch comes from, one encoder for all heads, and text beside
the tasks.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import KNOWN, TASKS, change_task, refused, write_rows, write_study
from running import prepare, run, train

from helpers import data, encoders, training
from helpers.study import Study
from helpers.study.params import Mixture
from helpers.training.examples import MLM

RECIPE = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 1}
MLM_FILES = {"mlm": {"files": ["text/sw.txt"]}}
WIKI = {**KNOWN, "format": "plain_text", "files": "text/{language}.jsonl"}
WIKI["splits"] = {"train": "train"}
WIKI |= {"columns": {"id": "id", "text": "text"}, "languages": ["sw", "de", "en"]}


@pytest.fixture
def study(sources, load):
    """Makes a study whose one intermediate training is on pairs and choices at once, and may be on
    lines of text.
    """
    (sources / "files/text").mkdir()
    (sources / "files/text/sw.txt").write_text(4 * f"{'mbwa analala paka anakula ' * 6}\n\n")

    def make(**mixture) -> Study:
        mixture = {"tasks": ["pairs", "choices"], "cap": 16, **mixture}
        phases = {"intermediate": RECIPE | {"gradient_accumulation": 4}, "target": RECIPE}
        return load(intermediate=["none", "both"], mixtures={"both": mixture}, phases=phases)

    return make


def test_a_task_is_drawn_by_its_size_up_to_the_cap_which_a_temperature_flattens():
    """Phang et al. (2020): proportional to the examples, of which 2^17 count at the most."""
    sizes = {"large": 400_000, "middle": 131_072, "small": 65_536}
    assert Mixture(tasks=list(sizes)).shares(sizes) == {"large": 0.4, "middle": 0.4, "small": 0.2}
    sizes = {"large": 900, "middle": 400, "small": 100}
    at_two = Mixture(tasks=list(sizes), cap=400, temperature=2.0).shares(sizes)
    assert at_two == pytest.approx({"large": 0.4, "middle": 0.4, "small": 0.2})
    hot = Mixture(tasks=list(sizes), temperature=1e6).shares(sizes)
    assert list(hot.values()) == pytest.approx([1 / 3] * 3, abs=1e-4)


def examples(study: Study, **values) -> training.Examples:
    """The examples of the mixture's one training, with other hyperparameters."""
    condition = study.condition("base", "both")
    changed = condition.hyperparameters.model_copy(update=values)
    condition = replace(condition, hyperparameters=changed)
    (found,) = training.english(condition, encoders.load(condition.home)[1], 1)
    return found


def test_an_update_mixes_tasks_and_a_batch_does_not(study):
    made = prepare(study())
    drawn = examples(made, steps=50)
    components = [batch["component"] for batch in drawn]
    assert len(components) == 50 * 4
    share = components.count("pairs") / len(components)
    assert share == pytest.approx(16 / 28, abs=0.1)  # 24 capped at 16, and 12
    updates = [set(components[at : at + 4]) for at in range(0, len(components), 4)]
    assert sum(len(tasks) == 2 for tasks in updates) > 30
    assert all(len(batch["batch"]) <= 4 for batch in drawn)
    again = examples(made, steps=50)
    assert [batch["component"] for batch in again] == components
    assert repr(again[7]) == repr(drawn[7])


def test_every_head_and_the_one_encoder_learn(study):
    made = prepare(study())
    condition = made.condition("base", "both")
    before = encoders.load(condition.home)[0].state_dict()
    trained = train(condition)
    after = trained.model.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before if "layer" in key)
    assert set(trained.model.head.names) == {"pairs", "choices"}
    assert trained.selection["task"] == "both" and trained.selection["n"] == 24 + 12
    assert trained.selection["majority"] == pytest.approx((100 / 3 + 50) / 2)
    scored, each = examples(made), []
    for name, part in scored.validation.items():
        trained.model.head.component = name
        each.append(part.score(trained.model))
    assert scored.score(trained.model) == np.mean(each) != each[0]
    run(condition)
    handed, _ = encoders.start(condition.home, condition.encoder_folder(1), 0.0)
    assert all(torch.equal(handed.state_dict()[key], after[key]) for key in after)
    assert not list(condition.encoder_folder(1).glob("*head*"))  # it is made anew
    assert condition.settings["intermediate"]["mixture"]["cap"] == 16


def test_text_may_be_a_catalogue_entry_in_some_languages(study, sources, monkeypatch):
    monkeypatch.setitem(TASKS, "wiki", WIKI)
    for language in ("sw", "de"):
        rows = [{"id": f"{language}{i}", "text": f"{language} dog {i}"} for i in range(6)]
        write_rows(sources / f"files/text/{language}.jsonl", rows)
    made = study(mlm={"task": "wiki", "languages": ["sw", "de"]}, cap=8)
    cells = [cell for cell in made.needed() if cell[0] == "wiki"]
    assert cells == [("wiki", "train", "sw"), ("wiki", "train", "de")]
    prepare(made)
    shutil.rmtree(sources / "files/text")  # later phases read what was kept
    components = [batch["component"] for batch in examples(made, steps=50)]
    assert components.count(MLM) / len(components) == pytest.approx(1 / 3, abs=0.1)
    assert "wiki/train/sw" in made.condition("base", "both").settings["intermediate"]["examples"]


def test_text_beside_the_tasks_keeps_the_whole_vocabulary_and_hides_fifteen_percent(study):
    made = prepare(study(**MLM_FILES))
    assert not made.trim and study().trim
    trained = train(made.condition("base", "both"))
    assert MLM in trained.model.head.names and trained.log
    tokenizer = encoders.load(made.encoder_folder("base"))[1]
    found = examples(made, steps=200)
    masked = [row for batch in found if batch["component"] == MLM for row in batch["batch"]]
    labels = np.concatenate([item["labels"][0] for item in masked])
    ids = np.concatenate([item["input_ids"][0] for item in masked])
    hidden = labels != -100
    assert not np.isin(labels, tokenizer.all_special_ids).any()  # these are never hidden
    free = hidden | ~np.isin(ids, tokenizer.all_special_ids)
    assert hidden.sum() / free.sum() == pytest.approx(0.15, abs=0.03)
    assert (ids[hidden] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.05)
    assert (ids[hidden] == labels[hidden]).mean() == pytest.approx(0.1, abs=0.04)  # the rest: noise
    assert all({*item["labels"][0]} != {-100} for item in masked)  # a line always asks something


def test_translated_data_is_a_task_that_is_trained_in_another_language(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, intermediate=["none", "translated"])
    change_task(path, "translated", **TASKS["pairs"] | {"trained_in": ["de", "sw"], "train_on": []})
    made = Study.load(path, tmp_path / "outputs")
    cells = [cell[1:] for cell in made.needed() if cell[0] == "translated"]
    assert cells == [("train", "de"), ("train", "sw"), ("validation", "en")]
    data.prepare(made)
    rows = data.trained_on(made.data, made.tasks["translated"], "train")
    assert [row["text_a"].split()[0] for row in rows[::24]] == ["Hund", "mbwa"]


@pytest.mark.parametrize(
    ("mixture", "line"),
    [
        ({"tasks": ["pairs", "nothing"]}, "mixtures.pair.tasks: unknown task 'nothing'"),
        ({"tasks": ["wiki"]}, "mixtures.pair.tasks: unknown task 'wiki'"),
        ({"tasks": []}, "mixtures.pair.tasks"),
        ({"temperature": 0}, "mixtures.pair.temperature"),
        ({"mlm": {}}, "mlm: expected exactly one of the keys files and task"),
        ({"mlm": {"task": "pairs"}}, "pair.mlm.task: unknown text 'pairs'; expected one of wiki"),
        ({"mlm": {"task": "wiki", "languages": ["fr"]}}, "mlm.languages: unknown language 'fr'; "),
    ],
)
def test_a_mixture_of_what_is_not_there_is_named(load, monkeypatch, mixture, line):
    monkeypatch.setitem(TASKS, "wiki", WIKI)
    with refused(line):
        load(mixtures={"pair": {"tasks": ["pairs"], **mixture}})
    with refused("'pairs' is a task's name"):
        load(mixtures={"pairs": {"tasks": ["choices"]}})
