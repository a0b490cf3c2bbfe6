"""Charts as pictures, drawn on this machine."""

import json

import vl_convert


def draw(spec: dict) -> str:
    """A Vega-Lite chart as SVG.

    The first one in a process takes the time of fifty, for Vega starts; in a batch, where the
    process has but a few to draw, another draws them (:func:`helpers.batch.execute.notebook`).
    """
    return vl_convert.vegalite_to_svg(json.dumps(spec))
