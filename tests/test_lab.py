"""The course: every notebook and exercise on the smoke study, and one notebook in a real
JupyterLab.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import altair as alt
import nbformat
import pandas as pd
import pytest
from running import chromium, free_ports, run_cells, until

ROOT = Path(__file__).parents[1]
EXERCISES = sorted((ROOT / "exercises").glob("*.ipynb"))
SMOKE = {"study": "params/smoke.yaml", "outputs": "outputs"}
LARGE = "window-size=1400,9000"  # every cell is drawn


def run(path: Path, **parameters) -> tuple[dict, list]:
    """Run a notebook's cells in its folder; its variables and what it shows."""
    os.chdir(path.parent)
    return run_cells(path, **parameters)


def charts(shown: list) -> list[dict]:
    """The specifications of the charts among what a notebook shows; a wrong one raises."""
    return [value.to_dict() for value in shown if isinstance(value, alt.TopLevelMixin)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project's folder in which notebooks 1 to 4 have finished the smoke study."""
    folder, path = Path.cwd(), list(sys.path)  # notebooks change both
    root = tmp_path_factory.mktemp("lab") / "project"
    for name in ("notebooks", "exercises", "params"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "demo").symlink_to(ROOT / "demo")
    sys.path.insert(0, str(root))
    for name in ("exercises", "notebooks"):
        sys.modules.pop(name, None)
    for size in ("base", "large"):
        where = {**SMOKE, "size": size, "join": True}
        steps = [run(root / "notebooks/1_encoder.ipynb", **where)]
        steps += [run(root / "notebooks/2_intermediate.ipynb", task="mini_stories", **where)]
        for task in ("none", "mini_stories"):
            steps += [run(root / "notebooks/3_target.ipynb", intermediate=task, **where)]
        assert [len(charts(shown)) for _, shown in steps] == [5, 3, 3, 3]
    _, shown = run(root / "notebooks/4_compare.ipynb", **SMOKE)
    assert len(charts(shown)) >= 7
    yield root
    os.chdir(folder)
    sys.path[:] = path


def test_notebook_0_has_a_number_for_every_word_once_there_are_results(project):
    variables, shown = run(project / "notebooks/0_start_here.ipynb", **SMOKE)
    assert len(charts(shown)) == 3
    words = variables["shown"].data.set_index("word")
    assert not (words["here"] == "–").any()
    assert words.loc["scale effect", "encoder"] == "large − base"
    # It can be read before any result is there.
    variables, shown = run(project / "notebooks/0_start_here.ipynb", **{**SMOKE, "outputs": "none"})
    assert len(charts(shown)) == 1
    assert (variables["shown"].data["here"] == "–").sum() == 5


def test_what_is_run_by_hand_stays_apart_and_a_finished_run_says_so(project, capsys):
    batch = project / "outputs/smoke/base/none/mini_xnli/seed-1"
    before = {path.name: path.stat().st_mtime_ns for path in batch.iterdir()}
    notebook = project / "notebooks/3_target.ipynb"
    run(notebook, **SMOKE)
    assert "Results go to outputs/smoke/interactive/base" in capsys.readouterr().out
    assert (project / "outputs/smoke/interactive/base/none/mini_xnli/seed-1/scores.json").exists()
    assert {path.name: path.stat().st_mtime_ns for path in batch.iterdir()} == before
    run(notebook, **SMOKE)
    assert "seed 1 is finished (again = True trains it again)" in capsys.readouterr().out
    _, shown = run(project / "notebooks/5_explore.ipynb", **SMOKE)
    (both,) = [v for v in shown if isinstance(v, pd.DataFrame) and "yours" in v]
    assert both["settings"].to_list() == ["same"]


def test_every_section_of_the_explorer_follows_a_choice(project, monkeypatch):
    shown: list = []
    monkeypatch.setattr("IPython.display.display", lambda *values, **_: shown.extend(values))
    monkeypatch.setattr("notebooks.explorer.is_interactive", lambda: True)
    variables, _ = run(project / "notebooks/5_explore.ipynb", **SMOKE)
    shown.clear()
    variables["pick"]["size"].value = "large"
    drawn = [getattr(value, "chart", value) for value in shown]  # one is a widget around a chart
    texts = [json.dumps(spec) for spec in charts(drawn)]
    assert len(texts) == 6 and all("large" in text for text in texts)
    shown.clear()
    variables["on_ask"](None)
    table = next(value.data for value in shown if hasattr(value, "data"))
    assert list(table["after"]) == ["none", "mini_stories"] * 2
    labels = ["entailment", "neutral", "contradiction"]
    assert table[labels].sum(axis=1).to_list() == pytest.approx([1.0] * 4, abs=0.02)


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_a_solution_passes_its_checker_and_the_gap_does_not(path, project, capsys):
    run(project / "exercises/solutions" / path.name, **SMOKE, steps=4)
    assert "Right" in capsys.readouterr().out
    with pytest.raises(AssertionError, match=r"."):
        run(project / "exercises" / path.name, **SMOKE)
    pair = (ROOT / "exercises" / path.name, ROOT / "exercises/solutions" / path.name)
    cells = zip(*(nbformat.read(file, 4).cells for file in pair), strict=True)
    assert [one.id for one, other in cells if one.source != other.source] == ["answer"]


@pytest.mark.parametrize(
    ("says", "probabilities", "times"),
    [
        ("take their mean", lambda logits: logits.softmax(1), 5),
        ("no logarithm", lambda logits: logits.softmax(1), 1),
        ("is infinite", lambda logits: logits.exp() / logits.exp().sum(1, keepdim=True), 1),
    ],
)
def test_the_hint_on_the_loss_fits_what_was_written(says, probabilities, times, project):
    from exercises import check

    def loss(logits, labels):
        return -times * probabilities(logits).log()[range(len(labels)), labels].mean()

    with pytest.raises(check.Wrong, match=says):
        check.cross_entropy(loss)


@contextmanager
def jupyter_lab(root: Path):
    """The address of a JupyterLab as `make lab` starts it in ``root``."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.root_dir=.", "--IdentityProvider.token="]
    command += ["--LabApp.expose_app_in_browser=True"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(root)}
    with (root / "lab.log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    try:
        with socket.socket() as client:
            until(lambda: client.connect_ex(("127.0.0.1", port)) == 0, root, 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


RUN_ALL = """const [path, done] = arguments, {commands} = jupyterapp;
jupyterapp.restored.then(async () => {
  const panel = await commands.execute('docmanager:open', {path});
  await panel.revealed;
  await panel.sessionContext.ready;
  commands.execute('notebook:run-all-cells');
}).then(done, done)"""


def test_a_notebook_runs_in_jupyterlab_shows_its_charts_and_writes_apart(project):
    notebook = project / "notebooks/3_target.ipynb"
    text = notebook.read_text(encoding="utf-8").replace("params/demo.yaml", "params/smoke.yaml")
    notebook.write_text(text.replace("again = False", "again = True"), encoding="utf-8")
    scores = project / "outputs/smoke/interactive/base/none/mini_xnli/seed-1/scores.json"
    scores.unlink(missing_ok=True)
    with jupyter_lab(project) as address, chromium(LARGE) as browser:
        browser.set_script_timeout(100)
        browser.get(f"{address}/lab?reset")
        until(lambda: browser.execute_script("return !!window.jupyterapp"), project, 120)
        browser.execute_async_script(RUN_ALL, "notebooks/3_target.ipynb")
        drawn = ".jp-OutputArea :is(svg.marks, canvas)"
        until(lambda: len(browser.find_elements("css selector", drawn)) >= 3, project, 120)
        text = browser.find_element("css selector", ".jp-Notebook").text
        assert not browser.find_elements("css selector", "[data-mime-type*='jupyter.error']")
    assert "Results go to outputs/smoke/interactive" in text
    assert scores.exists()
