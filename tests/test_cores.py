"""All cores for one long reading: every answer, in order, whatever becomes of the processes."""

import os
import signal
from pathlib import Path

import pytest

from modelwarden.cores import MANY, ask_all_cores
from processes import is_running, until

THINGS = list(range(2 * MANY + 7))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host with two."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


def test_many_things_are_answered_in_order_by_other_processes() -> None:
    """Two work, and neither is who asked."""
    answers = list(ask_all_cores(lambda thing: (thing * thing, os.getpid()), THINGS))

    assert [(thing, square) for thing, (square, _) in answers] == [(thing, thing * thing) for thing in THINGS]
    by = {pid for _, (_, pid) in answers}
    assert len(by) == 2
    assert os.getpid() not in by


@pytest.mark.parametrize("count", [0, 1, MANY - 1])
def test_few_things_are_answered_here(count: int) -> None:
    """A process is not worth its start."""
    answers = list(ask_all_cores(lambda _thing: os.getpid(), THINGS[:count]))

    assert answers == [(thing, os.getpid()) for thing in THINGS[:count]]


def test_what_a_killed_process_did_not_answer_is_answered_here() -> None:
    """The system may kill one for its memory: the reading goes on, and lacks nothing."""
    asker = os.getpid()

    def look(thing: int) -> int:
        if thing == MANY and os.getpid() != asker:
            os.kill(os.getpid(), signal.SIGKILL)
        return -thing

    assert list(ask_all_cores(look, THINGS)) == [(thing, -thing) for thing in THINGS]


def test_who_stops_listening_leaves_no_process_behind() -> None:
    """An error in the middle of a reading ends it."""
    answers = ask_all_cores(lambda _thing: os.getpid(), THINGS)
    _, pid = next(answers)

    answers.close()

    assert not is_running(pid)


def test_processes_end_with_who_was_killed(tmp_path: Path) -> None:
    """None goes on to hold what was open."""
    said = tmp_path / "pids"

    def look(_thing: int) -> bytes:
        with said.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        return bytes(1 << 16)

    if (asker := os.fork()) == 0:
        answers = ask_all_cores(look, THINGS)
        next(answers)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(asker, 0)
    pids = {int(line) for line in said.read_text().splitlines()}

    assert pids
    until(lambda: not any(map(is_running, pids)), "the end of all")
