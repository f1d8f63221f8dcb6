"""A model's figures in one column: what comes back is what went in."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.state.packing import packed_columns, packed_figures, unpacked_figures


def bits(figures: tuple[float | None, ...]) -> list[bytes | None]:
    """The figures as they stand in memory: tells 0.0 from -0.0, and a NaN is equal to itself."""
    return [
        figure if figure is None else struct.pack("<d", math.nan if math.isnan(figure) else figure)
        for figure in figures
    ]


@given(st.lists(st.none() | st.floats(), max_size=6).map(tuple))
def test_figures_packed_come_back(figures: tuple[float | None, ...]) -> None:
    """Any figures, NaN, the infinities and missing ones included, come back in their order, to the bit."""
    assert bits(unpacked_figures(packed_figures(figures))) == bits(figures)


@pytest.mark.parametrize("figures", [(), (0.75,), (0.75, math.nan, math.inf)])
def test_figures_all_there_take_eight_bytes_each(figures: tuple[float, ...]) -> None:
    """Nearly all models have all their figures: theirs is the layout that is quick to read."""
    packed = packed_figures(figures)

    assert isinstance(packed, bytes)
    assert len(packed) == 8 * len(figures)


def test_figures_with_one_missing_are_strict_json() -> None:
    """What no float says is text that any tool reads: NaN and the infinities stand in it as strings."""
    packed = packed_figures([0.5, None, math.inf])

    assert isinstance(packed, str)
    assert json.loads(packed, parse_constant=pytest.fail) == [0.5, None, "inf"]


def test_columns_of_an_earlier_state_are_the_same_figures() -> None:
    """An earlier state file has a column a figure, with text for what is not finite."""
    assert packed_columns(0.75, "inf", 0.06) == packed_figures([0.75, math.inf, 0.06])
    assert packed_columns(None, "-inf") == packed_figures([None, -math.inf])
