"""SIGHUP: the settings are read again under the same process; wrong ones change nothing."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from processes import (
    Daemon,
    Site,
    destination,
    drop,
    index_of,
    make_site,
    outbox_of,
    running_courier,
    running_daemon,
    until,
)
from servers import http_server, unused_port
from summaries import GOOD, encoded, flat_summary


@pytest.fixture(autouse=True)
def _heeds_hang_ups() -> Iterator[None]:
    """Tests that were started under nohup would hand the ignored signal on to what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Systemd's end of the notification socket."""
    monkeypatch.chdir(tmp_path)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
        server.settimeout(30)
        server.bind("notify")
        yield server


def states(server: socket.socket, last: str) -> list[str]:
    """What was told, up to the first assignment that begins so, without the signs of life."""
    told: list[str] = []
    while not any(line.startswith(last) for line in told):
        told += server.recv(65_536).decode().split("\n")
    return [line for line in told if line != "WATCHDOG=1"]


def test_settings_that_are_right_are_in_force_after_a_hang_up(site: Site, notified: socket.socket) -> None:
    """Same process, another folder, nothing lost; systemd hears RELOADING, then READY, and never STOPPING."""
    more = site.folder / "more"
    more.mkdir()
    env = {"NOTIFY_SOCKET": str(site.folder / "notify")}
    with running_daemon("--config", site.config, "--no-courier", log=site.log, env=env) as daemon:
        states(notified, "READY")
        drop(encoded(flat_summary({"before": GOOD})), more)
        with site.config.open("a") as config:
            config.write('\n[[watch]]\npath = "more"\n')
        daemon.process.send_signal(signal.SIGHUP)
        told = states(notified, "READY")
        assert [line for line in told if line.endswith("=1")] == ["RELOADING=1", "READY=1"]
        until(lambda: len(index_of(site.archive)) == 1, "the run from the new folder")
        assert [event["event"] for event in daemon.events() if event["event"] in {"ready", "stopped"}] == [
            "ready",
            "stopped",
            "ready",
        ]
        assert daemon.stop() == 0


def test_settings_that_are_wrong_change_nothing(site: Site, notified: socket.socket) -> None:
    """They are refused with the place, in the log and the status; what is left meanwhile is archived as before."""
    env = {"NOTIFY_SOCKET": str(site.folder / "notify")}
    with running_daemon("--config", site.config, "--no-courier", log=site.log, env=env) as daemon:
        states(notified, "READY")
        with site.config.open("a") as config:
            config.write("\nnonsense = 1\n")
        daemon.process.send_signal(signal.SIGHUP)
        (refused,) = daemon.wait_for("settings_refused")
        assert "nonsense" in refused["reason"]
        assert refused["level"] == "error"
        told = states(notified, "READY")
        assert "RELOADING=1" in told
        drop(encoded(flat_summary({"a": GOOD})), site.out)
        until(lambda: len(index_of(site.archive)) == 1, "a run under the settings of before")
        assert daemon.events("stopped") == []
        assert daemon.stop() == 0


def test_refused_settings_stay_in_the_status(site: Site, notified: socket.socket) -> None:
    """Who looks an hour later still sees that the file and what is in force differ."""
    env = {"NOTIFY_SOCKET": str(site.folder / "notify")}
    with running_daemon("--config", site.config, "--no-courier", log=site.log, env=env) as daemon:
        states(notified, "READY")
        site.config.write_text("archive_dri = 1\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("settings_refused")
        states(notified, "READY")
        drop(encoded(flat_summary({"a": GOOD})), site.out)
        later = states(notified, "STATUS=1 runs archived")
        assert "the settings on disk are refused" in later[-1]


def test_courier_reads_its_settings_again(site: Site) -> None:
    """Under the same process id, with the destinations as they are now; wrong ones leave those of before in force."""
    with (
        http_server() as server,
        running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon,
        running_courier("--config", site.config, log=site.folder / "courier.log") as courier,
    ):
        settings = site.config.read_text()
        site.config.write_text("[nonsense]\n")
        courier.process.send_signal(signal.SIGHUP)
        courier.wait_for("settings_refused")
        site.config.write_text(
            f'{settings}\n[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:{server.port}/"\n'
            'on = ["APPROVED"]\n'
        )
        courier.process.send_signal(signal.SIGHUP)
        courier.wait_for("courier_ready", 2)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("ready", 2)
        drop(encoded(flat_summary({"a": GOOD})), site.out)
        until(lambda: [row["status"] for row in outbox_of(site.state)] == ["delivered"], "the message")
        assert courier.stop() == 0


def hang_up_until(process: Daemon, ready: str, count: int) -> None:
    """Send one hang-up after the other until the process was ready so often, or has ended."""

    def is_there() -> bool:
        process.process.send_signal(signal.SIGHUP)
        return process.process.poll() is not None or len(process.events(ready)) >= count

    until(is_there, f"{count} x {ready}", tick=0)


def test_hang_ups_between_two_lives_end_neither(site: Site) -> None:
    """Who asks a second time while the daemon is starting again gets what it asked for, and the same process works."""
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        hang_up_until(daemon, "ready", 3)
        for number, name in enumerate("ab", 1):  # the second behind every hang-up that was still to be followed
            drop(encoded(flat_summary({name: GOOD})), site.out, f"{name}.json")
            until(lambda: len(index_of(site.archive)) == number, "a run after the hang-ups")  # noqa: B023 - asked here
        assert daemon.stop() == 0


def test_hang_ups_between_two_lives_end_no_courier(site: Site) -> None:
    """The same process delivers what is owed after them."""
    with (
        http_server() as server,
        running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon,
        running_courier("--config", site.config, log=site.folder / "courier.log") as courier,
    ):
        with site.config.open("a") as config:
            config.write("\n" + destination("team", f"json://127.0.0.1:{server.port}/", "APPROVED"))
        hang_up_until(courier, "courier_ready", 3)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("ready", 2)
        drop(encoded(flat_summary({"a": GOOD})), site.out)
        until(lambda: [row["status"] for row in outbox_of(site.state)] == ["delivered"], "the message")
        assert courier.process.poll() is None


def test_metrics_are_answered_again_after_a_hang_up(tmp_path: Path) -> None:
    """The address is let go of and taken by the same process anew, with the settings as they are then."""
    ports = [unused_port(), unused_port()]
    metrics = '[metrics]\nlisten = "127.0.0.1:{}"\n'
    site = make_site(tmp_path, metrics.format(ports[0]), destination("team", "json://127.0.0.1:9/x", "APPROVED"))
    with (
        running_daemon("--config", site.config, "--no-courier", log=site.log),
        running_courier("--config", site.config, log=site.folder / "courier.log") as courier,
    ):
        courier.wait_for("metrics_served")
        courier.process.send_signal(signal.SIGHUP)
        courier.wait_for("metrics_served", 2)
        text = site.config.read_text().replace(str(ports[0]), str(ports[1]))
        site.config.write_text(text)
        courier.process.send_signal(signal.SIGHUP)
        served = courier.wait_for("metrics_served", 3)
        assert [each["address"] for each in served] == [f"127.0.0.1:{port}" for port in (ports[0], *ports)]
        assert courier.events("metrics_not_served") == []
        assert courier.stop() == 0


def test_courier_before_the_daemons_first_start_waits(site: Site) -> None:
    """On the first boot either may come first: the courier waits, makes nothing, and then delivers."""
    site.archive.mkdir()
    with running_courier("--config", site.config, log=site.folder / "courier.log", ready=None) as courier:
        courier.wait_for("waiting_for_daemon")
        assert os.listdir(site.archive) == []
        with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
            courier.wait_for("courier_ready")
            assert daemon.stop() == 0
        assert courier.stop() == 0


def test_hang_up_that_is_ignored_stays_ignored(site: Site) -> None:
    """`nohup modelwarden run` outlives the terminal, and does not start again either."""
    deaf = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    with running_daemon("--config", site.config, log=site.log, how=deaf) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        drop(encoded(flat_summary({"a": GOOD})), site.out)
        until(lambda: len(index_of(site.archive)) == 1, "a run after the hang-up")
        assert "settings_read_again" not in site.log.read_text()
        assert daemon.stop() == 0
