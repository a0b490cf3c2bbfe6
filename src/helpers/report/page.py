"""From an executed notebook to a report: an HTML page that needs no network, charts as PNG and SVG.

The page carries Vega, Vega-Lite and Vega-Embed once, and forbids itself every request and every
script but its own (Content-Security-Policy), so that a line of somebody's data set can be read
there but never run.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import jinja2
import nbformat
import pandas as pd
import vl_convert
from IPython.display import HTML
from pandas.api.types import is_float_dtype, is_numeric_dtype

from helpers.comparison.collected import MADE_ON
from helpers.report.theme import MIME
from helpers.study import Study
from helpers.study.files import write_whole

PARTS = Path(__file__).parent
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PARTS), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def statement(text: str) -> HTML:
    """A sentence, or several lines, set apart; its text is escaped."""
    lines = [f"<p>{html.escape(line)}</p>" for line in str(text).splitlines() if line.strip()]
    style = "border-left:4px solid #0057A0;padding:.4em 1em"
    return HTML(f'<div class="statement" style="{style}">{"".join(lines)}</div>')


def overview(study: Study, runs: pd.DataFrame, missing: pd.DataFrame) -> HTML:
    """What was compared, on which encoders, and how much of it is there."""
    sizes = ", ".join(f"{name}: {size.title}" for name, size in study.sizes.items())
    down = int(runs["collapsed"].astype(bool).sum())
    planned = len(runs) + len(missing)
    lines = [f"{study.name}: {study.description}", f"Encoders: {sizes}"]
    early = int((runs["collapsed_in"] == "intermediate").sum()) if "collapsed_in" in runs else 0
    where = f" ({early} by the intermediate training that they build on)" * bool(early)
    lines.append(f"Runs: {len(runs)} of {planned} finished, {down} of them collapsed{where}")
    for cell, count in study.dropped(study.tasks).items():
        lines.append(f"Left out of {cell}: {count} items that a target evaluates")
    for name in MADE_ON:  # scores of different machines or precisions differ by rounding at least
        if name in runs and runs[name].nunique() > 1:
            counts = runs[name].value_counts().items()
            lines.append(f"Runs differ in {name}: " + ", ".join(f"{n} on {x}" for x, n in counts))
    return statement("\n".join(lines))


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, whole or not at all."""
    write_whole(path, lambda beside: frame.to_parquet(beside, index=False))


def table(frame: pd.DataFrame, file: str, digits: int = 1, empty: str = "Nothing yet.") -> HTML:
    """A table whose values are escaped, with a link that saves all of it as CSV from the page.

    Parameters
    ----------
    frame
        What to show; rows whose column `collapsed` is true are marked.
    file
        Name of the CSV file.
    digits
        Decimals shown; the CSV has the numbers in full.
    empty
        What to say of a table without rows.
    """
    if not len(frame):
        return HTML(f"<p><em>{html.escape(empty)}</em></p>")
    shown = zip(*(_shown(frame[name], digits) for name in frame), strict=True)
    collapsed = frame["collapsed"] if "collapsed" in frame else [False] * len(frame)
    text = TEMPLATES.get_template("table.html.j2").render(
        names=list(frame),
        numbers=[is_numeric_dtype(frame[name]) and name != "collapsed" for name in frame],
        rows=list(zip(collapsed, shown, strict=True)),
        file=file,
        csv=base64.b64encode(frame.to_csv(index=False).encode()).decode(),
    )
    return HTML(text)


def _shown(column: pd.Series, digits: int) -> pd.Series:
    """A column as text."""

    def number(x: float) -> str:
        return f"{x:.3g}" if abs(x) >= 1e6 else f"{x:.{digits}f}".replace("-", "−")

    text = column.map(number if is_float_dtype(column) else str)
    return text.where(column.notna(), "–")


def write(executed: str | Path) -> Path:
    """Write `report.html`, `charts/NAME.png` and `charts/NAME.svg` beside an executed notebook.

    Its charts carry their names (`helpers.report.charts`). Each file appears whole or not at all.

    Returns
    -------
    Path of the page.
    """
    from nbconvert.filters import markdown2html, strip_ansi  # slow: notebooks need none of it

    folder = Path(executed).parent
    notebook = nbformat.read(executed, as_version=4)
    figures = _figures(notebook)
    pictures = {}
    for name, (spec, png) in figures.items():
        svg = vl_convert.vegalite_to_svg(json.dumps(spec)).encode()
        drawn = {"png": base64.b64decode(png), "svg+xml": svg}
        for kind, content in drawn.items():
            _save(folder / "charts" / f"{name}.{kind[:3]}", content)
        kind = min(drawn, key=lambda kind: len(drawn[kind]))  # the smaller one makes the page
        pictures[name] = f"data:image/{kind};base64,{base64.b64encode(drawn[kind]).decode()}"
    specs, tables = _apart({name: spec for name, (spec, _) in figures.items()})
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+)$", prose, re.M)
    vega = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks a default
    scripts = [_script(vega), _script((PARTS / "page.js").read_text(encoding="utf-8"))]
    page = TEMPLATES.get_template("page.html.j2").render(
        hashes=" ".join(f"'{_hash(script)}'" for script in scripts),
        title=heading.group(1) if heading else Path(executed).stem,
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        cells=notebook.cells,
        markdown=markdown2html,
        strip_ansi=strip_ansi,
        escaped=lambda text: html.escape(text, quote=False),
        specs=specs,
        tables=tables,
        pictures=pictures,
        scripts=scripts,
    )
    _save(folder / "report.html", page.encode())
    return folder / "report.html"


def _figures(notebook: nbformat.NotebookNode) -> dict[str, tuple[dict, str]]:
    """The charts of a notebook by name: specification and PNG (Base64); outputs get the name."""
    figures: dict[str, tuple[dict, str]] = {}
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if spec := output.get("data", {}).get(MIME):
            name = re.sub(r"\W+", "-", str(spec.get("usermeta", {}).get("chart", "chart")))
            name = name if name not in figures else f"{name}-{len(figures)}"
            output["figure"] = name
            figures[name] = (spec | {"$schema": SCHEMA}, output.data["image/png"])
    return figures


def _apart(specs: dict[str, dict]) -> tuple[dict[str, dict], list[dict]]:
    """Specifications with numbers for their tables, and the tables: each once, its keys too."""
    numbers: dict[str, int] = {}
    tables, thin = [], {}
    for name, spec in specs.items():
        places = {}
        for table, rows in spec.get("datasets", {}).items():
            places[table] = number = numbers.setdefault(json.dumps(rows), len(tables))
            if number == len(tables):
                keys = list(dict.fromkeys(key for row in rows for key in row))
                values = [[row.get(key) for key in keys] for row in rows]
                tables.append({"keys": keys, "rows": values})
        thin[name] = spec | {"datasets": places}
    return thin, tables


def _script(text: str) -> str:
    """A script as a page can carry it.

    A parser would end it at a closing tag, and would turn CR into LF, which changes the hash.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _save(path: Path, content: bytes) -> None:
    write_whole(path, lambda beside: beside.write_bytes(content))
