"""Several files that are one run: all of one moment, or none."""

import os
from pathlib import Path

import pytest

from changing import once_read
from modelwarden.errors import RejectSummary
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.readers import members_of
from modelwarden.pipeline.groups import Changed, Group, read_group

MOST = 1000


def group_in(folder: Path) -> Group:
    """Three files as they are."""
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"old")
    files = [str(folder / name) for name in ("a", "b", "c")]
    return Group(str(folder), tuple((path, Fingerprint.of(os.lstat(path))) for path in files))


def test_group_that_stands_still_is_read_as_it_is(tmp_path: Path) -> None:
    """Each file by its name."""
    data = read_group(group_in(tmp_path), MOST)
    assert dict(members_of(data)) == {"a": b"old", "b": b"old", "c": b"old"}


@pytest.mark.parametrize("which", ["a", "b", "c"])
def test_file_that_is_written_in_place_while_others_are_read_makes_no_group(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was read before or is read after: its bytes and those of the others were never there at once."""
    group = group_in(tmp_path)
    path = tmp_path / which

    def write() -> None:
        with path.open("r+b") as stream:  # of the same size, and its time put back
            stream.write(b"new")
        os.utime(path, ns=(group.files[0][1].modified, group.files[0][1].modified))

    once_read(monkeypatch, "groups", tmp_path / "b", write)
    with pytest.raises(Changed, match=rf"^{which}: changed while the run was read"):
        read_group(group, MOST)


def test_file_that_is_cut_before_it_is_read_makes_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that stops for a moment in the midst leaves what stands still and is half a file."""
    group = group_in(tmp_path)
    once_read(monkeypatch, "groups", tmp_path / "a", lambda: (tmp_path / "c").write_bytes(b"n"))
    with pytest.raises(Changed, match=r"^c: changed"):
        read_group(group, MOST)


def test_file_that_is_gone_makes_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look finds the others."""
    group = group_in(tmp_path)
    once_read(monkeypatch, "groups", tmp_path / "a", (tmp_path / "b").unlink)
    with pytest.raises(Changed, match=r"^b: was there a moment ago and is gone"):
        read_group(group, MOST)
    group = group_in(tmp_path)
    once_read(monkeypatch, "groups", tmp_path / "c", (tmp_path / "a").unlink)
    with pytest.raises(Changed, match=r"^a: changed"):
        read_group(group, MOST)


def test_group_has_the_cap_of_one_file(tmp_path: Path) -> None:
    """It is one run."""
    with pytest.raises(RejectSummary, match="the 3 files of the run have 9 bytes, more than max_bytes = 8"):
        read_group(group_in(tmp_path), 8)
