"""Paths as the system has them: how one is shown, who owns it, and what kind of file system it lies on.

The rule: if the kind can't be told, a path counts as local; the answer chooses a default or a warning, never whether
a run is kept.
"""

import fcntl
import os
import pwd
import re
import shlex
from contextlib import suppress
from typing import Final, NamedTuple

from modelwarden.errors import StopService

_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
    }
)

_HAS_PROC: Final = os.path.isdir("/proc/self/fd")

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


def path_text(path: str) -> str:
    """The path as text: names on disk are bytes, and what is no UTF-8 is written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def show_path(path: str) -> str:
    """The path as one line of text for logs, messages and terminals."""
    text = path_text(path)
    return (
        text if text.isprintable() else "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
    )


def path_into(folder: int, path: str) -> str:
    """A path that leads into an open folder, whatever is mounted or moved meanwhile.

    Args:
        folder: the open folder.
        path: its path, which is all there is if /proc is not mounted.
    """
    return f"/proc/self/fd/{folder}" if _HAS_PROC else path


def network_file_system(path: str) -> str | None:
    """The type of the network file system that holds the path (`nfs4`), or None if it is local.

    A path that is not there yet counts by its nearest parent that is. FUSE counts as a network: what is behind
    it can change without a hint.
    """
    kind = _mount_of(os.path.realpath(path)).kind
    return kind if kind in _NETWORK or kind.startswith("fuse") else None


def doubt_of_locks(path: str) -> str | None:
    """Why a lock on this mount may not hold against another host; None if it does, or the disk is local.

    flock(2): an NFS client turns flock into a lock on the server, unless `nolock` or `local_lock` says not to. Lustre
    does with the option `flock` alone. What a FUSE program, CIFS, 9p or virtiofs does about it can't be seen from here.
    """
    kind, options = _mount_of(os.path.realpath(path))
    if kind.startswith("nfs"):
        local = options & {"nolock", "local_lock=all", "local_lock=flock"}
        return f"{kind} mounted with {min(local)}" if local else None
    if kind == "lustre":
        return None if "flock" in options else "lustre mounted without flock"
    if kind in {"9p", "cifs", "smb3", "smbfs", "virtiofs"} or kind.startswith("fuse"):
        return f"{kind} may keep locks to this host"
    return None


def is_held(lock_file: str) -> bool:
    """Whether a living process holds this lock (flock). Nothing is made: a lock that nobody ever had is not held.

    Raises:
        OSError: it may not be asked.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        with suppress(OSError):  # nothing was written
            os.close(descriptor)
    return False


def insist_on_owner(*folders: str) -> None:
    """Raise StopService if this is root, and one of the folders that are there belongs to somebody else.

    What root makes in them their owner could not change: the daemon of that user would fail on it for ever after.
    """
    if os.geteuid() != 0:
        return
    for folder in folders:
        try:
            owner = os.stat(folder).st_uid
        except OSError:  # what comes next says so
            continue
        if owner != 0:
            name = _user_name(owner)
            raise StopService(
                f"belongs to {name}, who could not change what root writes there",
                where=show_path(folder),
                hint=f"run this as its owner: `sudo -u {shlex.quote(name)} modelwarden ...`",
            )


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"  # as sudo takes it


class _Mount(NamedTuple):
    kind: str
    options: frozenset[str]


def _mount_of(path: str) -> _Mount:
    """The mount that the path lies on; of no kind if /proc does not tell."""
    best, mount = "", _Mount("", frozenset())
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return mount
    for line in lines:
        before, _, after = line.partition(b" - ")
        # proc(5): blanks and the like in the mount point are written as octal escapes.
        point = os.fsdecode(_OCTAL.sub(lambda escape: bytes([int(escape[1], 8)]), before.split()[4]))
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last mount on a point is the one in sight
            kind, *_, options = map(os.fsdecode, after.split())
            best, mount = point, _Mount(kind, frozenset(options.split(",")))
    return mount
