"""What kind of file system a path lies on: local, or shared over a network.

The rule: where it can't be told, a path counts as local; the answer chooses a default or a warning, never whether a
run is kept.
"""

import os
from typing import Final

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


def network_file_system(path: str) -> str | None:
    """The type of the network file system that holds the path (`nfs4`), or None where it is local.

    A path that is not there yet counts by its nearest parent that is. FUSE counts as a network: what is behind
    it can change without an event.
    """
    kind = _type_of_mount(os.path.realpath(path))
    return kind if kind in _NETWORK or kind.startswith("fuse") else None


def _type_of_mount(path: str) -> str:
    """The type of the mount that the path lies on, "" where /proc does not tell."""
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(b" - ")
        # proc(5): blanks in the mount point are written as octal escapes.
        point = os.fsdecode(before.split()[4].replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\134", b"\\"))
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last mount on a point is the one in sight
            best, kind = point, os.fsdecode(after.split()[0])
    return kind
