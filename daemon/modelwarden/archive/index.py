"""index.json: all runs, oldest first, and the lock under which it and the archive change.

The rule: the index is derived. A reader never sees it torn; it is byte for byte what a rebuild from the archive writes;
and whoever finds it changed or unreadable reads the truth anew.
"""

import fcntl
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import jiter

from modelwarden import durable
from modelwarden.archive.index_file import IndexFile
from modelwarden.errors import RetryLater
from modelwarden.filesystems import network_file_system, path_into
from modelwarden.gate.timestamp import run_key

INDEX_FILE: Final = "index.json"
LOCK_FILE: Final = ".index.lock"

POLL_SECONDS: Final = 0.02
"""Pause between two tries to get the lock."""

_HEAD: Final = b'{"schema_version": 1, "runs": [\n'
_BETWEEN: Final = b",\n"
_TAIL: Final = b"\n]}\n"


class IndexLock:
    """The archive's lock. It is a file of its own: index.json is replaced, so a lock on it would guard nothing.

    Args:
        root: the archive directory.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, LOCK_FILE)
        self._descriptor: int | None = None  # kept open: to open it anew costs more than to lock it

    @contextmanager
    def held(self, timeout: float, folder: int | None = None) -> Iterator[None]:
        """Hold the lock while entered; not by two callers of one process at once.

        Args:
            timeout: seconds.
            folder: the archive's folder, open (see Tree.entered): the lock's file is made in no other.

        Raises:
            RetryLater: somebody else held it for `timeout` seconds. It is never broken, however old.
        """
        path = self._path if folder is None else os.path.join(path_into(folder, self._root), LOCK_FILE)
        deadline = time.monotonic() + timeout
        while not self._take(path):
            if time.monotonic() > deadline:
                raise RetryLater(
                    f"held by another process for {timeout:g} s",
                    where=self._path,
                    hint="`fuser` names the process; nothing is lost meanwhile",
                )
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            self._let_go()

    def close(self) -> None:
        """Keep nothing open in the archive, so that its disk can go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            durable.close_unwritten(descriptor)

    def _take(self, path: str) -> bool:
        """Whether the lock could be had now, on the file that has its name."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # EAGAIN; some systems say EACCES of a lock that is held
                return False
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(path)):
                return True
        except FileNotFoundError as error:
            if self._descriptor is None:
                raise durable.refusal("lock", self._path, error) from error
        except OSError as error:
            self.close()
            raise durable.refusal("lock", self._path, error) from error
        self.close()  # it was replaced or removed: a lock on what has no name guards nothing
        return False

    def _let_go(self) -> None:
        if self._descriptor is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError:  # to close it lets go too
                self.close()


class Index:
    """The runs in index.json, in memory. Every call is made under the lock.

    Args:
        root: the archive directory.
        spare: the path of the file that this process writes the next index.json to (see index_file).

    Attributes:
        bytes_written: by the last `write`.
    """

    def __init__(self, root: str, spare: str) -> None:
        self._file = IndexFile(os.path.join(root, INDEX_FILE), spare, takes_turns=network_file_system(root) is None)
        self.bytes_written = 0
        self._clear()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def names(self) -> list[str]:
        """All runs, oldest first."""
        return list(self._names)

    def line(self, name: str) -> bytes:
        """The run's line, without what stands between two."""
        return self._lines[name]

    def find(self, sha256: str) -> str | None:
        """The run of these bytes, or None."""
        return self._name_of.get(sha256)

    def digests(self) -> dict[str, str]:
        """The sha256 of every run's bytes, by the run's name."""
        found = {name: sha256 for sha256, name in self._name_of.items()}
        if len(found) < len(self._names):  # the same bytes under two names, put there by hand
            for name in self._names:
                if name not in found:
                    found[name] = jiter.from_json(self._lines[name])["sha256"]
        return found

    def is_current(self) -> bool:
        """Whether index.json is still the file that this object read or wrote."""
        return self._file.is_current()

    def was_written_under_the_lock(self) -> bool:
        """Whether index.json is what somebody who held the lock wrote last; else another hand put it there."""
        return self._file.was_written_under_the_lock()

    def load(self) -> bool:
        """Read index.json. False, and empty, if there is none or it is not what `write` writes."""
        self._clear()
        self._file.drop_spare()
        data = self._file.read()
        if data is None or not (data.startswith(_HEAD) and data.endswith(_TAIL)):
            return False
        body = data[len(_HEAD) : -len(_TAIL)]
        del data
        try:
            for line in body.split(_BETWEEN) if body else ():
                entry = jiter.from_json(line)
                self.add(entry["timestamp"], entry["sha256"], line)
                if self._names[-1] != entry["timestamp"]:
                    raise ValueError("out of order")  # noqa: TRY301 - one answer to every kind of damage
        except (ValueError, KeyError, TypeError):
            self._clear()
            return False
        self._true_lines = len(self._names)
        return True

    def add(self, name: str, sha256: str, line: bytes) -> None:
        """Add a run with its line, at its place in time.

        Raises:
            ValueError: not a run's name, or there already.
        """
        if name in self._lines:
            raise ValueError(f"{name!r} is there twice")
        key = run_key(name)
        if self._names and key < run_key(self._names[-1]):
            place = bisect_left(self._names, key, key=run_key)
            self._names.insert(place, name)
            self._true_lines = min(self._true_lines, place)
        else:
            self._names.append(name)
        self._lines[name] = line
        self._size += len(line) + len(_BETWEEN)
        self._name_of.setdefault(sha256, name)

    def discard(self, name: str) -> None:
        """Forget a run that the archive no longer has."""
        place = bisect_left(self._names, run_key(name), key=run_key)
        del self._names[place]
        self._true_lines = min(self._true_lines, place)
        line = self._lines.pop(name)
        self._size -= len(line) + len(_BETWEEN)
        sha256 = jiter.from_json(line)["sha256"]
        if self._name_of.get(sha256) == name:
            del self._name_of[sha256]

    def empty(self) -> None:
        """Forget all runs: they are to be added again."""
        self._clear()

    def write(self) -> None:
        """Replace index.json with what this object holds; on disk before this returns.

        Raises:
            RetryLater: the disk refused; the old index stands.
            StorageSuspect: a sync failed.
        """
        true_lines, self._true_lines = self._true_lines, 0
        self._file.replace(true_lines, self._content_from)
        self._true_lines = len(self._names)

    def forget(self) -> None:
        """Believe nothing of what was read: the archive went away."""
        self._clear()
        self._file.forget()

    def close(self) -> None:
        """Remove the file that was kept for the next write."""
        self._file.drop_spare()

    def _clear(self) -> None:
        self._names: list[str] = []  # sorted by run_key
        self._lines: dict[str, bytes] = {}
        self._name_of: dict[str, str] = {}  # sha256 -> name
        self._size = 0  # of all lines, each with what stands between it and the next
        self._true_lines = 0  # how many of the first lines index.json has as they are here

    def _content_from(self, first: int) -> tuple[int, bytes]:
        """Where the line of that number begins in the file, and all bytes from there to the end."""
        lines = [self._lines[name] for name in self._names[first:]]
        rest = _BETWEEN.join(lines)
        self.bytes_written = len(rest)
        if first == 0:
            return 0, _HEAD + rest + _TAIL
        # The bytes between the last line that stays and the first that follows belong to what follows.
        size = sum(map(len, lines)) + len(_BETWEEN) * len(lines)
        offset = len(_HEAD) + self._size - size - len(_BETWEEN)
        return offset, (_BETWEEN + rest if lines else b"") + _TAIL
