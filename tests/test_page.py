"""Claims about the page and the comparison notebook, some of them checked in a real browser."""

import base64
import gzip
import io
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from running import chromium
from simulated import simulated_study
from written import write_outputs

import comparison
from comparison import page

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/4_compare.ipynb"
HOSTILE = "<script>document.title = 'taken over'</script><img src=x onerror='alert(1)'> study"
CHOOSE = """const select = document.querySelector(`select[name=${arguments[0]}]`);
  select.value = arguments[1]; select.dispatchEvent(new Event('change'))"""


def test_the_package_needs_neither_torch_nor_helpers():
    heavy = "{'torch', 'transformers', 'helpers'} & {*sys.modules}"
    script = "import sys, comparison; from comparison import charts, page, run_charts; "
    subprocess.run([sys.executable, "-c", f"{script} assert not {heavy}"], check=True)


def outputs(folder: Path, without="", **study) -> Path:
    predictions, runs = simulated_study(items=20, seeds=2, **study)
    some = runs.query(f"not ({without})") if without else runs
    return write_outputs(folder, predictions, some, runs, description=HOSTILE)


def executed(folder: Path) -> Path:
    """Notebook 4 on a study's outputs, its cells run here; what finds the study is left out."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    study = SimpleNamespace(path=folder / "study.yaml", folder=folder, write_record=lambda: None)
    notebook, shell = nbformat.read(NOTEBOOK, as_version=4), InteractiveShell()
    shell.user_ns["Study"] = SimpleNamespace(load=lambda *_: study)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        source = cell.source.replace("from helpers.study import Study\n", "")
        with capture_output() as captured:
            done = shell.run_cell(source)
        done.raise_error()
        if done.result is not None:
            data, _ = shell.display_formatter.format(done.result)
            cell.outputs = [nbformat.v4.new_output("execute_result", data)]
        if captured.stdout and done.result is None:
            cell.outputs = [nbformat.v4.new_output("stream", text=captured.stdout)]
    nbformat.write(notebook, folder / "4_compare.ipynb")
    return folder / "4_compare.ipynb"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of a study with a missing cell and a collapsed run."""
    missing = "size == 'large' and intermediate == 'nli' and target == 'copa'"
    folder = outputs(tmp_path_factory.mktemp("report") / "mine", missing, collapsed=1)
    return page.write(executed(folder), folder / "report.html")


CASES = [{"without": "size == 'large'"}, {"without": "intermediate == 'none'"}]
CASES += [{"without": "seed > 0"}, {"intermediates": ("none",)}]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_notebook_runs_on_a_half_finished_study(tmp_path, case):
    notebook = executed(outputs(tmp_path / "mine", **case))
    assert "mine" in page.write(notebook, tmp_path / "report.html").read_text(encoding="utf-8")
    assert pd.read_parquet(tmp_path / "mine/effects.parquet").columns.size > 10


def test_the_report_has_the_studys_title_no_course_and_no_empty_section(report):
    text = report.read_text(encoding="utf-8")
    assert "<title>mine</title>" in text and "<h1>mine</h1>" in text
    assert "Predict:" not in text and "Predictions of your own" not in text
    assert "The learning curve" not in text and "What a gain costs" in text
    assert "not finished" in text and len(text) < 10e6


def test_the_page_asks_for_nothing(report):
    text = report.read_text(encoding="utf-8")
    assert "<script src" not in text and "<link" not in text and "default-src 'none'" in text
    assert text.count("<noscript><img") == text.count("<figure")


def test_a_table_escapes_its_values_and_carries_all_of_itself():
    frame = pd.DataFrame({"name": ["<b>", "x"] * 300, "value": [1.25, -0.001] * 300})
    text = page.table(frame, "mine", digits=2).data
    assert "<b>" not in text and "first 200 of 600 rows" in text
    assert "−0.001" in text  # what is not zero is not shown as zero
    packed = text.split("base64,")[1].split('"')[0]
    csv = gzip.decompress(base64.b64decode(packed)).decode()
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(csv)), frame)
    assert page.table(frame.head(0), "mine") is None


def test_runs_on_a_gpu_and_without_one_are_said_to_differ(tmp_path):
    plan, runs, *_ = comparison.read_study(outputs(tmp_path / "mine"))
    assert "differ" not in page.overview(plan, runs).data
    runs = runs.assign(gpu=[None, "A100"] * 12)
    assert "Runs differ in gpu: 12 on none, 12 on A100" in page.overview(plan, runs).data


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def opened(browser, path: Path, width=1400) -> None:
    browser.set_window_size(width, 900)
    browser.get(path.as_uri())
    deadline = time.monotonic() + 60
    while not browser.execute_script("return document.body.dataset.ready"):
        assert time.monotonic() < deadline, browser.get_log("browser")
        time.sleep(0.1)


def test_every_chart_has_drawn_without_an_error_or_a_request(browser, report):
    opened(browser, report)
    count = browser.execute_script("return document.querySelectorAll('figure svg').length")
    assert count == browser.execute_script("return document.querySelectorAll('figure').length") >= 7
    assert not browser.get_log("browser")
    sent = [entry["message"] for entry in browser.get_log("performance")]
    asked = [text for text in sent if "requestWillBeSent" in text and '"url":"http' in text]
    assert not asked
    assert browser.title == "mine"  # the description of the study was shown and not run


def test_one_choice_moves_every_chart_that_knows_it(browser, report):
    opened(browser, report)
    texts = "return [...document.querySelectorAll('figure svg')].map((svg) => svg.outerHTML)"
    before = browser.execute_script(texts)
    browser.execute_script(CHOOSE, "language", "sw")
    time.sleep(1)
    after = browser.execute_script(texts)
    assert sum(a != b for a, b in zip(before, after, strict=True)) >= 2


@pytest.mark.parametrize("width", [1400, 420])
def test_no_caption_and_no_chart_is_cut(browser, report, width):
    opened(browser, report, width)
    cut = """return [...document.querySelectorAll('figure')].flatMap((figure) => {
      const svg = figure.querySelector('svg').getBoundingClientRect();
      return [...figure.querySelectorAll('svg text')].filter((text) => {
        const box = text.getBoundingClientRect();
        const beside = box.left < svg.left - 1 || box.right > svg.right + 1;
        return box.width && (beside || box.bottom > svg.bottom + 1);
      }).map((text) => text.textContent);
    })"""
    assert browser.execute_script(cut) == []
    browser.execute_script(CHOOSE, "target", "copa")
    time.sleep(1)
    assert browser.execute_script(cut) == []
    captions = """return [...document.querySelectorAll('.role-title-subtitle')].filter((caption) =>
      caption.getBoundingClientRect().right > innerWidth).length"""
    assert browser.execute_script(captions) == 0


def test_tables_are_offered_as_csv_latex_and_markdown(browser, report):
    opened(browser, report)
    names = "return [...document.querySelector('.table .tools').querySelectorAll('button')]"
    kinds = browser.execute_script(names + ".map((b) => b.textContent)")
    assert kinds == ["CSV", "LaTeX", "Markdown"]
    saved = """const done = arguments[0]; URL.createObjectURL = (blob) => {
      blob.text().then(done); return 'data:,'; };
      document.querySelectorAll('.table .tools button')[1].click();"""
    text = browser.execute_async_script(saved)
    assert "\\begin{longtable}{l" in text and "\\\\" in text and text.endswith("{longtable}\n")
