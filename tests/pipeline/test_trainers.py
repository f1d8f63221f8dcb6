"""A trainer's file on its way: what belongs to it, which checkpoints are there, and whom it leads nowhere."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from modelwarden.errors import RejectSummary
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import Torn
from modelwarden.formats.readers import read_document
from modelwarden.intake.reading import Gone, Moving, Reading, Refused, TooDense
from modelwarden.pipeline.trainers import checkpoints_there, read_together

PLAIN = Format("plain", "Plain", ("log.csv",), "zip", ".", together=("m/**/*.tsv", "*.yaml"))


def made(folder: Path, *names: str) -> Path:
    """Tables below a folder; the log's path."""
    for name in (*names, "log.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a\n1\n")
    return folder / "log.csv"


def together(path: Path, most: int = 10_000) -> set[str]:
    """The names of a file and of what belongs to it."""
    return set(read_document("zip", read_together(str(path), path.read_bytes(), PLAIN, most)))


def test_files_that_fit_are_read_with_it(tmp_path: Path) -> None:
    """`**` stands for any number of folders, none included; others stay where they are."""
    path = made(tmp_path, "m/a.tsv", "m/x/y/b.tsv", "m/c.csv", "n/d.tsv", "m.tsv", "x/e.yaml")
    (tmp_path / "args.yaml").write_text("a: 1\n")
    assert together(path) == {"log.csv", "m/a.tsv", "m/x/y/b.tsv", "args.yaml"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Whoever writes there could make the daemon show any file that it may read."""
    path = made(tmp_path / "run", "m/a.tsv")
    secret = tmp_path / "secret.tsv"
    secret.write_text("s\n1\n")
    (tmp_path / "run" / "m" / "b.tsv").symlink_to(secret)
    with pytest.raises(Torn, match=r"^m/b\.tsv: is a symbolic link: what belongs to a run is a regular file$"):
        together(path)
    (tmp_path / "run" / "m" / "b.tsv").unlink()
    (tmp_path / "run" / "m" / "deep").symlink_to(tmp_path)
    assert together(path) == {"log.csv", "m/a.tsv"}


def test_files_together_have_the_cap_of_one(tmp_path: Path) -> None:
    """max_bytes is for the run."""
    path = made(tmp_path, "m/a.tsv")
    (tmp_path / "m" / "b.tsv").write_bytes(b"x" * 40)
    with pytest.raises(RejectSummary, match="max_bytes = 45"):
        together(path, most=45)


def test_part_that_is_too_large_alone_says_so_in_words(tmp_path: Path) -> None:
    """Which file, how large, and what to do."""
    path = made(tmp_path, "m/a.tsv")
    (tmp_path / "m" / "b.tsv").write_bytes(b"x" * 60)
    with pytest.raises(Torn, match=r"^m/b\.tsv: 60 bytes, more than max_bytes = 45: split the run, or raise max_bytes"):
        together(path, most=45)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Gone(), "m/a.tsv: was there a moment ago and is gone"),
        (Moving(), "m/a.tsv: changed while it was read"),
        (Refused("Permission denied"), "m/a.tsv: can't be read (Permission denied)"),
        (
            TooDense(b"[" * 1000, Fingerprint(0, 0, 0, 0, 0)),
            (
                "m/a.tsv: looking into it takes some 0 MiB of memory, more than 320: its values are very many: split "
                "the run, or raise max_bytes in [intake], of which it may take five times as much"
            ),
        ),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, str) else "",
)
def test_part_that_cannot_be_read_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Reading, words: str
) -> None:
    """What happens between two calls of the system can't be made to happen: the read's answer is given."""
    monkeypatch.setattr("modelwarden.pipeline.trainers.read_whole", lambda _path, _most: problem)
    with pytest.raises(Torn) as told:
        together(made(tmp_path, "m/a.tsv"))
    assert str(told.value) == words


def test_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    """Names are bytes on disk."""
    path = made(tmp_path, "m/a.tsv")
    with open(os.fsencode(tmp_path / "m") + b"/\xff.tsv", "wb") as stream:
        stream.write(b"b\n1\n")
    assert together(path) == {"log.csv", "m/a.tsv", "m/\\xff.tsv"}


@pytest.mark.parametrize(
    ("kept", "names", "there"),
    [
        ("../{}", ["checkpoint-5/x"], {"checkpoint-5", "run"}),
        ("weights/{}.pt", ["run/weights/epoch3.pt", "run/weights/best.txt"], {"epoch3"}),
        ("w/rl_{}_steps.zip", ["run/w/rl_100_steps.zip", "run/w/rl_steps.zip", "run/w/rl__steps.zip"], {"100"}),
        ("missing/{}", [], set()),
    ],
)
def test_checkpoints_are_those_that_lie_there(kept: str, names: list[str], there: set[str], tmp_path: Path) -> None:
    """By the names in one folder; nothing from a file is a path."""
    made(tmp_path / "run")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    format_ = replace(PLAIN, kept=(kept,))
    assert checkpoints_there(str(tmp_path / "run" / "log.csv"), format_, str(tmp_path)) == frozenset(there)


def test_checkpoints_outside_the_watched_folder_are_not_looked_for(tmp_path: Path) -> None:
    """Nor through a link."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.pt").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").symlink_to(tmp_path / "secret")
    path = str(tmp_path / "out" / "log.csv")
    for kept in ("../secret/{}.pt", "weights/{}.pt", "../{}"):
        assert checkpoints_there(path, replace(PLAIN, kept=(kept,)), str(tmp_path / "out")) == frozenset()


def test_format_that_looks_for_none_knows_of_none() -> None:
    """None: their names are told as the trainer has them."""
    assert checkpoints_there("/x/log.csv", PLAIN, "/x") is None
