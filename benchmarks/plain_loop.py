"""Whether the machinery costs accuracy: the plain Trainer loop on the pairs of a study's runs.

    HUB_MIRROR=... DATA_DIR=... python benchmarks/plain_loop.py params/small-real.yaml base jsick

The loop below knows nothing of this package but the study's encoder folder, its examples and its
hyperparameters. Its predictions take part in the comparison as one more starting point, `plain`, so
that its difference from the study's own runs has an interval of the same kind as a gain.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from helpers import comparison, data
from helpers.study import NONE, Run, Study
from helpers.training import training_set

MEASURES = ["quantity", "language", "estimate", "low", "high", "seeds", "n"]


class Classifier(torch.nn.Module):
    """Mean of the last hidden states, dropout, a linear layer."""

    def __init__(self, folder: Path, labels: int, frozen: int):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, labels)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        self.encoder.embeddings.requires_grad_(False)
        self.encoder.encoder.layer[:frozen].requires_grad_(False)

    def forward(self, input_ids, attention_mask, labels=None):
        states = self.encoder(input_ids, attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        mean = (states * mask).sum(1) / mask.sum(1)
        logits = self.head(torch.nn.functional.dropout(mean, 0.1, self.training))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def plain(study: Study, run: Run) -> pd.DataFrame:
    """The predictions of a plain loop for a run without an intermediate task."""
    settings = study.hyperparameters("target", run.size, run.target)
    tokenizer = AutoTokenizer.from_pretrained(study.encoder_folder(run.size))
    [task] = study.train_on(run.target)

    def cut(rows: list[dict]) -> list[dict]:
        pairs = [row["text_a"] for row in rows], [row["text_b"] for row in rows]
        ids = tokenizer(*pairs, truncation=True, max_length=settings.max_length)["input_ids"]
        return [{"input_ids": i, "labels": r["label"]} for i, r in zip(ids, rows, strict=True)]

    set_seed(run.seed)
    with tempfile.TemporaryDirectory() as folder:
        every = settings.steps // settings.evaluations
        arguments = TrainingArguments(
            folder, max_steps=settings.steps, learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size, per_device_eval_batch_size=64,
            warmup_steps=round(settings.warmup * settings.steps), seed=run.seed,
            weight_decay=settings.weight_decay, eval_strategy="steps", eval_steps=every,
            save_steps=every, save_total_limit=1, load_best_model_at_end=True,
            metric_for_best_model="accuracy", report_to="none", use_cpu=True, bf16=True,
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            Classifier(study.encoder_folder(run.size), 3, settings.frozen_layers),
            arguments,
            DataCollatorWithPadding(tokenizer),
            cut(training_set.drawn(study, task, settings, run.seed)),
            cut(training_set.held_out(study, task, settings)),
            compute_metrics=lambda p: {"accuracy": np.mean(p[0].argmax(-1) == p[1])},
        )
        trainer.train()
        tables = []
        for language in study.languages(run.target):
            rows = data.examples(study, run.target, study.tasks[run.target].evaluate, language)
            logits, labels, _ = trainer.predict(cut(rows))
            ids = [
                r["id"] if study.tasks[run.target].parallel else f"{language}/{r['id']}"
                for r in rows
            ]
            right = (logits.argmax(-1) == labels).astype(float)
            tables.append(pd.DataFrame({"language": language, "id": ids, "credit": right}))
    named = run._replace(intermediate="plain")._asdict()
    return pd.concat(tables).assign(**named, out_of=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("size")
    parser.add_argument("target")
    parser.add_argument("--out", type=Path, help="a CSV file for the table that is printed")
    given = parser.parse_args()
    study = Study.load(given.study)
    runs, predictions, _ = comparison.finished_runs(study)
    seeds = study.seeds_of("others")
    fits = "size == @given.size and target == @given.target and intermediate == @NONE"
    fits += " and seed in @seeds"
    runs, predictions = runs.query(fits), predictions.query(fits)
    ours = [Run(given.size, NONE, given.target, seed) for seed in seeds]
    theirs = pd.concat([plain(study, run) for run in ours])
    item, more = ["language", "id"], predictions.columns.difference(theirs.columns)
    theirs = theirs.merge(predictions[[*item, *more]].drop_duplicates(), on=item)
    both = pd.concat([predictions, theirs[predictions.columns]])
    effects = comparison.effects(
        both, pd.concat([runs, runs.assign(intermediate="plain", collapsed=False)])
    )
    table = effects[effects["quantity"].isin(["score", "gain"])]
    table = table.assign(quantity=table["quantity"].replace("gain", "difference"))
    table = table[["intermediate", *MEASURES]].round(2)
    print(table.to_string(index=False))
    if given.out:
        table.to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
