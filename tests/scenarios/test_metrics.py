"""Metrics of real processes: the daemon's file and the courier's answers, whatever is in their way."""

import http.client
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import readings
from processes import (
    DEADLINE,
    Site,
    destination,
    drop,
    make_site,
    modelwarden,
    running_courier,
    running_daemon,
    until,
)
from rigs.needs import needs
from servers import HttpServer, http_server, unused_port
from summaries import encoded, flat_summary

Samples = Mapping[tuple[str, ...], float]


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that takes everything."""
    with http_server() as server:
        yield server


def site_with(folder: Path, metrics: str, *tables: str) -> Site:
    return make_site(folder, f"[metrics]\n{metrics}\n", *tables)


def of_file(site: Site) -> Samples:
    """What the daemon's file tells; nothing while there is none."""
    try:
        text = (site.folder / "m.prom").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return readings.samples(text, str(site.archive), "daemon")


def asked(port: int, path: str = "/metrics") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def of_courier(site: Site, port: int) -> Samples:
    return readings.samples(asked(port)[1], str(site.archive), "courier")


def test_daemon_tells_what_it_did_and_how_it_stands(tmp_path: Path) -> None:
    """In a file that others may read, there at once, gone with the daemon."""
    site = site_with(tmp_path, 'file = "m.prom"', destination("team", "json://127.0.0.1:9/x", "APPROVED"))
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        found = of_file(site)
        assert found["summaries_total", "archived"] == found["archive_runs",] == 0
        assert ("last_archived_timestamp_seconds",) not in found

        drop(encoded(flat_summary()), site.out)
        drop(encoded(flat_summary()), site.out, "twin.json")
        drop(b"[]", site.out, "broken.json")
        daemon.wait_for("summary_rejected")
        until(lambda: of_file(site)["summaries_total", "rejected"], "the next time that the file is written")
        found = of_file(site)
        assert found["summaries_total", "archived"] == found["archive_runs",] == 1
        assert found["summaries_total", "already_archived"] == 1
        assert [found["models_total", each] for each in ("APPROVED", "REVIEW", "DROP")] == [1, 1, 1]
        assert found["ready_to_archived_seconds_count",] == 1
        assert found["outbox_messages", "owed"] == 1
        assert found["last_archived_timestamp_seconds",] <= found["heartbeat_timestamp_seconds",]
        assert found["watch_active",] == found["archive_available",] == 1
        assert 0 < found["disk_free_bytes", "archive"] <= found["disk_size_bytes", "archive"]

        daemon.process.kill()
        daemon.process.wait()
        assert of_file(site)
    with running_daemon("--no-courier", "--config", site.config, log=tmp_path / "log2") as daemon:
        again = of_file(site)
        kept = {"archive_runs", "last_archived_timestamp_seconds", "outbox_messages", "queue_files"}
        for key in found:
            if key[0] in kept:
                assert again[key] == found[key]
        assert again["summaries_total", "archived"] == again["summaries_total", "rejected"] == 0
        assert daemon.stop() == 0
    assert not (tmp_path / "m.prom").exists()


def test_daemon_whose_file_cannot_be_written_goes_on(tmp_path: Path) -> None:
    """One warning, `status` says so, and everything is archived."""
    site = site_with(tmp_path, 'file = "gone/m.prom"')
    with running_daemon("--config", site.config, log=site.log) as daemon:
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("run_archived")
        done = modelwarden("status", "--config", site.config)
        assert done.returncode == 1
        assert "the metrics can't be written" in done.stdout
        (tmp_path / "gone").mkdir()
        daemon.wait_for("metrics_written")
        until(lambda: modelwarden("status", "--config", site.config).returncode == 0, "the trouble's end")
        assert len(daemon.events("metrics_not_written")) == 1


def test_archive_that_is_away_and_back_is_told(tmp_path: Path) -> None:
    """While nothing is archived somebody is to hear of it; the figures of the state go on."""
    site = make_site(
        tmp_path,
        '[metrics]\nfile = "m.prom"\n',
        watch=f'state_dir = "{tmp_path / "state"}"\n[[watch]]\npath = "out"\n',
    )
    with running_daemon("--config", site.config, log=site.log) as daemon:
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("run_archived")
        site.archive.rename(tmp_path / "away")
        until(lambda: of_file(site)["archive_available",] == 0, "the archive's absence to be told", 40)
        assert ("disk_free_bytes", "archive") not in of_file(site)
        assert of_file(site)["disk_free_bytes", "state"] > 0
        (tmp_path / "away").rename(site.archive)
        until(lambda: of_file(site)["archive_available",] == 1, "its return to be told", 40)


def test_look_once_leaves_no_file(tmp_path: Path) -> None:
    """It would tell of a daemon that does not run."""
    site = site_with(tmp_path, 'file = "m.prom"\nlisten = "127.0.0.1:1"')
    drop(encoded(flat_summary()), site.out)
    done = modelwarden("run", "--once", "--config", site.config)
    assert (done.returncode, "metrics" in done.stderr) == (0, False)
    assert not (tmp_path / "m.prom").exists()


def test_courier_answers_while_it_delivers_and_clients_are_slow(tmp_path: Path, server: HttpServer) -> None:
    """Two who scrape at once, and more who never end a request, hold up no message."""
    port = unused_port()
    site = site_with(tmp_path, f'listen = "127.0.0.1:{port}"', destination("team", server.url("x"), "APPROVED"))
    with running_daemon("--config", site.config, log=site.log) as daemon, ExitStack() as stack:
        daemon.wait_for("metrics_served")
        for _ in range(20):
            slow = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), DEADLINE)))
            slow.sendall(b"GET /metrics HTTP/1.0\r\n")
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("message_delivered")
        scrapers = [subprocess.Popen(_scraper(port), stdout=subprocess.PIPE) for _ in range(2)]
        assert all(scraper.communicate(timeout=DEADLINE)[0] == b"20\n" for scraper in scrapers)
        assert of_courier(site, port)["sends_total", "team", "delivered"] == 1
        assert asked(port, "/healthz") == (200, "well\n")
        assert daemon.stop() == 0


def _scraper(port: int) -> list[str]:
    """A process that asks twenty times and says how often it was answered."""
    program = (
        "import urllib.request\n"
        f"url = 'http://127.0.0.1:{port}/metrics'\n"
        "print(sum(b'modelwarden_build_info' in urllib.request.urlopen(url, timeout=30).read() for _ in range(20)))"
    )
    return ["python3", "-c", program]


def test_courier_whose_port_is_taken_delivers(tmp_path: Path, server: HttpServer) -> None:
    """One warning that says what to do; it does not end, and no other is started."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        site = site_with(tmp_path, f'listen = "127.0.0.1:{port}"', destination("team", server.url("x"), "APPROVED"))
        with running_daemon("--config", site.config, log=site.log) as daemon:
            (warning,) = daemon.wait_for("metrics_not_served")
            assert warning["address"] == f"127.0.0.1:{port}"
            assert "Address already in use" in warning["reason"]
            assert warning["hint"]
            drop(encoded(flat_summary()), site.out)
            daemon.wait_for("message_delivered")
            assert len(daemon.events("courier_started")) == 1
            assert not daemon.events("courier_ended")


def test_courier_answers_at_a_socket_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is there for its group while it runs, and taken over from one that was killed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s"
    site = site_with(tmp_path, f'listen = "unix:{path}"', destination("team", "json://127.0.0.1:9/x", "APPROVED"))
    with running_daemon("--no-courier", "--config", site.config, log=site.log):
        with running_courier("--config", site.config, log=tmp_path / "first") as courier:
            courier.wait_for("metrics_served")
            courier.process.kill()
            courier.process.wait()
        assert path.is_socket()
        with running_courier("--config", site.config, log=tmp_path / "second") as courier:
            courier.wait_for("metrics_served")
            with closing(socket.socket(socket.AF_UNIX)) as caller:
                caller.connect("s")
                caller.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert caller.recv(65_536).startswith(b"HTTP/1.0 200")
            assert courier.stop() == 0
    assert not path.exists()


def test_metrics_are_as_prometheus_wants_them(tmp_path: Path) -> None:
    """Promtool has nothing to say of either's names, units and helps."""
    needs(commands=("promtool",))
    port = unused_port()
    site = site_with(
        tmp_path,
        f'file = "m.prom"\nlisten = "127.0.0.1:{port}"',
        destination("team", "json://127.0.0.1:9/x", "APPROVED"),
    )
    with running_daemon("--config", site.config, log=site.log) as daemon:
        daemon.wait_for("metrics_served")
        for text in ((tmp_path / "m.prom").read_bytes(), asked(port)[1].encode()):
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
