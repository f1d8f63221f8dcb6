"""Trouble that lasts is announced once an episode, a silence once and its end once, over restarts and refusals."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelwarden.archive.publishing import Archive
from modelwarden.config import load_settings
from modelwarden.gate.policy import Policy
from modelwarden.intake.reading import Reading, Refused, read_whole
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.service import discovery, lifecycle, processing
from modelwarden.service.problems import KEPT_SECONDS, Expected, Problems, _duration
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from modelwarden.wiring.service import open_service
from processes import Site, destination, drop, make_site, outbox_of, until
from summaries import GOOD, encoded, flat_summary

HOUR = 3600.0
NOW = 1_735_000_000.0
DAY = 24 * HOUR


class Host:
    """The daemon's side of one state directory, on a clock that tests turn; `restart` is a new process's view."""

    def __init__(self, folder: Path, stack: ExitStack, *expected: Expected) -> None:
        self.now = NOW
        self.stepped = 0.0
        self.state = folder / "state"
        self._folder = folder
        self._stack = stack
        self._expected = expected
        self.restart()

    def restart(self) -> None:
        """Start again on the same state."""
        self.database = self._stack.enter_context(closing(Database(str(self.state), "2024-01-01T00:00:00Z")))
        archive = self._stack.enter_context(closing(Archive(str(self._folder / "archive"), self.database.daemon_id)))
        self.pipeline = pipeline = Pipeline(
            archive,
            self.database,
            Policies(Policy.from_config()),
            [Route("team", frozenset({"PROBLEM"})), Route("desk", frozenset({"DROP"}))],
            owner=self.database.daemon_id,
            host="trainer-7",
            clock=lambda: self.now,
            deadline_seconds=48 * HOUR,
        )
        self._stack.callback(pipeline.close)
        self.problems = Problems(pipeline.recorder, "trainer-7", self._expected, lambda: self.now, lambda: self.timer)

    @property
    def timer(self) -> float:
        """What no step of the clock touches."""
        return self.now - self.stepped

    def step(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.now += seconds
        self.stepped += seconds

    def came(self, path: str) -> None:
        """A summary was archived as soon as it came."""
        self.problems.came(path, self.timer)

    def look(self, *waiting: tuple[str, float], scanned_at: float | None = None) -> bool:
        """Look for silence, right after a scan unless told otherwise."""
        return self.problems.look_for_silence(waiting, self.timer if scanned_at is None else scanned_at)

    def told(self) -> list[str]:
        """The texts that are owed, oldest first."""
        assert all((row["kind"], row["destination"]) == ("PROBLEM", "team") for row in outbox_of(self.state))
        return [row["payload"] for row in outbox_of(self.state)]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """While entered, another process keeps the state file busy for longer than anybody waits."""
        self.database.connection.execute("PRAGMA busy_timeout = 10")
        with closing(Database(str(self.state), "2024-01-01T00:00:00Z")) as other, other.transaction():
            yield


@pytest.fixture
def host(tmp_path: Path, stack: ExitStack) -> Host:
    """A host that expects a summary a day in one folder."""
    return Host(tmp_path, stack, Expected("/out", DAY))


def test_episode_is_announced_once_however_long_it_lasts(host: Host) -> None:
    """To those who asked for problems; the first line says what, the last two when and where."""
    for _ in range(5):
        host.problems.begin("storage", "a run can't be archived\nthe disk is full")
        host.now += HOUR
    moment = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%d %H:%M} UTC"
    assert host.told() == [f"a run can't be archived\nthe disk is full\nnoticed: {moment}\nhost: trainer-7"]


def test_episode_that_is_over_is_no_message_and_the_next_one_is(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Its end is in the log, once; the next begins anew."""
    caplog.set_level(logging.INFO, "modelwarden")
    host.problems.end("storage")
    host.problems.begin("storage", "first")
    host.problems.end("storage")
    host.problems.end("storage")
    host.now += HOUR
    host.problems.begin("storage", "second")
    assert [text.splitlines()[0] for text in host.told()] == ["first", "second"]
    assert [record.getMessage() for record in caplog.records].count("problem_over") == 1


def test_episodes_of_two_kinds_do_not_hide_one_another(host: Host) -> None:
    """A lost watch and a full disk are two messages, and the end of one is not the other's."""
    host.problems.begin("storage", "disk")
    host.problems.begin("watch", "watch")
    host.problems.end("storage")
    host.problems.begin("watch", "watch")
    assert [text.splitlines()[0] for text in host.told()] == ["disk", "watch"]


def test_episode_that_the_state_file_refused_is_announced_later_and_once(host: Host) -> None:
    """In order, with the moment at which it began; also when it is over by then: it was."""
    with host.refusing():
        host.problems.begin("storage", "first")
        host.problems.begin("watch", "second")
        host.problems.end("storage")
        host.now += HOUR
        host.problems.announce()
    assert host.told() == []

    host.problems.announce()
    host.problems.announce()

    assert [text.splitlines()[0] for text in host.told()] == ["first", "second"]
    assert all(f":{NOW:.3f}" in row["event"] for row in outbox_of(host.state))


def test_silence_is_announced_once_it_is_longer_than_expected(host: Host) -> None:
    """Not a second before; and once, however often is looked."""
    host.look()  # from here on the folder is watched
    host.now = NOW + DAY
    host.look()
    assert host.told() == []
    host.now += 1
    for _ in range(3):
        host.look()
        host.now += DAY
    (text,) = host.told()
    what, hint, when, where = text.splitlines()
    assert what == "no summary in /out since 2024-12-24 00:26 UTC"
    assert hint == "expected every 1d: is the trainer alive?"
    assert when == "noticed: 2024-12-25 00:26 UTC"
    assert where == "host: trainer-7"


def test_silence_and_its_end_are_announced_once_over_restarts(host: Host) -> None:
    """The state file knows what was said; each start begins where the last one ended."""
    host.look()
    host.now += DAY + 1
    for _ in range(3):
        host.restart()
        host.look()
    for name in ("a.json", "b.json", "c.json"):
        host.came(f"/out/below/{name}")
        host.restart()
        host.look()
    said = [text.splitlines()[0] for text in host.told()]
    assert said == ["no summary in /out since 2024-12-24 00:26 UTC", "summaries come again in /out"]
    assert "the last before was of 2024-12-24 00:26 UTC" in host.told()[1]


def test_second_silence_is_news_again(host: Host) -> None:
    """Four messages for two silences, each with an identity of its own."""
    host.look()
    for _ in range(2):
        host.now += DAY + 1
        host.look()
        host.came("/out/a.json")
    assert [text.split()[0] for text in host.told()] == ["no", "summaries", "no", "summaries"]


def test_daemon_that_was_down_counts_from_the_last_summary(host: Host) -> None:
    """A silence does not begin anew with each restart."""
    host.look()
    host.now += DAY / 2
    host.came("/out/a.json")
    for _ in range(3):
        host.now += DAY / 4
        host.restart()
        host.look()
    assert host.told() == []
    host.now += DAY / 4 + 1
    host.restart()
    host.look()
    assert host.told()[0].startswith("no summary in /out since 2024-12-24 12:26 UTC")


def test_summary_elsewhere_does_not_break_a_folder_s_silence(tmp_path: Path, stack: ExitStack) -> None:
    """Each folder for itself; one that nothing is expected of is never missed."""
    host = Host(tmp_path, stack, Expected("/out/a", DAY), Expected("/out/b", DAY))
    host.look()
    host.now += DAY + 1
    host.came("/out/b/x.json")
    host.came("/out/c/x.json")
    host.came("/out/ab/x.json")
    host.look()
    assert [text.split()[3] for text in host.told()] == ["/out/a"]


def test_summary_that_comes_by_a_link_is_its_folder_s(tmp_path: Path, stack: ExitStack) -> None:
    """The watched folder may be a link; the file's path is the real one."""
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    host = Host(tmp_path, stack, Expected(str(tmp_path / "link"), DAY))
    host.look()
    host.now += DAY - 1
    host.came(str(real / "x.json"))
    host.now += 2
    host.look()
    assert host.told() == []


def test_silence_that_the_state_file_refuses_is_announced_by_the_next_look(host: Host) -> None:
    """Recorded and owed together, or not at all; so it is with its end."""
    host.look()
    host.now += DAY + 1
    with host.refusing():
        host.look()
    assert host.told() == []
    host.look()
    assert len(host.told()) == 1
    with host.refusing():
        host.came("/out/a.json")
    host.restart()
    host.look()
    assert len(host.told()) == 1, "still overdue, and that was said"
    host.came("/out/b.json")
    assert len(host.told()) == 2


def test_silence_is_recorded_with_its_message_or_not_at_all(host: Host) -> None:
    """An outbox that takes nothing leaves the silence unsaid, to be said by the next look."""
    host.look()
    host.now += DAY + 1
    host.database.connection.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        host.look()
    host.database.connection.execute("DROP TRIGGER full")
    host.look()
    assert len(host.told()) == 1


@pytest.mark.parametrize("restarts", [False, True])
def test_summaries_that_come_in_time_are_no_silence_however_short_the_time(
    tmp_path: Path, stack: ExitStack, *, restarts: bool
) -> None:
    """70 s expected, one every 45 s, also over restarts; then none, and that is said as soon as it is overdue."""
    host = Host(tmp_path, stack, Expected("/out", 70.0))
    host.look()
    for run in range(20):
        for _ in range(9):
            host.now += 5
            host.look()
        data = encoded(flat_summary({"GOOD": GOOD}, timestamp=f"20241201_0000{run:02d}"))
        host.pipeline.process([Found("/out/a.json", data, None)])
        host.came("/out/a.json")
        if restarts:
            host.restart()
    assert host.told() == []
    host.now += 70
    host.look()
    assert host.told() == []
    host.now += 1
    host.look()
    assert len(host.told()) == 1


@pytest.mark.parametrize("seconds", [10 * DAY, -10 * DAY])
def test_stepped_clock_is_no_silence_and_hides_none(host: Host, seconds: float) -> None:
    """Within a process's life a timer counts."""
    host.look()
    host.now += DAY / 2
    host.step(seconds)
    host.look()
    assert host.told() == []
    host.now += DAY / 2 + 1
    host.look()
    assert len(host.told()) == 1


def test_summary_that_waits_for_the_disk_is_no_silence(host: Host) -> None:
    """It came; that it can't be archived is said otherwise. A file that stays for ever hides no silence after it."""
    host.look()
    host.now += DAY - 1
    stuck = ("/out/stuck.json", host.timer)
    for _ in range(3):
        host.now += DAY / 4
        host.look(stuck)
    assert host.told() == []
    host.now += DAY / 4 + 1
    host.look(stuck, ("/elsewhere/new.json", host.timer))
    assert len(host.told()) == 1


def test_summary_that_was_archived_late_counts_from_when_it_came(host: Host) -> None:
    """The disk's refusal is no life sign of the trainer."""
    host.look()
    came = host.timer
    host.now += DAY - 1
    host.problems.came("/out/late.json", came)
    host.now += 2
    host.look()
    assert len(host.told()) == 1


def test_silence_is_announced_after_a_scan_that_began_when_it_was_due(host: Host) -> None:
    """Events may be late or never come: what lies there unseen is found first."""
    host.look()
    scanned_at = host.timer
    host.now += DAY + 1
    assert not host.look(scanned_at=scanned_at)
    assert host.told() == []
    assert host.look(("/out/unseen.json", host.timer))
    assert host.told() == []
    assert host.look()
    assert len(host.told()) == 1


def test_many_summaries_are_few_transactions(host: Host) -> None:
    """It is remembered to a minute when a folder last spoke."""
    host.look()
    changes = host.database.connection.total_changes
    for _ in range(1000):
        host.now += KEPT_SECONDS / 100
        host.came("/out/a.json")
    assert 0 < host.database.connection.total_changes - changes <= 10


@pytest.mark.parametrize(
    ("seconds", "said"), [(90.0, "90s"), (900.0, "15m"), (93600.0, "26h"), (172800.0, "2d"), (0.5, "0.5s")]
)
def test_time_is_said_as_a_person_would_set_it(seconds: float, said: str) -> None:
    """`26h` stays `26h`."""
    assert _duration(seconds) == said


@contextmanager
def living(site: Site, script: Callable[[], None]) -> Iterator[None]:
    """A daemon's whole life in this process, with short pauses, while a script does things to its folders."""
    settings, _ = load_settings(str(site.config))
    failed: list[BaseException] = []

    with open_service(settings, [], courier=False) as service:

        def play() -> None:
            try:
                script()
            except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
                failed.append(error)
            service.request_stop()

        thread = threading.Thread(target=play)
        thread.start()
        service.run()
        thread.join()
    if failed:
        raise failed[0]
    yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lasts a minute lasts a moment."""
    monkeypatch.setattr(lifecycle, "SUPERVISE_SECONDS", 0.02)
    monkeypatch.setattr(discovery, "UNWATCHED_SCAN_SECONDS", 0.05)
    monkeypatch.setattr(lifecycle, "LASTING_SECONDS", 0.2)


def count(caplog: pytest.LogCaptureFixture, event: str) -> int:
    """How many events of that name there were."""
    return [record.getMessage() for record in caplog.records].count(event)


def problems_in(site: Site) -> list[dict[str, Any]]:
    """The problems that are owed."""
    return [row for row in outbox_of(site.state) if row["kind"] == "PROBLEM"]


@pytest.mark.usefixtures("impatient")
def test_watch_that_stays_lost_is_announced_once_and_its_end_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A watched folder goes away and comes back, twice: two messages, two ends in the log."""
    caplog.set_level(logging.INFO, "modelwarden")
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "PROBLEM"))

    def script() -> None:
        until(lambda: count(caplog, "ready"), "the daemon to be ready")
        for episode in (1, 2):
            site.out.rename(tmp_path / "away")
            until(lambda: len(problems_in(site)) == episode, f"message {episode}")  # noqa: B023 - called here
            drop(encoded(flat_summary(timestamp=f"2024010{episode}_000000")), tmp_path / "away", f"{episode}.json")
            (tmp_path / "away").rename(site.out)
            until(lambda: count(caplog, "run_archived") == episode, "the summary, found again")  # noqa: B023
            until(lambda: count(caplog, "problem_over") == episode, "its end")  # noqa: B023

    with living(site, script):
        rows = problems_in(site)
    assert len(rows) == 2
    assert all(row["payload"].startswith("the watch on a folder is lost") for row in rows)
    assert count(caplog, "problem_announced") == count(caplog, "problem_over") == 2


@pytest.mark.usefixtures("impatient")
def test_watch_that_is_lost_for_a_moment_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that a trainer replaces is watched again before anybody need hear of it."""
    monkeypatch.setattr(lifecycle, "LASTING_SECONDS", 60.0)  # longer than a loaded machine makes of a moment
    caplog.set_level(logging.INFO, "modelwarden")
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "PROBLEM"))

    def script() -> None:
        until(lambda: count(caplog, "ready"), "the daemon to be ready")
        for number in range(3):
            site.out.rename(tmp_path / f"old {number}")
            until(lambda: count(caplog, "watch_waits") == number + 1, "its loss to be noticed")  # noqa: B023 - called here
            site.out.mkdir()
            drop(encoded(flat_summary(timestamp=f"2024010{number + 1}_000000")), site.out, f"{number}.json")
            until(lambda: count(caplog, "run_archived") == number + 1, "the summary")  # noqa: B023 - called here

    with living(site, script):
        assert problems_in(site) == []


@pytest.mark.usefixtures("impatient")
def test_file_that_stays_unreadable_is_announced_once_and_its_end_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer left files that nobody may read: one message with some and the reason; given the right, it is over."""
    caplog.set_level(logging.INFO, "modelwarden")
    monkeypatch.setattr(processing, "UNREADABLE_SECONDS", 0.05)
    allowed = threading.Event()

    def read(path: str, max_bytes: int) -> Reading:  # root may read everything, so the system is played
        if "locked" in path and not allowed.is_set():
            return Refused("Permission denied")
        return read_whole(path, max_bytes)

    monkeypatch.setattr(processing, "read_whole", read)
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "PROBLEM"))

    def script() -> None:
        until(lambda: count(caplog, "ready"), "the daemon to be ready")
        for number in range(5):
            drop(encoded(flat_summary(timestamp=f"2024010{number + 1}_000000")), site.out, f"locked-{number}.json")
        until(lambda: count(caplog, "unreadable") == 5, "each to be said")
        until(lambda: count(caplog, "problem_announced"), "a person to hear of it")
        allowed.set()
        until(lambda: count(caplog, "problem_over"), "its end")

    with living(site, script):
        (row,) = problems_in(site)
    assert "in the watched folders can't be used" in row["payload"]
    assert "locked-" in row["payload"]
    assert ": Permission denied\n" in row["payload"]
    assert "umask" in row["payload"]
    assert count(caplog, "run_archived") == 5


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("way", "said"), [("gone", 0), ("endless", 1)])
def test_watched_folder_that_cannot_be_seen_is_said_once_and_not_at_every_scan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str, said: int
) -> None:
    """Its watch says that it waits; what the system refuses is said besides, but of a folder that is just not there."""
    caplog.set_level(logging.DEBUG, "modelwarden")
    watch = '[[watch]]\npath = "out/inner"\n'
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "PROBLEM"), watch=watch)
    if way == "endless":
        site.out.rmdir()
        site.out.symlink_to(site.out)

    def script() -> None:
        until(lambda: count(caplog, "ready"), "the daemon to be ready")
        until(lambda: count(caplog, "scanned") >= 8, "some scans")

    with living(site, script):
        assert (count(caplog, "watch_waits"), count(caplog, "unreadable")) == (1, said)


def test_storage_that_keeps_refusing_is_announced_once_and_its_end_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something stands where runs are staged: many tries, one message; mended, the run is archived, and it is over."""
    caplog.set_level(logging.DEBUG, "modelwarden")
    monkeypatch.setattr(processing, "LASTING_TROUBLE", 1.0)  # the first pause, for the sake of the test's time
    monkeypatch.setattr(processing, "LONGEST_TROUBLE_PAUSE", 1.0)
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "PROBLEM"))

    def script() -> None:
        until(lambda: count(caplog, "ready"), "the daemon to be ready")
        for episode in (1, 2):
            staging = site.archive / ".staging"
            if staging.exists():
                staging.rename(tmp_path / f"staging {episode}")
            staging.write_text("in the way")
            before = count(caplog, "postponed")
            drop(encoded(flat_summary(timestamp=f"2024010{episode}_000000")), site.out, f"{episode}.json")
            until(lambda: count(caplog, "postponed") >= before + 3, "three refusals")  # noqa: B023 - called here
            assert len(problems_in(site)) == episode
            staging.unlink()
            until(lambda: count(caplog, "problem_over") == episode, "its end")  # noqa: B023

    with living(site, script):
        rows = problems_in(site)
    assert len(rows) == 2
    assert all(row["payload"].startswith("a run can't be archived\n") for row in rows)
    assert all("nothing is lost: it is tried again" in row["payload"] for row in rows)
    assert count(caplog, "run_archived") == 2
