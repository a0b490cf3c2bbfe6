"""What a notebook shows beside charts, and the notebook as one HTML page that needs no network.

nbconvert makes the page by the template in ``template/``. The page carries Vega once, and forbids
itself every request.
"""

import base64
import gzip
import html
import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import vl_convert
from IPython.display import HTML
from nbconvert import HTMLExporter

from comparison.plan import Plan
from comparison.reading import MADE_ON
from comparison.theme import MIME

PARTS = Path(__file__).parent / "template"
ROWS = 200
"""Rows of a table that are shown; its files have them all."""
NEWEST = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json"}
NOTHING = "This study has none.\n"


def statement(text: str) -> HTML:
    """A sentence, or several lines, set apart; its text is escaped."""
    lines = [f"<p>{html.escape(line)}</p>" for line in text.splitlines() if line.strip()]
    style = "border-left:4px solid #0057A0;padding:.4em 1em"
    return HTML(f'<div class="statement" style="{style}">{"".join(lines)}</div>')


def overview(plan: Plan, runs: pd.DataFrame) -> HTML:
    """The study's title, what was compared, on which encoders, and how much of it is there."""
    sizes = "; ".join(f"{name}: {size.title}" for name, size in plan.sizes.items())
    first = runs[runs["repeats"].isna()]
    lines = [f"Encoders: {sizes}", f"Runs: {len(first)} of {len(plan.runs)} finished"]
    if collapsed := int(first["collapsed"].sum()):
        early = int((first["collapsed_in"] == "intermediate").sum())
        lines.append(f"Collapsed: {collapsed}")
        lines[-1] += f", of which {early} in the intermediate training" if early else ""
    for name in MADE_ON:  # scores of different machines or precisions differ by rounding at least
        counts = runs[name].astype(object).fillna("none").value_counts()
        if len(counts) > 1:
            on = ", ".join(f"{count} on {value}" for value, count in counts.items())
            lines.append(f"Runs differ in {name}: {on}")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    title, description = html.escape(plan.name), html.escape(plan.description)
    return HTML(f"<h1>{title}</h1><p>{description}</p><ul>{items}</ul>")


def table(frame: pd.DataFrame, name: str, digits: int = 1) -> HTML | None:
    """A table's first `ROWS`, escaped, with a link that saves all of it; None without rows.

    A page offers it under this name as CSV, with the numbers in full, as LaTeX and as Markdown.
    """
    if frame.empty:
        return None

    def number(x: float) -> str:
        small = 1e-12 < abs(x) < 10**-digits / 2  # not shown as zero, unless it is only rounding
        shown = f"{x:.2g}" if small or abs(x) >= 1e6 else f"{x:z.{digits}f}"
        return shown.replace("-", "−")

    shown = frame.head(ROWS).fillna(np.nan)
    rows = shown.to_html(index=False, border=0, justify="left", float_format=number, na_rep="–")
    packed = _compressed(frame.to_csv(index=False))
    first = f"first {ROWS} of " if len(frame) > ROWS else ""
    count = f"{first}{len(frame)} row{'' if len(frame) == 1 else 's'}"
    link = f'<a download="{name}.csv.gz" href="data:application/gzip;base64,{packed}">save</a>'
    return HTML(
        f'<div class="table" data-digits="{digits}"><div class="tools">{count} {link}</div>'
        f'<div class="scroll" style="overflow:auto;max-height:26rem">{rows}</div></div>'
    )


def found(what):
    """What was found; if that is nothing, a notebook says so, and a page leaves its section out."""
    if what is None:
        print(NOTHING, end="")
    return what


def save(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as parquet, whole or not at all."""
    beside = Path(path).with_suffix(".part")
    frame.to_parquet(beside, index=False)
    beside.replace(path)


def write(notebook: str | Path, page: str | Path) -> Path:
    """Write a study's executed notebook as a page, whole or not at all.

    Cells tagged "course" are left out, and so is a section whose cells show nothing. The title is
    the name of the study's folder.
    """
    content = nbformat.read(notebook, as_version=4)
    content.cells = _with_content(content.cells)
    exporter = HTMLExporter(template_name=PARTS.name, extra_template_basedirs=[str(PARTS.parent)])
    exporter.exclude_input = True
    exporter.exclude_input_prompt = True
    exporter.exclude_output_prompt = True
    kinds = [MIME, "text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]
    exporter.config.NbConvertBase.display_data_priority = kinds
    exporter.register_filter("packed", lambda spec: _compressed(json.dumps(spec | NEWEST)))
    # A parser would end a script at a closing tag within it.
    vega = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    vega = vega.replace("<!--", "<\\!--")
    resources = {
        "title": Path(notebook).resolve().parent.name,
        "style": (PARTS / "page.css").read_text(encoding="utf-8"),
        "scripts": [vega, (PARTS / "page.js").read_text(encoding="utf-8")],
        "chart_type": MIME,
    }
    text, _ = exporter.from_notebook_node(content, resources=resources)
    beside = Path(page).with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    return beside.replace(page)


def _with_content(cells: list) -> list:
    """The cells of a report: none of the course, no section without output."""
    sections: list[list] = [[]]
    for cell in cells:
        if "course" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("text") != NOTHING]
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            sections.append([])
        sections[-1].append(cell)
    shown = [s for s in sections if any(cell.get("outputs") for cell in s)]
    return [cell for section in shown for cell in section]


def _compressed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()
