"""The demo in miniature, offline; with it the course, by itself and in a real JupyterLab."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.report import theme

from helpers import comparison
from helpers.study import Study

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]_*.ipynb"))
EXERCISES = sorted((ROOT / "exercises").glob("*.ipynb"))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project's folder with the smoke study finished in it."""
    root = tmp_path_factory.mktemp("lab") / "project"
    for name in ("notebooks", "exercises", "params"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "demo").symlink_to(ROOT / "demo")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("HUB_MIRROR", "DATA_DIR", "HF_ENDPOINT"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "helpers.batch", "params/smoke.yaml", "--cores", "2"]
    pipe = {"capture_output": True, "text": True}
    outcome = subprocess.run(command, cwd=root, env=environment, timeout=1500, **pipe)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    (root / "said.txt").write_text(outcome.stdout, encoding="utf-8")
    for path in [*root.glob("notebooks/*.ipynb"), *root.glob("exercises/**/*.ipynb")]:
        text = path.read_text(encoding="utf-8").replace("params/demo.yaml", "params/smoke.yaml")
        path.write_text(text.replace('"mini_nli\\"', '"mini_stories\\"'), encoding="utf-8")
    return root


def run(path: Path, root: Path, monkeypatch, **given) -> dict:
    """Run a notebook's cells in this process, as papermill would; returns its variables."""
    monkeypatch.chdir(root / path.relative_to(ROOT).parent)
    monkeypatch.syspath_prepend(str(root))
    variables: dict = {"display": lambda *_: None}
    for cell in nbformat.read(root / path.relative_to(ROOT), 4).cells:
        if cell.cell_type == "code":
            exec(cell.source, variables)
            if "parameters" in cell.metadata.get("tags", []):
                variables.update(given)
    return variables


def test_the_smoke_study_runs_through_offline(project):
    study = Study.load(project / "params/smoke.yaml", project / "outputs")
    assert len(comparison.missing_runs(study)) == 0
    results = pd.read_parquet(study.folder / "results.parquet")
    assert set(results["language"]) == {"en", "zh", "zero-shot"}
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert "stand-in" in page and "https://cdn" not in page
    said = (project / "said.txt").read_text(encoding="utf-8")
    assert "one seed only" in said  # the finding, and how unsure it is


def test_the_mini_benchmark_and_the_stand_in_open_no_connection(monkeypatch):
    from helpers import data, encoders

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(ROOT)
    study = Study.load("params/smoke.yaml")
    assert len(data.examples(study, "mini_xcopa", "test", "zh")) == 300
    assert encoders.load(study.sizes["base"].encoder)


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_a_solution_passes_its_checker_and_the_unsolved_notebook_does_not(
    path, project, monkeypatch, capsys
):
    run(path.parent / "solutions" / path.name, project, monkeypatch)
    assert "Right" in capsys.readouterr().out
    with pytest.raises(AssertionError, match=r"."):
        run(path, project, monkeypatch)


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_a_solution_differs_from_its_exercise_in_the_answer_alone(path):
    pair = [nbformat.read(p, 4).cells for p in (path, path.parent / "solutions" / path.name)]
    other = [a.id for a, b in zip(*pair, strict=True) if a.source != b.source]
    assert other == ["answer"]


def test_a_checker_says_what_kind_of_answer_it_wants(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    from exercises import check
    from helpers.study import Study

    assert check.number(np.int64(3), "best_layer") == 3.0
    with pytest.raises(check.Wrong, match="gain is None; expected a number"):
        check.number(None, "gain")
    with pytest.raises(check.Wrong, match="sum over items, take their mean"):
        check.cross_entropy(lambda x, y: 5 * torch.nn.functional.cross_entropy(x, y))
    study = Study.load(project / "params/smoke.yaml")
    entry = study.tasks["mini_xnli"].model_copy(update={"trained_in": ["en", "de"]})
    study = study.model_copy(update={"tasks": study.tasks | {"mini_xnli": entry}})
    with pytest.raises(check.Wrong, match="still_zero_shot is 'zh'; expected a list"):
        check.not_zero_shot(study, "mini_xnli", "zh")


def _ece(sure, right, weigh=True, last=9):
    bins = np.minimum((sure * 10).astype(int), last)
    parts = [(bins == i) for i in range(10) if (bins == i).any()]
    gaps = [abs(sure[part].mean() - right[part].mean()) for part in parts]
    return np.average(gaps, weights=[part.mean() for part in parts] if weigh else None)


MISTAKES = {
    "ece": {
        "weight each bin": lambda sure, right: _ece(sure, right, weigh=False),
        "sureness 1 too": lambda sure, right: _ece(sure, right, last=10),
        "not of items": lambda sure, right: np.abs(sure - right).mean(),
    },
    "transfer_gap": {
        "not over items": lambda p: gap(p, lambda rest: score(rest)),
        "English is no": lambda p: gap(p, lambda _: by_language(p).mean()),
        "minus the mean": lambda p: -gap(p, lambda rest: by_language(rest).mean()),
    },
    "seeds": {
        "difference of two": lambda sd, half: math.ceil((1.96 * sd / half) ** 2),
        "standard errors": lambda sd, half: int(2 * (1.96 * sd / half) ** 2),
    },
}


def score(rows):
    return 100 * rows["credit"].sum() / rows["out_of"].sum()


def by_language(rows):
    return pd.Series({name: score(part) for name, part in rows.groupby("language")})


def gap(rows, mean):
    return score(rows[rows["language"] == "en"]) - mean(rows[rows["language"] != "en"])


@pytest.mark.parametrize(
    ("checker", "says"), [(name, says) for name in MISTAKES for says in MISTAKES[name]]
)
def test_a_checker_says_what_is_wrong_with_a_likely_mistake(checker, says, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from exercises import check

    with pytest.raises(check.Wrong, match=says):
        getattr(check, checker)(MISTAKES[checker][says])


def test_a_batch_runs_the_explorer_from_the_projects_folder(project, tmp_path, monkeypatch):
    from helpers.batch import engine

    monkeypatch.chdir(project)  # from its own folder, as JupyterLab runs it, it runs below
    executed = tmp_path / "explored.ipynb"
    assert engine.run(project / "notebooks/5_explore.ipynb", executed, {}) is None
    cells = nbformat.read(executed, 4).cells
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = [output for output in shown if theme.MIME in output.get("data", {})]
    assert len(pictures) == 6  # sections show themselves where nobody can choose


def test_every_section_of_the_explorer_follows_the_choice(project, monkeypatch):
    shown: list = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **_: shown.extend(what))
    monkeypatch.setattr("helpers.study.is_interactive", lambda: True)
    variables = run(ROOT / "notebooks/5_explore.ipynb", project, monkeypatch)
    shown.clear()
    variables["pick"]["size"].value = "large"
    charts = [getattr(what, "chart", what) for what in shown]
    texts = [json.dumps(chart.to_dict()) for chart in charts if hasattr(chart, "to_dict")]
    texts = [text for text in texts if "$schema" in text]
    assert len(texts) == 6 and all("large" in text for text in texts)
    variables["on_ask"](None)
    (said,) = [what for what in shown if isinstance(what, pd.DataFrame) and "notes" in what]
    assert list(said["after"]) == ["none", "mini_stories"] * 2
    assert said[["entailment", "neutral", "contradiction"]].sum(axis=1).to_list() == pytest.approx(
        [1.0] * 4, abs=0.02
    )


def test_two_studies_lie_beside_each_other(project, monkeypatch):
    params = (project / "params/smoke.yaml").read_text(encoding="utf-8")
    (project / "params/second.yaml").write_text(params.replace("name: smoke", "name: second"))
    effects = pd.read_parquet(project / "outputs/smoke/effects.parquet")
    moved = effects.assign(**{name: effects[name] + 2 for name in ("estimate", "low", "high")})
    (project / "outputs/second").mkdir(exist_ok=True)
    moved.to_parquet(project / "outputs/second/effects.parquet")

    notebook = ROOT / "notebooks/5_explore.ipynb"
    both = run(notebook, project, monkeypatch, other="params/second.yaml")["both"]
    shared = effects.query("analysis == 'all runs'").dropna(subset=["low"])
    assert len(both) == len(shared) > 0  # each estimate meets its own, and no other
    assert both["difference"].to_list() == pytest.approx([2.0] * len(both))
    wide = (both["high_"] - both["low_"]) / (both["high"] - both["low"])
    assert wide.dropna().to_list() == pytest.approx([2**0.5] * len(wide.dropna()))


def test_data_prepared_without_the_catalogues_group_is_one_line(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    from helpers import data
    from helpers.study import StudyError, open_study

    monkeypatch.chdir(ROOT)
    study = open_study("params/smoke.yaml", tmp_path)
    data.prepare(study)
    kept = study.folder / "data/mini_xnli/zh.test.parquet"
    pq.write_table(pq.read_table(kept).drop_columns(["group"]), kept)
    with pytest.raises(StudyError, match=r"zh.test.parquet: no column 'group'.*run `make study"):
        data.examples(study, "mini_xnli", "test", "zh")


def test_letters_on_slides_are_larger_and_data_is_not():
    import runpy

    readable = runpy.run_path(str(ROOT / "docs/write_slides.py"))["readable"]
    spec = {"config": {"axis": {"labelFontSize": 10}}, "height": {"step": 20}, "width": 300}
    spec |= {"datasets": {"curves": [{"step": 8}]}}
    spec |= {"title": {"subtitle": ["3 seeds; " + "small: 3 layers of a stand-in; " * 4]}}
    large = readable(spec)
    assert len(lines := large["title"]["subtitle"]) > 1 and max(map(len, lines)) <= 64
    assert large["config"]["axis"]["labelFontSize"] == 15 and large["height"]["step"] == 30
    assert (large["width"], large["datasets"]) == (300, spec["datasets"])


def test_the_explorer_says_what_an_unfinished_study_lacks(project, monkeypatch):
    from helpers import explore
    from helpers.study import Run, StudyError, open_study

    monkeypatch.chdir(project)
    study = open_study("params/smoke.yaml", "elsewhere")
    with pytest.raises(StudyError, match=r"predictions.parquet: not there; expected a finished"):
        explore.answers(study, Run("base", "none", "mini_xnli", 1))
    with pytest.raises(StudyError, match=r"model.safetensors: missing.*keep_models: true"):
        explore.reader(study, Run("base", "none", "mini_xnli", 1))


def test_a_kept_model_predicts_what_the_run_did_and_reads_any_sentence(project, monkeypatch):
    from helpers import encoders, evaluation, explore, training
    from helpers.encoders import families
    from helpers.study import Run, open_study

    monkeypatch.chdir(project)
    study, chosen = open_study("params/smoke.yaml"), Run("large", "mini_stories", "mini_xnli", 1)
    again = evaluation.zero_shot(study, chosen.target, training.finished(study, chosen))
    kept = pd.read_parquet(study.run_folder(chosen) / "predictions.parquet")
    assert list(again["prediction"]) == list(kept["prediction"])
    for one, other in zip(again["probabilities"], kept["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)

    whole: list = []
    read = encoders.pretrained
    explore._vocabulary.cache_clear()
    monkeypatch.setattr(encoders, "pretrained", lambda size: whole.append(read(size)) or whole[-1])
    explore.reader(study, chosen._replace(size="base"))
    reader, task = explore.reader(study, chosen), study.tasks[chosen.target]
    [(pretrained, _)] = whole  # read once for all models
    unmet = reader.tokenizer.convert_tokens_to_ids("▁zebra")
    rows = (families.words(encoder)[unmet] for encoder in (reader.model.encoder, pretrained))
    assert torch.equal(*rows)  # a token that no text of the study has is the pretrained one
    row = explore.answers(study, chosen).iloc[0]
    said, notes = explore.say(reader, task, [row["text_a"], row["text_b"]])
    assert list(said.values()) == pytest.approx(row["probabilities"], abs=1e-3) and not notes
    assert "▁zebra" in reader.tokenizer.tokenize("zebra")  # no text of the study has it
    _, notes = explore.say(reader, task, ["long " * 200, "ᚠᛇᚻ"])
    assert any("cut after 48" in note for note in notes)
    assert any("unknown" in note for note in notes)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"size": "bse"}, r"unknown size 'bse'; expected one of base, large"),
        ({"task": "mini_nil"}, r"unknown task 'mini_nil'; expected one of mini_stories"),
        ({"target": "xnli"}, r"unknown target 'xnli'; expected one of mini_xnli"),
        ({"seed": 7}, r"unknown seed '7'; expected one of 1"),
    ],
    ids=lambda value: next(iter(value), None) if isinstance(value, dict) else "",
)
def test_a_misspelt_parameter_is_one_line(wrong, line, monkeypatch):
    from helpers.study import StudyError, open_study

    monkeypatch.chdir(ROOT / "notebooks")
    with pytest.raises(StudyError, match=line) as caught:
        open_study("params/smoke.yaml", **wrong)
    assert caught.value._render_traceback_() == [f"StudyError: {caught.value}"]


def test_a_person_writes_apart_from_the_batch_and_reads_what_it_made(project, monkeypatch, capsys):
    from helpers.study import opening

    monkeypatch.chdir(project / "notebooks")
    monkeypatch.setattr(opening, "is_interactive", lambda: True)
    study = opening.open_study("params/smoke.yaml")
    assert "smoke/interactive, not" in capsys.readouterr().out
    (run, *_), batch = study.runs(), project / "outputs/smoke"
    assert study.run_folder(run).resolve() == batch / "interactive/base/none/mini_xnli/seed-1"
    assert study.encoder_folder("base").resolve() == batch / "base/encoder"
    assert study.encoder_folder("base", new=True).resolve() == batch / "interactive/base/encoder"
    joined = opening.open_study("params/smoke.yaml", join=True)
    assert joined.run_folder(run).resolve() == batch / "base/none/mini_xnli/seed-1"
    assert opening.open_study(study) == study  # a cell run again


@pytest.mark.parametrize("answers_input", [False, True], ids=["papermill", "JupyterLab"])
def test_a_kernel_knows_whether_a_person_uses_it(answers_input):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        code = "from helpers.study import opening; print(opening.is_interactive())"
        said = []
        client.execute_interactive(
            code, allow_stdin=answers_input, output_hook=lambda m: said.append(m["content"])
        )
        assert [c["text"].strip() for c in said if "text" in c] == [str(answers_input)]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_batch_keeps_what_papermill_made_by_hand(project, tmp_path, monkeypatch):
    from helpers.batch import recovery

    shutil.copytree(project / "outputs/smoke", tmp_path / "smoke")
    for notebook in (tmp_path / "smoke").rglob("notebook.ipynb"):
        notebook.unlink()  # papermill wrote them elsewhere
    monkeypatch.chdir(project)
    assert recovery.stale(Study.load("params/smoke.yaml", tmp_path)) == {}


def test_the_filter_strips_what_a_notebook_shows(tmp_path):
    source = ROOT / "notebooks/0_start_here.ipynb"
    notebook = nbformat.read(source, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 3
            cell.outputs = [nbformat.v4.new_output("stream", text="shown")]
    notebook.metadata.language_info = {"name": "python", "version": "3.11.7"}
    command = re.search(
        r"filter.notebook.clean \"\$\(BIN\)/(.*)\"", (ROOT / "Makefile").read_text()
    )
    strip = [str(Path(sys.executable).parent / "nbstripout"), *command[1].split()[1:]]
    text = nbformat.writes(notebook)
    cleaned = subprocess.run(strip, input=text, capture_output=True, text=True, check=True).stdout
    assert cleaned == source.read_text(encoding="utf-8")


# ---- in a real JupyterLab, in a real browser -----------------------------------------------------


SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell stays in the page
    "apputils-extension/notification": {"fetchNews": "false"},
}


@contextmanager
def jupyter_lab(root: Path):
    """The address of a JupyterLab that `make lab` would start in ``root``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.root_dir=.", "--IdentityProvider.token="]
    command += ["--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"]
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(root / ".jupyter"),
        "HF_HUB_OFFLINE": "1",
    }
    environment |= {"JUPYTER_RUNTIME_DIR": str(root / ".runtime")}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(root / ".settings")}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(root / ".workspaces")}
    for name, settings in SETTINGS.items():
        path = root / ".settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    with (root / "lab.log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver here")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,1000")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def lab(project, browser):
    """Open a notebook in a JupyterLab and run all its cells.

    All notebooks have one kernel, which has imported torch once; of what another one did they find
    no variable, no module of the package, and no way of showing charts.
    """
    from jupyter_client import BlockingKernelClient

    with jupyter_lab(project) as address:

        def post(what: str, **given) -> dict:
            request = Request(f"{address}/api/{what}", json.dumps(given).encode())
            return json.load(urlopen(request, timeout=60))

        kernel = post("kernels", name="python3", path="notebooks/any.ipynb")["id"]
        client = BlockingKernelClient()
        client.load_connection_file(project / f".runtime/kernel-{kernel}.json")
        client.start_channels()
        browser.get(f"{address}/lab?reset")
        browser.set_script_timeout(300)
        wait(lambda: browser.execute_script("return window.jupyterapp !== undefined"))
        browser.execute_async_script("jupyterapp.restored.then(arguments[0])")

        def run_all(path: str) -> None:
            client.execute_interactive(RESET, allow_stdin=False, timeout=60)
            post("sessions", path=path, name=path, type="notebook", kernel={"id": kernel})
            browser.execute_async_script(RUN_ALL, path)
            wait(lambda: re.fullmatch(r"\[\d+\]:", browser.execute_script(PROMPTS)[-1]))

        yield run_all
        client.stop_channels()


RESET = """%reset -f
import altair, sys
altair.renderers.enable("default")
for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
    del sys.modules[name]
%reset -f"""
RUN_ALL = """
const [path, done] = arguments, run = (...what) => jupyterapp.commands.execute(...what);
(async () => {
  if (window.before) { await before.context.save(); before.dispose(); }
  window.before = await run('docmanager:open', {path});
  await before.revealed;
  await before.sessionContext.ready;
  await run('notebook:run-all-cells');
})().then(done, done)"""
PROMPTS = """
const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')];
return prompts.map((e) => e.textContent)"""
CHARTS = """
const charts = [...document.querySelectorAll('.jp-OutputArea :is(svg.marks, canvas)')];
return charts.map((e) => e.toDataURL ? e.toDataURL() : e.innerHTML)"""
SCROLL = """
const panel = document.querySelector('.jp-WindowedPanel-outer');
panel.scrollTop = arguments[0] * 800;
return panel.scrollHeight"""


def wait(condition, seconds: float = 120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(Exception):
            if found := condition():
                return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


NOTEBOOK_TEXT = "return document.querySelector('.jp-Notebook').innerText"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_in_jupyterlab_and_a_choice_redraws_the_explorer(
    path, lab, browser, project
):
    lab(f"notebooks/{path.name}")
    text = browser.execute_script(NOTEBOOK_TEXT)
    errors = browser.find_elements("css selector", "[data-mime-type*='jupyter.error']")
    assert not errors, [error.text[:500] for error in errors]
    assert path.stem[0] == "0" or wait(lambda: browser.execute_script(CHARTS))
    if path.stem[0] in "123":
        assert "Results go to outputs/smoke/interactive" in text
    if folder := os.environ.get("LAB_SCREENSHOTS"):
        screenshot(browser, Path(folder) / path.stem)
    if path.stem == "5_explore":
        choose(browser)


def screenshot(browser, stem: Path) -> None:
    """Pictures of a notebook, a window's height each."""
    for number in range(14):
        if 800 * number > browser.execute_script(SCROLL, number):
            break
        time.sleep(1)
        browser.save_screenshot(f"{stem}-{number:02d}.png")


def choose(browser) -> None:
    """Choose another size in the explorer; its charts follow."""
    from selenium.webdriver.support.ui import Select

    before = wait(lambda: browser.execute_script(CHARTS))
    boxes = browser.find_elements("css selector", ".jp-OutputArea select")
    Select(boxes[0]).select_by_visible_text("large")
    wait(lambda: browser.execute_script(CHARTS) != before)
    assert "large" in browser.execute_script(NOTEBOOK_TEXT)
