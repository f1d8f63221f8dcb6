"""What tables and JSON show of figures and of texts that somebody else wrote."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.cli.tables import figure_text, print_json_list, print_table
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
    print_json_list(iter(values))

    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [list(each) for each in printed] == [list(each) for each in values]


def test_table_in_a_pipe_has_a_line_a_row_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's text is shown to the letter, however long: nothing that a script greps for is cut or styled."""
    hostile = "[red]SYM[/red] [link=https://evil.example]" + "x" * 500

    print_table(("symbol", "PF"), [(hostile, "1.5"), ("[bold]", "-")], right=["PF"])

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if hostile in line] == [line for line in lines if "1.5" in line] != []
    assert lines[-1].split() == ["[bold]", "-"]
    assert "\x1b" not in "".join(lines)
