"""Write the tables and charts of the study on real data, and its page, from what the study left.

Usage: ``python docs/write_results.py [--outputs DIR]`` (``make results``), or ``--page`` for the
page alone, from the tables that are there. Every figure on the page comes from these tables.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import pandas as pd
import vl_convert

from helpers import comparison
from helpers.report import charts, grid, scaling
from helpers.study import NONE, RUN, ZERO_SHOT, Study
from helpers.study.files import read_json, write_json, write_text

HERE = Path(__file__).parent / "results"
FOLDER, PAGE = HERE / "small-real", HERE / "small-real.md"
STUDIES = ["small-real", "small-real-curve"]
QUANTITIES = ["score", "gain", "slope"]
NAMES = ["study", "quantity", "size", "intermediate", "target", "language", "analysis"]
NUMBERS = ["estimate", "low", "high", "p", "p_corrected", "seeds", "n"]
SELECTION = ["task", "n", "score", "majority", "collapsed"]
TRAINING = ["study", *RUN, *SELECTION, "seconds", "dropped"]
VERSIONS = ["torch", "transformers", "datasets", "numpy"]


def collect(outputs: Path, folder: Path = FOLDER) -> None:
    """Write results.csv, effects.csv, trainings.csv, made.json and the charts."""
    charts.enable()
    results, effects, trainings, made = [], [], [], {}
    for name in STUDIES:
        study = Study.load(f"params/{name}.yaml", outputs)
        runs, predictions, _ = comparison.finished_runs(study)
        left = _left_out(study, runs) if name == STUDIES[0] else []
        made[name] = _planned(study, left)
        if runs.empty:
            continue
        results.append(comparison.results(predictions, runs).assign(study=name))
        runs, predictions = (table[~table["target"].isin(left)] for table in (runs, predictions))
        planned = [run for run in study.runs() if run.target not in left]
        scores, parameters = comparison.results(predictions, runs), comparison.parameters(study)
        found = comparison.effects(predictions, runs, planned=planned, parameters=parameters)
        found = grid.mark_collapsed(study, found, scores)
        effects.append(found[found["quantity"].isin(QUANTITIES)].assign(study=name))
        trainings += [{"study": name, **row} for row in _trainings(study)]
        made[name] |= _made(study, runs, parameters) | {"runs": len(runs), "planned": len(planned)}
        figures = {"gains": charts.gains(study, found, scores)}
        if name == STUDIES[0]:
            figures["heat_map"] = charts.heat_map(study, found, scores)
            figures["scaling"] = scaling.curve(study, found, scores, parameters)
        figures["learning_curve"] = scaling.learning_curve(study, found, scores)
        for chart, figure in figures.items():
            if figure is not None:
                svg = vl_convert.vegalite_to_svg(json.dumps(figure.to_dict(validate=False)))
                write_text(folder / f"{name}-{chart}.svg", svg)
    if not results:  # the tables that are there are another machine's, and worth more than none
        names = " or ".join(STUDIES)
        raise SystemExit(f"{outputs}: no run of {names} is finished; run `make study` first")
    columns = [*NAMES, *NUMBERS, "collapsed"]
    _csv(folder, "results", pd.concat(results))
    _csv(folder, "effects", pd.concat(effects)[columns])
    _csv(folder, "trainings", pd.DataFrame(trainings, columns=TRAINING))
    write_json(folder / "made.json", made)


def _trainings(study: Study) -> list[dict]:
    """Every finished training with its score on English validation data, by which it was chosen."""
    rows = []
    for path in study.results():
        scores, record = read_json(path), read_json(path.with_name("run.json"))
        selection = scores.get("selection", {}) if path.name == "scores.json" else {}
        if not selection.get("n") or not record:  # an encoder; retrieval, which is not trained
            continue
        size, *names = path.relative_to(study.folder).parts[:-2]
        named = {"size": size, "intermediate": names[0], "target": "".join(names[1:])}
        chosen = {key: selection.get(key) for key in SELECTION}
        seconds = record["wall_seconds"]
        dropped = sum(record.get("dropped", {}).values())
        rows.append(
            named | {"seed": record["seed"], **chosen, "seconds": seconds, "dropped": dropped}
        )
    return rows


def _made(study: Study, runs: pd.DataFrame, parameters: dict) -> dict:
    """How much of the study is there, what it was made with, and when."""
    paths = [study.run_folder(run) / "run.json" for run in study.runs()]
    records = [(path.stat().st_mtime, read_json(path)) for path in paths if path.exists()]
    newest, record = max(records, key=lambda pair: pair[0])
    used = {key: sorted(set(runs[key].dropna())) for key in ("precision", "processor", "gpu")}
    return {
        "date": datetime.fromtimestamp(newest, UTC).date().isoformat(),
        **used,
        "versions": {key: record["versions"][key] for key in VERSIONS},
        "commit": record["git_commit"],
        "parameters": parameters,
        "dropped": study.dropped(study.tasks),
    }


def _left_out(study: Study, runs: pd.DataFrame) -> list[str]:
    """Targets whose English training fails: one of the baseline's at the largest size collapsed."""
    largest = runs[(runs["size"] == list(study.sizes)[-1]) & (runs["intermediate"] == NONE)]
    return list(largest.loc[largest["collapsed"].astype(bool), "target"].unique())


def _planned(study: Study, left: list[str]) -> dict:
    """What the study is, without the targets that are ``left`` out."""
    targets = {target.task: study.languages(target.task) for target in study.targets}
    return {
        "runs": 0,
        "planned": len(study.runs()),
        "titles": {name: size.title for name, size in study.sizes.items()},
        "seeds": {key: len(study.seeds_of(key)) for key in (NONE, "others")},
        "sizes": list(study.sizes),
        "intermediate": study.intermediate,
        "targets": {name: codes for name, codes in targets.items() if name not in left},
        "left_out": left,
        "examples": {
            name: study.hyperparameters("target", next(iter(study.sizes)), name).train_examples
            for name in study.variants
        },
    }


def _csv(folder: Path, name: str, table: pd.DataFrame) -> None:
    columns = [column for column in NAMES if column in table]
    table = table[[*columns, *(column for column in table if column not in columns)]]
    digits = {column: 4 if column.startswith("p") else 2 for column in table}
    write_text(folder / f"{name}.csv", table.round(digits).to_csv(index=False))


def page(folder: Path = FOLDER) -> str:
    """The page as Markdown, from the tables in ``folder``."""
    tables = {
        path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""])
        for path in folder.glob("*.csv")
    }
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), **options)
    figures = Figures(tables, read_json(folder / "made.json"))
    template = env.get_template("small-real.md.jinja")
    return template.render(
        f=figures, made=figures.made, **tables, charts=sorted(p.stem for p in folder.glob("*.svg"))
    )


class Figures:
    """What a template asks the tables for; a figure that is not there yet is a dash."""

    def __init__(self, tables: dict[str, pd.DataFrame], made: dict):
        self.effects, self.made = tables["effects"], made
        self.trainings, self._plain = tables["trainings"], tables.get("plain")

    def row(self, quantity, size, intermediate, target, language=ZERO_SHOT, study=STUDIES[0]):
        """The row of effects.csv of these names, with all runs; None without an estimate."""
        names = [study, quantity, size, intermediate, target, language, "all runs"]
        rows = self.effects[(self.effects[NAMES] == names).all(axis=1)].dropna(subset=["estimate"])
        return None if rows.empty else rows.iloc[0]

    def score(self, *names, **more) -> str:
        """A score in percent; crossed if a collapsed run enters."""
        row = self.row("score", *names, **more)
        return "–" if row is None else f"{row['estimate']:.1f}" + " ×" * bool(row["collapsed"])

    def gain(self, *names, **more) -> str:
        """A gain in points with its interval, starred where p < 0.05 after correction."""
        return self._with_interval(self.row("gain", *names, **more))

    def slope(self, intermediate: str, target: str) -> str:
        """Points of gain per doubling of the parameters, with the interval."""
        rows = self.effects[self.effects["quantity"] == "slope"]
        size = rows["size"].iloc[0] if len(rows) else ""
        return self._with_interval(self.row("slope", size, intermediate, target))

    def verdict(self, *names, **more) -> str:
        """What a gain says in a word, by the corrected test."""
        row = self.row("gain", *names, **more)
        if row is None:
            return "not run yet"
        if not row["p_corrected"] < 0.05:
            return "no difference seen"
        return "helps" if row["estimate"] > 0 else "harms"

    def english(self, size: str, intermediate: str, target: str = "", study=STUDIES[0]) -> str:
        """Mean score on English validation data of a training's seeds, and the majority class's."""
        rows = self.trainings.fillna({"target": ""})
        names = ["study", "size", "intermediate", "target"]
        rows = rows[(rows[names] == [study, size, intermediate, target]).all(axis=1)]
        if rows.empty:
            return "–"
        down = f", {rows['collapsed'].sum()} of {len(rows)} collapsed" * bool(
            rows["collapsed"].any()
        )
        return f"{rows['score'].mean():.1f} ({rows['majority'].mean():.1f}{down})"

    def collapsed(self, size: str, *targets: str, study=STUDIES[0]) -> str:
        """How many of the targets' trainings collapsed, after whatever task."""
        rows = self.trainings.query("study == @study and size == @size and target in @targets")
        return f"{rows['collapsed'].sum()} of {len(rows)} trainings collapsed"

    def plain(self, quantity: str, intermediate: str, language: str) -> str:
        """A score, or a difference from this project's, of the plain Trainer loop."""
        names = ["quantity", "intermediate", "language"]
        wanted = [quantity, intermediate, language]
        row = self._plain[(self._plain[names] == wanted).all(axis=1)].iloc[0]
        sign = "+" if quantity == "difference" else ""
        text = f"{row['estimate']:{sign}z.1f} [{row['low']:z.1f}, {row['high']:z.1f}]"
        return text.replace("-", "−")

    def _with_interval(self, row) -> str:
        if row is None:
            return "–"
        text = f"{row['estimate']:+z.1f} [{row['low']:z.1f}, {row['high']:z.1f}]"
        star = " *" * bool(row["p_corrected"] < 0.05)
        return text.replace("-", "−") + star + " ×" * bool(row["collapsed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--page", action="store_true", help="the page alone")
    given = parser.parse_args()
    if not given.page:
        collect(given.outputs)
    write_text(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
