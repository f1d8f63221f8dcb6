"""Several files that are one run, as a file a trial: which files of a folder belong together, and their bytes as one.

The rule: a group is a folder. Its files are found by the walk that finds every file, none through a link, and its bytes
are those of all of them at one moment, in one ZIP file that is the same whenever it is made.
"""

import os
from collections.abc import Callable
from typing import Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.filesystems import path_text, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.bundle import bundle
from modelwarden.formats.normalising import Torn
from modelwarden.intake.reading import Gone, Moving, NotAFile, Refused, TooDense, TooLarge, Whole, read_whole
from modelwarden.intake.scan import Root, Scan
from modelwarden.pipeline.policies import JudgedFolder

MOST_FILES: Final = 10_000
"""Most files that belong to one run, and most checkpoints that are looked at in a folder."""


class Changed(Torn):
    """What was read is of no one moment: a file of the run is not as it was. It is to be looked at and read again."""


class Group(NamedTuple):
    """The files of a run.

    Attributes:
        folder: that they lie in, or below.
        files: their paths, in the order of these, with their fingerprints.
    """

    folder: str
    files: tuple[tuple[str, Fingerprint], ...]

    @property
    def newest(self) -> tuple[str, Fingerprint]:
        """The file that was modified last."""
        return max(self.files, key=lambda each: (each[1].modified, each[0]))

    def name_of(self, path: str) -> str:
        """What one of the files is called in the run: its path from the folder."""
        return path_text(os.path.relpath(path, self.folder))


def group_of(path: str, folder: JudgedFolder) -> str:
    """The folder of a file's group: as far above it as the settings say, and not above the watched one."""
    found = os.path.dirname(path)
    for part in folder.group.split("/"):
        if part == ".." and found != folder.path:
            found = os.path.dirname(found)
    return found


def group_at(where: str, folder: JudgedFolder, is_ours: Callable[[str], bool]) -> Group:
    """The group of a folder as it is now.

    Args:
        where: the group's folder.
        folder: the watched one.
        is_ours: whether a file is one of the watched folder's.

    Raises:
        Torn: not all of the folder could be seen.
        RejectSummary: it holds too many files.
    """
    root = Root(folder.path, tuple(folder.patterns), recursive=folder.group != ".")
    scan = Scan(root, folder.excluded, where)
    files = [each for each in scan if is_ours(each[0]) and group_of(each[0], folder) == where]
    if scan.problems:
        path, reason = scan.problems[0]
        raise Torn(f"can't be read ({reason})", where=show_path(path))
    if len(files) > MOST_FILES:
        raise RejectSummary(f"the run has {len(files)} files, more than {MOST_FILES}")
    return Group(where, tuple(sorted(files)))


def read_group(group: Group, max_bytes: int) -> bytes:
    """The bytes of all files, in one ZIP file: each as the group has it, when the first was read as when the last was.

    Raises:
        Changed: one of them is not as the group has it.
        Torn: one of them could not be read; it may be whole the next time.
        RejectSummary: they are too large.
    """
    size = sum(fingerprint.size for _, fingerprint in group.files)
    if size > max_bytes:
        raise RejectSummary(
            f"the {len(group.files)} files of the run have {size} bytes, more than max_bytes = {max_bytes}",
            hint="raise max_bytes in [intake], or take fewer files by patterns",
        )
    found: dict[str, bytes] = {}
    for path, fingerprint in group.files:
        name = group.name_of(path)
        match read_whole(path, max_bytes):
            case Whole(data, as_read):
                insist_on(fingerprint, as_read, name)
                found[name] = data
            case TooLarge() | TooDense() as large:
                error = large.error(max_bytes)
                raise RejectSummary(error.what, where=name, hint=error.hint)
            case problem:
                raise unread(problem, name, max_bytes)
    for path, fingerprint in group.files:
        insist_on(fingerprint, fingerprint_of(path), group.name_of(path))
    return bundle(found)


def insist_on(before: Fingerprint, now: Fingerprint | None, where: str) -> None:
    """Raise Changed if a file is not as it was: by size and times, for an open file may have another inode number."""
    if now is None or now[2:] != before[2:]:
        raise Changed("changed while the run was read", where=where)


def fingerprint_of(path: str) -> Fingerprint | None:
    """The file's as it is now; None if it can't be seen."""
    try:
        return Fingerprint.of(os.lstat(path))
    except OSError:
        return None


def unread(problem: Gone | NotAFile | Moving | TooLarge | TooDense | Refused, where: str, max_bytes: int) -> Torn:
    """What is said of a file that belongs to a run and could not be read."""
    match problem:
        case Gone():
            return Changed("was there a moment ago and is gone", where=where)
        case NotAFile(kind):
            return Torn(f"is {kind}", where=where, hint="what belongs to a run is a regular file")
        case Moving():
            return Changed("changed while it was read", where=where)
        case TooLarge() | TooDense():
            error = problem.error(max_bytes)
            return Torn(error.what, where=where, hint=error.hint)
        case Refused(reason):
            return Torn(f"can't be read ({reason})", where=where)
