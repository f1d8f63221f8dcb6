"""The report says what to do with each model, best first, and nothing from a summary can be markup in it."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from modelwarden.archive.report import (
    SPARK_LEVELS,
    SPARK_MISSING,
    SPARK_WIDTH,
    code_span,
    render_report,
    spark_line,
)
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary, series_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKUP = {
    "html_inline",
    "html_block",
    "link_open",
    "image",
    "fence",
    "code_block",
    "blockquote_open",
    "hr",
    "em_open",
    "s_open",
    "hardbreak",
    "softbreak",
    "ordered_list_open",
}
"""What no report holds, whatever the summary says; headings, lists and the table are counted."""

HOSTILE = [
    "`",
    "``",
    "a`b",
    "`code`",
    "``` \n".strip() + "x",
    "`<script>alert(1)</script>",
    "<script>alert(1)</script>",
    "<!--",
    "<https://example.org>",
    "[click](https://example.org)",
    "![x](https://example.org/x.png)",
    "https://example.org",
    "**bold** _em_ ~~gone~~",
    "# heading",
    "| a | b |",
    "|---|---|",
    "- item",
    "1. item",
    "> quote",
    "---",
    "===",
    "\\`",
    "\\",
    "&amp; &lt;",
    "@everyone <!channel>",
    "[x]: https://example.org",
    "$(rm -rf /)",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
    " a",
    "a ",
    "` `",
    "日経225",
    "שקל",
    "\N{ROCKET}",
    "e\N{COMBINING ACUTE ACCENT}",
]

finite = st.floats(allow_nan=False, allow_infinity=False)


def tokens_of(markdown: str) -> Iterator[Token]:
    """All tokens that a CommonMark parser sees, those inside lines included."""
    for token in MARKDOWN.parse(markdown):
        yield token
        yield from token.children or ()


def code_of(markdown: str) -> list[str]:
    """What stands in code spans, to the letter."""
    return [token.content for token in tokens_of(markdown) if token.type == "code_inline"]


def headings_of(markdown: str) -> list[str]:
    """The text of every heading."""
    tokens = MARKDOWN.parse(markdown)
    return [inside.content for opening, inside in pairwise(tokens) if opening.type == "heading_open"]


def test_report_counts_and_orders_the_classes_best_first() -> None:
    """How many, then who: APPROVED, REVIEW, DROP, each with what may be done."""
    report = render_report(*judged_run(flat_summary({"A": BAD, "B": GOOD, "C": MIDDLING, "D": BAD})))
    assert "**1 APPROVED** · **1 REVIEW** · **2 DROP** of 4 models" in report
    assert headings_of(report) == [
        "Run 20241224_153000",
        "APPROVED (1): may be deployed",
        "REVIEW (1): a person decides",
        "DROP (2): do not deploy",
        f"Policy `{Policy.from_config().id}`",
    ]
    assert [code for code in code_of(report) if len(code) == 1] == ["B", "C", "A", "D"]


def test_report_of_one_model_says_so_and_names_the_empty_classes() -> None:
    """A class without models is said to have none; nothing is left to be guessed."""
    report = render_report(*judged_run(flat_summary({"A": GOOD})))
    assert "of 1 model\n" in report
    assert report.count("\nNone.\n") == 2


def test_report_names_where_the_run_came_from() -> None:
    """Run name, host, source and hash, so that a run is traced back without reading JSON."""
    run, assessments = judged_run(flat_summary(run_name="nightly"))
    assert code_of(render_report(run, assessments))[:4] == ["nightly", "trainer-7", run.source.path, run.sha256]


def test_report_without_run_name_or_path_leaves_the_lines_out() -> None:
    """No empty fields, no None."""
    report = render_report(*judged_run(flat_summary(), path=""))
    assert "run name" not in report
    assert "source" not in report
    assert "None\n" not in report.replace("None.\n", "")


def test_report_shows_flags_and_figures_of_each_model() -> None:
    """An approved model with what it passed, the others with what they missed."""
    report = render_report(*judged_run(flat_summary({"A": GOOD, "B": {**GOOD, "final_pf": 1.1}})))
    assert "fitness 0.91 >= 0.70, profit factor 2.40 >= 1.80" in report
    assert "- **`B`** (LOW_PF, NO_HISTORY)\n  - profit factor 1.10 < 1.30, the bound of REVIEW\n" in report


@pytest.mark.parametrize(
    ("interval", "advice"),
    [
        (50, "**use checkpoint 100 instead of the last**; its other figures there are not known"),
        (
            None,
            "**use the checkpoint of validation point 2 instead of the last**; its other figures there are not known",
        ),
    ],
)
def test_report_of_a_declined_model_advises_the_checkpoint(interval: int | None, advice: str) -> None:
    """The one thing to do stands first under the model."""
    model = {**GOOD, "fitness_history": [0.5, 0.99, 0.91]}
    report = render_report(*judged_run(flat_summary({"A": model}, validation_interval=interval)))
    assert f"- **`A`** (FITNESS_DECLINE)\n  - {advice}\n" in report


PEAK_AND_END = {
    "APPROVED there": (
        (0.99, 2.4, 0.9, 0.04),
        "  - **use checkpoint 50 instead of the last**; its figures there: APPROVED\n",
    ),
    "not APPROVED there": (
        (0.99, 1.1, 0.9, 0.04),
        "  - peaked at 50; its figures there: DROP (profit factor 1.10 < 1.30)\n",
    ),
}


@pytest.mark.parametrize(("peak", "line"), PEAK_AND_END.values(), ids=PEAK_AND_END)
def test_report_of_a_declined_model_tells_its_figures_at_the_peak(
    peak: tuple[float, float, float, float], line: str
) -> None:
    """In bold only what to do; a point that would not be approved is told of, and no more."""
    report = render_report(*judged_run(series_summary({"A": [peak, (0.91, 2.4, 0.9, 0.04)]}, validation_interval=50)))
    assert f"- **`A`** (FITNESS_DECLINE)\n{line}" in report


def test_report_of_a_dropped_model_has_no_advice() -> None:
    """Nobody is told to use what must not be deployed."""
    report = render_report(*judged_run(flat_summary({"A": {**BAD, "fitness_history": [0.9, 0.2]}})))
    assert "  - peaked at validation point 1; its other figures there are not known\n" in report
    assert "use checkpoint" not in report
    assert "use the checkpoint" not in report


def test_report_of_figures_that_contradict_each_other_names_both_places() -> None:
    """A person who looks at a model in REVIEW sees why, and where to look."""
    report = render_report(*judged_run(flat_summary({"A": {**GOOD, "fitness_history": [0.5, 0.93]}})))
    assert "- **`A`** (INCONSISTENT_FIGURES)\n" in report
    assert "  - figures contradict each other: final_fitness is 0.91, but fitness_history ends at 0.93\n" in report


def test_report_of_a_model_without_decline_advises_no_checkpoint() -> None:
    """Advice is given where it is needed."""
    model = {**GOOD, "fitness_history": [0.5, 0.91]}
    assert "checkpoint" not in render_report(*judged_run(flat_summary({"A": model}, validation_interval=50)))


def test_report_of_a_history_draws_it_with_figures() -> None:
    """A line shows the course, figures its ends and its highest point."""
    model = {**GOOD, "fitness_history": [0.5, None, 0.95, 0.91]}
    report = render_report(*judged_run(flat_summary({"A": model})))
    assert f"▁{SPARK_MISSING}█" in report
    assert "0.5 → 0.91, peak 0.95, 4 points" in report


def test_report_of_a_history_without_a_usable_point_says_so() -> None:
    """Nothing is drawn from nothing."""
    model = {**GOOD, "fitness_history": [None, math.nan, math.inf]}
    assert f"{SPARK_MISSING * 3} no usable point" in render_report(*judged_run(flat_summary({"A": model})))


def test_report_shows_the_policy_that_judged() -> None:
    """Every threshold, to the last digit: the report can be read without the config."""
    config = ModelGatingConfig(approved_min_fitness=0.725, fitness_decline_threshold=0.075)
    report = render_report(*judged_run(flat_summary(), config=config))
    assert "| fitness | >= 0.725 | >= 0.5 | < 0.5 |" in report
    assert "| max drawdown | <= 0.08 | <= 0.15 | > 0.15 |" in report
    assert "0.075" in report
    assert sum(token.type == "table_open" for token in tokens_of(report)) == 1


def test_report_is_utf_8_and_ends_in_a_newline() -> None:
    """Written and read on any system with one encoding; a symbol may hold any character."""
    report = render_report(*judged_run(flat_summary({"日経 \N{ROCKET}": GOOD})))
    assert report.endswith("\n")
    assert not report.endswith("\n\n")
    assert report.encode("utf-8").decode("utf-8") == report


def test_report_of_many_models_parses_as_one_list_entry_each() -> None:
    """A realistic run: as many entries as models, and none of the markup that a report never has."""
    run, assessments = judged_run(random_summary(7))
    report = render_report(run, assessments)
    names = [code for code in code_of(report) if re.fullmatch(r"SYM\d{3}", code)]
    assert sorted(names) == sorted(each.symbol for each in assessments)
    _assert_no_markup(report)


@pytest.mark.parametrize("text", HOSTILE)
def test_report_hostile_text_comes_out_to_the_letter_and_as_nothing_else(text: str) -> None:
    """As symbol, run name, checkpoint id and path: literal code, no markup, no heading, no other list entry."""
    plain, hostile = _report_about("plain"), _report_about(text)
    assert code_of(hostile) == [text if code == "plain" else code for code in code_of(plain)]
    assert headings_of(hostile) == headings_of(plain)
    assert [token.type for token in MARKDOWN.parse(hostile)] == [token.type for token in MARKDOWN.parse(plain)]
    _assert_no_markup(hostile)


@pytest.mark.parametrize("path", ["/a\n# b", "/a\r\n\r\n<b>", "/a\tb", "/a\x00b", "/a\x1b[1m", "/a\u2028b"])
def test_report_path_with_control_characters_shows_them_escaped(path: str) -> None:
    """A file's name may hold a line break; the report stays one line there and shows what it was."""
    plain = render_report(*judged_run(flat_summary(), path="/plain"))
    report = render_report(*judged_run(flat_summary(), path=path))
    assert report.count("\n") == plain.count("\n")
    assert headings_of(report) == headings_of(plain)
    assert "/a\\u00" in report or "/a\\u2028" in report
    _assert_no_markup(report)


@pure
@given(st.text(min_size=1))
@example("`")
@example("\\``` ` ")
def test_code_span_of_any_text_is_one_span_and_nothing_else(text: str) -> None:
    """There is no text that closes its span, and printable text is shown to the letter."""
    assume(text.strip(" "))  # spaces alone have a test of their own
    line = f"- **{code_span(text)}** (FLAG)"
    tokens = list(tokens_of(line))
    assert [token.content for token in tokens if token.type == "code_inline"] == [_shown(text)]
    assert [token.content for token in tokens if token.type == "text" and token.content] == [" (FLAG)"]
    assert sum(token.type == "list_item_open" for token in tokens) == 1
    assert sum(token.type == "strong_open" for token in tokens) == 1
    _assert_no_markup(line)


@pytest.mark.parametrize("text", [" ", "   "])
def test_code_span_of_spaces_is_shown_to_the_letter(text: str) -> None:
    """A symbol of one space is shown as one space, not as three."""
    assert code_of(code_span(text)) == [text]


@pure
@given(st.lists(finite | st.floats(0, 1) | st.floats(), max_size=3 * SPARK_WIDTH))
@example([0.0, 5e-324])
@example([1.0000000000000002, 1.0000000000000018])
@example([-1.7976931348623157e308, 1.7976931348623157e308])
def test_spark_line_of_any_history_is_blocks_within_its_width(history: list[float]) -> None:
    """One character a point up to the width, made of blocks and dots alone; whatever the figures, it is drawn."""
    line = spark_line(history)
    assert len(line) == min(len(history), SPARK_WIDTH)
    assert set(line) <= {*SPARK_LEVELS, SPARK_MISSING}


@pure
@given(
    st.lists(
        st.floats(-1e300, 1e300).map(lambda point: round(point, 6)) | st.just(math.nan),
        min_size=1,
        max_size=SPARK_WIDTH,
    )
)
def test_spark_line_of_a_short_history_rises_and_falls_with_it(history: list[float]) -> None:
    """Lowest and highest points stand lowest and highest, missing ones are dots, order is kept."""
    line = spark_line(history)
    drawn = [(point, SPARK_LEVELS.find(block)) for point, block in zip(history, line, strict=True)]
    assert all(math.isnan(point) is (level < 0) for point, level in drawn)
    levels = [level for _, level in sorted((point, level) for point, level in drawn if level >= 0)]
    assert levels == sorted(levels)
    usable = {point for point, level in drawn if level >= 0}
    if len(usable) > 1:
        assert (levels[0], levels[-1]) == (0, len(SPARK_LEVELS) - 1)


@pytest.mark.parametrize(
    ("history", "line"),
    [
        ([], ""),
        ([0.5], "▄"),
        ([0.9] * 5, "▄▄▄▄▄"),
        ([0.0, math.nan, 0.0], "▄·▄"),
        ([math.nan] * 3, "···"),
        ([math.inf, 0.0, -math.inf, 1.0], "·▁·█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], SPARK_LEVELS),
        ([7, 6, 5, 4, 3, 2, 1, 0], SPARK_LEVELS[::-1]),
        ([-8.0, -1.0], "▁█"),
    ],
)
def test_spark_line_of_simple_histories_is_as_drawn_by_hand(history: list[float], line: str) -> None:
    """Flat is a line in the middle, missing is a dot, a ramp is a ramp."""
    assert spark_line(history) == line


@pure
@given(st.integers(SPARK_WIDTH, 2_000), st.data())
def test_spark_line_of_a_long_history_keeps_the_peak_in_sight(count: int, data: st.DataObject) -> None:
    """Thinning never hides the one point that the advice is about."""
    peak = data.draw(st.integers(0, count - 1))
    history = [0.5 - (index % 7) / 100 for index in range(count)]
    history[peak] = 1.0
    line = spark_line(history)
    assert len(line) == SPARK_WIDTH
    assert line.count("█") == 1
    assert abs(line.index("█") - peak * SPARK_WIDTH / count) <= 1


def test_spark_line_of_a_long_history_with_gaps_shows_points_before_dots() -> None:
    """A stretch is missing only where all of its points are."""
    history = [math.nan, 0.5] * SPARK_WIDTH + [math.nan] * (2 * SPARK_WIDTH)
    assert spark_line(history) == "▄" * (SPARK_WIDTH // 2) + SPARK_MISSING * (SPARK_WIDTH // 2)


def _report_about(text: str) -> str:
    """A report in which everything that a stranger names is this text."""
    model = {**GOOD, "fitness_history": [0.99, 0.91], "checkpoints": [text, "last"]}
    run, assessments = judged_run(flat_summary({text: model}, run_name=text), path=text)
    return render_report(run._replace(sha256="0" * 64), assessments)


def _shown(text: str) -> str:
    """What a reader is to see of a text: itself, with an escape for what can't be printed."""
    return "".join(
        each if each.isprintable() or each == "\N{ZERO WIDTH JOINER}" else f"\\u{ord(each):04x}" for each in text
    )


def _assert_no_markup(markdown: str) -> None:
    assert not MARKUP & {token.type for token in tokens_of(markdown)}
