"""The sentence says what the numbers say, and no more."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.comparison import estimates
from helpers.comparison import sentence as sentence_figures
from simulated import simulated_study

from helpers import comparison
from helpers.study import StudyError

TITLES = {"base": "6 layers of a stand-in", "large": "12 layers of a stand-in"}
PLANNED = [("base", "none", "nli", 1), ("large", "none", "nli", 1)]


def table(
    estimate: float, low: float, high: float, p: float, seeds: int = 3, analysis="all runs"
) -> pd.DataFrame:
    shared = {
        "target": "nli",
        "language": "zero-shot",
        "analysis": analysis,
        "intermediate": "qa",
        "seeds": seeds,
    }
    numbers = {"estimate": estimate, "low": low, "high": high, "p": p}
    numbers |= {"low_90": low + 0.1 * (high - low), "high_90": high - 0.1 * (high - low)}
    return pd.DataFrame(
        [
            {"quantity": "scale_effect", "size": "large - base", **shared, **numbers},
            {"quantity": "gain", "size": "base", **shared, "estimate": 0.5},
            {"quantity": "gain", "size": "large", **shared, "estimate": 0.5 + estimate},
        ]
    )


def runs(collapsed: int = 0) -> pd.DataFrame:
    rows = [(size, task, "nli", 1) for size in ("base", "large") for task in ("none", "qa")]
    return pd.DataFrame(rows, columns=estimates.RUN).assign(
        collapsed=[True] * collapsed + [False] * (4 - collapsed)
    )


def a_study(planned=()):
    """What the sentence reads of a study."""
    sizes = {size: SimpleNamespace(title=title) for size, title in TITLES.items()}
    return SimpleNamespace(sizes=sizes, runs=lambda: list(planned), margin=1.0)


def sentence(effects, collapsed=0, planned=()):
    return comparison.summary_sentence(a_study(planned), effects, runs(collapsed))


def test_a_positive_effect():
    assert sentence(table(1.3, 0.4, 2.2, 0.004)) == (
        "From 6 layers of a stand-in to 12 layers of a stand-in, the zero-shot gain from English "
        "intermediate training on qa for nli changed by +1.3 points [0.4, 2.2], "
        "from +0.5 to +1.8: higher at the larger encoder."
    )


def test_a_negative_effect():
    assert (
        "changed by −2.0 points [−3.1, −0.9], from +0.5 to −1.5: lower at the larger encoder."
        in sentence(table(-2.0, -3.1, -0.9, 0.001))
    )


@pytest.mark.parametrize(("low", "p"), [(-0.4, 0.2), (-0.4, 0.04), (0.1, 0.06)])
def test_no_difference_is_claimed_unless_interval_and_test_agree(low, p):
    text = sentence(table(1.3, low, 3.0, p))
    assert text.endswith("not distinguishable from zero, nor shown to lie within 1 point of it.")
    assert "higher" not in text


def test_one_seed_is_no_more_than_a_hint():
    text = sentence(table(5.0, 1.0, 9.0, 0.01, seeds=1))
    assert "no more than a hint" in text and "higher" not in text
    assert "assumes a noise of 3 points between seeds" in text


def test_an_incomplete_study_answers_nothing_and_says_what_is_missing():
    text = sentence(
        table(np.nan, np.nan, np.nan, np.nan, seeds=0),
        planned=[*PLANNED, ("large", "mt", "nli", 1)],
    )
    assert text.startswith("The study is incomplete (1 of 3 runs missing).")
    assert "stays open" in text and "points" not in text


def test_one_size_of_two_answers_nothing():
    predictions, only_base = simulated_study({"nli": ("en", "de")}, sizes=("base",), items=30)
    effects = estimates.effects(predictions, only_base, resamples=50)
    assert "stays open" in comparison.summary_sentence(a_study(PLANNED), effects, only_base)


@pytest.mark.parametrize(("gain", "verdict"), [(25.0, "it helps"), (-25.0, "it harms")])
def test_a_study_of_one_size_tells_its_gain(gain, verdict):
    study = a_study()
    del study.sizes["large"]
    predictions, runs = simulated_study(
        {"nli": ("en", "de")}, ("none", "qa"), sizes=("base",), items=200, gain={"base": gain}
    )
    effects = estimates.effects(predictions, runs, resamples=200)
    text = comparison.summary_sentence(study, effects, runs)
    begin = "With 6 layers of a stand-in, the zero-shot gain from English intermediate training on "
    assert text.startswith(f"{begin}qa for nli was ") and text.endswith(f"]: {verdict}.")
    nothing = effects.assign(estimate=np.nan)
    assert "no zero-shot gain: that takes `none`" in comparison.summary_sentence(
        study, nothing, runs
    )
    study.runs = lambda: PLANNED
    assert "training helps stays open" in comparison.summary_sentence(study, nothing, runs)


def test_missing_seeds_are_named_beside_the_answer():
    text = sentence(table(1.3, 0.4, 2.2, 0.004), planned=[*PLANNED, ("large", "none", "nli", 2)])
    assert "higher at the larger encoder" in text and text.endswith(
        "The study is incomplete (1 of 3 runs missing)."
    )


def test_collapsed_runs_are_counted_and_the_other_answer_is_given():
    both = pd.concat(
        [table(-3.0, -9.0, 3.0, 0.4), table(1.3, 0.4, 2.2, 0.01, analysis="without collapsed")]
    )
    text = sentence(both, collapsed=1)
    assert "−3.0 points [−9.0, 3.0]" in text and "counts 1 collapsed run of 4" in text
    assert text.endswith("without, it is +1.3 points [0.4, 2.2]: higher at the larger encoder.")
    none_left = pd.concat(
        [table(1, 0, 2, 0.1), table(np.nan, np.nan, np.nan, np.nan, analysis="without collapsed")]
    )
    assert "2 collapsed runs of 4; without, no such mean can be formed." in sentence(
        none_left, collapsed=2
    )


def test_a_difference_that_is_not_found_without_collapsed_runs_is_none_to_build_on():
    hanging = pd.concat(
        [table(5.0, 1.0, 9.0, 0.01), table(1.0, -2.0, 4.0, 0.4, analysis="without collapsed")]
    )
    hangs = "a difference only with collapsed runs counted, so nothing to build on."
    text = sentence(hanging, collapsed=1)
    assert hangs in text and "higher" not in text
    opposite = pd.concat(
        [table(5.0, 1.0, 9.0, 0.01), table(-5.0, -9.0, -1.0, 0.01, analysis="without collapsed")]
    )
    assert hangs in sentence(opposite, collapsed=1)
    none_left = table(np.nan, np.nan, np.nan, np.nan, analysis="without collapsed")
    assert hangs in sentence(pd.concat([table(5.0, 1.0, 9.0, 0.01), none_left]), collapsed=1)
    steady = pd.concat(
        [table(5.0, 1.0, 9.0, 0.01), table(4.0, 1.0, 7.0, 0.01, analysis="without collapsed")]
    )
    assert "higher at the larger encoder" in sentence(steady, collapsed=1).split(". ")[0]
    assert "higher" in sentence(table(5.0, 1.0, 9.0, 0.01))  # without a collapsed run


def test_what_is_shown_to_be_small_is_called_so_and_the_margin_is_the_studys():
    small = table(0.1, -0.9, 1.1, 0.8)
    assert sentence(small).endswith(
        "not distinguishable from zero, and within 1 point of it either way."
    )
    for left in (np.nan, 3.0):  # no run that learned, or those that did learn tell otherwise
        other = table(left, left - 1, left + 1, 0.01, analysis="without collapsed")
        text = sentence(pd.concat([small, other]), collapsed=2)
        hangs = "within 1 point of zero only with collapsed runs counted, so nothing to build on. "
        assert f"from +0.5 to +0.6: {hangs}" in text
    still = table(0.2, -0.9, 1.1, 0.8, analysis="without collapsed")
    assert "it either way. " in sentence(pd.concat([small, still]), collapsed=2)
    study = a_study()
    study.margin = 0.5
    assert "nor shown to lie within 0.5 points" in comparison.summary_sentence(study, small, runs())
    assert "nor shown" in sentence(table(0.1, -0.9, 1.1, 0.8, seeds=1))


def test_three_sizes_are_told_as_a_curve():
    sizes = ("small", "base", "large")
    gain = {"small": 0.0, "base": 6.0, "large": 12.0}
    languages = {"nli": ("en", "de", "sw")}
    like = {"items": 2000, "gain": gain, "seed_sd": 0.2}
    predictions, made = simulated_study(languages, ("none", "qa"), sizes, **like)
    parameters = dict(zip(sizes, (1e6, 2e6, 4e6), strict=True))
    effects = estimates.effects(predictions, made, resamples=200, parameters=parameters)
    study = a_study()
    study.sizes = {size: SimpleNamespace(title=size) for size in sizes}
    text = comparison.summary_sentence(study, effects, made)
    assert text.startswith(
        "From small to large, each doubling of the parameters changed the zero-shot gain"
    )
    gains = effects.query("quantity == 'gain' and language == 'zero-shot'")["estimate"]
    assert f"(gains {', '.join(f'{x:+.1f}' for x in gains)})" in text.replace("−", "-")
    assert "higher at the larger encoder" in text
    assert "The curve is not seen to bend" in text


def test_a_collapsed_intermediate_training_is_named():
    both = pd.concat(
        [table(-3.0, -9.0, 3.0, 0.4), table(1, 0.4, 2, 0.01, analysis="without collapsed")]
    )
    some = runs(2).assign(collapsed_in=["intermediate", "target", "", ""])
    text = comparison.summary_sentence(a_study(), both, some)
    assert "2 collapsed runs of 4 (1 in the intermediate training)" in text


def test_the_headline_of_many_tasks_and_targets_is_the_mean_over_all():
    predictions, many = simulated_study(items=50)
    effects = estimates.effects(predictions, many, resamples=50)
    text = comparison.summary_sentence(a_study(), effects, many)
    row = effects[estimates.headline(effects)].iloc[0]
    assert (row["intermediate"], row["target"]) == ("all", "all")
    assert "on 2 tasks (nli, qa) for 2 targets (nli, copa) changed by" in text
    assert f"{abs(row['estimate']):.1f} points" in text


def test_every_catalogued_language_has_its_figures():
    table = comparison.languages().set_index("language")
    in_catalogue = (
        "ar bg bn de el en es et fi fr hi ht id it ja ko nl qu ro ru sw ta te th tr ur vi zh"
    )
    assert table.loc[in_catalogue.split(), list(sentence_figures.FIGURES)].notna().all(axis=None)
    assert table.loc["en", "syntactic_distance"] == 0 and table["pretraining_gib"].idxmax() == "en"
    assert table.index.is_unique and table["syntactic_distance"].between(0, 1).all()


def test_a_languages_table_without_its_columns_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("language,speakers\nen,1\n")
    with pytest.raises(
        StudyError, match=r"mine\.csv: found no column pretraining_gib, syntactic_distance"
    ):
        comparison.languages(tmp_path / "mine.csv")


def gains_of(codes: list[str], gains: list[float]) -> pd.DataFrame:
    shared = {
        "quantity": "gain",
        "size": "base",
        "intermediate": "qa",
        "target": "nli",
        "analysis": "all runs",
    }
    return pd.DataFrame(
        [{**shared, "language": c, "estimate": g} for c, g in zip(codes, gains, strict=True)]
    )


def test_gains_that_fall_with_distance_correlate_negatively():
    figures = (
        comparison.languages().sort_values("syntactic_distance").query("language != 'en'")[:12]
    )
    effects = gains_of([*figures["language"], "en", "zero-shot"], [*np.linspace(5, 1, 12), 99, 99])
    row = (
        comparison.explain_gains(effects, figures)
        .set_index("figure")
        .loc["syntactic distance to English"]
    )
    assert row["n"] == 12 and row["label"] == "exploratory"
    assert -1 <= row["low"] <= row["rho"] < -0.9 and row["rho"] <= row["high"] < -0.8


def test_the_interval_of_a_correlation_is_wide_for_few_languages_and_absent_for_fewer_than_five():
    codes = ["de", "fr", "hi", "sw", "tr", "zh", "ar", "th"]
    gains = [1.0, 3.0, 2.0, 5.0, 4.0, 2.5, 6.0, 0.5]
    rows = [
        comparison.explain_gains(gains_of(codes[:n], gains[:n]), comparison.languages()).iloc[0]
        for n in (4, 6, 8)
    ]
    assert np.isnan(rows[0]["rho"]) and rows[0]["n"] == 4
    assert rows[1]["high"] - rows[1]["low"] > rows[2]["high"] - rows[2]["low"] > 0.8


def test_published_figures_stand_beside_scores_of_the_same_encoder_and_as_many_languages_only():
    languages = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi")
    predictions, many = simulated_study({"xnli": (*languages, "zh")}, ("none", "qa"), items=50)
    results = estimates.results(predictions, many)
    encoders = {"base": "FacebookAI/xlm-roberta-base", "large": "mirror/xlm-roberta-large/"}
    figures = comparison.beside_published(results, encoders)
    found = figures[figures["differs"] == ""]
    assert found["ours"].notna().all() and set(found["language"]) == {*languages, "zh", "every"}
    both = found[found["language"] == "every"].sort_values("size")
    assert {76.2, 74.9} < set(both["value"][both["size"] == "base"]) and 80.9 in set(both["value"])
    own = results[
        (results["size"] == "base")
        & (results["intermediate"] == "none")
        & (results["language"] != "zero-shot")
    ]
    assert both["ours"].iloc[0] == pytest.approx(own["score"].mean())
    assert comparison.beside_published(results, TITLES).empty
    assert comparison.beside_published(results, {}).empty  # every size is cut


def test_what_stands_against_a_comparison_with_a_published_figure_is_said():
    predictions, many = simulated_study({"xnli": ("en", "de", "sw")}, ("none", "qa"), items=50)
    results = estimates.results(predictions, many)
    encoders = {"base": "FacebookAI/xlm-roberta-base", "large": "FacebookAI/xlm-roberta-large"}
    found = comparison.beside_published(results, encoders)
    beside = found[found["differs"] == ""]
    assert set(beside["language"]) == {"en", "de", "sw"}  # a mean over other languages is none
    apart = found[found["differs"] != ""].set_index(["intermediate", "language"])["differs"]
    assert set(apart["none", "every"]) == {"over 15 languages, ours over 3"}
    assert set(apart["none", "zh"]) == {"not evaluated"}
    assert set(apart["best per target", "every"]) == {"no run after best per target"}
    foreign = comparison.beside_published(results[results["language"] != "en"], encoders)
    assert "English is not evaluated" in set(foreign["differs"])


def test_a_file_of_rows_joins_the_published_figures(tmp_path):
    rows = comparison.published().head(1).assign(value=12.3, source="mine")
    rows.to_csv(tmp_path / "published.csv", index=False)
    found = comparison.published(tmp_path / "published.csv")
    assert found["value"].iloc[-1] == 12.3 and len(found) == len(comparison.published()) + 1
    assert len(comparison.published(tmp_path / "none.csv")) == len(comparison.published())
    rows.drop(columns="note").to_csv(tmp_path / "published.csv", index=False)
    with pytest.raises(StudyError, match=r"published\.csv: found no column 'note'; expected enc"):
        comparison.published(tmp_path / "published.csv")


def test_published_means_are_those_of_the_published_languages():
    published = comparison.published()
    assert published[["source", "note", "value"]].notna().all(axis=None)
    scores = published[published["quantity"] == "score"]
    assert not scores.duplicated(["encoder", "intermediate", "target", "language", "source"]).any()
    means = scores[scores["languages"] > 1].set_index(["encoder", "target"])
    checked = 0
    for (encoder, target, _), rows in scores[scores["languages"] == 1].groupby(
        ["encoder", "target", "source"]
    ):
        beside = means.loc[[(encoder, target)]]
        whole = beside[beside["languages"] == len(rows)]
        checked += len(whole) > 0
        assert whole.empty or (whole["value"] - rows["value"].mean()).abs().min() < 0.06
    assert checked >= 9
