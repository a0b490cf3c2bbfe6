"""Training and prediction side by side: run_xnli, run_xnli with its best flags, and this project.

    python benchmarks/throughput.py [--rounds 3] [--out outputs/bench]

Every round runs each recipe once, in a process of its own, one after the other; the table has
medians over the rounds with the smallest and largest value. Texts are pairs of SICK and of Cosmos
QA where HUB_MIRROR and DATA_DIR are set, and of the mini benchmark elsewhere. Precision is what a
study with ``precision: auto`` finds the faster one here, but for run_xnli as it comes. The weights
of XLM-R base's shape are random: what they say does not matter here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import altair as alt
import pandas as pd
import torch
from growth import ENCODER, attention, growth
from transformers import XLMRobertaConfig, XLMRobertaModel

from helpers import data, encoders
from helpers.encoders import bundled, hardware
from helpers.report import theme
from helpers.study import Study
from helpers.study.catalogue import load

PAIRS = 128
RECIPES = {
    "default": "run_xnli as it comes",
    "flags": "run_xnli, best flags",
    "ours": "this project",
}
UNITS = {
    "training examples/s": "examples/s",
    "prediction examples/s": "examples/s",
    "peak training memory": "bytes",
    "checkpoint": "bytes",
    "training FLOP/s": "FLOP/s",
}
PRODUCTS = {"fp32": "float32 matrix product", "bf16": "bfloat16 matrix product"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, origin = pairs()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        precision = hardware.precision(Study.load("params/smoke.yaml", scratch))
        machine = {"texts": origin, "pairs": len(rows), "rounds": given.rounds}
        machine |= {"precision": precision, **hardware.describe()}
        print(machine, flush=True)
        folders = prepare(Path(scratch), rows)
        for number in range(given.rounds):
            found += round_of(folders, precision, number)
        found += profiles(folders, precision)
    found += growth(precision) + attention()
    table = summary(pd.DataFrame(found))
    table.to_csv(given.out / "throughput.csv", index=False)
    (given.out / "machine.json").write_text(json.dumps(machine, indent=1))
    chart(table, machine).save(given.out / "throughput.png", scale_factor=2)
    print(table.to_string(index=False))


def pairs() -> tuple[list[dict], str]:
    """Sentence pairs with a label, half of short and half of long texts, and what they are."""
    tasks, folder = load(Path("params/tasks.yaml")), os.environ.get("DATA_DIR")
    real = bool(folder and os.environ.get("HUB_MIRROR"))
    short, long = ("sick", "cosmos_qa") if real else ("mini_nli", "mini_stories")
    rows = data.read(tasks[short], "train", "en", Path(folder) if real else None)[: PAIRS // 2]
    out = [{key: row[key] for key in ("text_a", "text_b", "label")} for row in rows]
    for number, row in enumerate(data.read(tasks[long], "train", "en")[: PAIRS // 2]):
        context = f"{row['context']} {row['question']}".strip()
        out.append({"text_a": context, "text_b": row["choices"][0], "label": number % 3})
    return out, f"{short} and {long}"


def prepare(folder: Path, rows: list[dict]) -> dict[str, Path]:
    """Two encoders, each whole and trimmed to the pairs' tokens, as phase 1 leaves them."""
    out = {}
    for name in (ENCODER, "XLM-R base's shape"):
        model, tokenizer = bundled.convert(bundled.locate())  # its tokenizer is XLM-R's
        if name.startswith("XLM-R"):
            torch.manual_seed(0)
            config = XLMRobertaConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=514,
                type_vocab_size=1,
                layer_norm_eps=1e-5,
            )
            model = XLMRobertaModel(config, add_pooling_layer=False)
        at = out[name] = folder / str(len(out))
        encoders.save(model, tokenizer, at / "full", None)
        used = {i for row in rows for i in tokenizer(row["text_a"], row["text_b"])["input_ids"]}
        model, tokenizer, _ = encoders.trim(model, tokenizer, used)
        encoders.save(model, tokenizer, at / "trimmed", None)
        (at / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return out


def round_of(folders: dict[str, Path], precision: str, number: int) -> list[dict]:
    """One measurement of everything; the order of the recipes turns from round to round."""
    out = []
    for encoder, folder in folders.items():
        for recipe in [*RECIPES][number % 3 :] + [*RECIPES][: number % 3]:
            measures = measured(recipe, folder, precision)
            print(f"round {number + 1}, {encoder}, {recipe}: {measures}", flush=True)
            named = {"encoder": encoder, "recipe": recipe}
            for measure, value in measures.items():
                out.append({**named, "measure": measure, "value": value, "unit": UNITS[measure]})
    named = {"encoder": "this machine", "recipe": "a linear layer", "unit": "FLOP/s"}
    for kind, rate in hardware.product_rates(seconds=1.0).items():
        out.append({**named, "measure": PRODUCTS[kind], "value": 1e9 * rate})
    return out


def profiles(folders: dict[str, Path], precision: str) -> list[dict]:
    """What this project's training time goes to."""
    out = []
    for encoder, folder in folders.items():
        named = {"encoder": encoder, "recipe": "profile", "unit": "share"}
        for what, share in measured("profile", folder, precision).items():
            out.append({**named, "measure": f"share of training time: {what}", "value": share})
    return out


def measured(recipe: str, folder: Path, precision: str) -> dict[str, float]:
    """What a recipe measures, in a process of its own."""
    program = str(Path(__file__).with_name("recipes.py"))
    command = [sys.executable, program, recipe, str(folder), precision]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Median, minimum and maximum of every measure over the rounds.

    Ours is also given as a multiple of the other recipes' in the same round.
    """
    names = ["encoder", "recipe", "measure"]
    found = found.assign(round=found.groupby(names).cumcount())
    ours = found[found["recipe"] == "ours"]
    tables = [found]
    for other in ("default", "flags"):  # only what a recipe of this name measures has a pair
        both = ours.merge(found[found["recipe"] == other], on=["encoder", "measure", "round"])
        ratios = both.assign(recipe="ours", value=both["value_x"] / both["value_y"], unit="x")
        ratios["measure"] += f", ours / {other}"
        tables.append(ratios[[*names, "value", "unit"]])
    values = pd.concat(tables).groupby([*names, "unit"], sort=False)["value"]
    table = values.agg(median="median", minimum="min", maximum="max").reset_index()
    return table[[*names, "median", "minimum", "maximum", "unit"]]


def chart(table: pd.DataFrame, machine: dict) -> alt.VConcatChart:
    """Training and prediction throughput, medians with the range over the rounds."""
    parts = []
    for measure in ("training examples/s", "prediction examples/s"):
        rows = table[table["measure"] == measure].assign(what=lambda t: t["recipe"].map(RECIPES))
        base = alt.Chart(rows).encode(y=alt.Y("what:N", sort=[*RECIPES.values()], title=None))
        bars = base.mark_bar(height=14).encode(
            x=alt.X("median:Q", title=measure),
            color=alt.Color(
                "recipe:N", sort=[*RECIPES], legend=None, scale=alt.Scale(range=theme.COLOURS[:3])
            ),
        )
        span = base.mark_rule(color=theme.INK, strokeWidth=1.5).encode(
            x="minimum:Q", x2="maximum:Q"
        )
        label = base.mark_text(align="left", dx=6).encode(
            x="maximum:Q", text=alt.Text("median:Q", format=".3r")
        )
        panel = (bars + span + label).properties(width=280, height=alt.Step(22))
        parts.append(
            panel.facet(column=alt.Column("encoder:N", title=None)).resolve_scale(x="independent")
        )
    subtitle = [
        "batches of 32 pairs of {texts}, {cores} cores of {processor}".format_map(machine),
        f"rounds: {machine['rounds']}; bars are medians, lines go from the smallest to the largest",
    ]
    return alt.vconcat(*parts).properties(
        title=alt.TitleParams("Examples a second", subtitle=subtitle)
    )


if __name__ == "__main__":
    main()
