"""Giving memory back to the system: what one large file needed, the next thousand small ones do not.

The rule: it is done when there is time for it, and nothing may come to depend on it.
"""

import ctypes
import gc
from contextlib import suppress

import jiter


def forget_trace(error: BaseException) -> None:
    """Let go of where an error came from: a traceback holds all that its functions held, a whole parsed file.

    Of an error that is an outcome, and is never raised again.
    """
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__context__
    error.__context__ = None


def give_back() -> None:
    """Return what is free to the system; some milliseconds."""
    gc.collect()  # whatever refers to itself in a circle would wait for thousands of objects to come
    jiter.cache_clear()  # thousands of short texts, each of which holds a whole page of what lay around it
    with suppress(AttributeError, OSError):  # not the C library of GNU: it has ways of its own
        ctypes.CDLL(None).malloc_trim(0)
