"""Moments and lengths of time as a person says them, and as a person types them.

The rule: ages are for people; what a machine reads is ISO 8601 in UTC.
"""

import re
from datetime import UTC, datetime
from typing import Final

from modelwarden.errors import StopService
from modelwarden.gate.timestamp import format_timestamp

_SPAN: Final = re.compile(r"([0-9]{1,9})\s*(min|[smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_UNITS: Final = ((365 * 86400, "y"), (7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(moment: str, now: float) -> str:
    """How long ago an ISO 8601 moment was: `3 h ago`; `in 2 d` if it is to come. What is no moment stays as it is."""
    try:
        seconds = now - datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        return moment
    if abs(seconds) < 1:
        return "just now"
    length, unit = next(each for each in _UNITS if abs(seconds) >= each[0])
    count = int(abs(seconds) / length)
    return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"


def iso(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC; a moment beyond the last year that there is, as that year's end."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59Z"


def duration(seconds: float) -> str:
    """In the two largest units: `3 h 20 min`."""
    minutes = max(0, int(seconds)) // 60
    if minutes < 1:
        return f"{max(0, int(seconds))} s"
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    named = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(named[:2])


def parse_since(text: str, now: float) -> datetime:
    """A moment that a person typed: a date, a date and a time (UTC unless it says otherwise), or `7d`: so long ago.

    Raises:
        StopService: it is none of these.
    """
    try:
        if found := _SPAN.fullmatch(text.strip()):
            return datetime.fromtimestamp(now - int(found[1]) * _SECONDS[found[2]], UTC)
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        hint = "give a date such as 2024-12-24, or an age such as 12h, 7d, 4w"
        raise StopService("is no date and no age", where=f"--since {text!r}", hint=hint) from None


def parse_span(text: str, option: str) -> float:
    """A length of time that a person typed, such as 90d, in seconds. Raises StopService if it is none."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise StopService("is no length of time", where=f"{option} {text!r}", hint="such as 12h, 90d, 12w")
    return float(int(found[1]) * _SECONDS[found[2]])


def timestamp_since(text: str, now: float) -> str:
    """The same as a run's timestamp, `YYYYMMDD_HHMMSS`. Raises as `parse_since`."""
    return format_timestamp(parse_since(text, now))
