"""Training and prediction side by side: run_xnli as it comes, with its best flags, and this project.

    python benchmarks/throughput.py [--rounds 3] [--out outputs/bench]

Every round runs each recipe once, in a process of its own, one after the other; the table has medians over the rounds
with the smallest and largest value. Texts are pairs of SICK and of Cosmos QA where HUB_MIRROR and DATA_DIR are set,
and of the mini benchmark elsewhere. The weights of XLM-R base's shape are random: what they say does not matter here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import altair as alt
import pandas as pd
import torch
from growth import attention, growth
from transformers import XLMRobertaConfig, XLMRobertaModel

from helpers import data, encoders
from helpers.encoders import bundled, hardware
from helpers.report import theme
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
    "float32 matrix product": "FLOP/s",
    "bfloat16 matrix product": "FLOP/s",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, origin = pairs()
    print(f"{len(rows)} pairs of {origin}; {hardware.describe()}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders = prepare(Path(scratch), rows)
        found = [measure for number in range(given.rounds) for measure in round_of(folders, number)]
        found += profiles(folders)
    found += growth() + attention()
    table = summary(pd.DataFrame(found))
    table.to_csv(given.out / "throughput.csv", index=False)
    about = {"texts": origin, "pairs": len(rows), "rounds": given.rounds, **hardware.describe()}
    (given.out / "machine.json").write_text(json.dumps(about, indent=1))
    chart(table, about).save(given.out / "throughput.png", scale_factor=2)
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
    """Two encoders, each whole and trimmed to the pairs' pieces, as phase 1 leaves them."""
    out = {}
    for name in ("12 layers, hidden size 384", "XLM-R base's shape"):
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


def round_of(folders: dict[str, Path], number: int) -> list[dict]:
    """One measurement of everything; the order of the recipes turns from round to round."""
    out = []
    for encoder, folder in folders.items():
        for recipe in [*RECIPES][number % 3 :] + [*RECIPES][: number % 3]:
            measures = measured(recipe, folder)
            print(f"round {number + 1}, {encoder}, {recipe}: {measures}", flush=True)
            out += [(encoder, recipe, measure, value) for measure, value in measures.items()]
    machine = {"float32 matrix product": torch.float32, "bfloat16 matrix product": torch.bfloat16}
    out += [("this machine", "torch.mm", name, product(kind)) for name, kind in machine.items()]
    return [
        {
            "encoder": encoder,
            "recipe": recipe,
            "measure": measure,
            "value": value,
            "unit": UNITS[measure],
        }
        for encoder, recipe, measure, value in out
    ]


def profiles(folders: dict[str, Path]) -> list[dict]:
    """What this project's training time goes to."""
    out = []
    for encoder, folder in folders.items():
        for what, share in measured("profile", folder).items():
            name = f"share of training time: {what}"
            out.append(
                {
                    "encoder": encoder,
                    "recipe": "profile",
                    "measure": name,
                    "value": share,
                    "unit": "share",
                }
            )
    return out


def measured(recipe: str, folder: Path) -> dict[str, float]:
    """What a recipe measures, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("recipes.py")), recipe, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def product(kind: torch.dtype) -> float:
    """FLOP/s of a plain product of two matrices with all threads."""
    n = 1536 if kind == torch.float32 or hardware.bf16() else 384
    one, two = torch.randn(n, n).to(kind), torch.randn(n, n).to(kind)
    torch.mm(one, two)
    begin, times = time.perf_counter(), 0
    while time.perf_counter() - begin < 1:
        torch.mm(one, two)
        times += 1
    return times * 2 * n**3 / (time.perf_counter() - begin)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Median, minimum and maximum of every measure, and ours as a multiple of the others' in the same round."""
    rows = []
    for (encoder, recipe, measure), group in found.groupby(
        ["encoder", "recipe", "measure"], sort=False
    ):
        values = group["value"].tolist()
        unit = group["unit"].iloc[0]
        rows.append(
            (encoder, recipe, measure, statistics.median(values), min(values), max(values), unit)
        )
    ours = found[found["recipe"] == "ours"]
    for other in ("default", "flags"):
        for (encoder, measure), group in ours.groupby(["encoder", "measure"], sort=False):
            same = found[
                (found.recipe == other) & (found.encoder == encoder) & (found.measure == measure)
            ]
            ratios = [a / b for a, b in zip(group["value"], same["value"], strict=not same.empty)]
            if ratios:  # only the recipes are measured with all three
                name = f"{measure}, ours / {other}"
                rows.append(
                    (
                        encoder,
                        "ours",
                        name,
                        statistics.median(ratios),
                        min(ratios),
                        max(ratios),
                        "x",
                    )
                )
    return pd.DataFrame(
        rows, columns=["encoder", "recipe", "measure", "median", "minimum", "maximum", "unit"]
    )


def chart(table: pd.DataFrame, about: dict) -> alt.VConcatChart:
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
        f"batches of 32 pairs of {about['texts']}, {about['cores']} cores of {about['processor']}",
        f"rounds: {about['rounds']}; bars are medians, lines go from the smallest to the largest",
    ]
    return alt.vconcat(*parts).properties(
        title=alt.TitleParams("Examples a second", subtitle=subtitle)
    )


if __name__ == "__main__":
    main()
