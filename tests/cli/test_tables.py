"""What tables and JSON show of figures and of texts that somebody else wrote."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.cli.answers import print_answer_as_it_comes
from modelwarden.cli.lines import cell_width, clipped, hanging, wrapped
from modelwarden.cli.tables import Cell, figure_text, print_facts, print_table
from modelwarden.gate.policy import Policy

GATES = {gate.metric: gate for gate in Policy.from_config().gates}

AT_HAND = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.sampled_from(sorted(GATES)), st.floats(allow_nan=False, allow_infinity=False))
def test_figure_shown_is_of_the_band_that_it_was_judged_to_be(metric: str, value: float) -> None:
    """Whatever is rounded away, a reader who holds what is shown against the bounds comes to the same band."""
    gate = GATES[metric]
    assert gate.band(float(figure_text(gate, value, gate.band(value)))) is gate.band(value)


@pytest.mark.parametrize(("value", "text"), [(0.7, "0.7"), (0.699999, "0.699999"), (0.123456, "0.1235"), (None, "-")])
def test_figure_has_four_digits_unless_they_would_hide_its_band(value: float | None, text: str) -> None:
    """Just below the bound of a fitness it is not shown as the bound; elsewhere four digits do."""
    gate = GATES["fitness"]
    assert figure_text(gate, value, gate.band(value)) == text


@AT_HAND
@given(st.lists(st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.integers())), max_size=4))
def test_list_printed_as_it_comes_is_strict_json(capsys: pytest.CaptureFixture[str], values: list[Any]) -> None:
    """Of any length, none included: one list, with null for what JSON has no number for."""
    print_answer_as_it_comes("values", iter(values))

    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    printed = answer.pop("values")
    assert answer == {"schema_version": 1}
    assert [list(each) for each in printed] == [list(each) for each in values]


def test_table_in_a_pipe_has_a_line_a_row_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's text is shown to the letter, however long: nothing that a script greps for is cut or styled."""
    hostile = "[red]SYM[/red] [link=https://evil.example]" + "x" * 500

    print_table(("symbol", "PF"), [(hostile, "1.5"), ("[bold]", "-")], right=["PF"])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if hostile in line] == [line for line in lines if "1.5" in line] != []
    assert lines[-1].split() == ["[bold]", "-"]
    assert "\x1b" not in "".join(lines)


def test_control_characters_of_a_stranger_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape, a line break or a bell in a text is shown as what it is, and a row stays a line."""
    print_table(("name", "n"), [("a\x1b[31mb\nc\x07\u202e", Cell("1\x1b", "red"))], right=("n",))

    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert row.split() == ["a\\x1b[31mb\\nc\\x07\\u202e", "1\\x1b"]


TEXTS = st.text(st.sampled_from("ab 日本 ,;"), max_size=60)


@AT_HAND
@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["APPROVED", "1.5"])), min_size=1, max_size=5))
def test_table_at_a_terminal_fits_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str, str]]
) -> None:
    """Whatever stands in the cells: no line is wider than the terminal, and every character is there."""
    monkeypatch.setattr("modelwarden.cli.tables.width", lambda: 40)

    print_table(("symbol", "why", "class"), rows)

    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_width, lines)) <= 40
    printed = "".join(lines[2:])
    for character in "ab日本,;":
        assert printed.count(character) == sum(cell.count(character) for row in rows for cell in row)


@given(TEXTS, st.integers(2, 30))
def test_wrapped_text_breaks_no_word_that_fits(text: str, wide: int) -> None:
    """A word stays whole unless it is wider than the column."""
    lines = wrapped(text, wide)

    assert max(map(cell_width, lines)) <= wide
    whole = {word for line in lines for word in line.split(" ")}
    assert {word for word in text.split(" ") if cell_width(word) <= wide} <= whole | {""}


def test_figures_of_a_column_stand_under_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Aligned to the right, whatever stands in the columns before."""
    print_table(("symbol", "PF"), [("日本", "1.5"), ("A", "12.25"), ("BB", "-")], right=("PF",))

    ends = {cell_width(line) for line in capsys.readouterr().out.splitlines()}
    assert len(ends) == 1


@pytest.fixture
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns, as far as tables look at it."""
    monkeypatch.setattr("modelwarden.cli.tables.width", lambda: 80)


@pytest.mark.usefixtures("eighty")
def test_text_of_a_short_column_loses_its_end_rather_than_a_word_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    """Words that fit go on below one another; a word that does not is cut once, and says so."""
    rows = [("a" * 40, "many words " * 6), ("b" * 40, "w" * 200), ("c" * 40, "日本" * 60)]
    print_table(("id", "name"), rows, short=("name",))
    lines = capsys.readouterr().out.splitlines()[2:]
    assert max(map(cell_width, lines)) <= 80
    assert [line[42:] for line in lines] == [
        "many words many words many words many",
        "words many words many words",
        f"{'w' * 37}…",
        f"{'日本' * 9}…",
    ]


@pytest.mark.parametrize(
    ("wide", "lines"),
    [
        (50, ["symbol  class      PF  why", "A       APPROVED  1.5  UNSTABLE_TRAINING; peaked", " " * 23 + "at 7"]),
        (40, ["symbol  class      PF", "  why", "A       APPROVED  1.5", "  UNSTABLE_TRAINING; peaked at 7"]),
        (24, ["symbol  class      PF", "  why", "A       APPROVED  1.5", "  UNSTABLE_TRAINING;", "  peaked at 7"]),
    ],
)
def test_sentences_without_room_beside_the_figures_go_below_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wide: int, lines: list[str]
) -> None:
    """A narrow terminal cuts up no flag, and no line is left to the terminal to break."""
    monkeypatch.setattr("modelwarden.cli.tables.width", lambda: wide)
    sentence = "UNSTABLE_TRAINING; peaked at 7"
    print_table(("symbol", "class", "PF", "why"), [("A", "APPROVED", "1.5", sentence)], right=("PF",))
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if not line.startswith("─")] == lines
    assert max(map(cell_width, printed)) <= wide


@pytest.mark.usefixtures("eighty")
def test_facts_go_on_below_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    """A name and a text a line, aligned; what moves a cursor is written as an escape."""
    print_facts((("file", "/a b\x1b[31m" + " word" * 20), ("sha256", "0")))
    assert capsys.readouterr().out.splitlines() == [
        "file    /a b\\x1b[31m word word word word word word word word word word word word",
        "        word word word word word word word word",
        "sha256  0",
    ]


@pytest.mark.parametrize(
    ("text", "wide", "shown"),
    [
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two…"),
        ("one two three", 9, "one two…"),
        ("one two three", 8, "one two…"),
        ("o threethree", 9, "o threet…"),
        ("日本語日本語", 6, "日本…"),
    ],
)
def test_text_is_clipped_behind_a_word_if_one_is_near(text: str, wide: int, shown: str) -> None:
    """A sign says that there is more, and no line is wider than was asked for."""
    assert clipped(text, wide) == shown
    assert cell_width(shown) <= wide


def test_hanging_text_keeps_its_words_and_its_width() -> None:
    """The lines after the first stand two columns to the right."""
    lines = hanging("modelwarden: " + "word " * 30 + "end", 40)
    assert max(map(cell_width, lines)) <= 40
    assert all(line.startswith("  word") for line in lines[1:])
    assert " ".join(map(str.strip, lines)).split() == ["modelwarden:", *["word"] * 30, "end"]
