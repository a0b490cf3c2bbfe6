"""The page of a study's results says what its effects say."""

import runpy

import pandas as pd
import pytest
from simulated import simulated_study
from written import write_outputs

from helpers.study import StudyError

write = runpy.run_path("docs/write_results.py")["write"]


def test_the_page_says_what_the_tables_say(tmp_path):
    predictions, runs = simulated_study({"nli": ("en", "de", "sw")}, items=30, collapsed=1)
    some = runs.query("not (size == 'base' and intermediate == 'nli')")
    folder = write_outputs(tmp_path / "mine", predictions, some, runs)
    text = write(folder, tmp_path / "docs").read_text(encoding="utf-8")
    effects = pd.read_csv(tmp_path / "docs/mine/effects.csv")
    rows = effects.query("quantity == 'gain' and language == 'zero-shot' and size == 'large'")
    row = rows.query("intermediate == 'qa' and analysis == 'all runs'").iloc[0]
    assert f"{row['estimate']:+.1f} [".replace("-", "−") in text and " ×" in text
    assert "not finished" in text and "There is no answer yet" in text
    assert (tmp_path / "docs/mine/gains.svg").is_file() and "(mine/gains.svg)" in text
    assert write(folder, tmp_path / "docs").read_text(encoding="utf-8") == text
    (tmp_path / "docs/mine/notes.md").write_text("## By hand\n", encoding="utf-8")
    path = write(folder, tmp_path / "docs")
    assert path.read_text(encoding="utf-8") == text + "\n## By hand\n"


def test_a_study_without_results_and_a_page_by_hand_are_left_alone(tmp_path):
    predictions, runs = simulated_study({"nli": ("en", "de")}, items=5, seeds=1)
    empty = write_outputs(tmp_path / "mine", predictions, runs.head(0), runs)
    with pytest.raises(StudyError, match="found no finished run"):
        write(empty, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()
    folder = write_outputs(tmp_path / "mine", predictions, runs, runs)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/mine.md").write_text("# By hand\n", encoding="utf-8")
    with pytest.raises(StudyError, match="written by hand"):
        write(folder, tmp_path / "docs")
