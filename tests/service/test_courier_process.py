"""The courier is a disposable child: started, started again after growing pauses, stopped in time, never orphaned."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelwarden.service import courier_process
from modelwarden.service.courier_process import (
    FIRST_PAUSE,
    GROWN_UP,
    LONGEST_PAUSE,
    START_AGAIN,
    CourierProcess,
    NoCourier,
    drain_outbox,
)
from modelwarden.state.database import Database
from processes import clean_environment, is_running, until


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = clean_environment()
    for name in set(os.environ) - set(kept):
        monkeypatch.delenv(name)


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == name]


def dying(tmp_path: Path) -> CourierProcess:
    """A courier whose settings can't be read: it ends right after its start."""
    return CourierProcess(["--config", str(tmp_path / "missing.toml")])


def wait_for_death(pid: int) -> None:
    until(lambda: not is_running(pid), f"process {pid} to end")


def test_courier_that_runs_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often the main loop looks, one child is started; stop ends it."""
    caplog.set_level(logging.INFO)
    courier = CourierProcess(["--archive", str(tmp_path / "archive")])
    try:
        for now in range(5):
            courier.supervise(float(now))
        (started,) = events(caplog, "courier_started")
        assert is_running(started.pid)
    finally:
        courier.stop()
    assert not is_running(started.pid)


def test_courier_that_dies_is_started_again_after_growing_pauses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first time a second later, then two, then four: a courier that can't start does not eat the machine."""
    caplog.set_level(logging.INFO)
    courier = dying(tmp_path)
    now = 100.0
    try:
        for attempt, pause in enumerate([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE], 1):
            courier.supervise(now)
            started = events(caplog, "courier_started")
            assert len(started) == attempt
            wait_for_death(started[-1].pid)
            courier.supervise(now + 0.1)
            ended = events(caplog, "courier_ended")
            assert len(ended) == attempt
            assert (ended[-1].exit_code, ended[-1].again_in_seconds) == (2, pause)
            courier.supervise(now + 0.09 + pause)
            assert len(events(caplog, "courier_started")) == attempt
            now += 0.1 + pause
    finally:
        courier.stop()


def test_pause_has_an_upper_bound_and_is_forgotten_after_a_long_life(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A courier that keeps dying is tried once a minute; one that lived long starts again after the first pause."""
    monkeypatch.setattr(sys, "executable", "/bin/false")  # dies sooner than an interpreter
    caplog.set_level(logging.INFO)
    courier = dying(tmp_path)
    now = 0.0
    for _ in range(9):
        courier.supervise(now)
        wait_for_death(events(caplog, "courier_started")[-1].pid)
        courier.supervise(now)
        now += LONGEST_PAUSE
    pauses = [record.again_in_seconds for record in events(caplog, "courier_ended")]
    assert pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)
    courier.supervise(now)
    wait_for_death(events(caplog, "courier_started")[-1].pid)
    courier.supervise(now + GROWN_UP + 1)
    assert events(caplog, "courier_ended")[-1].again_in_seconds == FIRST_PAUSE
    courier.stop()


def test_courier_that_gave_way_is_started_again_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended itself because one send hung: what the others are owed waits for no pause, however often that is."""
    gives_way = tmp_path / "gives-way"
    gives_way.write_text(f"#!/bin/sh\nexit {START_AGAIN}\n")
    gives_way.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(gives_way))
    caplog.set_level(logging.INFO)
    courier = dying(tmp_path)
    for attempt in range(1, 6):
        courier.supervise(float(attempt))
        assert len(events(caplog, "courier_started")) == attempt
        wait_for_death(events(caplog, "courier_started")[-1].pid)
        if attempt == 5:
            monkeypatch.setattr(sys, "executable", "/bin/false")
    courier.supervise(6.0)
    wait_for_death(events(caplog, "courier_started")[-1].pid)
    courier.supervise(7.0)
    assert [record.again_in_seconds for record in events(caplog, "courier_ended")] == [0.0] * 5 + [FIRST_PAUSE]
    courier.stop()


def test_courier_that_cannot_even_be_started_costs_the_daemon_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interpreter (an upgrade replaced it), no process left: it is tried again later, and the archiving goes on."""
    courier = dying(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-interpreter"))
    courier.supervise(0.0)
    courier.supervise(1_000.0)
    courier.stop()


def test_courier_that_does_not_stop_is_killed_within_the_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that hangs does not hold up the daemon's own stop."""
    monkeypatch.setattr(courier_process, "STOP_SECONDS", 0.2)
    caplog.set_level(logging.INFO)
    courier = CourierProcess(["--archive", str(tmp_path / "archive")])
    courier.supervise(0.0)
    (started,) = events(caplog, "courier_started")
    os.kill(started.pid, signal.SIGSTOP)
    courier.stop()
    assert not is_running(started.pid)


def test_stop_of_what_never_ran_or_is_dead_already_is_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stopping is safe at any moment, twice included."""
    caplog.set_level(logging.INFO)
    CourierProcess([]).stop()
    courier = dying(tmp_path)
    courier.supervise(0.0)
    wait_for_death(events(caplog, "courier_started")[-1].pid)
    courier.stop()
    courier.stop()
    NoCourier().supervise(0.0)
    NoCourier().stop()


def test_couriers_that_came_and_went_leave_no_descriptor_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe to a child is given back when the child has ended."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    caplog.set_level(logging.INFO)
    courier = dying(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        courier.supervise(number * 1_000.0)
        wait_for_death(events(caplog, "courier_started")[-1].pid)
        courier.supervise(number * 1_000.0)
    courier.stop()
    assert len(os.listdir("/proc/self/fd")) == before


PARENT = """
import sys, time
from modelwarden.service.courier_process import CourierProcess
courier = CourierProcess(["--archive", sys.argv[1]])
courier.supervise(0.0)
time.sleep(600)
"""


def test_courier_ends_when_its_daemon_is_killed(tmp_path: Path) -> None:
    """A daemon that dies without a word leaves no second courier behind for the next one to meet."""
    Database(str(tmp_path / "archive" / ".state"), "").close()
    log = tmp_path / "log"
    with log.open("wb") as stream:
        parent = subprocess.Popen(
            [sys.executable, "-P", "-c", PARENT, str(tmp_path / "archive")], env=clean_environment(), stderr=stream
        )
    try:
        until(lambda: "courier_ready" in log.read_text(), "the courier to run")
        assert "courier_stopped" not in log.read_text()
    finally:
        parent.kill()
        parent.wait()
    until(lambda: "courier_stopped" in log.read_text(), "the courier to end after its parent")


def test_drained_outbox_without_anything_owed_is_success(tmp_path: Path) -> None:
    """`run --once` with nothing to send ends with nothing left."""
    Database(str(tmp_path / "archive" / ".state"), "").close()
    assert drain_outbox(["--archive", str(tmp_path / "archive")], 60.0) == 0


def test_drain_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """A courier that hangs leaves the rest owed and says so: 1, and no process stays behind."""
    assert drain_outbox(["--archive", str(tmp_path / "archive")], 0.001) == 1


def test_courier_without_a_state_file_makes_none(tmp_path: Path) -> None:
    """Where the archive's disk is away, and the state with it, nothing is written below the mount point."""
    (tmp_path / "archive").mkdir()
    assert drain_outbox(["--archive", str(tmp_path / "archive")], 60.0) == 2
    assert list((tmp_path / "archive").iterdir()) == []


def test_drain_that_cannot_start_is_no_success(tmp_path: Path) -> None:
    """A courier that refuses its settings has delivered nothing."""
    assert drain_outbox(["--config", str(tmp_path / "missing.toml")], 60.0) == 2
