"""The archive's folders: a run is complete before it has a name, only the dead are swept, a name is never a path."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from modelwarden.archive.record import RUN_FILES
from modelwarden.archive.tree import Tree
from modelwarden.errors import RetryLater, StorageSuspect, UnknownRun
from processes import running_program

NAME = "20241224_153000"
OTHER = "20241225_000000"
FILES = {"summary.json": b"{}", "model_assessments.json": b"{...}", "recommendations.md": b"# Run"}

STAGING_PROCESS = """
import sys
from modelwarden.archive.tree import Tree
tree = Tree(sys.argv[1], sys.argv[2])
tree.enter_staging()
for _ in range(2):
    tree.stage({"summary.json": b"{}"})
print("staged", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A new archive's folders, ready to stage."""
    made = Tree(str(tmp_path / "archive"), "abc123")
    made.enter_staging()
    yield made
    made.close()


def staging_process(root: str, owner: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Another process that has staged two runs and lives."""
    return running_program(STAGING_PROCESS, root, owner, says="staged")


def left_by_killed_process(root: str, owner: str) -> None:
    """Leave two runs staged by a process that was killed."""
    with staging_process(root, owner) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL


def staged_folders(tree: Tree) -> list[str]:
    """Every folder that somebody staged, as `owner-random/run`, without the locks' own files."""
    shelf = Path(tree.root, ".staging")
    return sorted(str(each.relative_to(shelf)) for each in shelf.glob("*/*") if each.is_dir())


def test_archive_directory_is_made_where_missing(tmp_path: Path) -> None:
    """A first start needs no preparation."""
    Tree(str(tmp_path / "a" / "b"), "abc123")

    assert (tmp_path / "a" / "b").is_dir()


def test_staged_run_is_complete_and_not_yet_a_run(tree: Tree) -> None:
    """All files are there, and nobody who lists the archive sees a run."""
    folder = tree.stage(FILES)

    assert {each.name: each.read_bytes() for each in Path(folder).iterdir()} == FILES
    assert list(tree.run_names()) == []


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files and folders that are synced from now on, in order."""
    names: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_staged_run_is_synced_file_by_file_and_then_its_folder(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it can get a name all of it is on disk: no power cut leaves a run without its files."""
    names = synced(monkeypatch)

    folder = tree.stage(FILES)

    assert names == [*FILES, os.path.basename(folder)]


def test_published_run_is_claimed_by_the_sync_of_the_archive(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit point is one sync for all names of a batch."""
    folder = tree.stage(FILES)
    names = synced(monkeypatch)

    tree.publish(folder, NAME)
    assert names == []
    tree.sync()

    assert names == [os.path.basename(tree.root)]


def test_rejected_bytes_are_on_disk_with_their_folder_s_name(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the call finds what was kept."""
    names = synced(monkeypatch)

    tree.keep_rejected("0123456789abcdef", {"as_found": b"x", "reason.json": b"{}"})

    assert names[-1] == "rejected"
    assert {"as_found", "reason.json"} < set(names)


def test_published_run_has_its_name_and_left_the_staging(tree: Tree) -> None:
    """A rename is all that happens: the same files, under the run's name."""
    tree.publish(tree.stage(FILES), NAME)
    tree.sync()

    assert list(tree.run_names()) == [NAME]
    assert {file: tree.read(NAME, file) for file in RUN_FILES} == FILES
    assert staged_folders(tree) == []


def test_publish_onto_a_taken_name_changes_nothing(tree: Tree) -> None:
    """The name's owner keeps it and the staged run stays staged."""
    tree.publish(tree.stage(FILES), NAME)
    second = tree.stage({**FILES, "summary.json": b"second"})

    with pytest.raises(FileExistsError):
        tree.publish(second, NAME)

    assert tree.read(NAME, "summary.json") == b"{}"
    assert Path(second, "summary.json").read_bytes() == b"second"


def test_discarded_run_is_gone_and_discarding_it_again_is_nothing(tree: Tree) -> None:
    """What was not published leaves nothing behind."""
    folder = tree.stage(FILES)

    tree.discard(folder)
    tree.discard(folder)

    assert staged_folders(tree) == []


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, StorageSuspect), (errno.ENOSPC, RetryLater)])
def test_stage_that_fails_leaves_nothing_half_made(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """The disk refuses at the second file: the first is gone too, and the next try begins with new files."""
    real_fsync, calls = os.fsync, iter([None])

    def fsync(descriptor: int) -> None:
        if next(calls, "later") == "later":
            raise OSError(code, os.strerror(code))
        real_fsync(descriptor)

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", fsync)
        with pytest.raises(kind):
            tree.stage(FILES)

    assert staged_folders(tree) == []
    assert len(os.listdir(tree.stage(FILES))) == len(FILES)


def test_staging_that_was_removed_by_hand_is_made_again(tree: Tree) -> None:
    """A person who tidies up does not stop the daemon."""
    staging = Path(tree.root, ".staging")
    tree.discard(str(staging))
    assert not staging.exists()

    tree.enter_staging()

    assert len(os.listdir(tree.stage(FILES))) == len(FILES)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
def test_staging_that_can_not_be_locked_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A full disk is told as such also where it strikes at the lock's own file."""
    tree = Tree(str(tmp_path), "abc123")
    real_open = os.open

    def refuse_lock(path: str, *arguments: Any, **options: Any) -> int:
        if os.path.basename(path) == "lock":
            raise OSError(code, os.strerror(code), path)
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_lock)

    with pytest.raises(RetryLater):
        tree.enter_staging()


def test_closed_archive_leaves_no_staging_of_its_own(tmp_path: Path) -> None:
    """A clean stop leaves nothing to sweep, and nobody else's staging is touched."""
    other = Tree(str(tmp_path), "abc123")
    other.enter_staging()
    theirs = other.stage(FILES)
    tree = Tree(str(tmp_path), "abc123")
    tree.enter_staging()
    tree.stage(FILES)

    tree.close()

    assert [str(Path(other.root, ".staging", each)) for each in staged_folders(other)] == [theirs]
    other.close()


def test_sweep_removes_what_a_killed_process_of_the_same_owner_staged(tree: Tree) -> None:
    """Half-made runs of the dead go at the next start, and are counted."""
    left_by_killed_process(tree.root, "abc123")
    own = tree.stage(FILES)

    assert tree.sweep() == 2

    assert [str(Path(tree.root, ".staging", each)) for each in staged_folders(tree)] == [own]
    assert len(os.listdir(Path(tree.root, ".staging"))) == 1


def test_sweep_leaves_what_a_living_process_of_the_same_owner_stages(tree: Tree) -> None:
    """A command beside the daemon must not pull its runs from under it, however old they are."""
    with staging_process(tree.root, "abc123"):
        for folder in Path(tree.root, ".staging").iterdir():
            os.utime(folder, (0, 0))

        assert tree.sweep() == 0
        assert len(staged_folders(tree)) == 2


def test_sweep_leaves_what_a_killed_process_of_another_owner_staged(tree: Tree) -> None:
    """On a shared archive a daemon sweeps only its own: another host's lock says nothing here."""
    left_by_killed_process(tree.root, "def456")

    assert tree.sweep() == 0
    assert len(staged_folders(tree)) == 2


def test_sweep_of_an_archive_without_staging_is_nothing(tmp_path: Path) -> None:
    """The very first start has nothing to sweep."""
    assert Tree(str(tmp_path / "new"), "abc123").sweep() == 0


def test_sweep_does_not_mind_strangers_in_the_staging(tree: Tree) -> None:
    """A file that only looks like an owner's folder stays, and nothing breaks."""
    stranger = Path(tree.root, ".staging", "abc123-notafolder")
    stranger.write_bytes(b"x")

    assert tree.sweep() == 0
    assert stranger.read_bytes() == b"x"


def test_name_of_a_run_is_its_timestamp_where_nothing_has_it(tree: Tree) -> None:
    """No suffix without a collision."""
    assert tree.reserve_name(NAME) == NAME


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ([], ["", "_2", "_3"]),
        ([""], ["_2", "_3"]),
        (["", "_2", "_3"], ["_4", "_5"]),
        (["", "_3"], ["_2", "_4"]),
        (["_2"], ["", "_3"]),
        (["", *(f"_{suffix}" for suffix in range(2, 10))], ["_10", "_11"]),
    ],
)
def test_names_of_one_batch_are_the_first_suffixes_that_nobody_has(
    tree: Tree, there: list[str], names: list[str]
) -> None:
    """`T`, `T_2`, `T_3`... past what is in the archive and what this batch was given already."""
    for suffix in there:
        Path(tree.root, f"{NAME}{suffix}").mkdir()

    assert [tree.reserve_name(NAME) for _ in names] == [f"{NAME}{suffix}" for suffix in names]


def test_names_of_different_timestamps_do_not_count_for_one_another(tree: Tree) -> None:
    """Each timestamp has suffixes of its own."""
    assert [tree.reserve_name(each) for each in (NAME, OTHER, NAME)] == [NAME, OTHER, f"{NAME}_2"]


def test_name_that_was_released_unused_is_given_again(tree: Tree) -> None:
    """A batch that came to nothing leaves no gap."""
    tree.reserve_name(NAME)
    tree.reserve_name(NAME)

    tree.release_names()

    assert tree.reserve_name(NAME) == NAME


def test_name_of_a_run_deleted_by_hand_is_given_again(tree: Tree) -> None:
    """Room that somebody made is used."""
    tree.publish(tree.stage(FILES), tree.reserve_name(NAME))
    tree.release_names()
    tree.discard(tree.path_of(NAME))

    assert tree.reserve_name(NAME) == NAME


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_name_passes_over_whatever_has_it(tree: Tree, kind: str) -> None:
    """A name is taken by a file or a link as well as by a folder."""
    path = Path(tree.root, NAME)
    path.write_bytes(b"") if kind == "file" else path.symlink_to("nowhere")

    assert tree.reserve_name(NAME) == f"{NAME}_2"


def test_names_are_new_however_many_runs_have_one_timestamp(tree: Tree) -> None:
    """Batch after batch, every name is one that the archive does not have."""
    names = []
    for _ in range(5):
        names.append(tree.reserve_name(NAME))
        tree.publish(tree.stage(FILES), names[-1])
        tree.release_names()

    assert names == [NAME, *(f"{NAME}_{suffix}" for suffix in range(2, 6))]


def test_run_names_are_folders_with_a_run_name_and_nothing_else(tree: Tree, tmp_path: Path) -> None:
    """Whatever else people put into the archive is foreign."""
    root = Path(tree.root)
    for name in (
        NAME,
        f"{NAME}_2",
        "rejected",
        ".hidden",
        "notes",
        f"{NAME}.zip",
        f"{NAME}_0",
        f"{NAME}_1",
        f"{NAME}_02",
        "2024",
    ):
        (root / name).mkdir()
    (root / "20241225_000000").write_bytes(b"a file")
    (root / "20241226_000000").symlink_to(tmp_path)
    (root / "20241399_000000").mkdir()

    assert sorted(tree.run_names()) == [NAME, f"{NAME}_2"]


@pytest.mark.parametrize("missing", [None, *RUN_FILES])
def test_run_is_complete_only_with_all_three_files(tree: Tree, missing: str | None) -> None:
    """A folder that lacks any of the three is no run of ours."""
    tree.publish(tree.stage({name: data for name, data in FILES.items() if name != missing}), NAME)

    assert tree.is_complete(NAME) is (missing is None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret",
        "/etc",
        "rejected",
        f"{NAME}/../../secret",
        f"{NAME}\n",
        f"{NAME}_2/..",
        f" {NAME}",
        f"{NAME}\0",
        "\uff12\uff10\uff12\uff141224_153000",
        "20241224_1530",
    ],
)
def test_read_of_what_is_no_run_name_is_refused(tree: Tree, tmp_path: Path, name: str) -> None:
    """A name is never a path: nothing outside a run's folder can be read."""
    for folder in (tmp_path / "secret", Path(tree.root, "rejected"), Path(tree.root, NAME)):
        folder.mkdir()
        (folder / "model_assessments.json").write_bytes(b"secret")

    with pytest.raises(UnknownRun):
        tree.read(name)


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder"])
def test_read_of_a_run_that_is_not_there_names_it(tree: Tree, there: str) -> None:
    """The message says which run, and how to see those that there are."""
    path = Path(tree.root, NAME)
    if there == "a file":
        path.write_bytes(b"")
    elif there == "an empty folder":
        path.mkdir()

    with pytest.raises(UnknownRun, match=f"no run {NAME}: see `modelwarden runs`"):
        tree.read(NAME)


def test_read_that_the_disk_refuses_is_tried_again_later(tree: Tree) -> None:
    """A bad sector under one run is told as such and is no error of ours."""
    Path(tree.root, NAME).mkdir()
    Path(tree.root, NAME, "model_assessments.json").symlink_to("/proc/self/mem")  # its first byte can't be read: EIO

    with pytest.raises(RetryLater, match="model_assessments"):
        tree.read(NAME)


def test_rejected_bytes_are_kept_with_their_reason(tree: Tree) -> None:
    """Nothing that was found is lost, and nothing of it stays in the staging."""
    folder = tree.keep_rejected("0123456789abcdef", {"as_found": b"\xff\0", "reason.json": b"{}"})

    assert folder == os.path.join(tree.root, "rejected", "0123456789abcdef")
    assert {each.name: each.read_bytes() for each in Path(folder).iterdir()} == {
        "as_found": b"\xff\0",
        "reason.json": b"{}",
    }
    assert staged_folders(tree) == []


def test_rejected_bytes_found_again_keep_what_is_there(tree: Tree) -> None:
    """The first reason stands; the same bytes make one folder, however often they are found."""
    first = tree.keep_rejected("0123456789abcdef", {"as_found": b"x", "reason.json": b"first"})
    second = tree.keep_rejected("0123456789abcdef", {"as_found": b"x", "reason.json": b"second"})

    assert first == second
    assert Path(first, "reason.json").read_bytes() == b"first"
    assert os.listdir(os.path.dirname(first)) == ["0123456789abcdef"]


def test_rejected_bytes_whose_entry_could_not_be_synced_are_kept_anew(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry whose sync failed may not be on disk whatever a later sync says: the next try makes another."""
    files = {"as_found": b"x"}
    sync = os.fsync

    def fails_on_the_shelf(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/rejected"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", fails_on_the_shelf)
        with pytest.raises(StorageSuspect):
            tree.keep_rejected("0123456789abcdef", files)
    assert list(Path(tree.root).glob("rejected/*")) == []

    assert Path(tree.keep_rejected("0123456789abcdef", files), "as_found").read_bytes() == b"x"


def test_rejected_bytes_that_can_not_be_stored_leave_no_folder(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a reason is none: the disk refuses, so nothing is kept and the next try keeps all."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(RetryLater):
            tree.keep_rejected("0123456789abcdef", {"as_found": b"x"})

    assert list(Path(tree.root).glob("rejected/*")) == []
    assert Path(tree.keep_rejected("0123456789abcdef", {"as_found": b"x"}), "as_found").read_bytes() == b"x"


@pytest.mark.parametrize("name", [".staging", "rejected"])
def test_folder_that_can_not_be_made_in_the_archive_is_told_by_its_path(tmp_path: Path, name: str) -> None:
    """Made through the open folder of the archive, and a person hears where that is."""
    (tmp_path / name).write_bytes(b"")
    tree = Tree(str(tmp_path), "abc123")

    with closing(tree), pytest.raises(RetryLater, match="is no folder") as caught:
        tree.keep_rejected("0123", {"as_found": b""})

    assert caught.value.where == str(tmp_path / name)
