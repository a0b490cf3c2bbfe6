"""The sentence says what the numbers say, and no more; other people's figures stand beside."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_study

import comparison
from comparison import ComparisonError, Plan, Size, Target
from comparison.contrasts import DOUBLING
from comparison.plan import RUN

TITLES = {"base": "the small one", "large": "the large one"}
SIZES = {name: Size(TITLES[name], parameters=n) for name, n in (("base", 1e8), ("large", 3e8))}
RUNS = [(size, task, "nli", 1) for size in SIZES for task in ("none", "qa")]
LANGUAGES = ["en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi"]


def table(estimate: float, low: float, high: float, seeds: int = 3, analysis="all runs"):
    place = {"target": "nli", "language": "zero-shot", "analysis": analysis, "intermediate": "qa"}
    ends = {"estimate": estimate, "low": low, "high": high, "seeds": seeds}
    ends |= {"low_90": low + 0.1 * (high - low), "high_90": high - 0.1 * (high - low)}
    rows = [{"quantity": "scale_effect", "size": "large - base", **ends}]
    for size, gain in (("base", 0.5), ("large", 0.5 + estimate)):
        rows.append({"quantity": "gain", "size": size, "estimate": gain})
        rows.append({"quantity": "score", "size": size, "estimate": 60.0})
    return pd.DataFrame(rows).assign(**place)


def runs(collapsed: int = 0) -> pd.DataFrame:
    down = [True] * collapsed + [False] * (4 - collapsed)
    frame = pd.DataFrame(RUNS, columns=["size", "intermediate", "target", "seed"])
    return frame.assign(collapsed=down)


def sentence(effects, collapsed=0, planned=(), margin=1.0) -> str:
    targets = {"nli": Target()}
    plan = Plan(SIZES, ["none", "qa"], targets, [*RUNS, *planned], margin=margin)
    return comparison.summary_sentence(effects, runs(collapsed), plan)


def test_a_difference_is_told_in_two_sentences():
    assert sentence(table(1.3, 0.4, 2.2)) == (
        "From the small one to the large one, the zero-shot gain from intermediate training on qa "
        "changes by +1.3 points [0.4, 2.2] on nli (gains: +0.5 at base, +1.8 at large). "
        "The larger size gains more."
    )
    assert sentence(table(-2.0, -3.1, -0.9)).endswith("size gains less.")
    unsized = comparison.summary_sentence(table(-2.0, -3.1, -0.9), runs())  # no parameters
    assert unsized.endswith("The gain shrinks.")


@pytest.mark.parametrize(
    ("ends", "seeds", "verdict"),
    [
        ((1.3, -0.4, 3.0), 3, "not distinguishable from zero: the larger size may gain more"),
        ((0.0, -1e-9, 1e-9), 3, "not distinguishable from zero"),  # nothing varies
        ((0.1, -0.9, 1.1), 3, "smaller than 1 point either way (90 % interval [−0.7, 0.9])."),
        ((5.0, 1.0, 9.0), 1, "At least one condition has a single seed, so this is only a hint."),
    ],
)
def test_nothing_is_claimed_beyond_the_interval(ends, seeds, verdict):
    text = sentence(table(*ends, seeds=seeds))
    assert verdict in text and "gains more." not in text


def test_the_margin_is_the_studys():
    assert "smaller than" not in sentence(table(0.1, -0.9, 1.1), margin=0.5)
    assert "smaller than 2.5 points either way" in sentence(table(0.1, -2, 2), margin=2.5)


def test_an_incomplete_study_says_what_is_missing():
    gone = [("large", "mt", "nli", 1)]
    nothing = sentence(table(np.nan, np.nan, np.nan, seeds=0), planned=gone)
    assert nothing.startswith("There is no answer yet: 1 of 5 runs are not finished")
    assert sentence(table(1.3, 0.4, 2.2), planned=gone).endswith("1 of 5 runs are not finished.")
    assert "no zero-shot gain: it needs `none`" in sentence(table(np.nan, np.nan, np.nan))


def test_collapsed_runs_are_counted_and_the_other_answer_is_given():
    left = table(4.0, 1.0, 7.0, analysis="without collapsed")
    steady = sentence(pd.concat([table(5.0, 1.0, 9.0), left]), collapsed=1)
    assert "The larger size gains more. 1 of 4 runs collapsed" in steady
    assert steady.endswith("leaving it out gives +4.0 points [1.0, 7.0].")
    for other in (left.assign(low=-1.0), left.assign(seeds=1), left.assign(estimate=np.nan)):
        text = sentence(pd.concat([table(5.0, 1.0, 9.0), other]), collapsed=2)
        assert "only if collapsed runs are counted" in text and "gains more." not in text
    assert text.endswith("without them too few remain to tell.")


def test_a_study_of_one_size_tells_its_gain():
    study = simulated_study({"nli": ("en", "de")}, ("none", "qa"), ("base",), gain={"base": 25.0})
    text = comparison.summary_sentence(comparison.effects(*study), study[1])
    assert text.startswith("With base, intermediate training on qa gains +") and "It helps." in text


def test_three_sizes_are_told_as_a_curve():
    gain = {"small": 0.0, "base": 6.0, "large": 12.0}
    study = simulated_study(
        {"nli": ("en", "de", "sw")}, ("none", "qa"), tuple(gain), items=2000, gain=gain, seed_sd=0.2
    )
    plan = Plan.of(study[1], dict(zip(gain, (1e6, 2e6, 4e6), strict=True)))
    effects = comparison.effects(*study, plan)
    text = comparison.summary_sentence(effects, study[1], plan)
    assert "for each doubling in size on nli (gains: " in text
    assert "We see no difference between the first and the last doubling" in text
    bend, ends = effects["quantity"] == "bend", ["estimate", "low", "high", "seeds"]
    effects.loc[bend, ends] = [-3.0, -4.0, -2.0, 1]  # a hint, but seen
    text = comparison.summary_sentence(effects, study[1], plan)
    assert "The last doubling brings less than the first (−3.0 points [−4.0, −2.0])." in text
    assert set(effects.query("quantity == 'slope'")["size"]) == {DOUBLING}


def test_published_figures_stand_beside_scores_of_the_same_encoder_and_languages_only():
    study = simulated_study({"xnli": (*LANGUAGES, "zh")}, ("none", "qa"), items=50)
    results = comparison.results(*study)
    encoders = {"base": "FacebookAI/xlm-roberta-base", "large": "mirror/xlm-roberta-large/"}
    sizes = {name: Size(name, encoder) for name, encoder in encoders.items()}
    plan = Plan(sizes, ["none", "qa"], {"xnli": Target()}, [])
    beside = comparison.beside_published(results, plan).dropna(subset=["ours"])
    assert set(beside["language"]) == {*LANGUAGES, "zh", "every"} and beside["ours"].notna().all()
    both = beside[(beside["language"] == "every") & (beside["size"] == "base")]
    rows = results.query("size == 'base' and intermediate == 'none' and language != 'zero-shot'")
    assert both["ours"].iloc[0] == pytest.approx(rows["score"].mean())
    cut = {name: Size(name, size.encoder, layers=3) for name, size in sizes.items()}
    assert comparison.beside_published(results, replace(plan, sizes=cut)).empty
    few = results[results["language"].isin(["en", "de", "sw"])]
    apart = comparison.beside_published(few, plan).dropna(subset=["ours"])
    assert set(apart["language"]) == {"en", "de", "sw"}  # no mean over fewer languages
    runs = list(study[1][RUN].itertuples(index=False, name=None))
    missing = comparison.beside_published(few, replace(plan, runs=runs)).query("ours.isna()")
    assert {*missing["status"]} == {"evaluated in other languages", "not asked for"}


def test_rows_of_a_file_stand_beside_ours_also_where_the_target_has_no_english(tmp_path):
    """Tatoeba and BUCC: English is what is searched for."""
    study, path = simulated_study({"tatoeba": ("de", "sw")}, items=20), tmp_path / "more.csv"
    target = Target(languages=("de", "sw"))
    plan = Plan({"base": Size("base", "a/model")}, ["none", "qa"], {"tatoeba": target}, [])
    row = {"encoder": "a/model", "intermediate": "none", "target": "tatoeba", "language": "every"}
    row |= {"languages": 2, "quantity": "score", "value": 50.0, "source": "x", "note": ""}
    pd.DataFrame([row]).to_csv(path, index=False)
    beside = comparison.beside_published(comparison.results(*study), plan, path)
    assert beside["ours"].notna().all() and len(beside) == 1
    pd.DataFrame([row]).drop(columns="note").to_csv(path, index=False)
    with pytest.raises(ComparisonError, match=r"more\.csv: found no column 'note'; expected"):
        comparison.published(path)
