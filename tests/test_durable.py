"""What makes bytes survive: new files are new, a swap is one step, renames replace nothing, a failed fsync counts."""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from modelwarden import durable
from modelwarden.durable import (
    make_folder,
    make_unsynced_folder,
    remove_if_there,
    rename_new,
    swap_or_rename,
    sync_folder,
    write_new_file,
    write_tail,
)
from modelwarden.errors import RetryLater, StorageSuspect


def write_tail_of(path: Path, offset: int, data: bytes) -> None:
    """Write a file's tail through a descriptor of its own."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        write_tail(descriptor, str(path), offset, data)
    finally:
        os.close(descriptor)


def fail(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> list[int]:
    """Let a call of the system fail with that errno; the returned list grows with every call."""
    calls: list[int] = []

    def failing(*_: object, **__: object) -> None:
        calls.append(code)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    return calls


def trace(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made and synced, in order: `mkdir`, `sync file`, `sync folder`."""
    steps: list[str] = []
    real_fsync, real_mkdir = os.fsync, os.mkdir

    def fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def mkdir(path: str, mode: int = 0o777) -> None:
        steps.append("mkdir")
        real_mkdir(path, mode)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "mkdir", mkdir)
    return steps


@pytest.mark.parametrize("data", [b"", b"x", b"\0\xff" * 1_500_000])
def test_new_file_holds_exactly_the_bytes(tmp_path: Path, data: bytes) -> None:
    """Empty, short and long alike."""
    write_new_file(str(tmp_path / "new"), data)

    assert (tmp_path / "new").read_bytes() == data


def test_new_file_written_in_short_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes fewer bytes than offered loses none of them."""
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:3]))

    write_new_file(str(tmp_path / "new"), b"0123456789")

    assert (tmp_path / "new").read_bytes() == b"0123456789"


def test_new_file_is_synced_before_it_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the call finds the bytes."""
    steps = trace(monkeypatch)

    write_new_file(str(tmp_path / "new"), b"data")

    assert steps == ["sync file"]


def test_new_file_over_an_existing_one_is_refused_and_the_old_bytes_stand(tmp_path: Path) -> None:
    """Nothing is ever overwritten in place."""
    (tmp_path / "old").write_bytes(b"old")

    with pytest.raises(FileExistsError):
        write_new_file(str(tmp_path / "old"), b"new")

    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "dangling"])
def test_new_file_never_follows_a_link(tmp_path: Path, there: bool) -> None:
    """A link laid in the way leads nowhere."""
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(victim)

    with pytest.raises(FileExistsError):
        write_new_file(str(tmp_path / "link"), b"new")

    assert victim.exists() is there
    assert not there or victim.read_bytes() == b"precious"


def test_new_file_in_a_missing_folder_names_the_place(tmp_path: Path) -> None:
    """The message says which path the disk refused, and nothing is raised that the caller does not expect."""
    with pytest.raises(RetryLater, match=r"missing/new: can't write"):
        write_new_file(str(tmp_path / "missing" / "new"), b"data")


def test_refused_path_that_is_no_utf_8_is_shown_as_text(tmp_path: Path) -> None:
    """A message can always be printed, whatever bytes a path is made of."""
    with pytest.raises(RetryLater) as caught:
        write_new_file(os.path.join(tmp_path, "\udcff", "new"), b"data")

    assert "\\xff" in str(caught.value).encode("utf-8").decode()


def make_file(folder: Path) -> Path:
    """A file with ten bytes."""
    path = folder / "file"
    path.write_bytes(b"0123456789")
    return path


WRITERS: dict[str, Callable[[Path], None]] = {
    "new file": lambda folder: write_new_file(str(folder / "new"), b"new"),
    "folder": lambda folder: sync_folder(str(folder)),
    "tail": lambda folder: write_tail_of(make_file(folder), 3, b"new"),
    "made folder": lambda folder: make_folder(str(folder / "made")),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
def test_fsync_that_fails_makes_the_storage_suspect_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    """A second fsync of the same file would report success over lost data, so there is none."""
    calls = fail(monkeypatch, "fsync", errno.EIO)

    with pytest.raises(StorageSuspect, match=r"fsync failed .*storage suspect: look at the kernel log"):
        write(tmp_path)

    assert len(calls) == 1


def fail_to_begin(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let sync_file_range fail with that errno."""

    def failing(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(durable, "_sync_file_range", failing)


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADMSG, errno.ENOMEM])
def test_sync_that_fails_to_begin_makes_the_storage_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The kernel may tell an error once, and only here: the fsync that follows would return 0 over lost data."""
    fail_to_begin(monkeypatch, code)
    synced = fail(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(StorageSuspect, match=r"sync_file_range failed .*storage suspect"):
        write_new_file(str(tmp_path / "file"), b"data")
    assert synced == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_sync_that_finds_the_disk_full_at_its_beginning_asks_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """No reason to suspect the disk."""
    fail_to_begin(monkeypatch, code)
    with pytest.raises(RetryLater, match="make room") as raised:
        write_new_file(str(tmp_path / "file"), b"data")
    assert not isinstance(raised.value, StorageSuspect)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EINTR])
def test_kernel_without_sync_file_range_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A sandbox or a file system that lacks it: the fsync does all the work."""
    fail_to_begin(monkeypatch, code)
    write_new_file(str(tmp_path / "file"), b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.ENOSPC, "make room on the disk"), (errno.EDQUOT, "make room in the quota")]
)
@writers
def test_fsync_that_finds_the_disk_full_asks_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], code: int, hint: str
) -> None:
    """With delayed allocation a disk says only at the fsync that it is full: no reason to suspect it."""
    fail(monkeypatch, "fsync", code)

    with pytest.raises(RetryLater) as caught:
        write(tmp_path)

    assert caught.value.hint == hint
    assert not isinstance(caught.value, StorageSuspect)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EDQUOT, "make room in the quota"),
        (errno.EROFS, "the file system is read-only: remount it"),
        (errno.EACCES, "give the service's user the right to read and write there"),
        (errno.EMFILE, "raise LimitNOFILE"),
        (errno.EIO, "storage suspect: look at the kernel log and the disk's health"),
        (errno.ENODEV, ""),
    ],
)
@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_refusal_of_the_system_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, hint: str
) -> None:
    """Every errno an operator can do something about comes with the remedy and the path."""
    fail(monkeypatch, call, code)
    path = str(tmp_path / "new")

    with pytest.raises(RetryLater) as caught:
        write_new_file(path, b"x") if call == "open" else make_unsynced_folder(path)

    assert (caught.value.where, caught.value.hint) == (path, hint)
    assert os.strerror(code) in caught.value.what


def test_full_disk_in_the_middle_of_a_new_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file is never taken for one."""
    fail(monkeypatch, "write", errno.ENOSPC)

    with pytest.raises(RetryLater, match="make room"):
        write_new_file(str(tmp_path / "new"), b"data")


@pytest.mark.parametrize(
    ("offset", "data", "result"),
    [
        (10, b"abc", b"0123456789abc"),
        (3, b"abc", b"012abc"),
        (0, b"abc", b"abc"),
        (3, b"abcdefghij", b"012abcdefghij"),
        (3, b"", b"012"),
        (0, b"x" * 3_000_000, b"x" * 3_000_000),
    ],
)
def test_tail_is_written_from_its_offset_and_the_file_ends_with_it(
    tmp_path: Path, offset: int, data: bytes, result: bytes
) -> None:
    """Longer, shorter or empty: what stood behind the offset is gone, what stood before it stays."""
    write_tail_of(make_file(tmp_path), offset, data)

    assert (tmp_path / "file").read_bytes() == result


def test_tail_written_in_short_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes fewer bytes than offered loses none of them."""
    real_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real_pwrite(descriptor, data[:3], offset))

    write_tail_of(make_file(tmp_path), 4, b"abcdefgh")

    assert (tmp_path / "file").read_bytes() == b"0123abcdefgh"


def test_tail_is_synced_before_it_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the call finds the bytes."""
    path = make_file(tmp_path)
    steps = trace(monkeypatch)

    write_tail_of(path, 3, b"new")

    assert steps == ["sync file"]


def refusing(code: int) -> Callable[..., int]:
    """A renameat2 of a kernel or a file system that lacks what it is asked for."""

    def renameat2(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    return renameat2


RENAMES: dict[str, Callable[..., int] | str | None] = {
    "as this machine does it": "native",
    "no renameat2": None,
    "EINVAL": refusing(errno.EINVAL),
    "ENOSYS": refusing(errno.ENOSYS),
    "EPERM": refusing(errno.EPERM),
}


@pytest.fixture(params=list(RENAMES.values()), ids=list(RENAMES))
def _every_rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the ways to rename: the system call, none in the C library, none in the file system."""
    if request.param != "native":
        monkeypatch.setattr(durable, "_system_call", request.param)


every_rename = pytest.mark.usefixtures("_every_rename")


@every_rename
def test_swapped_files_have_each_other_s_name(tmp_path: Path) -> None:
    """In one step the new file has the name and the old one is the spare; without the call the new one replaces it."""
    for name in ("new", "name"):
        (tmp_path / name).write_bytes(name.encode())

    swapped = swap_or_rename(str(tmp_path / "new"), str(tmp_path / "name"))

    assert (tmp_path / "name").read_bytes() == b"new"
    assert (tmp_path / "new").read_bytes() == b"name" if swapped else not (tmp_path / "new").exists()


@every_rename
def test_swap_with_a_name_that_nothing_has_is_a_rename(tmp_path: Path) -> None:
    """The first of all files takes the same way."""
    (tmp_path / "new").write_bytes(b"new")

    assert not swap_or_rename(str(tmp_path / "new"), str(tmp_path / "name"))

    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == b"new"


@every_rename
def test_reader_of_a_file_that_loses_its_name_keeps_it_whole(tmp_path: Path) -> None:
    """Who has the file open reads on in the old one."""
    (tmp_path / "name").write_bytes(b"old and whole")
    (tmp_path / "new").write_bytes(b"new")
    with (tmp_path / "name").open("rb") as reader:
        first = reader.read(4)
        swap_or_rename(str(tmp_path / "new"), str(tmp_path / "name"))

        assert first + reader.read() == b"old and whole"


def test_made_folder_comes_with_its_parents_each_synced_in_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves no archive without the path to it."""
    steps = trace(monkeypatch)

    make_folder(str(tmp_path / "a" / "b"))

    assert (tmp_path / "a" / "b").is_dir()
    assert steps == ["mkdir", "sync folder", "mkdir", "sync folder"]


def test_made_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Making it again neither fails nor empties it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x")

    make_folder(str(tmp_path / "a"))

    assert (tmp_path / "a" / "file").read_bytes() == b"x"


@pytest.mark.parametrize("by", ["a file", "a dangling link"])
def test_folder_where_something_else_stands_is_refused_with_the_place(tmp_path: Path, by: str) -> None:
    """A slip in the settings is told, and what stands there is left alone."""
    path = tmp_path / "archive"
    path.write_bytes(b"theirs") if by == "a file" else path.symlink_to("nowhere")

    with pytest.raises(RetryLater, match="archive: is no folder"):
        make_folder(str(path))

    assert path.is_symlink() or path.read_bytes() == b"theirs"


def test_made_folder_may_be_named_relative_to_where_the_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`archive_dir = "training_archives"` is a path like any other."""
    monkeypatch.chdir(tmp_path)

    make_folder("runs/archive")

    assert (tmp_path / "runs" / "archive").is_dir()


def staged_run(folder: Path) -> Path:
    """A folder with a file, to rename."""
    source = folder / "source"
    source.mkdir()
    (source / "summary.json").write_bytes(b"mine")
    return source


@every_rename
def test_rename_to_a_free_name_moves_the_folder(tmp_path: Path) -> None:
    """The folder has its new name and its files, and the old name is gone."""
    source = staged_run(tmp_path)

    rename_new(str(source), str(tmp_path / "target"))

    assert (tmp_path / "target" / "summary.json").read_bytes() == b"mine"
    assert not source.exists()


def occupy(target: Path, by: str) -> None:
    """Put something at the target."""
    match by:
        case "full folder":
            target.mkdir()
            (target / "theirs").write_bytes(b"theirs")
        case "empty folder":
            target.mkdir()
        case "file":
            target.write_bytes(b"theirs")
        case "dangling link":
            target.symlink_to("nowhere")
        case _:
            raise AssertionError(by)


@every_rename
@pytest.mark.parametrize("by", ["full folder", "empty folder", "file", "dangling link"])
def test_rename_to_a_taken_name_replaces_nothing(tmp_path: Path, by: str) -> None:
    """Whatever has the name keeps it, and the folder stays where it was."""
    source, target = staged_run(tmp_path), tmp_path / "target"
    occupy(target, by)
    before = target.lstat()

    with pytest.raises(FileExistsError):
        rename_new(str(source), str(target))

    assert (source / "summary.json").read_bytes() == b"mine"
    assert (target.lstat().st_ino, target.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("by", ["full folder", "file"])
def test_rename_without_the_system_call_loses_a_race_without_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Somebody takes the name between the look and the rename: still nothing is replaced."""
    source, target = staged_run(tmp_path), tmp_path / "target"
    occupy(target, by)
    monkeypatch.setattr(durable, "_system_call", None)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)

    with pytest.raises(FileExistsError):
        rename_new(str(source), str(target))

    assert (source / "summary.json").read_bytes() == b"mine"
    assert target.is_file() if by == "file" else (target / "theirs").read_bytes() == b"theirs"


@every_rename
def test_rename_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    """A staging folder that somebody removed is a reason to try again, with the place in the message."""
    with pytest.raises(RetryLater, match="target: can't rename"):
        rename_new(str(tmp_path / "source"), str(tmp_path / "target"))


def test_removing_a_file_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    """Removing twice is removing once."""
    path = tmp_path / "file"
    path.write_bytes(b"x")

    remove_if_there(str(path))
    remove_if_there(str(path))

    assert not path.exists()
