"""File systems in a file: making one, mounting one, and the file systems that the rigs of power know.

The rule: everything here is called in a mount namespace of its own (see `namespaces`).
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from processes import until
from rigs.needs import needs


class FileSystem(NamedTuple):
    """A kind of file system, as small as it gets.

    Attributes:
        name: as mount knows it.
        mebibytes: of the image.
        make: the command that makes one in an image.
        options: of mount.
    """

    name: str
    mebibytes: int
    make: tuple[str, ...]
    options: str


FILE_SYSTEMS: Final[Mapping[str, FileSystem]] = {
    each.name: each
    for each in (
        # Not lazily: a thread that writes zeros for minutes would fill the record.
        FileSystem("ext4", 64, ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"), "loop"),
        FileSystem("xfs", 300, ("mkfs.xfs", "-q"), "loop"),
        FileSystem("btrfs", 128, ("mkfs.btrfs", "-q"), "loop,nodiscard"),
    )
}
"""Those that an archive is most likely on, with the options that they have by default."""


def needs_file_system(kind: FileSystem) -> None:
    """Skip the test if the machine lacks what an image of this kind needs; fail it in CI."""
    if not Path("/sys/fs", kind.name).exists():
        subprocess.run(["modprobe", kind.name], check=False, capture_output=True)
    needs(
        root=True,
        commands=(kind.make[0], "mount", "umount", "fusermount3"),
        devices=("/dev/loop-control", f"/sys/fs/{kind.name}"),
        fuse=True,
    )


def make_image(kind: FileSystem, image: Path) -> None:
    """Make a file that holds an empty file system; what is zero in it takes no room."""
    rough = image.with_suffix(".rough")
    with rough.open("wb") as stream:
        stream.truncate(kind.mebibytes << 20)
    subprocess.run([*kind.make, rough], check=True, capture_output=True)
    subprocess.run(["cp", "--sparse=always", rough, image], check=True)
    rough.unlink()


@contextmanager
def mounted(kind: FileSystem, image: Path, folder: Path) -> Iterator[Path]:
    """While entered, the file system in the image is mounted at the folder. CalledProcessError where it can't be."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind.name, "-o", kind.options, image, folder], check=True, stdout=sys.stderr)
    try:
        yield folder
    finally:
        until(lambda: _unmounted(folder), f"{folder} to be unmounted")


def _unmounted(folder: Path) -> bool:
    """Whether it could be: somebody may have a file open for a moment still."""
    return subprocess.run(["umount", folder], check=False, capture_output=True).returncode == 0


@contextmanager
def memory_folder(folder: Path) -> Iterator[Path]:
    """While entered, the folder lies in memory: images are quick there, and go with the namespace."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
