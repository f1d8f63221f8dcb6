"""A run's timestamp and name: from what a trainer writes to `YYYYMMDD_HHMMSS`, with `_2`, `_3`... if two collide.

The rule: what leaves this module is made of digits and one underscore. Nothing a summary or a file name says
reaches a path in any other form.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EXPECTED: Final = "expected ISO 8601, such as 2024-12-24T15:30:00Z, or YYYYMMDD_HHMMSS"

AHEAD: Final = timedelta(days=1)
"""How far ahead of the clock a run's timestamp may lie: one without an offset may be any zone's."""

_NAME: Final = re.compile(
    r"([0-9]{4})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])_([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])"
    r"(?:_([2-9]|[1-9][0-9]{1,6}))?"
)
_LARGEST_SUFFIX: Final = 9_999_999
_SUFFIXES: Final = 2**24
_COMPACT: Final = re.compile(r"(?<![0-9])([0-9]{8}_[0-9]{6})(?![0-9])")


def parse_timestamp(text: str) -> str | None:
    """The timestamp as `YYYYMMDD_HHMMSS`, or None if the text is no timestamp.

    With an offset it becomes UTC; without one it stays as written.
    """
    if _COMPACT.fullmatch(text):
        return _compact(text)
    try:
        moment = datetime.fromisoformat(text)
        return format_timestamp(moment)
    except (ValueError, OverflowError):  # overflow: an offset that leads out of years 1..9999
        return None


def timestamp_in_name(file_name: str) -> str | None:
    """The first valid `YYYYMMDD_HHMMSS` in a file name, or None."""
    for found in _COMPACT.findall(file_name):
        if (timestamp := _compact(found)) is not None:
            return timestamp
    return None


def timestamp_of_mtime(seconds: float) -> str:
    """A file's modification time as a timestamp in UTC; the epoch if the time lies outside years 1..9999."""
    try:
        return format_timestamp(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return format_timestamp(datetime.fromtimestamp(0, UTC))


def format_timestamp(moment: datetime) -> str:
    """The moment as `YYYYMMDD_HHMMSS`, in UTC if it has an offset."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    # By hand: strftime("%Y") does not pad years below 1000 on every C library.
    return (
        f"{moment.year:04d}{moment.month:02d}{moment.day:02d}_{moment.hour:02d}{moment.minute:02d}{moment.second:02d}"
    )


def _compact(text: str) -> str | None:
    try:
        # strptime would accept other digits than ASCII; the expression above does not let them come here.
        return format_timestamp(datetime.strptime(text, "%Y%m%d_%H%M%S"))  # noqa: DTZ007 - naive by definition
    except ValueError:
        return None


def is_ahead(name: str, archived_at: str) -> bool:
    """Whether a run is dated more than a day after the moment at which it was archived: somebody's clock is wrong.

    Args:
        name: the run's name.
        archived_at: ISO 8601; what is none tells nothing.
    """
    try:
        moment = datetime.fromisoformat(archived_at) + AHEAD
    except (ValueError, OverflowError):
        return False
    return name[: len("YYYYMMDD_HHMMSS")] > format_timestamp(moment)


def is_run_name(name: str) -> bool:
    """Whether a folder of this name may be a run; anything else in an archive is foreign."""
    return _NAME.fullmatch(name) is not None


def run_key(name: str) -> int:
    """A whole number below 2^63 that sorts runs oldest first, `_10` after `_9`; one name, one key.

    Raises:
        ValueError: not a run's name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a run's name")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    # Mixed radix, not seconds since an epoch: 31 February is no date, but a folder may be called so.
    moment = ((((year * 13 + month) * 32 + day) * 24 + hour) * 60 + minute) * 60 + second
    return moment * _SUFFIXES + int(match[7] or 1)


def keys_of_removed(key: int) -> tuple[int, int]:
    """The first and the last key for a run of this key whose name is given up: of its second, and no name's."""
    second = key - key % _SUFFIXES
    return second + _LARGEST_SUFFIX + 1, second + _SUFFIXES - 1
