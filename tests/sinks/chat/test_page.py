"""A page reads the same as text and as HTML, whatever a stranger named a model, and never grows past its limits.

The rule: the HTML is read with a parser as a mail client would, and turned back into the text.
"""

import math
import re
import string
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from modelwarden.sinks.chat.digest import Message, RunNews, many_runs_message, rejected_message, run_message
from modelwarden.sinks.chat.document import LONGEST_HTML, Picture, fitted_to_html, render_html
from modelwarden.sinks.chat.page import (
    LONGEST_TEXT,
    LONGEST_TITLE,
    REPEAT_MARK,
    Figure,
    Page,
    Row,
    Section,
    _text,
    clipped,
    fitted,
    render_text,
    render_title,
    shown,
    size,
)
from pages import html_of
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ALL = ("APPROVED", "REVIEW", "DROP")
CLIPPED_BY_GMAIL: Final = 100_000
"""Bytes; a longer mail is shown in part."""

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></tr></table><h1>",
    "\"' onmouseover=alert(1) x='",
    "&lt;b&gt; &amp; &#x41;",
    "<!channel> <@U1>",
    "{0} %s $HOME {{x}}",
    "日経 \N{ROCKET} ÄÖÜ",
    "שלום مرحبا",
    "e" + "\u0301" * 100,
    "two  spaces",
    "W" * 128,
    "&" * 128,
]
UNSHOWN = "\0\n\r\t\x1b\x7f\x85\u2028\u2029\u202e\u2066\u200f\u061c\ud800\udfff"


def news_of(summary: Mapping[str, Any]) -> RunNews:
    """What the courier would know of an archived run."""
    run, assessments = judged_run(summary)
    report = f"/training_archives/{run.timestamp}/recommendations.md"
    return RunNews(run.timestamp, run.run_name, run.archived_by, report, run.counts, run.policy, assessments)


class Reader(HTMLParser):
    """Reads a page as a mail client would: every element closed in order, nothing but what a page is made of.

    Attributes:
        pieces: tag, attributes and text of each heading, cell and paragraph; an empty one where a table row begins.
        used: every tag, and every attribute's name.
    """

    BLOCKS: Final = frozenset({"h1", "h2", "p", "th", "td"})
    VOID: Final = frozenset({"meta", "br"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.pieces: list[tuple[str, Mapping[str, str | None], str]] = []
        self.used: set[str] = set()
        self._open: list[str] = []
        self._attributes: Mapping[str, str | None] = {}
        self._text = ""
        self.feed(document)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.used |= {tag, *(name for name, _ in attrs)}
        assert not any(value and ("url(" in value or "//" in value) for _, value in attrs)
        if tag == "br":
            self._text += "\n"
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "tr":
            self.pieces.append((tag, {}, ""))
        if tag in self.BLOCKS:
            assert not self.BLOCKS & set(self._open[:-1])
            self._attributes, self._text = dict(attrs), ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in self.BLOCKS:
            self.pieces.append((tag, self._attributes, self._text))

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def cells(self) -> list[str]:
        """The texts of all cells of all tables."""
        return [text for tag, _, text in self.pieces if tag in {"th", "td"}]

    def models(self) -> list[str]:
        """The names of the rows of all tables."""
        return [text for tag, attributes, text in self.pieces if tag == "th" and attributes["scope"] == "row"]


def text_from(document: str) -> str:
    """The text that a page's HTML says, written as the plain text is."""
    blocks: list[list[str]] = []
    heads: list[str] = []
    cells: list[str] = []
    for tag, attributes, text in Reader(document).pieces[2:]:  # behind the tallies and the heading
        match tag:
            case "h2":
                blocks.append([text])
                heads = []
            case "p":
                blocks.append([text])
            case "th" if attributes["scope"] == "col":
                heads.append(text)
            case "th":
                blocks[-1].append(f"- {text}")
                cells = []
            case "td" if text.startswith("… and "):
                blocks[-1].append(text)
            case "td":
                spans = "colspan" in attributes
                words = text.replace("\n", ", ")
                named = heads[1:] == ["what decided"] or spans
                cells.append(words if named else f"{heads[1 + len(cells)]} {words}")
                blocks[-1][-1] += f"{', ' if len(cells) > 1 else ': ' if words else ''}{cells[-1]}"
            case _:
                assert tag == "tr"
    return "\n\n".join("\n".join(block) for block in blocks)


def assert_well_made(message: Message) -> None:
    """Title, text and HTML hold every limit and say the same; the HTML may say more of the same lists."""
    assert size(message.title) <= LONGEST_TITLE
    assert size(message.body) <= LONGEST_TEXT
    html = html_of(message)
    assert len(html.encode()) <= CLIPPED_BY_GMAIL
    if "… and " not in html and "…" not in message.body:
        assert text_from(html) == message.body
    assert "\n" not in message.title
    for text in (message.title, message.body, html):
        assert not set(text) & set(UNSHOWN) - {"\n"}


words = st.text(min_size=1, max_size=40) | st.sampled_from(HOSTILE) | st.sampled_from(UNSHOWN)
plain_words = st.text(string.ascii_letters, min_size=1, max_size=12)
figures = st.builds(
    Figure, plain_words, plain_words | st.just("is not a number (NaN)"), st.sampled_from(["", "< 0.70"])
)
rows = st.builds(
    Row,
    words,
    st.lists(figures, max_size=5).map(tuple),
    st.lists(plain_words, max_size=2).map(tuple),
    words | st.just(""),
)
sections = st.builds(
    lambda heading, rows, more: Section(heading, len(rows) + more, tuple(rows)),
    st.sampled_from([*ALL, "Runs"]),
    st.lists(rows, max_size=20),
    st.integers(0, 1000),
)
pages = st.builds(
    lambda lead, subject, host, sections, texts, more, facts: Page(
        lead, subject, host, tuple(sections), tuple(texts), len(texts) + more, tuple(facts)
    ),
    st.sampled_from([("APPROVED 3", "REVIEW 5", "DROP 42"), ("REJECTED",), ("PROBLEM",)]),
    words,
    words | st.just(""),
    st.lists(sections, max_size=4),
    st.lists(st.lists(words, min_size=1, max_size=5).map("\n".join), max_size=12),
    st.integers(0, 5),
    st.lists(st.tuples(plain_words, words), max_size=3),
)


@pure
@given(pages)
def test_any_page_reads_the_same_as_text_and_as_html_and_keeps_its_limits(page: Page) -> None:
    """Whatever a stranger wrote: one set of figures and counts, well-formed, without a control character."""
    assert_well_made(Message(render_title(page), render_text(page), page))
    assert text_from(render_html(page)) == _text(fitted_to_html(page))


@pure
@given(pages)
def test_page_once_fitted_stays_as_it_is(page: Page) -> None:
    """What both readings are made of is cut once."""
    assert fitted(fitted(page)) == fitted(page)
    assert fitted_to_html(fitted_to_html(page)) == fitted_to_html(page)


@pure
@given(st.integers(0, 10_000), st.integers(1, 40), st.sets(st.sampled_from(ALL)))
def test_html_of_any_run_says_what_its_text_says(seed: int, models: int, asked: set[str]) -> None:
    """Names, figures, bounds, advice and counts, one for one."""
    news = news_of(random_summary(seed, models=models, points=4))
    assert_well_made(run_message(news, asked))
    assert_well_made(many_runs_message([news] * 7, asked))


@pytest.mark.parametrize("symbol", HOSTILE, ids=lambda symbol: ascii(symbol[:20]))
def test_hostile_symbol_is_shown_to_the_letter_and_is_no_markup(symbol: str) -> None:
    """In the text as it stands, in the HTML escaped; the page's own elements are all there are."""
    summary = flat_summary({symbol: GOOD, "MIDDLING": MIDDLING, "BAD": BAD}, run_name=symbol)
    message = run_message(news_of(summary), ALL)
    assert f"- {symbol}: fitness 0.91 >= 0.70" in message.body
    reader = Reader(html_of(message))
    assert reader.models() == [symbol, "MIDDLING", "BAD"]
    assert reader.used <= Reader(html_of(run_message(news_of(flat_summary()), ALL))).used
    assert escape(symbol) in html_of(message)
    assert_well_made(message)


@pytest.mark.parametrize("unshown", UNSHOWN, ids=ascii)
def test_character_that_would_break_or_turn_a_line_is_escaped(unshown: str) -> None:
    """A hand-edited archive can hold what the gate refuses; it ends no line, and can be encoded."""
    name = f"A{unshown}B"
    section = Section("APPROVED", 1, (Row(name, (Figure("run", name),), (name,), name),))
    page = Page(("PROBLEM",), name, name, (section,), (), 0, (("host", name),))
    message = Message(render_title(page), render_text(page), page)
    assert_well_made(message)
    assert shown(name) == f"A\\u{ord(unshown):04x}B"
    assert message.body.splitlines()[1] == f"- {shown(name)}: run {shown(name)}, {shown(name)}, {shown(name)}"
    for text in (message.title, message.body, html_of(message)):
        text.encode()


def test_table_has_a_column_a_metric_where_all_its_models_have_the_same() -> None:
    """Figures stand under one another, the metric's name above them."""
    summary = flat_summary({"AAPL": GOOD, "MSFT": GOOD | {"fitness_history": [0.5, 0.99, 0.91]}})
    table = Reader(html_of(run_message(news_of(summary), ALL))).cells()
    figures = ["0.91 >= 0.70", "2.40 >= 1.80", "0.90 >= 0.85", "0.04 <= 0.08"]
    assert table == [
        *("model", "fitness", "profit factor", "consistency", "max drawdown"),
        *("AAPL", *figures),
        *("MSFT", *figures),
        "use the checkpoint of validation point 2 instead of the last; its other figures there are not known",
    ]


def test_table_names_each_figure_where_its_models_have_different_ones() -> None:
    """No cell is empty: a mail's plain part is made of the cells, and a figure without its name says nothing."""
    summary = flat_summary({"A": GOOD | {"final_pf": 1.1}, "B": GOOD | {"final_fitness": 0.1}, "C": BAD})
    cells = Reader(html_of(run_message(news_of(summary), ALL))).cells()
    assert cells[:6] == ["model", "what decided", "A", "profit factor 1.10 < 1.30", "B", "fitness 0.10 < 0.50"]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (None, "is missing"),
        (math.nan, "is not a number (NaN)"),
        (math.inf, "is infinite (no losing trade): a person looks"),
    ],
)
def test_table_says_in_words_what_is_no_figure(figure: float | None, said: str) -> None:
    """A sentence has no place in a narrow column, and needs its metric's name."""
    summary = flat_summary({"A": GOOD | {"final_pf": figure}})
    assert Reader(html_of(run_message(news_of(summary), ALL))).cells() == [
        "model",
        "what decided",
        "A",
        f"profit factor {said}",
    ]


def test_table_of_runs_has_a_column_a_class() -> None:
    """Behind the models of all runs: how each run went."""
    news = news_of(flat_summary())
    cells = Reader(html_of(many_runs_message([news], ()))).cells()
    assert cells == ["run", *ALL, "20241224_153000", "1", "1", "1"]


def test_html_is_one_document_that_fetches_nothing() -> None:
    """Inline styles alone, light and dark, and no wider than a mail is read."""
    html = html_of(run_message(news_of(flat_summary()), ALL))
    assert html.startswith("<!DOCTYPE html>")
    assert not Reader(html).used & {"script", "link", "img", "src", "href", "a", "iframe", "class", "id"}
    assert "<style" not in html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "max-width:600px" in html
    assert "<title>APPROVED 1 · REVIEW 1 · DROP 1: run 20241224_153000 (trainer-7)</title>" in html


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 has it."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_text_is_readable_on_its_ground_light_and_dark() -> None:
    """WCAG's 4.5 to 1: what is muted on the client's white and black, what has a ground of its own on that."""
    html = html_of(run_message(news_of(flat_summary()), ALL))
    colours = re.findall(r"(?<![-\w])color:(#[0-9a-f]{6})", html)
    grounds = re.findall(r"background:(#[0-9a-f]{6});color:#ffffff", html)
    assert (set(colours), len(grounds)) == ({"#767676", "#ffffff"}, 3)
    for colour in set(colours) - {"#ffffff"}:
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#000000")) >= 4.5
    for ground in grounds:
        assert contrast("#ffffff", ground) >= 4.5


def test_figure_stays_on_a_line_with_its_name_and_its_bound() -> None:
    """A phone that breaks between `profit factor` and its figure makes it hard to read; a monster may be broken."""
    row = Row("ABC", (Figure("profit factor", "1.20", "< 1.30"), Figure("max drawdown", "9" * 40, "> 0.15")))
    html = render_html(Page(("DROP 2",), "run X", sections=(Section("DROP", 2, (row, Row("DEF", row.figures[:1]))),)))
    assert '<span style="white-space:nowrap;">profit factor <strong>1.20</strong>' in html
    assert f'max drawdown <span style="white-space:nowrap;"><strong>{"9" * 40}' in html


def names(heading: str, count: int) -> Section:
    """A list of so many rows with long names, of 25."""
    return Section(heading, 25, tuple(Row(f"{heading}{index}{'x' * 100}", ()) for index in range(count)))


@pytest.mark.parametrize(
    ("before", "after"), [([20, 20, 20], [16, 5, 5]), ([1, 20, 3], [1, 20, 3]), ([1, 3, 30], [1, 3, 22])]
)
def test_longest_list_is_cut_first_and_the_best_class_last(before: list[int], after: list[int]) -> None:
    """Long names leave room for few: the first of each list stay, and what is left out is counted."""
    page = Page(("X",), "y", sections=tuple(map(names, ALL, before)))
    for section, whole, count in zip(fitted(page).sections, page.sections, after, strict=True):
        assert section.rows == whole.rows[:count]
        assert f"… and {25 - count} more" in render_text(page)


def test_html_names_what_the_text_has_no_room_for() -> None:
    """Slack's 3,000 characters are no limit of a mail; what a mail provider shows of one is."""
    page = Page(("X",), "y", sections=tuple(map(names, ALL, [10, 10, 10])))
    assert len(Reader(render_html(page)).models()) == 30
    assert sum(len(section.rows) for section in fitted(page).sections) < 30
    huge = Page(("X",), "y", sections=tuple(map(names, ALL, [200, 200, 200])))
    html = render_html(huge)
    assert LONGEST_HTML * 0.95 < len(html.encode()) <= LONGEST_HTML
    assert len(Reader(html).models()) > 100


@pytest.mark.parametrize("symbol", HOSTILE, ids=lambda symbol: ascii(symbol[:20]))
def test_picture_stands_above_the_facts_and_is_described_whatever_it_shows(symbol: str) -> None:
    """Its words are the caption, and in its place for who sees no picture; nothing in them is markup."""
    message = run_message(news_of(flat_summary({symbol: GOOD})), ALL)
    assert message.page is not None
    pictured = render_html(message.page, Picture("cid:x@modelwarden", f"Fitness of {symbol}"))
    words = escape(f"Fitness of {symbol}")
    assert f'<img src="cid:x@modelwarden" alt="{words}"' in pictured
    assert pictured.index("<img") < pictured.index("report:")
    assert pictured.count(words) == 2
    before, _, behind = pictured.partition('<p style="margin:0 0 4px"><img')
    assert before + behind.split("</p>\n", 2)[2] == html_of(message)


def test_last_of_equally_long_lists_is_cut_first() -> None:
    """Of REVIEW and DROP it is DROP that a person can best do without."""
    page = Page(("X",), "y", sections=(names("APPROVED", 1), names("REVIEW", 15), names("DROP", 15)))
    kept = [len(section.rows) for section in fitted(page).sections]
    assert kept == [1, 13, 12]


def test_texts_are_cut_with_a_count_and_a_single_one_by_its_end() -> None:
    """Of many long reasons the first stand whole; one that is too long is cut where the limit is."""
    many = rejected_message(["\n".join(["x" * 300] * 3)] * 10)
    assert many.body.endswith("\n\n… and 7 more")
    one = rejected_message(["\n".join(["x" * 300] * 100)])
    assert LONGEST_TEXT - 2 <= len(one.body) <= LONGEST_TEXT
    assert one.body.endswith("…")
    for message in (many, one):
        assert_well_made(message)


def test_path_as_long_as_a_file_system_has_leaves_room_for_the_reason() -> None:
    """The line is cut, not the message."""
    message = rejected_message([f"/{'d' * 4000}.json\nno models\nkept in /archive/rejected/ab"])
    first, *others = message.body.splitlines()
    assert first.endswith("…: no models")
    assert others == ["kept in /archive/rejected/ab"]


@pure
@given(words, words)
def test_title_of_any_subject_and_host_fits_a_header(subject: str, host: str) -> None:
    """A phone and Slack show 150 characters; a repeat is told from the first by its mark alone."""
    page = Page(("APPROVED 3", "REVIEW 5", "DROP 42"), subject * 20, host * 20)
    title, again = render_title(page), render_title(page, repeated=True)
    assert again == f"{REPEAT_MARK}{title}"
    assert size(again) <= LONGEST_TITLE
    assert title.startswith("APPROVED 3 · REVIEW 5 · DROP 42: ")
    assert title.endswith(")")


def test_limits_are_those_of_slack_counted_with_entities() -> None:
    """A header of 150 and a section of 3,000 characters, in which `<` is `&lt;`."""
    assert (LONGEST_TITLE, LONGEST_TEXT) == (150, 3000)
    assert size("a<b>&'\"") == len("a&lt;b&gt;&amp;'\"")


@pure
@given(st.text(), st.integers(1, 60))
def test_clipped_text_has_at_most_its_size_and_says_that_it_was_cut(text: str, longest: int) -> None:
    """Counted with entities; the beginning stays."""
    cut = clipped(text, longest)
    assert size(cut) <= longest
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))
