"""Slides of the start and compare notebooks as one HTML file that needs no network.

Usage: ``python docs/write_slides.py params/STUDY.yaml``, or ``make slides``. nbconvert lays them
out; reveal.js comes from the PyPI package sphinx-revealjs, of which nothing else is used.
"""

import base64
import re
import sys
from importlib.metadata import files
from pathlib import Path
from textwrap import wrap

import nbformat
import papermill
import vl_convert
from nbconvert import SlidesExporter

from helpers.report.theme import MIME
from helpers.study import Study, StudyError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CHARTS, WIDTH = 9, 64
LEFT_OUT = {"dashboard", "scores"}
"""Charts for a reader at a desk."""
LETTERS = re.compile(r"(\w*F|f)ontSize|step|labelLimit|subtitleLineHeight|titlePadding")
TEMPLATE = """{% extends 'reveal/index.html.j2' %}
{% block html_head_js %}{% endblock %}{% block html_head_js_mathjax %}{% endblock %}
{% block footer_js %}<script>{{ resources.script }}</script>
<script>addEventListener("load", () => {
  for (const slide of document.querySelectorAll(".slides section:has(> .jp-Cell img)")) {
    const picture = slide.querySelector("img");
    if (picture.naturalWidth > 2.2 * picture.naturalHeight) continue; // wide: below its text
    const pair = document.createElement("div");
    pair.className = "pair"; pair.append(...slide.childNodes); slide.append(pair);
  }
  Reveal.initialize({width: 1280, height: 800, slideNumber: true, hash: true});
});</script>
{% endblock %}"""
STYLE = """:root{--jp-content-font-size1:30px !important}
.reveal h1,.reveal h2{text-transform:none} .reveal .slides section{text-align:left}
.pair{display:grid;grid-template-columns:29% 71%;height:780px;align-items:center}
.pair h2{font-size:40px} .pair p{font-size:24px} .reveal img{width:100%}
.pair img{max-height:780px;object-fit:contain;object-position:left}
.jp-InputPrompt,.jp-OutputPrompt{display:none} .reveal table{font-size:24px}
.statement{font-size:32px;line-height:1.4}"""


def deck(study: Study) -> nbformat.NotebookNode:
    """The start notebook, run now, and the charts of the compare notebook that the batch ran."""
    compare = study.folder / "4_compare.ipynb"
    if not compare.exists():
        raise StudyError(f"{compare}: not there; run `make study STUDY={study.path}` first")
    given = {"study": str(study.path), "outputs": str(study.outputs)}
    start = study.folder / "0_start_here.ipynb"
    papermill.execute_notebook(
        NOTEBOOKS / start.name, start, given, kernel_name="python3", progress_bar=False
    )
    notebook = nbformat.read(start, 4)
    notebook.cells = [cell for cell in notebook.cells if "slideshow" in cell.metadata]
    for title, cell in _shown(nbformat.read(compare, 4)):
        title.metadata.slideshow, cell.metadata.slideshow = (
            {"slide_type": kind} for kind in ("slide", "-")
        )
        notebook.cells += [title, cell]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):  # a picture needs no script
            if spec := output.get("data", {}).pop(MIME, None):
                picture = vl_convert.vegalite_to_png(readable(spec), scale=2)
                output.data["image/png"] = base64.b64encode(picture).decode()
                del output.data["image/svg+xml"]
    return notebook


def readable(spec, times: float = 1.5):
    """A chart's specification with letters, rows and short lines for the back of a room."""
    if isinstance(spec, list):
        return [readable(part, times) for part in spec]
    if not isinstance(spec, dict):
        return spec
    if lines := spec.get("subtitle"):
        lines = [lines] if isinstance(lines, str) else lines
        spec = spec | {"subtitle": [part for line in lines for part in wrap(line, WIDTH)]}
    larger = {
        key: times * part
        for key, part in spec.items()
        if LETTERS.fullmatch(key) and isinstance(part, (int, float))
    }
    return {
        key: larger.get(key, part if key in ("data", "datasets") else readable(part, times))
        for key, part in spec.items()
    }


def _shown(notebook: nbformat.NotebookNode):
    """Each prose cell of a notebook that a chart or the sentence follows, with what follows."""
    pairs = []
    for title, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        found = [output.get("data", {}) for output in cell.get("outputs", [])]
        charts = [data[MIME].get("usermeta", {}).get("chart") for data in found if MIME in data]
        sentence = any('class="statement"' in "".join(d.get("text/html", "")) for d in found)
        if title.cell_type == "markdown" and (sentence or (charts and not LEFT_OUT & {*charts})):
            pairs.append((title, cell))
    return pairs[:CHARTS]


def page(notebook: nbformat.NotebookNode) -> str:
    """The slides as HTML with scripts, styles and pictures inside."""
    reveal = {
        file.name: file.locate().read_text(encoding="utf-8")
        for file in files("sphinx-revealjs")
        if re.search(r"revealjs/dist/(reveal\.(js|css)|theme/white\.css)$", str(file))
    }
    exporter = SlidesExporter(raw_template=TEMPLATE, exclude_input=True)
    script = reveal["reveal.js"].replace("</script", "<\\/script")
    html, _ = exporter.from_notebook_node(notebook, {"script": script})
    html = re.sub(r"<link[^>]*stylesheet[^>]*>", "", html)
    white = re.sub(r"@import url\([^)]*\);?", "", reveal["white.css"])
    style = "\n".join((reveal["reveal.css"], white, STYLE))
    return html.replace("</head>", f"<style>{style}</style></head>", 1)


if __name__ == "__main__":
    try:
        study = Study.load(sys.argv[1])
        path = study.folder / "slides.html"
        path.write_text(page(deck(study)), encoding="utf-8")
        print(path)
    except StudyError as error:
        sys.exit(str(error))
