"""The rejected shelf, read back: which files were rejected, why, and their bytes.

The rule: nothing here writes. A reason that somebody spoiled hides no file: it is listed all the same, and says so.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import jiter

from modelwarden.archive.folders import REJECTED
from modelwarden.durable import refusal
from modelwarden.errors import Problem, UnknownRun

AS_FOUND: Final = "as_found"
REASON_FILE: Final = "reason.json"
_IDENTITY: Final = re.compile("[0-9a-f]{16}")


class Shelved(NamedTuple):
    """A file that was rejected.

    Attributes:
        id: its folder's name: the first digits of its sha256.
        rejected_at: when, ISO 8601 in UTC; "" if its reason can't be read.
        path: where it was found.
        reason: why, a line a problem.
        problems: the same, one by one; up to 20.
        more: how many more there are.
        size: how many bytes it had.
        sha256: of the bytes that were kept.
    """

    id: str
    rejected_at: str
    path: str
    reason: str
    problems: Sequence[Problem]
    more: int
    size: int
    sha256: str


def shelved(root: str) -> list[Shelved]:
    """All of them, the one that was rejected first in front. Raises RetryLater if the disk refuses."""
    shelf = os.path.join(root, REJECTED)
    try:
        names = os.listdir(shelf)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refusal("list", shelf, error) from error
    found = [_read(root, name) for name in names if _IDENTITY.fullmatch(name)]
    return sorted(found, key=lambda each: (each.rejected_at, each.id))


def find_shelved(root: str, begins: str) -> Shelved:
    """The one whose id begins so.

    Raises:
        UnknownRun: there is none, or there are several; the hint names these.
        RetryLater: the disk refused.
    """
    meant = [each for each in shelved(root) if begins and each.id.startswith(begins.lower())]
    if not meant:
        raise UnknownRun(f"nothing rejected is called {begins!r}", where=root, hint="see `modelwarden rejected`")
    if len(meant) > 1:
        listed = ", ".join(each.id for each in meant[:10])
        raise UnknownRun(f"{begins!r} may mean {len(meant)} rejected files", where=root, hint=listed)
    return meant[0]


def read_as_found(root: str, identity: str) -> bytes:
    """The bytes that were kept. Raises RetryLater if the disk refuses, or if they are gone."""
    path = os.path.join(root, REJECTED, identity, AS_FOUND)
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise refusal("read", path, error) from error


def is_whole(each: Shelved, data: bytes) -> bool:
    """Whether these are all the bytes that the file had: of one that was too large only the beginning was kept."""
    return len(data) == each.size and hashlib.sha256(data).hexdigest() == each.sha256


def _read(root: str, name: str) -> Shelved:
    try:
        with open(os.path.join(root, REJECTED, name, REASON_FILE), "rb") as stream:
            document: Any = jiter.from_json(stream.read())
        return Shelved(
            id=name,
            rejected_at=_text(document["rejected_at"]),
            path=_text(document["path"]),
            reason=_text(document["reason"]),
            problems=[Problem(*(_text(each[field]) for field in Problem._fields)) for each in document["problems"]],
            more=_count(document.get("more", 0)),
            size=_count(document["size"]),
            sha256=_text(document["sha256"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Shelved(name, "", "", f"{REASON_FILE} can't be read ({type(error).__name__})", (), 0, 0, "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    return value
