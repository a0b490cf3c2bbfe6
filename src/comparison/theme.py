"""The look that all charts share, and the way a notebook shows them.

One palette, one font stack and one set of marks, so that a size keeps its colour, shape and dash in
every picture. Importing this module sets Altair's theme; `enable` makes notebooks store each chart
both live and as a picture.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import altair as alt

from helpers import pictures

# Okabe and Ito (2008), a palette for all kinds of colour vision; the first two also differ in
# lightness, so that a copy in black and white still tells base from large.
COLOURS = ["#E69F00", "#0057A0", "#009E73", "#CC79A7", "#56B4E9"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down"]
DASHES = [[5, 3], [1, 0], [2, 2], [8, 2, 2, 2], [10, 4]]
INK, FAINT, WARNING = "#222222", "#767676", "#A3123A"

# JupyterLab 4 draws this type by itself, without a network (its vega5-extension); it knows none of
# Vega-Lite 6, while charts here use nothing that Vega-Lite 5.6 lacks.
MIME = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@alt.theme.register("transfer study", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Vega-Lite configuration of every chart: quiet axes, titles at the left, white for print.

    Of the fonts, Arial and Liberation Sans have the same widths; one of them is on almost every
    machine, and vl-convert brings its own.
    """
    return json.loads(Path(__file__).with_name("theme.json").read_text(encoding="utf-8"))


def tooltip(fields: Iterable[str]) -> list[alt.Tooltip]:
    """A tooltip of these fields, each of Altair's class.

    For a string Altair looks through all its classes, 7 ms long (Zen 3); so charts name the class
    of every channel.
    """
    return [alt.Tooltip(field) for field in fields]


def bundle(spec: dict, **_) -> dict:
    """A chart for a notebook, by MIME type; the picture is drawn on this machine.

    Live for JupyterLab, a picture where no JavaScript runs, text as a last resort.
    """
    title = (spec.get("usermeta") or {}).get("chart", "chart")
    live = spec | {"$schema": SCHEMA}
    return {MIME: live, "image/svg+xml": pictures.draw(spec), "text/plain": f"<chart: {title}>"}


def enable() -> None:
    """Let the notebook that calls this show charts with `bundle`, without a network."""
    alt.renderers.register("transfer study", bundle)
    alt.renderers.enable("transfer study")
