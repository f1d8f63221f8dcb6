"""index.json: all runs, oldest first, and the lock under which it and the archive change.

The rule: the index is derived. It is replaced whole, never edited in place, so that a reader never sees it torn; it is
byte for byte what a rebuild from the archive writes; and whoever finds it changed or unreadable reads the truth anew.
"""

import os
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import jiter
from filelock import FileLock, Timeout

from modelwarden import durable
from modelwarden.archive.document import SCHEMA_VERSION
from modelwarden.errors import RetryLater
from modelwarden.gate.timestamp import run_key

INDEX_FILE: Final = "index.json"
LOCK_FILE: Final = ".index.lock"

_HEAD: Final = b'{"schema_version": %d, "runs": [\n' % SCHEMA_VERSION
_TAIL: Final = b"\n]}\n"

Signature = tuple[int, int, int]
"""Inode, size and modification time in ns: whether a replaced file is still the one that was read."""


@contextmanager
def index_lock(root: str, timeout: float) -> Iterator[None]:
    """Hold the archive's lock. It is a file of its own: index.json is replaced, so a lock on it would guard nothing.

    Raises:
        RetryLater: somebody else held it for `timeout` seconds. It is never broken, however old.
    """
    path = os.path.join(root, LOCK_FILE)
    lock = FileLock(path, timeout=timeout, fallback_to_soft=False, preserve_lock_file=True, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        raise RetryLater(
            f"held by another process for {timeout:g} s",
            where=path,
            hint="`fuser` names the process; nothing is lost meanwhile",
        ) from None
    except OSError as error:
        raise RetryLater(f"can't be locked ({error.strerror})", where=path) from error
    try:
        yield
    finally:
        lock.release()


class Index:
    """index.json as it was last read or written. Every call is made under `index_lock`.

    Args:
        root: the archive directory.
    """

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, INDEX_FILE)
        self._signature: Signature | None = None
        self._names: list[str] = []  # sorted by run_key
        self._lines: dict[str, bytes] = {}
        self._name_of: dict[str, str] = {}  # sha256 -> name

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def names(self) -> list[str]:
        """All runs, oldest first."""
        return list(self._names)

    def find(self, sha256: str) -> str | None:
        """The run of these bytes, or None."""
        return self._name_of.get(sha256)

    def is_current(self) -> bool:
        """Whether index.json is still the file that this object read or wrote."""
        return self._signature is not None and self._signature == _signature(self.path)

    def load(self) -> bool:
        """Read index.json. False, and empty, where there is none or it is not what `write` writes."""
        self._signature = None
        self._names, self._lines, self._name_of = [], {}, {}
        try:
            with open(self.path, "rb") as stream:
                status = os.fstat(stream.fileno())
                data = stream.read()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RetryLater(f"can't be read ({error.strerror})", where=self.path) from error
        if not (data.startswith(_HEAD) and data.endswith(_TAIL)):
            return False
        body = data[len(_HEAD) : -len(_TAIL)]
        try:
            for line in body.split(b",\n") if body else ():
                entry = jiter.from_json(line)
                self._insert(entry["timestamp"], entry["sha256"], line)
        except (ValueError, KeyError, TypeError):
            self._names, self._lines, self._name_of = [], {}, {}
            return False
        self._signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        return True

    def add(self, name: str, sha256: str, line: bytes) -> None:
        """Add a run with its line, at its place in time."""
        self._insert(name, sha256, line)

    def discard(self, name: str) -> None:
        """Forget a run that the archive no longer has."""
        del self._names[bisect_left(self._names, run_key(name), key=run_key)]
        sha256 = jiter.from_json(self._lines.pop(name))["sha256"]
        if self._name_of.get(sha256) == name:
            del self._name_of[sha256]

    def write(self) -> None:
        """Replace index.json with what this object holds; on disk before this returns.

        Raises:
            RetryLater: the disk refused; the old index stands.
            StorageSuspect: a sync failed.
        """
        self._signature = None
        body = b",\n".join(self._lines[name] for name in self._names)
        durable.replace_file(self.path, _HEAD + body + _TAIL)
        self._signature = _signature(self.path)

    def _insert(self, name: str, sha256: str, line: bytes) -> None:
        if name in self._lines:
            raise ValueError(f"{name!r} is there twice")
        if self._names and run_key(name) < run_key(self._names[-1]):
            insort(self._names, name, key=run_key)
        else:
            self._names.append(name)
        self._lines[name] = line
        self._name_of.setdefault(sha256, name)


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
