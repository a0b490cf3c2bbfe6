"""The look that all charts share, and the way a notebook shows them.

A size keeps its colour, shape and dash in every picture; so does a task, across studies too.
Importing this module sets Altair's theme; `enable` makes notebooks store each chart both live and
as a picture.
"""

import json
import zlib
from pathlib import Path

import altair as alt
import vl_convert

from comparison.plan import ALL, NONE, Plan

# From the largest size down, ever lighter: for all kinds of colour vision, and for black and white.
SIZES = ["#1F1A5B", "#007783", "#45B3B0", "#86CFC8", "#A9DCD3"]
# Most are of Okabe and Ito (2008), a palette for all kinds of colour vision; no size has one.
TASKS = ["#0057A0", "#D55E00", "#009E73", "#CC79A7", "#8A7A00", "#56B4E9"]
TASKS += ["#7B3FA0", "#E69F00", "#B0123A", "#7A4A2B", "#4D7C0F", "#5B6FD6"]
USUAL = ["mnli", "squad_v1", "siqa", "qqp", "hellaswag", "snli", "sick", "mlm_en", "cosmosqa"]
"""Tasks that studies often have, each with a colour of its own."""
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down"]
DASHES = [[1, 0], [5, 3], [2, 2], [8, 2, 2, 2], [10, 4]]
INK, FAINT, WARNING, GREY = "#222222", "#666666", "#A3123A", "#8A8A8A"

# JupyterLab 4 draws this type by itself, without a network (its vega5-extension); it knows none of
# Vega-Lite 6, while charts here use nothing that Vega-Lite 5.6 lacks.
MIME = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@alt.theme.register("transfer study", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Vega-Lite configuration of every chart: quiet axes, titles at the left, white for print."""
    return json.loads(Path(__file__).with_name("theme.json").read_text(encoding="utf-8"))


def by_size(plan: Plan) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Looks of the sizes, the same in every chart; counted from the largest, in every study."""
    names = list(plan.sizes)
    colors, shapes, dashes = (look[: len(names)][::-1] for look in (SIZES, SHAPES, DASHES))
    return (
        alt.Color("size:N").scale(domain=names, range=colors),
        alt.Shape("size:N").scale(domain=names, range=shapes),
        alt.StrokeDash("size:N").scale(domain=names, range=dashes),
    )


def by_task(names: list[str]) -> tuple[alt.Color, alt.Shape]:
    """Looks of intermediate tasks; their mean is black, the baseline grey."""
    places = slots([name for name in names if name not in (ALL, NONE)])
    colors = {ALL: INK, NONE: GREY} | {name: TASKS[slot] for name, slot in places.items()}
    shapes = {name: SHAPES[slot % len(SHAPES)] for name, slot in places.items()}
    shapes |= {ALL: "diamond", NONE: "circle"}
    legend = alt.Legend(title="intermediate task", symbolOpacity=1)
    color = alt.Color("intermediate:N").scale(domain=names, range=[colors[n] for n in names])
    shape = alt.Shape("intermediate:N").scale(domain=names, range=[shapes[n] for n in names])
    return color.legend(legend), shape.legend(legend)


def slots(names: list[str]) -> dict[str, int]:
    """A place in the palette for each task, by its name alone unless two names want the same."""
    taken: dict[str, int] = {}
    for name in sorted(names, key=lambda name: (name not in USUAL, name)):
        slot = USUAL.index(name) if name in USUAL else zlib.crc32(name.encode()) % len(TASKS)
        while slot in taken.values() and len(taken) < len(TASKS):
            slot = (slot + 1) % len(TASKS)
        taken[name] = slot
    return taken


def bundle(spec: dict, **_) -> dict:
    """A chart for a notebook by MIME type: live for JupyterLab, a picture drawn on this machine
    where no JavaScript runs, text as a last resort.
    """
    title = (spec.get("usermeta") or {}).get("chart", "chart")
    picture = vl_convert.vegalite_to_svg(json.dumps(spec))
    live = spec | {"$schema": SCHEMA}
    return {MIME: live, "image/svg+xml": picture, "text/plain": f"<chart: {title}>"}


def enable() -> None:
    """Let the notebook that calls this show charts with `bundle`, without a network."""
    alt.renderers.register("transfer study", bundle)
    alt.renderers.enable("transfer study")
