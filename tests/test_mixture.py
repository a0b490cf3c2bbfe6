"""Several tasks at once: which task a batch comes from, one encoder for all heads, and text beside
the tasks.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import TASKS, write_rows, write_study
from running import prepare, run, train
from torch.nn.functional import cross_entropy

from helpers import data, encoders, training
from helpers.study import Study, StudyError
from helpers.study.params import Mixture
from helpers.training.examples import MLM

RECIPE = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "max_length": 32, "evaluations": 1}
MLM_FILES = {"mlm": {"files": ["text/sw.txt"]}}


@pytest.fixture
def study(sources, tmp_path):
    """Makes a study whose one intermediate training is on pairs and choices at once, and may be on
    lines of text.
    """
    (sources / "files/text").mkdir()
    lines = "mbwa analala\n\npaka anakula\nfarasi anakimbia 3\n" * 4
    (sources / "files/text/sw.txt").write_text(lines, encoding="utf-8")

    def make(**mixture) -> Study:
        changes = {
            "intermediate": ["none", "both"],
            "mixtures": {"both": {"tasks": ["pairs", "choices"], "cap": 16, **mixture}},
            "phases": {"intermediate": RECIPE | {"gradient_accumulation": 4}, "target": RECIPE},
        }
        return Study.load(write_study(tmp_path / "p", sources, **changes), tmp_path / "outputs")

    return make


def test_a_task_is_drawn_by_its_size_up_to_the_cap():
    """Phang et al. (2020): proportional to the examples, of which 2^17 count at the most."""
    sizes = {"large": 400_000, "middle": 131_072, "small": 65_536}
    assert Mixture(tasks=["large"]).cap == 2**17
    shares = Mixture(tasks=list(sizes)).shares(sizes)
    assert shares == {"large": 0.4, "middle": 0.4, "small": 0.2}


def test_a_temperature_flattens_the_shares_of_what_the_cap_leaves():
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
    drawn = examples(made, steps=50).batches
    components = [batch["component"] for batch in drawn]
    assert len(components) == 50 * 4
    share = components.count("pairs") / len(components)
    assert share == pytest.approx(16 / 28, abs=0.1)  # 24 capped at 16, and 12
    updates = [set(components[at : at + 4]) for at in range(0, len(components), 4)]
    assert sum(len(tasks) == 2 for tasks in updates) > 30
    assert all(len(batch["batch"]) <= 4 for batch in drawn)
    again = examples(made, steps=50).batches
    assert [batch["component"] for batch in again] == components
    assert repr(again[7]) == repr(drawn[7])


def test_micro_batches_are_of_their_task_and_hold_all_of_it(study):
    found = examples(prepare(study()))
    for batch in found.batches:
        parts = training.training_parts(found, batch, 30)
        assert len(parts) > 1 and {part["component"] for part in parts} == {batch["component"]}
        rows = [
            ids[mask == 1].tolist()
            for part in parts
            for ids, mask in zip(*part["inputs"].values(), strict=True)
        ]
        drawn = [list(ids) for row in batch["batch"] for ids in row["input_ids"]]
        assert sorted(rows) == sorted(drawn)


def test_every_head_and_the_one_encoder_learn(study):
    condition = prepare(study()).condition("base", "both")
    before = encoders.load(condition.home)[0].state_dict()
    trained = train(condition)
    after = trained.model.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before if "layer" in key)
    assert set(trained.model.names) == {"pairs", "choices"}
    assert trained.selection["task"] == "both" and trained.selection["n"] == 24 + 12
    run(condition)
    handed, _ = encoders.start(condition.home, condition.encoder_folder(1), 0.0)
    assert all(torch.equal(handed.state_dict()[key], after[key]) for key in after)
    assert condition.settings["intermediate"]["mixture"]["cap"] == 16


def test_text_beside_the_tasks_keeps_the_whole_vocabulary(study):
    made = prepare(study(**MLM_FILES))
    assert not made.trim and study().trim
    found = examples(made, steps=20)
    masked = [batch for batch in found.batches if batch["component"] == MLM]
    condition = made.condition("base", "both")
    encoder, tokenizer = encoders.load(condition.home)
    model = training.build(condition, condition.stages[0], encoder)
    model.component, (part,) = MLM, training.training_parts(found, masked[0])
    loss = cross_entropy(model(**part["inputs"]), part["labels"])
    assert 0 < loss.item() < 3 * np.log(len(tokenizer))
    assert train(condition).log


def test_text_beside_the_tasks_may_be_a_catalogue_entry_in_some_languages(
    study, sources, monkeypatch
):
    entry = {"format": "plain_text", "files": "text/{language}.jsonl", "splits": {"train": "train"}}
    entry |= {"columns": {"id": "id", "text": "text"}, "languages": ["sw", "de", "en"]}
    monkeypatch.setitem(TASKS, "wiki", entry | {"licence": "the tests", "citation": "the tests"})
    for language in ("sw", "de"):
        rows = [{"id": f"{language}{i}", "text": f"{language} dog {i}"} for i in range(6)]
        write_rows(sources / f"files/text/{language}.jsonl", rows)
    made = study(mlm={"task": "wiki", "languages": ["sw", "de"]}, cap=8)
    cells = [("wiki", "train", "sw"), ("wiki", "train", "de")]
    assert [cell for cell in made.needed() if cell[0] == "wiki"] == cells
    prepare(made)
    shutil.rmtree(sources / "files/text")  # later phases read what was kept
    components = [batch["component"] for batch in examples(made, steps=50).batches]
    assert components.count(MLM) / len(components) == pytest.approx(1 / 3, abs=0.1)
    assert "wiki/train/sw" in made.condition("base", "both").settings["intermediate"]["examples"]


def test_an_edited_text_file_changes_what_depends_on_it(study, sources):
    made = prepare(study(**MLM_FILES))
    before = made.condition("base", "both").settings
    with (sources / "files/text/sw.txt").open("a", encoding="utf-8") as file:
        file.write("samaki anakula\n")
    data.prepare(made)
    assert made.condition("base", "both").settings != before


def test_about_fifteen_percent_of_the_tokens_are_hidden(study, sources):
    line = "mbwa analala paka anakula farasi anakimbia " * 4
    (sources / "files/text/sw.txt").write_text(4 * f"{line}\n", encoding="utf-8")
    made = prepare(study(**MLM_FILES))
    tokenizer = encoders.load(made.encoder_folder("base"))[1]
    found = examples(made, steps=200)
    batches = [batch["batch"] for batch in found.batches if batch["component"] == MLM]
    masked = [item for batch in batches for item in batch]
    labels = np.concatenate([item["labels"][0] for item in masked])
    ids = np.concatenate([item["input_ids"][0] for item in masked])
    hidden = labels != -100
    assert not np.isin(labels, tokenizer.all_special_ids).any()  # these are never hidden
    free = hidden | ~np.isin(ids, tokenizer.all_special_ids)
    assert hidden.sum() / free.sum() == pytest.approx(0.15, abs=0.03)
    assert (ids[hidden] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.05)


def test_translated_data_is_a_task_that_is_trained_in_another_language(sources, tmp_path):
    path = write_study(tmp_path / "p", sources, intermediate=["none", "translated"])
    catalogue = yaml.safe_load((path.parent / "tasks.yaml").read_text())
    translated = {**catalogue["tasks"]["pairs"], "trained_in": ["de", "sw"], "train_on": []}
    catalogue["tasks"]["translated"] = translated
    (path.parent / "tasks.yaml").write_text(yaml.safe_dump(catalogue))
    made = Study.load(path, tmp_path / "outputs")
    cells = [cell[1:] for cell in made.needed() if cell[0] == "translated"]
    assert cells == [("train", "de"), ("train", "sw"), ("validation", "en")]
    data.prepare(made)
    rows = data.trained_on(made.data, made.tasks["translated"], "train")
    assert [row["text_a"].split()[0] for row in rows[::24]] == ["Hund", "mbwa"]


@pytest.mark.parametrize(
    ("mixtures", "parts"),
    [
        ({"both": {"tasks": ["pairs", "nothing"]}}, ["mixtures", "unknown task 'nothing'"]),
        ({"pairs": {"tasks": ["choices"]}}, ["'pairs' is a task's name"]),
        ({"both": {"tasks": []}}, ["mixtures.both.tasks"]),
        ({"both": {"tasks": ["pairs"], "temperature": 0}}, ["mixtures.both.temperature"]),
        ({"both": {"tasks": ["pairs"], "mlm": {}}}, ["mlm", "exactly one of the keys files and t"]),
        (
            {"both": {"tasks": ["pairs"], "mlm": {"task": "pairs"}}},
            ["mixtures.mlm.task: unknown text 'pairs'; expected one of wiki"],
        ),
        (
            {"both": {"tasks": ["pairs"], "mlm": {"task": "wiki", "languages": ["fr"]}}},
            ["mixtures.both.mlm.languages: unknown language 'fr'; expected one of sw"],
        ),
        ({"both": {"tasks": ["wiki"]}}, ["mixtures: unknown task 'wiki'"]),
    ],
)
def test_a_mixture_of_what_is_not_there_is_named(sources, tmp_path, monkeypatch, mixtures, parts):
    wiki = {"format": "plain_text", "files": "{language}.txt", "languages": ["sw"]}
    monkeypatch.setitem(TASKS, "wiki", wiki | {"licence": "the tests", "citation": "the tests"})
    path = write_study(tmp_path / "p", sources, mixtures=mixtures)
    with pytest.raises(StudyError) as error:
        Study.load(path, tmp_path / "outputs")
    assert all(part in str(error.value) for part in parts)


def test_missing_text_is_named_before_anything_runs(study):
    with pytest.raises(StudyError, match=r"mixtures.both.mlm.files: no such file .*none.txt"):
        data.prepare(study(mlm={"files": ["text/none.txt"]}))
