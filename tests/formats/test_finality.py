"""When a file is final: what must hold, and when to look again."""

import pytest

from modelwarden.formats.finality import POLL_SECONDS, Condition, Decision, Look, decide, parse_condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("parses", Condition()),
        ("complete", Condition(complete=True)),
        ("quiet:30m", Condition(quiet=1800.0)),
        ("quiet:1.5h", Condition(quiet=5400.0)),
        ("marker:final_model.zip", Condition(marker="final_model.zip")),
        ("marker:weights/best.pt", Condition(marker="weights/best.pt")),
        ("complete and quiet:10m", Condition(complete=True, quiet=600.0)),
    ],
)
def test_condition_is_read(text: str, condition: Condition) -> None:
    """The words of the settings."""
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text",
    [
        "",
        "done",
        "quiet",
        "quiet:",
        "quiet:0s",
        "quiet:10",
        "marker:",
        "marker:/etc/passwd",
        "marker:../x",
        "marker:a\x00b",
        "complete:1",
        "complete and",
        "parses:x",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    """With the words that there are."""
    with pytest.raises(ValueError, match='give "parses", "complete", "quiet:30m" or "marker:NAME"'):
        parse_condition(text)


def decision(*texts: str, still: float = 0.0, marked: bool = False) -> Decision:
    """What is decided of a file that stood still for so long."""
    return decide([*map(parse_condition, texts)], still, lambda _: marked)


def test_file_that_parses_is_read_at_once() -> None:
    """A library that writes once needs no waiting."""
    assert decision("parses") == Decision(Look.READ, None)


def test_quiet_file_is_read_when_it_was_quiet_for_long_enough() -> None:
    """And is looked at again exactly then, not before."""
    assert decision("quiet:30m", still=60.0) == Decision(Look.WAIT, 1740.0)
    assert decision("quiet:30m", still=1800.0) == Decision(Look.READ, None)


def test_marker_is_looked_for_until_it_is_there() -> None:
    """It is another file: no hint about this one tells of it."""
    assert decision("marker:x") == Decision(Look.WAIT, POLL_SECONDS)
    assert decision("marker:x", marked=True) == Decision(Look.READ, None)


def test_any_condition_is_enough_and_the_next_look_is_the_other_ones() -> None:
    """A file that may be complete is read now; what it says then counts until it was quiet."""
    assert decision("complete", "quiet:10m", still=1.0) == Decision(Look.READ_IF_COMPLETE, 599.0)
    assert decision("complete", "quiet:10m", still=600.0) == Decision(Look.READ, None)
    assert decision("complete") == Decision(Look.READ_IF_COMPLETE, None)


def test_both_of_two_must_hold() -> None:
    """A study between two trials is complete, and goes on."""
    assert decision("complete and quiet:10m", still=1.0) == Decision(Look.WAIT, 599.0)
    assert decision("complete and quiet:10m", still=600.0) == Decision(Look.READ_IF_COMPLETE, None)
