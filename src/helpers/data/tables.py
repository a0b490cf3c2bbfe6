"""Examples as tables to read."""

import pandas as pd

from helpers.data.reading import examples, labelled
from helpers.study import Study, Task


def table(rows: list[dict], task: Task) -> pd.DataFrame:
    """Examples as a table to read: labels by name, each choice under its label."""
    frame = pd.DataFrame(rows).drop(columns="group", errors="ignore")  # a digest
    if "choices" in frame:
        frame[task.labels] = frame.pop("choices").tolist()
    for name in {"label", "labels"} & set(frame):
        each = frame[name].explode().map(lambda i: task.labels[i])
        frame[name] = each if name == "label" else each.groupby(level=0).agg(" ".join)
    return frame


def evaluated(study: Study, target: str) -> pd.DataFrame:
    """All evaluated items of a target as a table to read, with predictions' language and id."""
    task, tables = labelled(study, target), []
    for language in study.languages(target):
        items = table(examples(study, target, task.evaluate, language), task)
        items["id"] = items["id"] if task.parallel else f"{language}/" + items["id"]
        tables.append(items.assign(language=language))
    return pd.concat(tables, ignore_index=True)
