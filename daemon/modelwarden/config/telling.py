"""What of a setting a message may repeat: numbers, true and false, and names that are plain words.

The rule: any field may hold a token by mistake, and messages end up in logs and chats. Text is told by its kind and
length, never by itself; text that is quoted later (a destination's name, a pattern, a path) must not look like a token.
"""

import re
from typing import Final

_ISSUED: Final = re.compile(
    r"://|\b(?:xox[a-z]|xapp)-|\bgh[pousr]_\w{10}|\bgithub_pat_|\bglpat-|\bsk-[\w-]{20}|\bAKIA\w{12}|\bAIza\w{20}"
    r"|\beyJ\w{10}|\b\d{6,}:[\w-]{20}|\bservices/T\w+/B\w+/\w",
)
_KNOWN: Final = re.compile(
    r"\bT(?=[A-Z]*\d)[A-Z0-9]{3,}/[A-Z](?=[A-Z]*\d)[A-Z0-9]{3,}/\w{3}"  # what a webhook of Slack's ends with
    r"|:[^/\s@]+@[\w-]",  # user:password@host
)
_RUN: Final = re.compile(r"[A-Za-z0-9+=]{16,}")
_OPTION: Final = re.compile(r"[A-Z]{1,6}\d{6}[CP]\d{8}")
"""The symbol of an option as exchanges write it (OCC): long and mixed, and no secret."""

_LONGEST_MIXED: Final = 20
_LONGEST_WORD: Final = 32
_CHANGES: Final = re.compile(r"(?<=[a-z])(?=[^a-z])|(?<=[A-Z])(?=[^A-Z])|(?<=[0-9])(?=[^0-9])")
_PLAIN_KEY: Final = re.compile(r"(?:[A-Z]?[a-z]{1,15})(?:[_-]?[A-Z]?[a-z]{1,15}){0,4}")
_LONGEST_NUMBER: Final = 20


def is_issued_token(text: str) -> bool:
    """Whether the text is a URL, or holds a token of a form that a service is known to issue."""
    return _ISSUED.search(text) is not None


def looks_secret(text: str) -> bool:
    """Whether the text looks like a token, a password or a URL: a known form, or a long run of mixed characters."""
    return is_issued_token(text) or _KNOWN.search(text) is not None or any(map(_is_no_word, _RUN.findall(text)))


def _is_no_word(run: str) -> bool:
    """Whether a run is longer than words are, or changes between small, capital and digit more often than they do."""
    if _OPTION.fullmatch(run):
        return False
    is_mixed = not run.isdigit() and any(map(str.isdigit, run))
    longest = _LONGEST_MIXED if is_mixed else _LONGEST_WORD
    return len(run) >= longest or len(_CHANGES.findall(run)) * 4 >= len(run)


def told(value: object) -> str:
    """How a message speaks of a value: `5`, `true`, `text of 12 characters`, `a list`."""
    match value:
        case bool():
            words = str(value).lower()
        case int() if abs(value) >= 10**_LONGEST_NUMBER:  # Python would not even write it out
            words = "a number of many digits"
        case int() | float():
            words = repr(value)
        case str():
            words = f"text of {len(value)} character{'s' if len(value) > 1 else ''}" if value else "empty text"
        case list() | tuple():
            words = "a list" if value else "an empty list"
        case dict():
            words = "a table"
        case None:
            words = "nothing"
        case _:
            words = "a date or a time"
    return words


def told_key(key: str) -> str:
    """A key that nobody knows: itself if it is plain words, else how long it is."""
    return key if _PLAIN_KEY.fullmatch(key) and not looks_secret(key) else f"(a key of {len(key)} characters)"
