"""Training and prediction side by side: transformers' run_xnli.py and this project.

    RUN_XNLI=/path/run_xnli.py python benchmarks/throughput.py [--rounds 3] [--out outputs/bench]

Every round runs each recipe once, one after the other, in processes of their own: the script as it
comes; with its best flags (padding to a batch's longest pair, batches of like length, larger
batches for prediction, and bf16 where asked); and this project. Both get the same weights and
pairs. Each recipe trains and predicts two counts of examples, and the difference counts: what a
process does once is in neither figure.

Rounds are added to those in the folder ``--out``. Texts are pairs of SICK and SNLI where HUB_MIRROR
and DATA_DIR are set, else of the mini benchmark. The weights of XLM-R's shapes are random: what
they say does not matter.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path

import example
import pandas as pd
import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from helpers import data, encoders
from helpers.encoders import hardware
from helpers.study.catalogue import load

PAIRS, PREDICTED, BATCH = 96, 96, 32
ENCODERS = {
    "base": "XLM-R base's shape",
    "small": "12 layers of 384",
    "large": "XLM-R large's shape",
}
SHAPES = {"base": (12, 768), "large": (24, 1024)}
BF16 = {"bf16": "True", "bf16_full_eval": "True"}
PEERS = {"default": {}, "flags fp32": example.BEST, "flags bf16": {**example.BEST, **BF16}}
RECIPES = [*PEERS, "ours fp32", "ours bf16"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=["base", "small"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    options = parser.parse_args()
    script = example.located()
    options.out.mkdir(parents=True, exist_ok=True)
    machine = {"pairs": PAIRS, **hardware.describe(), "products": hardware.product_rates(1.0)}
    print(machine, flush=True)
    (options.out / "machine.json").write_text(json.dumps(machine, indent=1))
    kept = options.out / "rounds.csv"
    rows = pd.read_csv(kept).to_dict("records") if kept.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        for number, size in product(range(options.rounds), options.encoders):
            folder = prepare(Path(scratch) / size, size)
            turn = number % len(options.recipes)
            order = options.recipes[turn:] + options.recipes[:turn]
            named = {"encoder": ENCODERS[size], "round": number + 1}
            for measured in round_of(script, folder, order, named):
                rows += measured
                pd.DataFrame(rows).to_csv(kept, index=False)
        best = max(machine["products"], key=machine["products"].get)
        rows += profiles(Path(scratch), options, best)
    table = summary(pd.DataFrame(rows))
    table.to_csv(options.out / "throughput.csv", index=False)
    print(table.to_string(index=False))


def pairs() -> list[dict]:
    """Labelled sentence pairs of two sources in turns, or of the mini benchmark."""
    tasks, folder = load(Path("params/tasks.yaml")), os.environ.get("DATA_DIR")
    real = bool(folder and os.environ.get("HUB_MIRROR"))
    names = ("sick", "snli_small") if real else ("mini_nli",)
    sources = []
    for name in names:
        source = Path(folder if real else "demo/data")
        rows = data.reading.read(tasks[name], "train", "en", source).examples
        sources.append(rows[: PAIRS // len(names)])
    rows = chain.from_iterable(zip(*sources, strict=True))
    return [{key: row[key] for key in ("text_a", "text_b", "label")} for row in rows]


def prepare(folder: Path, size: str) -> Path:
    """An encoder, whole and trimmed to the pairs' tokens as phase 1 leaves it, and the pairs."""
    if folder.exists():
        return folder
    rows = pairs()
    model, tokenizer = encoders.load("demo/encoder")  # its tokenizer is XLM-R's
    if size in SHAPES:
        torch.manual_seed(0)
        model = XLMRobertaModel(shape(size, len(tokenizer)), add_pooling_layer=False)
    encoders.save(model, tokenizer, folder / "full", None)
    used = {i for row in rows for i in tokenizer(row["text_a"], row["text_b"])["input_ids"]}
    model, tokenizer, _ = encoders.trim(model, tokenizer, used)
    encoders.save(model, tokenizer, folder / "trimmed", None)
    for name, chosen in (("train", rows), ("test", rows[:PREDICTED])):
        (folder / f"{name}.json").write_text(json.dumps(chosen), encoding="utf-8")
    example.prepare(folder, rows, rows[:PREDICTED] * 2)
    return folder


def shape(size: str, tokens: int) -> XLMRobertaConfig:
    """The configuration of XLM-R base or large, with so many tokens."""
    layers, hidden = SHAPES[size]
    return XLMRobertaConfig(
        vocab_size=tokens,
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_attention_heads=hidden // 64,
        max_position_embeddings=514,
        type_vocab_size=1,
    )


def round_of(script: Path, folder: Path, order: list[str], named: dict) -> Iterator[list[dict]]:
    """One measurement of every recipe."""
    for recipe in order:
        kind = recipe.split()[-1]
        measures = peer(script, folder, recipe) if recipe in PEERS else ours(folder, kind)
        print(f"{named['encoder']}, {recipe}: {measures}", flush=True)
        named = {**named, "recipe": recipe}
        yield [{**named, "measure": m, "value": v} for m, v in measures.items()]


def peer(script: Path, folder: Path, recipe: str) -> dict[str, float]:
    """The script's measures; texts that are padded to one length need only few steps."""
    steps, runs = 1 if recipe == "default" else PAIRS // BATCH, []
    for times in (1, 2):
        options = (PEERS[recipe], times * steps, times * PREDICTED)
        runs.append(example.measured(script, folder, *options))
        shutil.rmtree(folder / f"out-{times * steps}")
    once, twice = runs
    return {
        "training examples/s": steps * BATCH / (twice["train"] - once["train"]),
        "prediction examples/s": PREDICTED / (twice["predict"] - once["predict"]),
        "peak training memory, bytes": twice["peak training memory, bytes"],
    }


def ours(folder: Path, precision: str, *more: str) -> dict[str, float]:
    """This project's measures."""
    program = [sys.executable, str(Path(__file__).with_name("recipes.py"))]
    command = [*program, str(folder), precision, str(PAIRS // BATCH), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def profiles(scratch: Path, options: argparse.Namespace, precision: str) -> list[dict]:
    """What this project's training time goes to."""
    out = []
    for size in options.encoders:
        folder = prepare(scratch / size, size)
        named = {"encoder": ENCODERS[size], "recipe": f"ours {precision}"}
        for what, share in ours(folder, precision, "--profile").items():
            row = {"measure": f"share of training time: {what}", "value": share}
            out.append({**named, **row})
    return out


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median, minimum and maximum of every measure over the rounds; ours over others in a round."""
    names = ["encoder", "recipe", "measure"]
    rows = rows.fillna({"round": 0})
    tables, ours = [rows], rows[rows["recipe"].str.startswith("ours")]
    for other in PEERS:
        shared = ["encoder", "measure", "round"]
        both = ours.merge(rows[rows["recipe"] == other], on=shared, suffixes=("", "_other"))
        both["measure"] += f", x {other}"
        tables.append(both.assign(value=both["value"] / both["value_other"]))
    values = pd.concat(tables).groupby(names, sort=False)["value"]
    return values.agg(median="median", minimum="min", maximum="max", rounds="count").reset_index()


if __name__ == "__main__":
    main()
