"""The page of results says what its tables say, and nothing else."""

import importlib.util
import re
import shutil

import pandas as pd
import pytest

SPEC = importlib.util.spec_from_file_location("write_results", "docs/write_results.py")
write_results = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(write_results)


def test_the_page_is_what_the_tables_and_the_template_give():
    assert write_results.PAGE.read_text(encoding="utf-8") == write_results.page()


@pytest.mark.parametrize(("name", "column"), [("effects", "estimate"), ("probes", "score")])
def test_another_figure_in_a_table_is_another_page(tmp_path, name, column):
    folder = shutil.copytree(write_results.FOLDER, tmp_path / "tables")
    table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    if table.empty:
        pytest.skip("no run is finished yet")
    table[column] += 1.5
    table.to_csv(folder / f"{name}.csv", index=False)
    assert write_results.page(folder) != write_results.page()


def test_where_no_run_is_finished_the_tables_stay(tmp_path):
    with pytest.raises(SystemExit, match="no run of small-real or small-real-curve is finished"):
        write_results.collect(tmp_path, tmp_path / "tables")
    assert not list(tmp_path.rglob("*"))


def test_the_template_itself_has_no_figure_that_was_measured():
    text = write_results.PAGE.with_suffix(".md.jinja").read_text(encoding="utf-8")
    text = re.sub(r"{%.*?%}|{{.*?}}", "", text)
    measured = re.findall(r"[+−-]?\d+\.\d+", text)
    assert set(measured) <= {"0.05", "0.1"}  # the level of the tests, the dropout
