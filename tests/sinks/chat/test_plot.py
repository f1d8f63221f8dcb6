"""The picture of a run shows its approved models, is one whatever their names and figures are, and leaves no trace.

The rule: without matplotlib there is no picture and nothing else changes; where it is missing, what needs it skips and
says so, and in CI, which has it, fails.
"""

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.gate.assessment import Classification
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.plot import (
    _COLOURS,
    _LABEL_STEP,
    _STRETCHES,
    HEIGHT,
    MOST_LINES,
    WIDTH,
    _label_heights,
    _Line,
    _thinned,
    caption_of,
    fitness_plot,
)
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary, series_summary

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

RISING = [0.5, 0.7, 0.8, 0.9, 0.91]


def news_of(summary: Mapping[str, Any], config: ModelGatingConfig | None = None) -> RunNews:
    """What the courier would know of an archived run, with the histories."""
    run, assessments = judged_run(summary, config=config)
    report = f"/training_archives/{run.timestamp}/recommendations.md"
    return RunNews(run.timestamp, run.run_name, run.archived_by, report, run.counts, run.policy, assessments)


def approved(histories: Mapping[str, Sequence[float]], **fields: Any) -> RunNews:
    """A run of approved models with these histories."""
    return news_of(
        flat_summary({name: {**GOOD, "fitness_history": points} for name, points in histories.items()}, **fields)
    )


def drawn(news: RunNews) -> bytes:
    """The picture, which there must be."""
    picture = fitness_plot(news)
    assert picture is not None
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert [int.from_bytes(picture[start : start + 4]) for start in (16, 20)] == [WIDTH, HEIGHT]
    return picture


def colours_in(picture: bytes) -> list[str]:
    """Which of the lines' colours are in a picture, in the order in which lines get them."""
    from matplotlib.image import imread  # noqa: PLC0415 - optional

    pixels = imread(BytesIO(picture), format="png").reshape(-1, 4)
    found = {bytes(pixel) for pixel in (pixels[:, :3] * 255).round().astype("uint8")}
    return [colour for colour in _COLOURS if bytes.fromhex(colour[1:]) in found]


@pytest.mark.usefixtures("matplotlib")
def test_plot_has_a_line_for_each_approved_model_and_for_no_other() -> None:
    """What is dropped or in review is not in the picture."""
    models = {name: {**GOOD, "fitness_history": RISING} for name in ("A", "B", "C")}
    others = {"D": {**BAD, "fitness_history": RISING}, "R": {**MIDDLING, "fitness_history": RISING}}
    for index, each in enumerate(models):
        models[each] = models[each] | {"fitness_history": [*(point - index / 10 for point in RISING), 0.91]}
    assert colours_in(drawn(news_of(flat_summary(models | others)))) == list(_COLOURS[:3])


@pytest.mark.usefixtures("matplotlib")
def test_plot_of_many_models_has_the_same_lines_in_any_order() -> None:
    """Twelve can be told apart, and so many there are; which twelve does not depend on how the trainer sorted them."""
    summary = random_summary(3, models=60)
    models = {}
    for index, each in enumerate(summary["models"][: MOST_LINES + 20]):
        final = 0.9 + index / 1000
        models[f"S{index}"] = GOOD | {
            "final_fitness": final,
            "fitness_history": [*each["fitness_history"], final],
        }
    picture = drawn(news_of(flat_summary(models)))
    assert colours_in(picture) == list(_COLOURS)
    assert drawn(news_of(flat_summary(dict(reversed(models.items()))))) == picture


@pytest.mark.usefixtures("matplotlib")
def test_plot_shows_which_checkpoint_to_use() -> None:
    """A decline changes the picture, and so does the checkpoint's name."""
    history = [0.5, 0.99, 0.91]
    pictures = {
        drawn(approved({"A": history})),
        drawn(approved({"A": history}, validation_interval=50)),
        drawn(approved({"A": history}, validation_interval=75)),
        drawn(approved({"A": [0.5, 0.94, 0.91]})),
    }
    assert len(pictures) == 4


@pytest.mark.usefixtures("matplotlib")
def test_plot_marks_no_checkpoint_that_is_not_advised() -> None:
    """A peak at which the model would be DROP is drawn like any other peak."""
    last = (0.91, 2.4, 0.9, 0.04)
    for peak, advised in (((0.99, 2.4, 0.9, 0.04), True), ((0.99, 1.1, 0.9, 0.04), False)):
        pictures = {
            drawn(news_of(series_summary({"A": [peak, last]}, validation_interval=interval))) for interval in (50, 75)
        }
        assert len(pictures) == (2 if advised else 1)


@pytest.mark.parametrize(
    "news",
    [
        news_of(flat_summary()),
        news_of(flat_summary({"D": {**BAD, "fitness_history": RISING}, "R": {**MIDDLING, "fitness_history": RISING}})),
        approved({"A": [math.nan, math.nan]}),
        approved({"A": [1e308, math.nan, -1e300]}),
    ],
    ids=["no histories", "nobody approved", "no numbers", "nothing that fits an axis"],
)
def test_plot_with_nothing_to_draw_is_none(news: RunNews) -> None:
    """No empty picture is attached."""
    assert fitness_plot(news) is None


@pytest.mark.parametrize("missing", ["matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"])
def test_plot_without_matplotlib_is_none(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: nothing fails without it."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert fitness_plot(approved({"A": RISING})) is None


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize(
    "symbol",
    [
        "$\\frac{1}{0}$",
        "$",
        "_nolegend_",
        "{x} %s \\n",
        "日経 \N{ROCKET}",
        "שלום مرحبا",
        "e" + "\u0301" * 120,
        "W" * 128,
        "\ufdfd" * 128,
        "\U0010fffd\ue000",
        " ",
    ],
    ids=lambda symbol: ascii(symbol[:20]),
)
def test_plot_of_any_symbol_is_drawn_without_a_warning(symbol: str) -> None:
    """A symbol is no mathematics, and a character that the font lacks is an escape. Warnings are errors here."""
    drawn(approved({symbol: [0.5, 0.99, 0.91], "B": RISING}, checkpoints=None))
    drawn(
        news_of(flat_summary({"A": {**GOOD, "fitness_history": [0.5, 0.99, 0.91], "checkpoints": ["a", symbol, "c"]}}))
    )


@few
@given(
    st.lists(st.lists(st.floats() | st.sampled_from([1e100, -1e100, 5e-324, 0.0, -0.0]), max_size=9), max_size=14),
    st.sampled_from([0.5, 1e-300, 1e308]),
)
def test_plot_of_any_histories_is_drawn_or_none(histories: list[list[float]], bound: float) -> None:
    """Not a number, infinite, as large as floats get or all the same: no crash, no warning, the right size."""
    config = ModelGatingConfig(approved_min_fitness=bound, review_min_fitness=min(bound, 0.5))
    models = {
        str(index): GOOD | {"final_fitness": max(bound, 0.9), "fitness_history": [*points, None]}
        for index, points in enumerate(histories)
    }
    news = news_of(flat_summary(models or {"D": BAD}), config)
    assert news.counts[Classification.APPROVED] == len(histories)
    drawable = any(abs(point) <= 1e100 for points in histories for point in points)
    if find_spec("matplotlib") is None or not drawable:
        assert fitness_plot(news) is None
    else:
        drawn(news)


@pytest.mark.usefixtures("matplotlib")
def test_plot_heeds_no_settings_of_the_host_and_leaves_them_alone() -> None:
    """With usetex a symbol would be a program; a trainer's matplotlibrc may well ask for it."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    news = approved({"\\input{/etc/passwd}": RISING})
    picture = drawn(news)
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "figure.dpi": 7, "savefig.bbox": "tight"}):
        assert drawn(news) == picture
        assert mpl.rcParams["text.usetex"] is True


@pytest.mark.usefixtures("matplotlib")
def test_plot_imports_matplotlib_when_it_draws_and_never_pyplot() -> None:
    """The courier that sends no picture doesn't pay for it, and no figure is kept anywhere."""
    code = """
import sys
from test_plot import RISING, approved, fitness_plot
news = approved({"A": RISING})
assert "matplotlib" not in sys.modules
assert fitness_plot(news)
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *filter(None, sys.path)]
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=MOST_LINES))
def test_labels_keep_clear_of_one_another_and_in_the_order_of_their_lines(ends: list[float]) -> None:
    """Twelve models that end alike are still twelve names, the highest on top and none above the axes."""
    model = approved({"A": RISING}).assessments[0]
    axes: Any = SimpleNamespace(get_ylim=lambda: (0.0, 1.0))
    heights = _label_heights(axes, [_Line(model, [(0, end)], None) for end in ends])
    assert max(heights) <= 1.0
    ordered = sorted(zip(ends, heights, strict=True))
    assert [height for _, height in ordered] == sorted(heights) or len(set(ends)) < len(ends)
    for lower, higher in pairwise(sorted(heights)):
        assert higher - lower >= _LABEL_STEP - 1e-9


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.integers(1, 300))
def test_long_history_keeps_its_ends_its_peak_and_its_lowest_point(points: list[float], times: int) -> None:
    """Thinned to what pixels can show, in order, with nothing that a person would look for gone."""
    history = list(enumerate(points * times))
    thinned = _thinned(history)
    assert set(thinned) <= set(history)
    assert list(thinned) == sorted(thinned)
    assert len(thinned) <= 2 * _STRETCHES + 2
    assert (thinned[0], thinned[-1]) == (history[0], history[-1])
    assert max(point for _, point in thinned) == max(points)
    assert min(point for _, point in thinned) == min(points)


def test_caption_names_what_the_plot_shows_also_without_the_histories() -> None:
    """Twelve of fourteen with their last figures, in the plot's order: the courier knows the words before it draws."""
    falling = [0.5, 0.99, 0.91]
    news = approved({"FELL": falling, **{f"S{number}": RISING for number in range(13)}, "NONE": []})
    words = caption_of(news)
    assert words.startswith(
        "Fitness of 12 of 15 approved models over the validation points, with the last figure: FELL"
    )
    assert sum(f"S{number} " in words for number in range(13)) == 11
    assert "NONE" not in words
    assert words.endswith("a circle is a peak, a diamond one to use instead of the last checkpoint.")
    bare = news._replace(assessments=[model._replace(history=()) for model in news.assessments])
    assert caption_of(bare) == words
