"""Which archive a folder holds: a small file with an id that is made once, when the archive is, and never changes.

The rule: an archive is told by its id, never by its path. A disk that is not mounted leaves an empty folder, or an
older copy, at the path, and nothing may be concluded from either.
"""

import json
import os
import re
import uuid
from typing import Final

from modelwarden import durable
from modelwarden.errors import NotTheArchive
from modelwarden.filesystems import show_path

IDENTITY_FILE: Final = ".archive.json"

DAMAGED: Final = ""
"""The id of an archive whose identity file does not say one."""

_MOST_BYTES: Final = 4096
_ID: Final = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """An id that no archive has."""
    return uuid.uuid4().hex


def identity_file(identity: str) -> bytes:
    """The identity file's bytes."""
    return json.dumps({"schema_version": 1, "archive_id": identity}).encode() + b"\n"


def identity_in(folder: int, root: str) -> str | None:
    """The id of the archive in an open folder; None if it has none, DAMAGED if the file does not say.

    Args:
        folder: the open folder.
        root: its path, for the message.

    Raises:
        RetryLater: the disk refused to say.
    """
    try:
        descriptor = os.open(IDENTITY_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            data = os.read(descriptor, _MOST_BYTES)
        finally:
            durable.close_unwritten(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise durable.refusal("read", os.path.join(root, IDENTITY_FILE), error) from error
    try:
        identity = json.loads(data)["archive_id"]
    except (ValueError, LookupError, TypeError):
        return DAMAGED
    return identity if isinstance(identity, str) and _ID.fullmatch(identity) else DAMAGED


def has_identity(root: str) -> bool:
    """Whether the folder has an identity file, whatever it says."""
    return os.path.lexists(os.path.join(root, IDENTITY_FILE))


def difference(found: str | None, known: str) -> str:
    """In which way what a folder says of itself is not the archive of the id that is known."""
    match found:
        case None:
            return f"it has no {IDENTITY_FILE} with the archive_id {known}"
        case str() if found == DAMAGED:
            return f"its {IDENTITY_FILE} is damaged, the archive_id is {known}"
        case str():
            return f"it is another archive, {found}, and not {known}"


def stranger(root: str, what: str) -> NotTheArchive:
    """The error that says why the folder is not the archive that the state knows, and what to do."""
    return NotTheArchive(
        f"not the archive that this state knows: {what}",
        where=show_path(root),
        hint="mount its disk or put the folder back; to take what is there from now on: `modelwarden adopt`",
    )
