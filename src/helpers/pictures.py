"""Charts as pictures, drawn on this machine."""

import json

import vl_convert


def draw(spec: dict) -> dict[str, str | bytes]:
    """A Vega-Lite chart as SVG and as PNG (at twice its pixels), by MIME type.

    The first one in a process takes the time of fifty, for Vega starts; in a batch, where the
    process has but a few to draw, another draws them (:func:`helpers.batch.execute.notebook`).
    """
    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    return {"image/svg+xml": svg, "image/png": vl_convert.svg_to_png(svg, scale=2)}
