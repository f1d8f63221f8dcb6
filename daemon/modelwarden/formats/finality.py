"""When a trainer's file is final: what the settings say of it, held against how the file stands. Pure.

The rule: "it parses" is not "it is finished". A file is read only once something says that it is worth it, so that a
log that grows for days costs nothing while it grows.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

EXPECTED: Final = 'give "parses", "complete", "quiet:30m" or "marker:NAME", two of them joined by " and "'

POLL_SECONDS: Final = 5.0
"""Longest pause between two looks for a marker."""

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME: Final = re.compile(r"([0-9]*\.?[0-9]+)([smhd])")


class Condition(NamedTuple):
    """What must hold, all of it, before a file is final.

    Attributes:
        complete: the format's program says that the training ended.
        quiet: seconds for which the file must have stood still.
        marker: the name of another file beside it, written no earlier; "" if none is asked for.
    """

    complete: bool = False
    quiet: float = 0.0
    marker: str = ""


class Look(Enum):
    """What is to be done with a file as it stands."""

    WAIT = "wait"
    READ = "read"
    READ_IF_COMPLETE = "read if complete"


class Decision(NamedTuple):
    """What to do with a file.

    Attributes:
        look: whether it is worth reading, and whether what the program says of its end counts.
        seconds: when something may have changed without the file: the pause before the next look; None: never.
    """

    look: Look
    seconds: float | None


def parse_condition(text: str) -> Condition:
    """The condition in words such as `complete and quiet:10m`. Raises ValueError if it is none."""
    condition = Condition()
    for part in text.split(" and "):
        word, _, value = part.strip().partition(":")
        if word == "complete" and not value:
            condition = condition._replace(complete=True)
        elif word == "quiet" and (found := _TIME.fullmatch(value)) and (seconds := float(found[1])) > 0:
            condition = condition._replace(quiet=seconds * _UNITS[found[2]])
        elif word == "marker" and is_plain_name(value):
            condition = condition._replace(marker=value)
        elif word != "parses" or value:
            raise ValueError(EXPECTED)
    return condition


def is_plain_name(name: str) -> bool:
    """Whether it is a path that stays below the folder that it starts in."""
    return name.isprintable() and all(part not in {"", ".", ".."} for part in name.split("/"))


def decide(conditions: Sequence[Condition], still: float, is_marked: Callable[[str], bool]) -> Decision:
    """Whether a file is worth reading: any of the conditions is enough.

    Args:
        conditions: as the settings, or the format, have them.
        still: seconds for which the file has stood still.
        is_marked: whether a marker of this name is there.
    """
    pauses: list[float] = []
    if_complete = False
    for each in conditions:
        if still < each.quiet:
            pauses.append(each.quiet - still)
        elif each.marker and not is_marked(each.marker):
            pauses.append(POLL_SECONDS)
        elif not each.complete:
            return Decision(Look.READ, None)
        else:
            if_complete = True
    return Decision(Look.READ_IF_COMPLETE if if_complete else Look.WAIT, min(pauses, default=None))
