"""From a dropped summary to a message at the other end: daemon, courier and servers, each a real process or socket."""

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelwarden.cli.couriering import MEMORY_BYTES
from modelwarden.state.database import STATE_FILE
from processes import (
    DEADLINE,
    Daemon,
    Site,
    destination,
    drop,
    is_running,
    make_site,
    modelwarden,
    outbox_of,
    running_courier,
    running_daemon,
    until,
)
from servers import Answer, HttpServer, SmtpServer, http_server, smtp_server, unused_port
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary

SECRET = "c4nary-s3cret"
HOST = socket.gethostname()
NEWS = ("APPROVED", "DROP", "REJECTED")


def run_of(symbol: str, figures: dict[str, float] = GOOD, *, timestamp: str = "20241224_153000") -> bytes:
    """A summary of one model."""
    return encoded(flat_summary({symbol: figures}, timestamp=timestamp))


class Newsroom(NamedTuple):
    """A daemon with its courier, and the servers behind its destinations."""

    site: Site
    daemon: Daemon
    team: HttpServer
    on_call: HttpServer
    refusing: HttpServer
    mail: SmtpServer


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newsroom]:
    """Destinations that take, refuse and are not there, a secret in each URL, and a log that says all it can."""
    with http_server() as team, http_server() as on_call, http_server() as refusing, smtp_server() as mail:
        refusing.answer = 403
        site = make_site(
            tmp_path_factory.mktemp("newsroom"),
            destination("team", team.url(SECRET), *NEWS),
            destination("on call", on_call.url(SECRET), "REJECTED"),
            destination("mail", mail.url(SECRET), "REVIEW"),
            destination("refusing", refusing.url(SECRET, user=f"user:{SECRET}", query=f"-key={SECRET}"), "APPROVED"),
            destination("gone", f"json://u:{SECRET}@127.0.0.1:{unused_port()}/{SECRET}", "APPROVED"),
            level="debug",
        )
        with running_daemon("--config", site.config, log=site.log) as daemon:
            daemon.wait_for("courier_ready")
            yield Newsroom(site, daemon, team, on_call, refusing, mail)
            courier = daemon.events("courier_started")[-1]["pid"]
            assert daemon.stop() == 0
            assert not is_running(courier)
            assert len(daemon.events("courier_stopped")) == 1


def test_digest_arrives_whole_and_holds_what_was_asked_for(newsroom: Newsroom) -> None:
    """The team reads counts and run in the title, and the models of the classes it asked for, any character."""
    rocket: dict[str, Any] = {**GOOD, "fitness_history": [0.5, 0.8, 0.91]}
    models = {"ROCKET🚀": rocket, "SOSO": MIDDLING, "ÄÖÜ": BAD}
    drop(encoded(flat_summary(models, timestamp="20240101_000001", run_name="Nachtlauf für Ömer")), newsroom.site.out)
    (message,) = until(
        lambda: [each for each in newsroom.team.accepted if "run 20240101_000001" in each.title], "the digest"
    )
    assert message.title == f"APPROVED 1 · REVIEW 1 · DROP 1: run 20240101_000001 ({HOST})"
    models_told = [line.split(":")[0] for line in message.text.splitlines() if line.startswith("- ")]
    assert models_told == ["- ROCKET🚀", "- ÄÖÜ"]
    assert "run name: Nachtlauf für Ömer" in message.text
    pictures = json.loads(message.body)["attachments"]
    assert len(pictures) == (find_spec("matplotlib") is not None), "the plot, where the extra `plots` is installed"
    report = message.text.rpartition("report: ")[2].strip()
    assert "ROCKET🚀" in Path(report).read_text(encoding="utf-8")
    (mail,) = until(lambda: newsroom.mail.mails, "the mail")
    assert mail["Subject"].startswith(f"{message.title} [")
    page = mail.get_body(("html",))
    assert page is not None
    assert "SOSO" in page.get_content()
    assert "ROCKET" not in page.get_content()
    assert newsroom.mail.logins == [("warden", SECRET)]


def test_rejected_file_is_announced_once_to_those_who_asked(newsroom: Newsroom) -> None:
    """One message with the file and the reason, however often the bytes come back; nobody else hears of it."""
    drop(b'{"models": []}', newsroom.site.out, "empty.json")
    until(lambda: newsroom.on_call.accepted, "the rejection")
    drop(b'{"models": []}', newsroom.site.out, "again.json")
    drop(b'{"models": 5}', newsroom.site.out, "other.json")
    until(lambda: len(newsroom.on_call.accepted) >= 2, "the other rejection")
    first, second = newsroom.on_call.accepted
    for message, name in ((first, "empty.json"), (second, "other.json")):
        reason = message.text.splitlines()[0].removeprefix(f"{newsroom.site.out / name} on {HOST}: ")
        assert reason.startswith("models: ") or "models" in reason
        assert message.title.startswith(f"REJECTED: {name}: {reason[:20]}")
        assert message.title.endswith(f"({HOST})")
    until(lambda: {first.title, second.title} <= set(newsroom.team.titles()), "the team's two")


def test_run_without_anything_asked_for_is_silent(newsroom: Newsroom) -> None:
    """A run whose only class nobody in the team asked for brings no message; the next one does."""
    drop(run_of("WEAK", BAD, timestamp="20240202_000001"), newsroom.site.out, "weak.json")
    until(lambda: any("20240202_000001" in title for title in newsroom.team.titles()), "the dropped model's message")
    assert not any("20240202_000001" in request.body.decode() for request in newsroom.refusing.requests)
    assert newsroom.on_call.titles() == [title for title in newsroom.on_call.titles() if title.startswith("REJECTED")]


def test_secret_of_a_url_is_nowhere_to_be_read(newsroom: Newsroom) -> None:
    """Not in the log at its most talkative, in the state file, in an error, nor in `ps`."""
    drop(run_of("TOLD", timestamp="20240303_000001"), newsroom.site.out, "told.json")
    failed = ("refusing", "gone")

    def all_failed() -> bool:
        return set(failed) <= {each["destination"] for each in newsroom.daemon.events("message_not_delivered")}

    until(all_failed, "failures of both")
    assert any(SECRET in request.path for request in newsroom.refusing.requests)  # it was sent, and quoted back
    errors = [row["last_error"] for row in outbox_of(newsroom.site.state) if row["destination"] in failed]
    assert any(errors)
    places = {
        path: path.read_bytes() for path in [newsroom.site.log, *newsroom.site.archive.rglob("*")] if path.is_file()
    }
    pids = [newsroom.daemon.process.pid, newsroom.daemon.events("courier_started")[-1]["pid"]]
    places |= {path: path.read_bytes() for pid in pids for path in [Path(f"/proc/{pid}/cmdline")]}
    assert any(path.name == "modelwarden.sqlite" for path in places)
    assert [path for path, content in places.items() if SECRET.encode() in content] == []


@pytest.mark.delivery
def test_restarts_send_nothing_again_and_leave_no_courier_behind(tmp_path: Path) -> None:
    """Stopped, killed and stopped again: every run is told once, and no courier outlives the daemon that started it."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url(), *NEWS))
        drop(b'{"models": []}', site.out, "rejected.json")
        for number, end in enumerate([signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM], start=1):
            with running_daemon("--config", site.config, log=site.log) as daemon:
                drop(run_of(f"SYM{number}", timestamp=f"2024010{number}_000000"), site.out, f"{number}.json")
                until(partial(_has_accepted, server, number + 1), f"the message of run {number}")
                daemon.stop(end)
                until(partial(_has_ended, daemon.events("courier_started")[-1]["pid"]), "the courier has ended")
        told = [f"APPROVED 1 · REVIEW 0 · DROP 0: run 2024010{number}_000000 ({HOST})" for number in range(1, 5)]
        (rejected,) = set(server.titles()) - set(told)
        assert rejected.startswith("REJECTED: rejected.json: ")
        assert sorted(server.titles()) == sorted([rejected, *told])
        assert [row["status"] for row in outbox_of(site.state)] == ["delivered"] * 5


def _has_accepted(server: HttpServer, count: int) -> bool:
    return len(server.accepted) >= count


def _has_ended(pid: int) -> bool:
    return not is_running(pid)


def set_state_aside(site: Site) -> Path:
    """Move the state file away, as a person who goes back to an earlier version does; where it is now."""
    aside = site.folder / "aside"
    aside.mkdir()
    for path in site.state.glob(f"{STATE_FILE}*"):
        path.rename(aside / path.name)
    return aside


@pytest.mark.delivery
def test_courier_that_outlives_its_state_file_delivers_from_the_new_one(tmp_path: Path) -> None:
    """The file is moved away and the daemon alone restarted: the courier follows, and what is owed then arrives."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url(), *NEWS))
        with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
            courier_log = site.folder / "courier.log"
            with running_courier("--config", site.config, log=courier_log) as courier:
                drop(run_of("A", timestamp="20240101_000000"), site.out, "a.json")
                until(partial(_has_accepted, server, 1), "the message of before")
                assert daemon.stop() == 0
                set_state_aside(site)
                with running_daemon("--config", site.config, "--no-courier", log=site.folder / "log-2"):
                    drop(run_of("B", timestamp="20240102_000000"), site.out, "b.json")
                    until(partial(_has_accepted, server, 2), "the message of after", 2 * DEADLINE)
                    assert len(courier.events("state_file_replaced")) == 1


@pytest.mark.delivery
def test_daemon_whose_state_file_is_replaced_goes_on_with_the_one_that_is_there(tmp_path: Path) -> None:
    """A person puts an older copy back beside it: what comes then is known, and told, by that one; nothing twice."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url(), *NEWS))
        with running_daemon("--config", site.config, log=site.log) as daemon:
            drop(run_of("A", timestamp="20240101_000000"), site.out, "a.json")
            until(lambda: [row["status"] for row in outbox_of(site.state)] == ["delivered"], "the message of before")
            set_state_aside(site)
            shutil.copytree(site.folder / "aside", site.state, dirs_exist_ok=True)
            daemon.wait_for("ready", 2)
            drop(run_of("B", timestamp="20240102_000000"), site.out, "b.json")
            until(lambda: [row["status"] for row in outbox_of(site.state)] == ["delivered"] * 2, "the message of after")
            assert daemon.stop() == 0
        assert len(server.accepted) == 2


@pytest.mark.delivery
def test_courier_that_was_killed_or_hung_is_started_again(tmp_path: Path) -> None:
    """Two daemons at once: one's courier is killed, a send of the other's hangs; their next couriers deliver."""
    with http_server() as server, http_server() as hanging, http_server() as beside:
        killed = make_site(tmp_path / "killed", destination("team", server.url(), *NEWS))
        hung = make_site(
            tmp_path / "hung",
            destination("a hangs", hanging.url(SECRET), *NEWS),
            destination("b takes", beside.url(), *NEWS),
            "[notify]\nsend_timeout_seconds = 0.5\n",
        )
        hanging.answer = Answer.HANG
        with (
            running_daemon("--config", killed.config, log=killed.log) as one,
            running_daemon("--config", hung.config, log=hung.log) as two,
        ):
            one.wait_for("courier_ready")
            os.kill(one.events("courier_started")[0]["pid"], signal.SIGKILL)
            drop(run_of("KILLED"), killed.out)
            drop(run_of("HUNG"), hung.out)

            (ended,) = two.wait_for("courier_ended")
            assert ended["exit_code"] == 75
            assert len(hanging.requests) == 1
            assert [message.text.splitlines()[1].split(":")[0] for message in beside.accepted] == ["- HUNG"]
            hanging.answer = 200

            until(lambda: server.accepted and hanging.accepted, "both messages")
            assert one.events("courier_ended")[0]["exit_code"] == -signal.SIGKILL
            assert [len(daemon.events("courier_started")) for daemon in (one, two)] == [2, 2]
            two.wait_for("message_delivered", 2)
            assert one.stop() == two.stop() == 0
        assert [len(each.accepted) for each in (server, hanging, beside)] == [1, 1, 1]
        assert SECRET not in hung.log.read_text()


@pytest.mark.delivery
def test_what_was_owed_while_no_courier_ran_is_one_message(tmp_path: Path) -> None:
    """More runs than `digest_above` after a downtime are one message; killed amid its send it is repeated, marked."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url(), *NEWS), "[notify]\ndigest_above = 3\n")
        for number in range(4):
            drop(run_of(f"SYM{number}", timestamp=f"2024010{number + 1}_000000"), site.out, f"{number}.json")
        assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
        assert server.requests == []
        server.answer = Answer.HANG
        with running_courier("--config", site.config, log=site.log, ready=None):
            until(lambda: server.requests, "the message is under way")
        server.answer = 200
        drained = modelwarden("courier", "--drain", "--config", site.config)
        assert drained.returncode == 0, drained.stderr
        (message,) = server.accepted
        assert message.title == f"(possible repeat) APPROVED 4 · REVIEW 0 · DROP 0: 4 runs ({HOST})"
        assert all(f"SYM{number}: run 2024010{number + 1}_000000" in message.text for number in range(4))
        assert {row["status"] for row in outbox_of(site.state)} == {"delivered"}


@pytest.mark.delivery
def test_answer_without_an_end_takes_no_more_memory_than_a_courier_may_have(tmp_path: Path) -> None:
    """The library reads an answer to its end: the send fails, and what else is owed arrives from the same process."""
    with http_server() as endless, http_server() as team:
        endless.answer = Answer.ENDLESS
        tables = (destination("endless", endless.url(), *NEWS), destination("team", team.url(), *NEWS))
        site = make_site(tmp_path, *tables)
        drop(run_of("FIRST"), site.out)
        assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
        with running_courier("--config", site.config, log=site.log) as courier:
            courier.wait_for("message_not_delivered", seconds=60)
            until(lambda: team.accepted, "the other's message")
            status = Path(f"/proc/{courier.process.pid}/status").read_text()
            endless.answer = 200
            until(lambda: {row["status"] for row in outbox_of(site.state)} == {"delivered"}, "all to be delivered")
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        assert int(peak) * 1024 < 2 * MEMORY_BYTES
        assert len(courier.events("courier_ready")) == 1
        assert [each.title.startswith("(possible repeat) ") for each in endless.accepted] == [True]


def test_run_once_delivers_before_it_ends(tmp_path: Path) -> None:
    """Its exit code is 0 where everything was delivered, 1 where a message is still owed."""
    with http_server() as server:
        site = make_site(tmp_path, destination("team", server.url(), *NEWS))
        drop(run_of("FIRST"), site.out)
        assert modelwarden("run", "--once", "--config", site.config).returncode == 0
        assert server.titles() == [f"APPROVED 1 · REVIEW 0 · DROP 0: run 20241224_153000 ({HOST})"]
        drop(run_of("SECOND"), site.out)
        server.answer = 500
        assert modelwarden("run", "--once", "--config", site.config).returncode == 1
        assert [row["status"] for row in outbox_of(site.state)] == ["delivered", "pending"]


@pytest.mark.parametrize(("command", "code"), [(("run", "--config"), 78), (("config", "check"), 2)])
def test_url_that_is_not_understood_is_refused_by_name(tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    """Before anything starts, with the exit code of wrong settings, and without a word of the URL."""
    bad = destination("Broken One", f"nosuchservice://{SECRET}@host/{SECRET}", *NEWS)
    site = make_site(tmp_path, destination("fine", "json://127.0.0.1:9/", *NEWS), bad)
    result = modelwarden(*command, site.config)
    assert result.returncode == code
    assert "Broken One" in result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert "nosuchservice" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_courier_uses_the_settings_of_its_daemon(tmp_path: Path) -> None:
    """With `--watch` no config file counts, not even the one that $MODELWARDEN_CONFIG names, for either process."""
    site = make_site(tmp_path)
    other = tmp_path / "other.toml"
    other.write_text('state_dir = "elsewhere"\n')
    drop(run_of("ENV"), site.out)
    with http_server() as server:
        team = {"name": "team", "url": server.url(), "on": NEWS}
        env = {
            "MODELWARDEN_CONFIG": str(other),
            "MODELWARDEN_NOTIFY__DESTINATION": json.dumps([team]),
            "MODELWARDEN_INTAKE__SETTLE_SECONDS": "0.2",
        }
        result = modelwarden("run", "--once", "--watch", site.out, "--archive", site.archive, env=env)
        assert result.returncode == 0, result.stderr
        assert server.titles() == [f"APPROVED 1 · REVIEW 0 · DROP 0: run 20241224_153000 ({HOST})"]
    assert not (tmp_path / "elsewhere").exists()
