"""The runs of an archive read from their folders: for who asks, and owns nothing of it.

The rule: nothing here writes, locks or makes anything. The folders are the truth; a folder that only looks like a run
is none.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

import jiter

from modelwarden.archive.identity import identity_in
from modelwarden.archive.record import ASSESSMENTS_FILE, decode_assessments, decode_head, files_of
from modelwarden.durable import refusal
from modelwarden.errors import UnknownRun
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.json_object import shorten
from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import is_run_name

INDEX_FILE: Final = "index.json"
STAGING: Final = ".staging"
REJECTED: Final = "rejected"

_NAME: Final = re.compile(rb'\{"timestamp":"([^"]+)"')
_ARCHIVED_AT: Final = re.compile(rb'"archived_at":"([^"]+)"')
_SHA256: Final = re.compile(rb'"sha256":"([0-9a-f]{64})"')
"""What is asked of a run's line in index.json; a text can't hold any of it, for its quotes are escaped."""


def run_names(root: str) -> list[str]:
    """The names of all folders that may be runs, in no order. Raises RetryLater if the disk refuses."""
    try:
        with os.scandir(root) as entries:
            return [each.name for each in entries if is_run_name(each.name) and each.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise refusal("list", root, error) from error


def oldest_first(name: str) -> tuple[str, int]:
    """What sorts run names as `run_key` does, in a tenth of the time: `_10` after `_9`."""
    return name[:_STAMP], int(name[_STAMP + 1 :] or 1)


_STAMP: Final = len("YYYYMMDD_HHMMSS")


def read_file(root: str, name: str, file: str) -> bytes:
    """The bytes of one of a run's files.

    Raises:
        UnknownRun: no such run; a name that is no run name included.
        RetryLater: the disk refused.
    """
    if not is_run_name(name):
        raise UnknownRun(f"{name!r} is not a run's name", hint="see `modelwarden runs`")
    path = os.path.join(root, name, file)
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownRun(f"no run {shorten(name)!r}", where=root, hint="see `modelwarden runs`") from None
    except OSError as error:
        raise refusal("read", path, error) from error


def read_run(root: str, name: str) -> tuple[RunRecord, list[Assessment]]:
    """A run and its assessments, without the histories.

    Raises:
        UnknownRun: no such run, or a folder that only looks like one.
        RetryLater: the disk refused.
    """
    try:
        run, assessments = decode_assessments(read_file(root, name, ASSESSMENTS_FILE))
    except ValueError as error:
        raise _no_run(root, name, str(error)) from error
    _insist(root, name, run)
    return run, assessments


def read_record(root: str, name: str) -> RunRecord:
    """A run without its models; reading them all costs ten times as much. Raises as `read_run`."""
    try:
        run = decode_head(read_file(root, name, ASSESSMENTS_FILE))
    except ValueError as error:
        raise _no_run(root, name, str(error)) from error
    _insist(root, name, run)
    return run


def _insist(root: str, name: str, run: RunRecord) -> None:
    if run.timestamp != name:
        raise _no_run(root, name, f"it says it is {run.timestamp}")
    if not all(os.path.isfile(os.path.join(root, name, file)) for file in files_of(run)):
        raise _no_run(root, name, f"its {'three' if run.original is None else 'four'} files are not there")


def _no_run(root: str, name: str, reason: str) -> UnknownRun:
    return UnknownRun(f"{name} is no run: {reason}", where=root, hint="`modelwarden verify` says what is wrong")


def read_index(root: str) -> Mapping[str, Sequence[str]]:
    """What index.json says of each run: when it was archived, and its sha256; nothing if it can't be read.

    It is read as bytes, by its lines: as JSON, 100,000 runs would take ten times as long.
    """
    try:
        with open(os.path.join(root, INDEX_FILE), "rb") as stream:
            data = stream.read()
    except OSError:
        return {}
    columns = [b"\n".join(part.findall(data)).decode().splitlines() for part in (_NAME, _ARCHIVED_AT, _SHA256)]
    if len({*map(len, columns)}) != 1:  # somebody else wrote it
        return {}
    names, moments, digests = columns
    return dict(zip(names, zip(moments, digests, strict=True), strict=True))


def read_run_names(root: str) -> Mapping[str, str]:
    """What index.json has as each run's name by its trainer, by the run's own; nothing if it can't be read."""
    try:
        with open(os.path.join(root, INDEX_FILE), "rb") as stream:
            lines = jiter.from_json(stream.read())["runs"]
        return {line["timestamp"]: line["run_name"] or "" for line in lines}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def look_of(root: str) -> str | None:
    """How the archive's folder and index.json look to `stat`: another look is another set of runs. None without them.

    A folder's times change with every name in it, and index.json is another file, or longer, after every commit. None
    also if the times have no fractions: two changes within a second would look the same.
    """
    try:
        folder, index = os.stat(root), os.stat(os.path.join(root, INDEX_FILE))
    except OSError:
        return None
    if folder.st_mtime_ns % 1_000_000_000 == 0:
        return None
    return ":".join(map(str, (folder.st_mtime_ns, folder.st_ctime_ns, *Fingerprint.of(index))))


def read_identity(root: str) -> str | None:
    """The id of the archive in that folder, as `identity_in` has it. Raises RetryLater if the disk refuses."""
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal("open", root, error) from error
    try:
        return identity_in(folder, root)
    finally:
        os.close(folder)
