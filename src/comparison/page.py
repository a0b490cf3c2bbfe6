"""From an executed notebook to a report: an HTML page that needs no network, charts as PNG and SVG.

The page carries Vega, Vega-Lite and Vega-Embed once, and forbids itself every request and every
script but its own (Content-Security-Policy), so that a line of somebody's data set can be read
there but never run.
"""

import base64
import gzip
import hashlib
import html
import json
import re
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import jinja2
import nbformat
import pandas as pd
import platformdirs
import vl_convert
from IPython.display import HTML
from pandas.api.types import is_float_dtype, is_numeric_dtype

from helpers.comparison.collected import MADE_ON, shared_hours
from helpers.report.theme import MIME
from helpers.study import Study
from helpers.study.files import write_text, write_whole

PARTS = Path(__file__).parent
ROWS = 1_000
"""Of a table, shown; the file that it links has them all, compressed where there are more."""
KINDS = {"svg": "svg+xml", "png": "png"}
"""MIME types of pictures, after "image/"."""
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
    if "repeats" in runs and (hours := shared_hours(study, runs)):
        what = "of intermediate training, which runs on several targets share"
        lines.append(f"Saved against every run alone: {hours:,.2g} hours {what}")
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
        What to show, its first `ROWS`; rows whose column `collapsed` is true are marked.
    file
        Name of the CSV file; ".gz" is added to that of a table with more rows than are shown.
    digits
        Decimals shown; the CSV has the numbers in full.
    empty
        What to say of a table without rows.
    """
    if not len(frame):
        return HTML(f"<p><em>{html.escape(empty)}</em></p>")
    top, csv = frame.head(ROWS), frame.to_csv(index=False).encode()
    shown = zip(*(_shown(top[name], digits) for name in top), strict=True)
    collapsed = top["collapsed"] if "collapsed" in top else [False] * len(top)
    whole = len(top) == len(frame)
    text = TEMPLATES.get_template("table.html.j2").render(
        names=list(frame),
        numbers=[is_numeric_dtype(frame[name]) and name != "collapsed" for name in frame],
        rows=list(zip(collapsed, shown, strict=True)),
        count=len(frame),
        file=file if whole else f"{file}.gz",
        kind="text/csv" if whole else "application/gzip",
        content=base64.b64encode(csv if whole else gzip.compress(csv)).decode(),
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
    stills = {}
    for name, (_, svg) in figures.items():
        drawn = {"svg": svg.encode(), "png": vl_convert.svg_to_png(svg, scale=2)}
        for kind, picture in drawn.items():
            _save(folder / "charts" / f"{name}.{kind}", picture)
        kind = min(drawn, key=lambda kind: len(drawn[kind]))
        stills[name] = KINDS[kind], base64.b64encode(drawn[kind]).decode()
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+)$", prose, re.M)
    scripts = [_script(_vega()), _script((PARTS / "page.js").read_text(encoding="utf-8"))]
    page = TEMPLATES.get_template("page.html.j2").render(
        hashes=" ".join(f"'{_hash(script)}'" for script in scripts),
        title=heading.group(1) if heading else Path(executed).stem,
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        cells=notebook.cells,
        markdown=markdown2html,
        strip_ansi=strip_ansi,
        escaped=lambda text: html.escape(text, quote=False),
        pictures=stills,
        specs=_compressed({name: spec for name, (spec, _) in figures.items()}),
        scripts=scripts,
    )
    _save(folder / "report.html", page.encode())
    return folder / "report.html"


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, kept for the next report: it takes seconds."""
    path = platformdirs.user_cache_path("helpers") / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    script = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks a default
    with suppress(OSError):  # there may be no home to write to
        write_text(path, script)
    return script


def _figures(notebook: nbformat.NotebookNode) -> dict[str, tuple[dict, str]]:
    """The charts of a notebook by name: specification and SVG; outputs get the name."""
    figures: dict[str, tuple[dict, str]] = {}
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if spec := output.get("data", {}).get(MIME):
            name = re.sub(r"\W+", "-", str(spec.get("usermeta", {}).get("chart", "chart")))
            name = name if name not in figures else f"{name}-{len(figures)}"
            output["figure"] = name
            figures[name] = (spec | {"$schema": SCHEMA}, output.data["image/svg+xml"])
    return figures


def _compressed(specs: dict[str, dict]) -> str:
    """All charts with their rows, a tenth as long or less: gzip in Base64."""
    return base64.b64encode(gzip.compress(json.dumps(specs).encode())).decode()


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
