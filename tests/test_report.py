"""Claims about the comparison notebook and its report, most of them checked in a real browser."""

import base64
import csv
import gzip
import io
import shutil
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import write_study
from finished import write_finished
from helpers.batch import engine
from helpers.report import page, theme

from helpers.study import Run

NOTEBOOK = Path(__file__).parents[1] / "notebooks/4_compare.ipynb"
HOSTILE = (
    "a <script>document.title = 'taken over'</script>"
    "<img src=x onerror=\"document.title='taken over'\"> study"
)
CHARTS = set(
    [
        "gains",
        "scale_effects",
        "heat_map",
        "scores",
        "slopes",
        "transfer_gap",
        "curves",
        "cost",
        "dashboard",
    ]
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def absent(run: Run) -> bool:
    return (run.size, run.intermediate, run.target) == ("large", "choices", "choices")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a study with a missing cell and a collapsed run, compared and reported."""
    root = tmp_path_factory.mktemp("report")
    changes = {
        "intermediate": ["none", "choices", "pairs"],
        "targets": ["pairs", "choices"],
        "seeds": [1, 2],
    }
    path = write_study(root / "params", root, description=HOSTILE, **changes)
    study = write_finished(path, root / "outputs", without=absent, collapsed=1)
    parameters = {"study": str(path), "outputs": str(root / "outputs")}
    executed = study.folder / "4_compare.ipynb"
    assert engine.run(NOTEBOOK, executed, parameters, report=True) is None
    return study.folder


def test_the_notebook_is_clean():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 10 for cell in code)
    assert code[0].metadata.tags == ["parameters"]
    imports = [
        line
        for cell in code
        for line in cell.source.splitlines()
        if line.startswith(("import", "from"))
    ]
    assert all(line.startswith("from helpers") for line in imports)


@pytest.mark.parametrize(
    ("changes", "without"),
    [
        ({"seeds": [1]}, lambda run: run.size == "large"),
        ({"intermediate": ["none"]}, lambda run: False),
        ({"targets": ["pairs"]}, lambda run: run.intermediate == "none"),
        ({}, lambda run: True),
    ],
    ids=["one size, one seed", "no intermediate task", "no baseline yet", "nothing finished"],
)
def test_the_notebook_runs_on_a_half_finished_study(tmp_path, changes, without):
    path = write_study(tmp_path / "params", tmp_path, **changes)
    study = write_finished(path, tmp_path / "outputs", without)
    study.folder.mkdir(parents=True, exist_ok=True)
    names = {}
    code = [
        cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    ]
    for cell in code:
        exec(cell.source, names)
        if cell is code[0]:
            names |= {"study": str(path), "outputs": str(tmp_path / "outputs")}
    assert pd.read_parquet(study.folder / "effects.parquet").columns.size > 10


def test_an_executed_notebook_has_each_chart_live_and_as_a_picture(folder):
    notebook = nbformat.read(folder / "4_compare.ipynb", as_version=4)
    outputs = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]
    shown = [data for data in outputs if theme.MIME in data]
    assert {data[theme.MIME]["usermeta"]["chart"] for data in shown} == CHARTS
    assert all(data["image/svg+xml"].startswith("<svg") for data in shown)


def test_vega_is_bundled_once_and_a_home_that_takes_nothing_stops_no_report(tmp_path, monkeypatch):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title")])
    nbformat.write(notebook, tmp_path / "4_compare.ipynb")
    bundled = []
    for cache, expected in [("none/x", 1), ("none/x", 2), ("some", 3), ("some", 3)]:
        (tmp_path / "none").touch()
        monkeypatch.setattr(page.platformdirs, "user_cache_path", lambda _, c=cache: tmp_path / c)
        monkeypatch.setattr(
            page.vl_convert, "javascript_bundle", lambda: bundled.append(1) or "Vega()"
        )
        written = page.write(tmp_path / "4_compare.ipynb").read_text(encoding="utf-8")
        assert len(bundled) == expected and "Vega()" in written


def test_pictures_and_tables_lie_beside_the_report(folder):
    assert {path.name for path in (folder / "charts").iterdir()} == {
        f"{c}.{k}" for c in CHARTS for k in ("png", "svg")
    }
    assert "<svg" in (folder / "charts/gains.svg").read_text()[:200]
    assert (folder / "charts/gains.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_parquet(folder / "results.parquet")) and len(
        pd.read_parquet(folder / "effects.parquet")
    )
    assert not list(folder.rglob(".*"))


def test_the_page_shows_pictures_where_no_script_runs(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<noscript><img") == len(CHARTS)


def test_the_page_says_what_sharing_has_saved(folder):
    """An intermediate training served two targets, but after `choices` at large one: 60 or 180
    seconds and as many as its seed.
    """
    page = (folder / "report.html").read_text(encoding="utf-8")
    seconds = 2 * (61 + 62) + (181 + 182)
    assert f"{seconds / 3600:.2g} hours of intermediate training" in page


def test_a_table_escapes_its_values_and_carries_all_of_itself():
    frame = pd.DataFrame(
        {"text": ["<script>x()</script>", "a,b"], "score": [1.25, None], "collapsed": [True, False]}
    )
    shown = page.table(frame, "a.csv").data
    assert "<script>" not in shown and "&lt;script&gt;x()" in shown
    assert shown.count('<tr class="collapsed">') == 1
    data = shown.split("base64,")[1].split('"')[0]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(data).decode())))
    assert rows[0] == {"text": "<script>x()</script>", "score": "1.25", "collapsed": "True"}


def test_a_long_table_shows_its_first_rows_and_carries_all_of_them():
    frame = pd.DataFrame({"row": range(page.ROWS + 5)})
    shown = page.table(frame, "long.csv").data
    assert f"first {page.ROWS} of {len(frame)} rows" in shown and 'download="long.csv.gz"' in shown
    assert f">{page.ROWS - 1}</td>" in shown and f">{page.ROWS}</td>" not in shown
    data = gzip.decompress(base64.b64decode(shown.split("base64,")[1].split('"')[0]))
    assert pd.read_csv(io.BytesIO(data)).equals(frame)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium that can reach nothing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM and DRIVER):
        pytest.skip(
            "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-dev-shm-usage"
    )
    profile = f"user-data-dir={tmp_path_factory.mktemp('browser')}"
    for flag in (*flags.split(), "host-resolver-rules=MAP * ~NOTFOUND", profile):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


def opened(browser, folder: Path, width: int = 1366, height: int = 768):
    """The report, once every chart of it is drawn."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((folder / "report.html").as_uri())
    wait_until(
        lambda: browser.execute_script("return document.body.dataset.ready") == str(len(CHARTS))
    )
    return browser


def wait_until(true, seconds: float = 60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the page did not come so far"
        time.sleep(0.05)


def picture(page, name: str) -> str:
    return page.execute_script(
        "return document.querySelector(`#${arguments[0]} svg.marks`).innerHTML", name
    )


def select(page, name: str, value: str) -> None:
    page.execute_script(
        "const s = document.querySelector(`.bar select[name=${arguments[0]}]`);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def test_every_chart_has_drawn_without_an_error_or_a_request(browser, folder):
    browser.get_log("browser"), browser.get_log("performance")
    page = opened(browser, folder)
    marks = page.execute_script(
        "const marks = '.mark-symbol path, .mark-rect path, .mark-line path, .mark-rule line';"
        "return Object.fromEntries([...document.querySelectorAll('figure')]"
        ".map((figure) => [figure.id, figure.querySelectorAll(marks).length]))"
    )
    assert set(marks) == CHARTS
    assert min(marks.values()) >= 10, marks
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = [entry["message"] for entry in page.get_log("performance")]
    urls = [
        m.split('"url":"')[1].split('"')[0]
        for m in asked
        if '"Network.requestWillBeSent"' in m and '"url":"' in m
    ]
    assert [url for url in urls if not url.startswith(("file://", "data:", "blob:"))] == []
    assert [
        url for url in urls if url.startswith("file://") and not url.endswith("report.html")
    ] == []


def test_choosing_a_language_or_a_target_moves_every_chart_that_knows_it(browser, folder):
    page = opened(browser, folder)
    for key, value, moved, still in (
        ("language", "sw", ("gains", "slopes", "dashboard"), "transfer_gap"),
        (
            "target",
            "choices",
            ("heat_map", "scale_effects", "scores", "curves", "cost", "dashboard"),
            "transfer_gap",
        ),
        ("analysis", "without collapsed", ("transfer_gap",), "curves"),
    ):
        before = {name: picture(page, name) for name in (*moved, still)}
        select(page, key, value)
        wait_until(lambda: all(picture(page, name) != before[name] for name in moved))  # noqa: B023
        assert picture(page, still) == before[still]


def test_a_click_on_a_language_selects_it_everywhere(browser, folder):
    from selenium.webdriver import ActionChains

    page = opened(browser, folder)
    before = picture(page, "gains")
    cell = page.find_element(
        "css selector", "#heat_map .mark-rect path[aria-label*='language: sw']"
    )
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    ActionChains(page).click(cell).perform()
    wait_until(lambda: picture(page, "gains") != before)
    assert (
        page.execute_script("return document.querySelector('.bar select[name=language]').value")
        == "sw"
    )


def test_text_of_a_study_is_shown_and_never_run(browser, folder):
    page = opened(browser, folder)
    assert HOSTILE in page.execute_script("return document.querySelector('.statement').textContent")
    assert page.title.startswith("Does English")
    # Even a script that slipped through would be refused.
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)"
    )
    assert page.execute_script("return window.ran") is None


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)], ids=["laptop", "phone"])
def test_nothing_is_cut_off(browser, folder, width, height):
    page = opened(browser, folder, width, height)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = page.execute_script(
        "return [...document.querySelectorAll('svg.marks, svg.marks text, img, p, select')]"
        ".filter((e) => { const b = e.getBoundingClientRect();"
        " return b.width && (b.right > arguments[0] + 1 || b.left < -1) })"
        ".map((e) => e.outerHTML.slice(0, 80))",
        width,
    )
    assert wide == []
    small = page.execute_script(
        "return Math.min(...[...document.querySelectorAll('svg.marks')]"
        ".map((e) => e.getBoundingClientRect().width / e.viewBox.baseVal.width))"
    )
    assert small > 0.8, "text shrunk too far to be read"


def test_a_long_table_costs_nothing_until_it_comes_into_view(browser, folder):
    page = opened(browser, folder)
    laid_out = (
        "return [...document.querySelectorAll('.long tbody tr:first-child')]"
        ".map((row) => row.checkVisibility({contentVisibilityAuto: true}))"
    )
    rows = page.execute_script(laid_out)
    assert rows and not any(rows)
    page.execute_script("document.querySelector('.long').scrollIntoView()")
    wait_until(lambda: page.execute_script(laid_out)[0])


def test_code_is_hidden_until_asked_for(browser, folder):
    page = opened(browser, folder)
    shown = (
        "return [...document.querySelectorAll('pre.code')].filter((e) => e.offsetHeight > 0).length"
    )
    assert page.execute_script(shown) == 0
    page.execute_script("document.querySelector('.bar button').click()")
    assert page.execute_script(shown) > 10
