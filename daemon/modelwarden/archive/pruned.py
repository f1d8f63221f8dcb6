"""The record of runs that were removed on purpose: `pruned/{number}.json`, a file each time, never changed.

The rule: what is recorded here and not in the archive is not archived again by itself, whatever a state remembers. A
record is on disk before the first of its runs goes; a run that stayed, or came back, is a run like any other.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jiter
from pydantic_core import to_json

from modelwarden import durable
from modelwarden.archive.numbered import add_numbered, file_name, number_of
from modelwarden.archive.tree import Tree
from modelwarden.gate.timestamp import is_run_name

PRUNED: Final = "pruned"
SCHEMA_VERSION: Final = 1

_SHA256: Final = re.compile("[0-9a-f]{64}")


class PrunedRun(NamedTuple):
    """A run that was removed.

    Attributes:
        run: its name.
        sha256: of its summary: by this it is known again.
        source: where the summary was found; "" if that is not known.
    """

    run: str
    sha256: str
    source: str


class PrunedFile(NamedTuple):
    """A file of the record.

    Attributes:
        where: below the archive.
        runs: what it says; none if that can't be read.
        problem: why not; "" if nothing.
    """

    where: str
    runs: Sequence[PrunedRun]
    problem: str


class PrunedRuns:
    """The runs that were removed, as of the last look; who removes others meanwhile is noticed by the next.

    Args:
        root: the archive directory.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._read = 0  # the number of the last file that was read
        self._name_of: dict[str, str] = {}  # sha256 -> the run's name

    def find(self, sha256: str) -> str | None:
        """The name of the run of these bytes that was removed, or None. Raises RetryLater if the disk refuses."""
        self._look()
        return self._name_of.get(sha256)

    def all(self) -> Mapping[str, str]:
        """Every run's name by the sha256 of its bytes. Raises RetryLater if the disk refuses."""
        self._look()
        return self._name_of

    def forget(self) -> None:
        """Believe nothing of what was read: the archive went away."""
        self._read = 0
        self._name_of = {}

    def _look(self) -> None:
        """Files are numbered and stay: what is new has a higher number than the last."""
        if self._read and not _is_there(self._root, self._read + 1):
            return
        for number in _numbers(self._root):
            if number > self._read:
                for each in _read(self._root, number).runs:
                    self._name_of[each.sha256] = each.run
                self._read = number


def read_pruned(root: str) -> Iterator[PrunedFile]:
    """Every file of the record, by number, damaged ones too. Raises RetryLater if the disk refuses."""
    return (_read(root, number) for number in _numbers(root))


def add_pruned(tree: Tree, root: str, runs: Iterable[PrunedRun], at: str, host: str) -> None:
    """Record runs, on disk before this returns; under the archive's lock.

    Args:
        tree: with a staging folder that was entered.
        root: the archive's folder, as a path that stays it.
        runs: which.
        at: when, ISO 8601 in UTC.
        host: where that is done.

    Raises:
        RetryLater: the disk refused; nothing is recorded.
    """
    number = max(_numbers(root), default=0) + 1
    add_numbered(tree, root, PRUNED, number, _encode(number, at, host, runs))


def _encode(number: int, at: str, host: str, runs: Iterable[PrunedRun]) -> bytes:
    """The file: a line a run."""
    head = to_json({"schema_version": SCHEMA_VERSION, "number": number, "pruned_at": at, "host": host})
    lines = b",\n".join(to_json(each._asdict()) for each in runs)
    return head[:-1] + b',"runs":[\n' + lines + b"\n]}\n"


def _numbers(root: str) -> list[int]:
    folder = os.path.join(root, PRUNED)
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise durable.refusal("list", folder, error) from error
    return sorted(number for name in names if (number := number_of(name)))


def _is_there(root: str, number: int) -> bool:
    path = os.path.join(root, PRUNED, file_name(number))
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise durable.refusal("look at", path, error) from error
    return True


def _read(root: str, number: int) -> PrunedFile:
    where = f"{PRUNED}/{file_name(number)}"
    path = os.path.join(root, where)
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise durable.refusal("read", path, error) from error
    try:
        document: Any = jiter.from_json(data)
        runs = [PrunedRun(**each) for each in document["runs"]]
        if not all(is_run_name(each.run) and _SHA256.fullmatch(each.sha256) for each in runs):
            raise ValueError("a run in it has no name or no sha256")  # noqa: TRY301 - one answer to every kind of damage
        is_whole = data == _encode(number, document["pruned_at"], document["host"], runs)
    except (ValueError, KeyError, TypeError) as error:
        return PrunedFile(where, (), f"is damaged: {error}")
    return PrunedFile(where, runs, "" if is_whole else "is not what was written under this name")
