"""Params: what a study says, and what is said when it says nonsense."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import TASKS, change_task, refused, write_study

from helpers.study import NONE, Study

FEW = {"steps": 2, "batch_size": 4, "max_length": 32, "learning_rate": 1e-3}
RATELESS = {key: value for key, value in FEW.items() if key != "learning_rate"}
PHASES = {"intermediate": RATELESS, "target": RATELESS}
SWEEP = {"learning_rates": [1e-3, 1e-2], "seeds": [7]}
UNKNOWN = {"intermediate": FEW, "target": {**FEW, "learning_rate": None}}
SEVEN, HUGE = {"none": [1, 7], "others": [1]}, {"sizes": {"huge": [1, 2]}}
TAGS = {"format": "tagging", "columns": {"tokens": "a", "labels": "b"}}
AT, TWICE = {"phase": "intermediate", "set": {}}, {"m": {"tasks": ["pairs", "pairs"]}}
PAIRS, DEEP = {"task": "pairs"}, {"size": "base", "set": {"frozen_layers": 2}}


def test_a_study_lists_every_run_once_and_epochs_become_steps(load):
    study = load()
    runs = study.runs()
    assert len(runs) == len(set(runs)) == 2 * 2 * 1 * 1
    assert {run.intermediate for run in runs} == {NONE, "choices"}
    chosen = study.hyperparameters("target", "base", "pairs")
    assert [chosen.total_steps(rows) for rows in (24, 25)] == [6, 7]


def test_the_last_fitting_override_wins_and_one_duration_replaces_the_other(load):
    overrides = [
        {"size": "large", "set": {"learning_rate": 5e-4}},
        {"phase": "target", "task": "pairs", "set": {"learning_rate": 1e-5, "steps": 7}},
    ]
    study = load(overrides=overrides)
    assert study.hyperparameters("intermediate", "large", "choices").learning_rate == 5e-4
    assert study.hyperparameters("intermediate", "base", "choices").learning_rate == 1e-3
    chosen = study.hyperparameters("target", "large", "pairs")
    assert (chosen.learning_rate, chosen.steps, chosen.epochs) == (1e-5, 7, None)


def test_variants_are_one_task_under_several_names_with_overrides_of_their_own(load):
    few = {"phase": "target", "task": "few", "set": {"train_examples": 5}}
    study = load(variants={"few": "pairs"}, targets=["few", "pairs"], overrides=[few])
    examples = [study.hyperparameters("target", "base", t).train_examples for t in ("few", "pairs")]
    assert examples == [5, None] and study.train_on("few") == study.train_on("pairs")
    assert study.tasks["few"] == study.tasks["pairs"].model_copy(update={"name": "few"})


def test_settings_of_a_run_do_not_change_when_another_task_is_added(load):
    studies = [load(read=True, targets=targets) for targets in (["pairs"], ["pairs", "choices"])]
    before, after = (s.condition("base", "choices", "pairs").settings for s in studies)
    assert before == after


def test_the_record_of_a_study_holds_the_settings_of_every_condition(load):
    study = load(read=True)
    study.write_record()
    record = json.loads((study.folder / "study.json").read_text())
    names = {f"{size}/{task}" for size in ("base", "large") for task in ("none", "choices")}
    expected = {"base", "large", "base/choices", "large/choices", *(f"{n}/pairs" for n in names)}
    assert set(record["settings"]) == expected
    condition = study.condition("large", "choices", "pairs")
    assert record["settings"]["large/choices/pairs"] == condition.settings
    assert len(record["runs"]) == len(study.runs())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"colour": "red"}, "colour: unknown key; expected one of catalogue, "),
        ({"variants": {"few": "pairz"}}, "variants.few: unknown task 'pairz'; expected one of"),
        ({"variants": {"pairs": "choices"}}, "variants: 'pairs' is a task's name"),
        ({"variants": {"none": "choices"}}, "'none' is the name of a control, the baseline"),
        ({"variants": {"all": "choices"}}, "'all' is the name of a control, the baseline or a m"),
        ({"overrides": [{**PAIRS, **AT}]}, "overrides: found task pairs in phase intermediate"),
        ({"overrides": [{"set": {"max_length": 3}}]}, "max_length: Input should be greater than o"),
        ({"mixtures": TWICE}, "mixtures.m.tasks: ['pairs', 'pairs'] names something twice"),
        ({"intermediate": ["none", "mnlii"]}, "intermediate: unknown task 'mnlii'"),
        ({"targets": ["xnlii"]}, "targets: unknown task 'xnlii'"),
        ({"targets": [{**PAIRS, "languages": ["fr"]}]}, "targets.pairs.languages: unknown lang"),
        ({"overrides": [{"size": "huge", "set": {}}]}, "overrides.size: unknown size 'huge'"),
        ({"overrides": [{"set": {"stepz": 1}}]}, "stepz: unknown key"),
        ({"seeds": [1, 1]}, "seeds: [1, 1] names something twice"),
        ({"seeds": {"none": ["a"], "others": [1]}}, "seeds.none.0: Input should be"),
        ({"overrides": [DEEP]}, "frozen_layers (intermediate, choices): found 2 for size base,"),
        ({"overrides": [{**DEEP, **PAIRS}]}, "frozen_layers (target, pairs): found 2 for size"),
        ({"phases": {"intermediate": {}, "target": {}}}, "Field required"),
        ({"phases": UNKNOWN}, "phases.target.learning_rate: found None, expected a number or a s"),
        ({"sweep": SWEEP}, "phases.intermediate.learning_rate: found 0.001, expected none, which"),
        ({"sweep": SWEEP | {"seeds": [1]}, "phases": PHASES}, "sweep.seeds: found 1, expected"),
        ({"sweep": SWEEP, "phases": PHASES, "seeds": SEVEN}, "sweep.seeds: found 7, expected"),
        ({"sweep": SWEEP | HUGE, "phases": PHASES}, "sweep.sizes: unknown size 'huge'; expected"),
    ],
)
def test_bad_params_are_one_line_that_names_file_and_key(sources, tmp_path, changes, expected):
    path = write_study(tmp_path / "p", sources, **changes)
    with refused(f"{path}: ", expected):
        Study.load(path)


def test_a_key_that_is_there_twice_is_one_line_that_names_file_line_and_key(tiny_study):
    text = tiny_study.read_text(encoding="utf-8")
    again = text.replace("  large:\n", "  base:\n", 1)
    tiny_study.write_text(again, encoding="utf-8")
    line = again[: again.rindex("  base:\n")].count("\n") + 1
    with refused(f"tiny.yaml: line {line}: found 'base' twice; expected"):
        Study.load(tiny_study)
    tiny_study.write_text(text, encoding="utf-8")
    with (tiny_study.parent / "tasks.yaml").open("a", encoding="utf-8") as catalogue:
        catalogue.write("  pairs: {}\n")
    with refused("tasks.yaml: line ", ": found 'pairs' twice"):
        Study.load(tiny_study)


def test_a_missing_or_broken_file_is_named(tiny_study, tmp_path):
    away = shutil.copy(tiny_study, tmp_path / "away.yaml")  # its catalogue is not beside it
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    for path, line in (
        (tmp_path / "absent.yaml", "absent.yaml: no such file; expected a params file"),
        (away, "tasks.yaml: no such file; expected a catalogue of "),
        (tmp_path / "bad.yaml", "bad.yaml: not YAML"),
    ):
        with refused(line):
            Study.load(path)


def test_a_study_is_read_where_its_encoder_is_not(tiny_study, sources):
    """As where its results were copied to; phase 1 says what is missing."""
    shutil.rmtree(sources / "encoder")
    assert Study.load(tiny_study).sizes["base"].layers == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labelz": []}, "pairs.labelz: unknown key"),
        ({"files": None}, "expected exactly one of the keys hub, files and parts"),
        ({"metric": "f1"}, "metric 'f1' of format sentence_pair; expected ['accuracy']"),
        ({"trained_in": ["de", "de"]}, "trained_in: ['de', 'de'] names something twice"),
        ({"files": "{language.x}"}, "files: found '{language.x}', expected {language} and {split}"),
        ({**TAGS, "labels": ["0", "B-X"], "metric": "entity_f1"}, "found '0', expected O, B-"),
        ({"trained_in": ["fr"]}, "trained_in: unknown language 'fr'; expected one of de, en, sw"),
        ({"label_values": [0, 1]}, "label_values has 2 entries, labels has 3"),
        ({"train_on": ["nli"]}, "train_on: unknown task 'nli'; expected one of choices, pairs"),
        ({"files": None, "parts": ["choices"]}, "parts: 'choices' differs in format or labels"),
        ({"unseen_label": True}, "unseen_label: expected for tagging alone"),
        ({**TAGS, "skip_labels": ["_"]}, "skip_labels: not for tagging"),
        ({**TAGS, "labels": ["O", "PER"], "metric": "entity_f1"}, "found 'PER', expected O, B-"),
        ({"labels": []}, "labels: found none, expected the names"),
        ({"columns": {"textb": "b"}}, "columns: unknown name 'textb'; expected one of id, label"),
        ({"languages": ["eng", "de"]}, "languages: found 'eng', expected 'en' (codes: {en: eng}"),
        ({"per_language": {"ge": {"hub": "x/y"}}}, "per_language: unknown language 'ge'; expected"),
        ({"files": "pairs/{language}.tsv"}, "have the same data; expected data for each"),
        ({"where": {"a": "{lang}"}}, "where.a: found '{lang}', expected {language} alone in"),
    ],
)
def test_a_bad_entry_of_the_catalogue_is_one_line_that_names_it(tiny_study, changes, expected):
    change_task(tiny_study, "pairs", **changes)
    with refused(f"{tiny_study.parent / 'tasks.yaml'}: pairs", expected):
        Study.load(tiny_study)


def test_parts_of_which_one_has_single_texts_are_refused(tiny_study):
    columns = {"text_a": "a", "label": "label"}
    single = {**TASKS["pairs"], "train_on": [], "columns": columns}
    change_task(tiny_study, "single", **single)
    parts = {**single, "files": None, "columns": {}, "parts": ["pairs", "single"]}
    change_task(tiny_study, "both", **parts)
    with refused("both.parts: 'single' has other columns than 'pairs'; expected the same"):
        Study.load(tiny_study)


def test_an_unknown_name_is_said_with_the_known_ones(load):
    study = load()
    with refused("unknown target 'choices'; expected one of pairs"):
        study.target("choices")
    with refused("unknown task 'nli'; expected one of choices, pairs"):
        study.tasks["nli"]
    with refused("unknown seed '9'; expected one of 1"):
        list(study.condition("base", "none", "pairs").attempts([9]))
    for seeds in ("[1]", [], 1.0):
        with refused(f"seeds: found {seeds!r}, expected a number or a list (papermill -y "):
            list(study.condition("base", "none", "pairs").attempts(seeds))
    with refused("join: found 'false', expected True or False"):  # as papermill's -p gives it
        study.condition("base", "none", "pairs", join="false")


@pytest.mark.parametrize("name", sorted({p.stem for p in Path("params").glob("*")} - {"tasks"}))
def test_the_studies_that_come_with_the_project_are_valid(name):
    assert Study.load(f"params/{name}.yaml").name == name
