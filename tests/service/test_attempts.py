"""A summary that ends the process is found out and given up; one that was only near it is not."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelwarden.service.attempts import DEATHS_ALLOWED, FILE, Attempts

A, B = "a" * 64, "b" * 64


DIES = """
import os, sys
from modelwarden.service.attempts import Attempts
with Attempts(sys.argv[1]).judging(sys.argv[2]):
    os.kill(os.getpid(), 9)
"""


def die_over(state: Path, sha256: str) -> None:
    """A process that is killed while it judges."""
    done = subprocess.run([sys.executable, "-c", DIES, str(state), sha256], check=False)
    assert done.returncode == -signal.SIGKILL


def test_summary_that_was_survived_is_under_no_suspicion(tmp_path: Path) -> None:
    """The usual case costs nobody anything at the next start."""
    with Attempts(str(tmp_path)).judging(A):
        pass
    assert not Attempts(str(tmp_path))


def test_deaths_are_counted_over_processes_and_blame_no_other(tmp_path: Path) -> None:
    """As often as it takes to give a summary up."""
    for _ in range(DEATHS_ALLOWED):
        die_over(tmp_path, A)
    after = Attempts(str(tmp_path))
    assert (after.deaths(A), after.deaths(B)) == (DEATHS_ALLOWED, 0)


def test_death_between_two_judgements_blames_neither(tmp_path: Path) -> None:
    """A process that waits for a lock or a disk has nothing noted."""
    attempts = Attempts(str(tmp_path))
    with attempts.judging(A):
        pass
    assert (tmp_path / FILE).read_bytes().strip() == b""
    with attempts.judging(B):
        assert json.loads((tmp_path / FILE).read_bytes()) == {B: 1}


def test_others_stay_under_suspicion_while_one_is_judged_and_survived(tmp_path: Path) -> None:
    """What was noted by an earlier process is forgotten only for the summary that was survived."""
    die_over(tmp_path, A)
    attempts = Attempts(str(tmp_path))
    with attempts.judging(B):
        pass
    assert Attempts(str(tmp_path)).deaths(A) == 1
    attempts.forgive(A)
    assert not Attempts(str(tmp_path))


def test_judgement_that_raises_was_survived(tmp_path: Path) -> None:
    """An error is no death."""
    with pytest.raises(ZeroDivisionError), Attempts(str(tmp_path)).judging(A):
        raise ZeroDivisionError
    assert not Attempts(str(tmp_path))


@pytest.mark.parametrize(
    "note", [b"", b"{", b"\xff\xfe", b"[1]", b"7", b'{"a": null}', b'{"/out/a": {"figures": [1], "deaths": 1}}']
)
def test_note_that_is_none_of_ours_accuses_nobody(tmp_path: Path, note: bytes) -> None:
    """Also one of an earlier version, which knew files by their paths."""
    (tmp_path / FILE).write_bytes(note)
    assert not Attempts(str(tmp_path))


def test_short_note_after_a_long_one_that_a_kill_left_uncut_is_read(tmp_path: Path) -> None:
    """Only the first line counts."""
    (tmp_path / FILE).write_bytes(b'{"%s": 2}\n": 3}\n' % A.encode())
    assert Attempts(str(tmp_path)).deaths(A) == 2


def test_note_that_cannot_be_written_stops_no_work(tmp_path: Path) -> None:
    """Attempts are a precaution."""
    attempts = Attempts(str(tmp_path / "gone"))
    with attempts.judging(A):
        pass
    assert not attempts
