"""Charts as pictures, drawn on this machine."""

import json

import vl_convert


def draw(spec: dict, kind: str = "png") -> bytes:
    """A Vega-Lite chart as ``png`` (at twice its pixels) or ``svg``.

    The first one in a process takes the time of fifty, for Vega starts; in a batch, where the
    process has but a few to draw, another draws them (:func:`helpers.batch.execute.notebook`).
    """
    text = json.dumps(spec)
    if kind == "svg":
        return vl_convert.vegalite_to_svg(text).encode()
    return vl_convert.vegalite_to_png(text, scale=2)
