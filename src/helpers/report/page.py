"""From an executed notebook to a report: one HTML page that needs no network, and each chart as PNG and SVG.

    python -m helpers.report.page outputs/demo/4_compare.ipynb

The page carries Vega, Vega-Lite and Vega-Embed once, and forbids itself every request and every script but its own
(Content-Security-Policy), so that a line of somebody's data set can be read there but never run.
"""

import base64
import hashlib
import html
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd
import vl_convert
from IPython.display import HTML
from nbconvert.filters import markdown2html, strip_ansi

from helpers.report.theme import MIME
from helpers.study.files import write_whole

PARTS = Path(__file__).parent
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; \
style-src 'unsafe-inline'; script-src {hashes} 'unsafe-eval'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<nav class="bar"><button type="button">Show or hide code</button></nav>
<main>
{body}
</main>
{specs}
{scripts}
</body>
</html>
"""


class Figure(NamedTuple):
    """A chart as the executed notebook has it."""

    spec: dict
    png: bytes


def statement(text: str) -> HTML:
    """A sentence, or several lines, set apart; its text is escaped."""
    lines = "".join(
        f"<p>{html.escape(line)}</p>" for line in str(text).splitlines() if line.strip()
    )
    return HTML(
        f'<div class="statement" style="border-left:4px solid #0057A0;padding:.4em 1em">{lines}</div>'
    )


def overview(study, runs: pd.DataFrame, missing: pd.DataFrame) -> HTML:
    """What was compared, on which encoders, and how much of it is there."""
    sizes = ", ".join(f"{name}: {size.title}" for name, size in study.sizes.items())
    down = int(runs["collapsed"].astype(bool).sum())
    lines = [
        f"{study.name}: {study.description}",
        f"Encoders: {sizes}",
        f"Runs: {len(runs)} of {len(runs) + len(missing)} finished, {down} of them collapsed",
    ]
    return statement("\n".join(lines))


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, whole or not at all."""
    write_whole(path, lambda beside: frame.to_parquet(beside, index=False))


def table(frame: pd.DataFrame, file: str, digits: int = 1, empty: str = "Nothing yet.") -> HTML:
    """A table whose cells are escaped, with a link that saves all of it as CSV from the page itself.

    Args:
        frame: what to show; rows whose column `collapsed` is true are marked.
        file: name of the CSV file.
        digits: decimals shown; the CSV has the numbers in full.
        empty: what to say of a table without rows.
    """
    if not len(frame):
        return HTML(f"<p><em>{html.escape(empty)}</em></p>")
    numeric = {name for name in frame if pd.api.types.is_float_dtype(frame[name])}
    aligned = {name for name in frame if pd.api.types.is_numeric_dtype(frame[name])} - {"collapsed"}
    head = "".join(f"<th{_kind(name in aligned)}>{html.escape(str(name))}</th>" for name in frame)
    rows = []
    for _, row in frame.iterrows():
        mark = ' class="collapsed"' if "collapsed" in frame and bool(row["collapsed"]) else ""
        shown = "".join(
            f"<td{_kind(name in aligned)}>{html.escape(_cell(row[name], digits, name in numeric))}</td>"
            for name in frame
        )
        rows.append(f"<tr{mark}>{shown}</tr>")
    data = base64.b64encode(frame.to_csv(index=False).encode()).decode()
    link = f'<a download="{html.escape(file)}" href="data:text/csv;base64,{data}">Download {html.escape(file)}</a>'
    count = f"<span>{len(frame)} row{'s' * (len(frame) > 1)}</span>"
    return HTML(
        f'<div class="table"><div class="tools">{count} {link}</div>'
        f'<div class="scroll" style="overflow:auto;max-height:26rem"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def write(executed: str | Path, folder: str | Path | None = None) -> Path:
    """Write `report.html`, `charts/NAME.png` and `charts/NAME.svg`.

    Args:
        executed: an executed notebook; its charts carry their names (`helpers.charts`).
        folder: where to; the notebook's folder when not given.

    Returns:
        Path of the page. Files appear whole, under their final names only.
    """
    executed = Path(executed)
    folder = Path(folder) if folder else executed.parent
    notebook = nbformat.read(executed, as_version=4)
    figures: dict[str, Figure] = {}
    body = "\n".join(_cell_html(cell, figures) for cell in notebook.cells)
    for name, figure in figures.items():
        _save(folder / "charts" / f"{name}.png", figure.png)
        _save(
            folder / "charts" / f"{name}.svg",
            vl_convert.vegalite_to_svg(json.dumps(figure.spec)).encode(),
        )
    heading = re.search(
        r"^# +(.+)$", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"), re.M
    )
    scripts = [
        _script(vl_convert.javascript_bundle()),
        _script((PARTS / "page.js").read_text(encoding="utf-8")),
    ]
    page = PAGE.format(
        hashes=" ".join(f"'{_hash(script)}'" for script in scripts),
        title=html.escape(heading.group(1) if heading else executed.stem),
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        body=body,
        specs="\n".join(
            f'<script type="application/json" id="spec-{name}">{_json(figure.spec)}</script>'
            for name, figure in figures.items()
        ),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    _save(folder / "report.html", page.encode())
    return folder / "report.html"


def _cell_html(cell, figures: dict[str, Figure]) -> str:
    if cell.cell_type == "markdown":
        return markdown2html(cell.source)
    if cell.cell_type != "code":
        return ""
    parts = [f'<pre class="code">{html.escape(cell.source)}</pre>'] if cell.source.strip() else []
    return "\n".join([*parts, *(_output(output, figures) for output in cell.outputs)])


def _output(output, figures: dict[str, Figure]) -> str:
    if output.output_type == "stream":
        return f"<pre>{html.escape(strip_ansi(output.text))}</pre>"
    if output.output_type == "error":
        return f'<pre class="error">{html.escape(output.ename)}: {html.escape(output.evalue)}</pre>'
    data = output.data
    if MIME in data:
        return _figure(dict(data[MIME]), base64.b64decode(data["image/png"]), figures)
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
    if "text/html" in data:
        return data["text/html"]
    if "text/markdown" in data:
        return markdown2html(html.escape(data["text/markdown"], quote=False))
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def _figure(spec: dict, png: bytes, figures: dict[str, Figure]) -> str:
    name = re.sub(r"\W+", "-", str(spec.get("usermeta", {}).get("chart", "chart")))
    name = name if name not in figures else f"{name}-{len(figures)}"
    figures[name] = Figure(spec | {"$schema": SCHEMA}, png)
    return (
        f'<figure id="{name}" data-spec="spec-{name}"><div class="controls"></div><div class="chart"></div>'
        f'<noscript><img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}"></noscript></figure>'
    )


def _kind(number: bool) -> str:
    return ' class="number" style="text-align:right"' if number else ""


def _cell(value, digits: int, number: bool) -> str:
    if (isinstance(value, float) and pd.isna(value)) or value is None or value is pd.NA:
        return "–"
    if not number:
        return str(value)
    return f"{value:.3g}" if abs(value) >= 1e6 else f"{value:.{digits}f}".replace("-", "−")


def _json(spec: dict) -> str:
    """JSON that no HTML parser takes for a tag."""
    return json.dumps(spec, ensure_ascii=False).replace("<", "\\u003c")


def _script(text: str) -> str:
    # A parser would end the script at such a tag and would turn CR into LF, which changes the hash.
    return (
        text.replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("</script", "<\\/script")
        .replace("<!--", "<\\!--")
    )


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _save(path: Path, content: bytes) -> None:
    write_whole(path, lambda beside: beside.write_bytes(content))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m helpers.report.page EXECUTED.ipynb")
    print(write(sys.argv[1]))
