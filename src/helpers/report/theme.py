"""The look that all charts share, and the way a notebook shows them.

One palette, one font stack and one set of marks, so that a size keeps its colour, shape and dash in
every picture. Importing this module sets Altair's theme; `enable` makes notebooks store each chart
both live and as a picture.
"""

import json
from typing import Any

import altair as alt
import vl_convert

# Okabe and Ito (2008), a palette for all kinds of colour vision; the first two also differ in
# lightness, so that a copy in black and white still tells base from large.
COLOURS = ["#E69F00", "#0057A0", "#009E73", "#CC79A7", "#56B4E9"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down"]
DASHES = [[5, 3], [1, 0], [2, 2], [8, 2, 2, 2], [10, 4]]
INK, FAINT, WARNING = "#222222", "#767676", "#A3123A"

# Arial and Liberation Sans have the same widths; one of them is on almost every machine, and
# vl-convert brings its own.
FONT = "Arial, Liberation Sans, DejaVu Sans, sans-serif"

# JupyterLab 4 draws this type by itself, without a network (its vega5-extension); it knows none of
# Vega-Lite 6, while charts here use nothing that Vega-Lite 5.6 lacks.
MIME = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@alt.theme.register("transfer study", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Vega-Lite configuration of every chart: quiet axes, titles at the left, white for print."""
    plain = dict(labelFontSize=11.5, titleFontSize=11.5, titleFontWeight="normal")
    lines = dict(gridColor="#E8E8E8", domainColor="#888888", tickColor="#888888")
    label = dict(labelFontSize=12.5, labelFontWeight="bold", labelAnchor="start", labelColor=INK)
    under = dict(subtitleFontSize=11.5, subtitleColor="#555555", subtitlePadding=5)
    title = dict(anchor="start", fontSize=15, fontWeight="bold", color=INK, offset=14)
    axis = dict(labelColor=INK, titleColor=INK, labelLimit=160, titlePadding=8)
    legend = dict(orient="top", direction="horizontal", titleOrient="left", offset=10)
    config: Any = {
        "background": "white",
        "padding": 8,
        "font": FONT,
        "view": {"stroke": None},
        "title": title | under | {"subtitleLineHeight": 15},
        "axis": plain | lines | axis,
        "axisY": {"domain": False, "ticks": False, "labelPadding": 8},
        "header": label | {"labelPadding": 6, "title": None},
        "legend": plain | legend | {"symbolSize": 90, "symbolStrokeWidth": 0},
    }
    return {"config": config}


def bundle(spec: dict, **_) -> dict:
    """A chart for a notebook, by MIME type; pictures are drawn on this machine.

    Live for JupyterLab, a PNG (scale 2) where no JavaScript runs, text as a last resort.
    """
    title = (spec.get("usermeta") or {}).get("chart", "chart")
    picture = vl_convert.vegalite_to_png(json.dumps(spec), scale=2)
    live = spec | {"$schema": SCHEMA}
    return {MIME: live, "image/png": picture, "text/plain": f"<chart: {title}>"}


def enable() -> None:
    """Let the notebook that calls this show charts with `bundle`, without a network."""
    alt.renderers.register("transfer study", bundle)
    alt.renderers.enable("transfer study")
