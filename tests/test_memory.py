"""What a large file needed is given back: what an error holds at once, the rest when there is time."""

import gc
import weakref
from typing import NoReturn

import jiter
import pytest

from modelwarden.errors import RejectSummary
from modelwarden.gate.summary import parse_summary
from modelwarden.memory import forget_trace, give_back


class Held(dict[str, int]):
    """Something large that a function held when it raised; a dict can't be told from outside whether it is there."""


def raised() -> tuple[RejectSummary, "weakref.ref[Held]"]:
    """An error whose cause is in a circle with the function that raised it, and what that function held."""
    held = Held()

    def refuse(error: Exception) -> NoReturn:
        raise error

    try:
        try:
            refuse(ValueError("first"))
        except ValueError:
            raise RejectSummary("what", where="place") from None
    except RejectSummary as error:
        return error, weakref.ref(held)


def test_error_lets_go_of_what_was_held_when_it_was_raised() -> None:
    """At once and not at some later collection; what it says stays."""
    gc.disable()
    try:
        error, held = raised()
        assert held() is not None
        forget_trace(error)
        assert held() is None
    finally:
        gc.enable()
    assert str(error) == "place: what"


def test_error_that_was_never_raised_stays_as_it_is() -> None:
    """And so does one that was treated before."""
    error = RejectSummary("what")
    forget_trace(error)
    forget_trace(error)
    assert (str(error), error.__traceback__, error.__context__) == ("what", None, None)


def test_memory_that_is_given_back_is_not_missed() -> None:
    """Texts that were kept for the next file are gone, and the next file is read all the same."""
    with pytest.raises(RejectSummary):
        parse_summary(b'{"models": [{"symbol": "A", "some": "text"}]}')
    assert jiter.cache_usage() > 0
    give_back()
    assert jiter.cache_usage() == 0
    with pytest.raises(RejectSummary):
        parse_summary(b'{"models": [{"symbol": "A", "some": "text"}]}')
