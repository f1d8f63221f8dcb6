"""One value of a summary: a number, a text, a name. Pure.

The rule: what is no such value is handed to `refuse` with its place and what to do; nothing is guessed in its stead.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from modelwarden.errors import RejectSummary
from modelwarden.gate.json_object import kind_of

MAX_SYMBOL: Final = 128
"""Longest symbol and checkpoint id, in characters (gating rule: 1..128)."""

_BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What takes no room on a screen: Unicode's Default_Ignorable_Code_Point, the annotation marks and the empty Braille
cell. Two names that differ by one of these look the same to everybody."""


Refuse = Callable[[RejectSummary], None]
"""What becomes of a problem: it is raised, or it is taken down and the reading goes on without what is wrong."""


def raise_at_once(error: RejectSummary) -> None:
    """The refusal of a reading that ends at the first problem."""
    raise error


def read_text(document: Mapping[str, Any], name: str, refuse: Refuse, hint: str = "") -> str | None:
    """The text of that name; None for null, or missing."""
    text = document.get(name)
    if text is None or isinstance(text, str):
        return text
    refuse(RejectSummary(f"expected text, got {kind_of(text)}", where=name, hint=hint))
    return None


def check_name(name: str, where: str, refuse: Refuse) -> None:
    """Of a model or a checkpoint: what people and scripts tell apart, so that nothing in it may be out of sight."""
    if not check_text(name, where, MAX_SYMBOL, refuse) or name.isascii():
        return
    if (found := _INVISIBLE.search(name)) is not None:
        called = unicodedata.name(found[0], "character")
        refuse(
            RejectSummary(
                f"character {found.start()} is the invisible {called} (U+{ord(found[0]):04X})",
                where=where,
                hint="leave it out: names that differ by it look the same",
            )
        )


def check_text(text: str, where: str, longest: int, refuse: Refuse) -> bool:
    """Whether nothing in it was refused so far."""
    if not 1 <= len(text) <= longest:
        refuse(RejectSummary(f"has {len(text)} characters", where=where, hint=f"1 to {longest} are allowed"))
        return False
    if text.isprintable():
        return True
    for index, character in enumerate(text):
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_CONTROLS:
            refuse(
                RejectSummary(
                    f"character {index} is the control character U+{ord(character):04X}",
                    where=where,
                    hint="leave it out",
                )
            )
            return False
    return True


def read_number(value: Any, where: str, refuse: Refuse) -> float | None:
    """The number as a float; None for null or missing. A whole number beyond floats is infinite."""
    if value is None or type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(RejectSummary(f"expected a number, got {kind_of(value)}", where=where))
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_LONGEST_INTERVAL: Final = 10**9
"""Updates between two validation points; times the points of the largest file it still fits 64 bits."""


def read_interval(value: Any, where: str, refuse: Refuse) -> int | None:
    """A whole number of updates between two validation points; None for null or missing."""
    number = read_number(value, where, refuse)
    if number is None:
        return None
    if not (1 <= number <= _LONGEST_INTERVAL and number.is_integer()):  # NaN fails both
        refuse(
            RejectSummary(
                f"{value!r} is not a whole number of updates" if math.isfinite(number) else "not a finite number",
                where=where,
                hint="give the updates between two validation points, such as 50",
            )
        )
        return None
    return int(number)
