"""The walk finds every file that may be a summary, follows nothing, and says what it could not see."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.scan import Root, Scan, is_temporary


def names(scan: Scan) -> list[str]:
    """The paths of the walk relative to its root, sorted."""
    start = os.path.realpath(scan.root.path)
    return sorted(os.path.relpath(path, start) for path, _ in scan)


def fill(folder: Path, *files: str) -> None:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")


def test_walk_finds_files_at_every_depth_with_their_figures(tmp_path: Path) -> None:
    """Every summary below the root is found, with the fingerprint that tells one state of it from another."""
    fill(tmp_path, "a.json", "x/b.json", "x/y/z/c.json")
    found = dict(Scan(Root(str(tmp_path))))
    assert set(found) == {str(tmp_path / name) for name in ("a.json", "x/b.json", "x/y/z/c.json")}
    assert found[str(tmp_path / "a.json")] == Fingerprint.of(os.stat(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("*.json",), ["a.json", "training_summary.json"]),
        (("training_*.json",), ["training_summary.json"]),
        (("*.jsn", "a.*"), ["a.JSON", "a.json", "a.txt", "b.jsn"]),
        (("[ab].js?",), ["b.jsn"]),
        (("*",), ["a.JSON", "a.json", "a.txt", "b.jsn", "training_summary.json"]),
        (("nothing",), []),
    ],
)
def test_patterns_choose_names(tmp_path: Path, patterns: tuple[str, ...], expected: list[str]) -> None:
    """A name counts where one of the root's shell patterns matches the whole of it, case included."""
    fill(tmp_path, "a.json", "a.JSON", "a.txt", "b.jsn", "training_summary.json", ".hidden.json")
    assert names(Scan(Root(str(tmp_path), patterns))) == expected


@pytest.mark.parametrize("name", [".a.json", "a.json.tmp", "a.json.part", "a.json~", ".json", "~", ".tmp"])
def test_temporary_names_never_count(tmp_path: Path, name: str) -> None:
    """A name that a writer will change is not a summary, whatever the patterns say."""
    fill(tmp_path, name)
    assert is_temporary(name)
    assert names(Scan(Root(str(tmp_path), ("*",)))) == []


@pytest.mark.parametrize("name", ["a.tmp.json", "part.json", "a~b.json", "tmp", "a.json"])
def test_names_that_only_resemble_temporary_ones_count(tmp_path: Path, name: str) -> None:
    """Only a leading dot and the three endings mean "temporary"."""
    fill(tmp_path, name)
    assert not is_temporary(name)
    assert names(Scan(Root(str(tmp_path), ("*",)))) == [name]


@pytest.mark.parametrize("folder", [".git", "run.tmp", "run.part", "run~"])
def test_folder_with_a_temporary_name_is_not_entered(tmp_path: Path, folder: str) -> None:
    """A trainer may build a whole folder under a temporary name and rename it when it is complete."""
    fill(tmp_path, f"{folder}/a.json", f"{folder}/deep/b.json", "whole/c.json")
    assert names(Scan(Root(str(tmp_path)))) == ["whole/c.json"]


def test_walk_without_recursion_stays_in_the_root(tmp_path: Path) -> None:
    """`recursive = false` means this folder and none below."""
    fill(tmp_path, "a.json", "x/b.json")
    assert names(Scan(Root(str(tmp_path), recursive=False))) == ["a.json"]


def test_excluded_folder_is_never_entered(tmp_path: Path) -> None:
    """The archive and the state inside a watched root are not summaries to be archived again."""
    fill(tmp_path, "a.json", "archive/index.json", "archive/20240101_000000/summary.json", "archive2/b.json")
    scan = Scan(Root(str(tmp_path)), excluded=[str(tmp_path / "archive")])
    assert names(scan) == ["a.json", "archive2/b.json"]
    assert scan.problems == []


def test_walk_from_a_folder_sees_that_folder_alone(tmp_path: Path) -> None:
    """After an event about a new folder, only that folder is walked, with the root's patterns."""
    fill(tmp_path, "a.json", "x/b.json", "x/b.txt", "y/c.json")
    assert names(Scan(Root(str(tmp_path)), folder=str(tmp_path / "x"))) == ["x/b.json"]


def test_walk_from_an_excluded_folder_sees_nothing(tmp_path: Path) -> None:
    """An event about the archive itself does not lead into it."""
    fill(tmp_path, "archive/b.json")
    folder = str(tmp_path / "archive")
    assert names(Scan(Root(str(tmp_path)), excluded=[folder], folder=folder)) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link inside the root leads nowhere: not to files, not to folders, not in circles."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    fill(outside, "secret.json", "deep/secret.json")
    fill(root, "real.json")
    (root / "file.json").symlink_to(outside / "secret.json")
    (root / "near.json").symlink_to("real.json")
    (root / "dangling.json").symlink_to("nowhere")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "itself.json").symlink_to("itself.json")
    scan = Scan(Root(str(root)))
    assert names(scan) == ["real.json"]
    assert scan.problems == []
    links = {"file.json", "near.json", "dangling.json", "folder", "loop", "itself.json"}
    assert {os.path.relpath(link, root) for link in scan.links} == links


@pytest.mark.parametrize(("recursive", "links"), [(True, ["a.json", "folder"]), (False, ["a.json"])])
def test_link_that_nobody_takes_for_a_summary_or_its_folder_is_not_noted(
    tmp_path: Path, recursive: bool, links: list[str]
) -> None:
    """Hidden and temporary names are nothing, and folders are nothing to a root that does not enter them."""
    for name in ("a.json", "b.json.tmp", ".c.json", ".hidden", "folder"):
        (tmp_path / name).symlink_to("/")
    scan = Scan(Root(str(tmp_path), recursive=recursive))
    assert names(scan) == []
    assert sorted(os.path.relpath(link, tmp_path) for link in scan.links) == links


def test_root_that_is_a_link_is_followed_to_where_it_points_now(tmp_path: Path) -> None:
    """A root may be a link; paths are real ones, and a link that is turned round is seen at the next walk."""
    fill(tmp_path, "one/a.json", "two/b.json")
    link = tmp_path / "root"
    root = Root(str(link))
    for target, name in (("one", "a.json"), ("two", "b.json")):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert [path for path, _ in Scan(root)] == [str(tmp_path / target / name)]


def test_what_is_no_regular_file_never_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIFOs, sockets and folders called *.json are passed by; a folder of that name is entered."""
    os.mkfifo(tmp_path / "fifo.json")
    fill(tmp_path, "folder.json/inside.json")
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.json")
        scan = Scan(Root(str(tmp_path)))
        assert names(scan) == ["folder.json/inside.json"]
    assert scan.problems == []


@pytest.mark.parametrize(
    "name", [b"caf\xe9.json", b"\xff\xfe.json", b"two\nlines.json", b" .json", b"*?[.json", "日本📈.json".encode()]
)
def test_names_that_are_not_text_are_found(tmp_path: Path, name: bytes) -> None:
    """A name on disk is bytes: it comes back as a path that opens the file."""
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as stream:
        stream.write(b"{}")
    ((path, fingerprint),) = Scan(Root(str(tmp_path)))
    assert os.fsencode(path) == os.path.join(os.fsencode(tmp_path), name)
    assert fingerprint == Fingerprint.of(os.stat(path))


def test_missing_root_is_a_problem_and_no_error(tmp_path: Path) -> None:
    """A walk over a root that is not there finds nothing and says so: nothing may be concluded from it."""
    scan = Scan(Root(str(tmp_path / "missing")))
    assert list(scan) == []
    assert scan.problems == [(str(tmp_path / "missing"), "No such file or directory")]


def test_root_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    """A root that is no folder is said to be none."""
    fill(tmp_path, "root")
    scan = Scan(Root(str(tmp_path / "root")))
    assert list(scan) == []
    assert scan.problems == [(str(tmp_path / "root"), "Not a directory")]


def test_folder_that_goes_away_during_the_walk_is_no_problem(tmp_path: Path) -> None:
    """What a trainer removes while we walk is gone, not unreadable; everything else is still found."""
    fill(tmp_path, "a.json", "x/b.json", "y/c.json", "z/d.json")
    scan = Scan(Root(str(tmp_path)))
    walk = iter(scan)
    assert next(walk)[0] == str(tmp_path / "a.json")
    shutil.rmtree(tmp_path / "x")
    assert sorted(path for path, _ in walk) == [str(tmp_path / "y/c.json"), str(tmp_path / "z/d.json")]
    assert scan.problems == []


@contextmanager
def folder_too_deep(start: Path) -> Iterator[str]:
    """A folder whose path is longer than the system takes: it cannot be opened, not even by root."""
    step = "d" * 250
    descriptor = os.open(start, os.O_RDONLY)
    depth = os.pathconf(start, "PC_PATH_MAX") // len(step) + 1
    for _ in range(depth):
        os.mkdir(step, dir_fd=descriptor)
        below = os.open(step, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    try:
        yield step
    finally:
        shutil.rmtree(start / step)


def test_folder_that_cannot_be_opened_is_reported_and_its_siblings_go_on(tmp_path: Path) -> None:
    """One unreadable folder makes the walk incomplete, not useless."""
    fill(tmp_path, "a.json", "x/b.json", "y/c.json")
    with folder_too_deep(tmp_path) as step:
        scan = Scan(Root(str(tmp_path)))
        assert names(scan) == ["a.json", "x/b.json", "y/c.json"]
        ((path, reason),) = scan.problems
    assert path.startswith(str(tmp_path / step))
    assert reason == "File name too long"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder: the case above stands in for it")
def test_folder_that_may_not_be_read_is_reported_alone(tmp_path: Path) -> None:
    """It is named with the system's reason; its siblings go on."""
    fill(tmp_path, "a.json", "locked/b.json", "y/c.json")
    (tmp_path / "locked").chmod(0)
    try:
        scan = Scan(Root(str(tmp_path)))
        assert names(scan) == ["a.json", "y/c.json"]
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert scan.problems == [(str(tmp_path / "locked"), "Permission denied")]


def test_every_change_of_a_file_changes_its_figures(tmp_path: Path) -> None:
    """A rewrite in place with size and modification time restored, and a replacement, are told from what was there."""
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": 1}')
    seen = {Fingerprint.of(os.stat(path))}
    status = os.stat(path)
    while Fingerprint.of(os.stat(path)) in seen:  # the kernel's clock ticks every few milliseconds
        path.write_bytes(b'{"a": 2}')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == status.st_mtime_ns
    seen.add(Fingerprint.of(os.stat(path)))
    (tmp_path / "new").write_bytes(b'{"a": 3}')
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new").rename(path)
    assert Fingerprint.of(os.stat(path)) not in seen
