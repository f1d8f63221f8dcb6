"""The record of what was removed on purpose: it is read as it was written, by whoever comes, however many files."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.archive.pruned import PrunedRun, PrunedRuns, add_pruned, read_pruned
from modelwarden.archive.tree import Tree
from modelwarden.errors import RetryLater

AT, HOST = "2025-02-01T00:00:00Z", "here"


def runs(*numbers: int) -> list[PrunedRun]:
    return [PrunedRun(f"20250101_00000{each}", hashlib.sha256(b"%d" % each).hexdigest(), "/out/a") for each in numbers]


def record(tree: Tree, pruned: Sequence[PrunedRun]) -> None:
    add_pruned(tree, tree.root, pruned, AT, HOST)


def test_what_was_recorded_is_found_by_who_looked_before(tree: Tree) -> None:
    """Also what another process adds, and nothing else; an archive without a record has pruned nothing."""
    known = PrunedRuns(tree.root)
    first, second, third = runs(1, 2, 3)
    assert known.find(first.sha256) is None
    record(tree, [first])
    assert known.find(first.sha256) == first.run
    record(tree, [second, third])
    assert [known.find(each.sha256) for each in (first, second, third)] == [first.run, second.run, third.run]
    assert known.find("0" * 64) is None
    assert sorted(os.listdir(os.path.join(tree.root, "pruned"))) == ["000001.json", "000002.json"]
    known.forget()
    assert known.all() == {each.sha256: each.run for each in (first, second, third)}


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(codec="utf-8"), max_size=30))
def test_record_is_whole_whatever_a_path_and_a_host_are_called(
    tmp_path_factory: pytest.TempPathFactory, source: str, host: str
) -> None:
    """Names are text, and text can be anything."""
    made = Tree(str(tmp_path_factory.mktemp("pruned") / "archive"), "0f1e2d3c")
    made.enter_staging()
    (run,) = runs(1)
    add_pruned(made, made.root, [run._replace(source=source)], AT, host)
    (read,) = read_pruned(made.root)
    assert (read.problem, list(read.runs)) == ("", [run._replace(source=source)])
    made.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"runs": [{}]}', b'{"runs": [{"run": "../x", "sha256": "0", "source": ""}]}', b"\xff"],
)
def test_damaged_file_is_told_and_hides_no_other(tree: Tree, data: bytes) -> None:
    """What it said can't be known; the others say what they said."""
    first, second = runs(1, 2)
    record(tree, [first])
    record(tree, [second])
    Path(tree.root, "pruned", "000001.json").write_bytes(data)
    assert [(bool(each.problem), list(each.runs)) for each in read_pruned(tree.root)] == [(True, []), (False, [second])]
    assert PrunedRuns(tree.root).all() == {second.sha256: second.run}


def test_altered_file_is_told_and_still_keeps_runs_away(tree: Tree) -> None:
    """It is not what was written, and nothing comes back by that."""
    (run,) = runs(1)
    record(tree, [run])
    file = Path(tree.root, "pruned", "000001.json")
    file.write_bytes(file.read_bytes().replace(b'"source"', b' "source"'))
    (read,) = read_pruned(tree.root)
    assert read.problem == "is not what was written under this name"
    assert PrunedRuns(tree.root).find(run.sha256) == run.run


def test_foreign_files_beside_the_record_are_left_alone(tree: Tree) -> None:
    """Somebody's notes are no record."""
    record(tree, runs(1))
    for name in ("README", "1.json", "000000.json", "000002.json.bak"):
        Path(tree.root, "pruned", name).write_text("x")
    assert [each.where for each in read_pruned(tree.root)] == ["pruned/000001.json"]


def test_record_that_cannot_be_made_is_none(tree: Tree) -> None:
    """Something else has its name: said with where, and no run is recorded."""
    Path(tree.root, "pruned").write_text("x")
    with pytest.raises(RetryLater, match="is no folder"):
        record(tree, runs(1))
    assert list(read_pruned(tree.root)) == []


def test_record_that_cannot_be_looked_at_is_not_taken_for_one_without_news(tree: Tree) -> None:
    """Who looked before can't know what was added since: said with where, and nothing of what was known is lost."""
    known = PrunedRuns(tree.root)
    first, second = runs(1, 2)
    record(tree, [first])
    assert known.find(first.sha256) == first.run
    record(tree, [second])
    folder = Path(tree.root, "pruned")
    aside = folder.rename(folder.with_name("aside"))
    folder.symlink_to(folder)
    with pytest.raises(RetryLater, match="can't look at"):
        known.find(second.sha256)
    folder.unlink()
    aside.rename(folder)
    assert [known.find(each.sha256) for each in (first, second)] == [first.run, second.run]
