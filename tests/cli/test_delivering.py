"""`outbox`, `mute` and `notify-test`: what a person sees and does about messages, with real servers behind them."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from answers import answer
from commands import command
from processes import Site, clean_environment, destination, drop, make_site, modelwarden, outbox_of, running_daemon
from rigs.launching import without_the_rights_of_root
from servers import Answer, HttpServer, http_server, unused_port
from summaries import encoded, flat_summary

SECRET = "c4nary-s3cret-t0ken"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that takes everything."""
    with http_server() as server:
        yield server


def owing(folder: Path, server: HttpServer, *more: str) -> Site:
    """A site whose run is owed to `team` and was not sent yet."""
    site = make_site(folder, destination("team", server.url(SECRET), "APPROVED", "REJECTED"), *more)
    drop(encoded(flat_summary()), site.out)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    return site


def test_outbox_lists_what_is_owed_since_when_and_why(tmp_path: Path, server: HttpServer) -> None:
    """For a person a row a message, for a script JSON; and never the URL."""
    server.answer = 500
    site = owing(tmp_path, server)
    modelwarden("courier", "--drain", "--config", site.config)

    shown = modelwarden("outbox", "--config", site.config)
    (row,) = json.loads(modelwarden("outbox", "--json", "--config", site.config).stdout)["messages"]

    assert shown.returncode == 0
    assert "team" in shown.stdout
    assert "20241224_153000" in shown.stdout
    assert "500" in shown.stdout
    assert SECRET not in shown.stdout + str(row)
    assert (row["destination"], row["status"], row["attempts"]) == ("team", "pending", 1)


@pytest.mark.delivery
def test_outbox_with_nothing_owed_says_so(tmp_path: Path, server: HttpServer) -> None:
    """No empty table."""
    site = make_site(tmp_path, destination("team", server.url(), "APPROVED"))
    assert modelwarden("run", "--once", "--config", site.config).returncode == 0

    assert modelwarden("outbox", "--config", site.config).stdout == "nothing is owed\n"


def test_dead_message_that_is_tried_again_arrives(tmp_path: Path, server: HttpServer) -> None:
    """`retry` without an id revives all that are dead, with a new deadline."""
    site = owing(tmp_path, server, "[notify]\ndeadline_hours = 0.0000001")
    server.answer = 500
    modelwarden("courier", "--drain", "--config", site.config)
    assert [row["status"] for row in outbox_of(site.state)] == ["dead"]
    server.answer = 200

    retried = modelwarden("outbox", "retry", "--config", site.config)

    assert (retried.returncode, retried.stdout) == (0, "1 message will be tried again\n")
    assert modelwarden("courier", "--drain", "--config", site.config).returncode == 0
    assert len(server.accepted) == 1


def test_dropped_message_is_not_sent(tmp_path: Path, server: HttpServer) -> None:
    """By its id, and once."""
    site = owing(tmp_path, server)
    (row,) = outbox_of(site.state)

    dropped = modelwarden("outbox", "drop", str(row["id"]), "--config", site.config)

    assert (dropped.returncode, dropped.stdout) == (0, "1 message dropped\n")
    assert modelwarden("outbox", "drop", str(row["id"]), "--config", site.config).returncode == 1
    modelwarden("courier", "--drain", "--config", site.config)
    assert server.requests == []


@pytest.mark.delivery
def test_mute_holds_messages_back_and_its_end_lets_them_go(tmp_path: Path, server: HttpServer) -> None:
    """The night is quiet, and in the morning it is all there."""
    site = owing(tmp_path, server)

    muted = modelwarden("mute", "team", "--for", "2h", "--config", site.config)
    assert muted.returncode == 0
    assert "team is mute until" in muted.stdout
    shown = modelwarden("outbox", "--config", site.config).stdout
    assert "team is mute until" in shown
    assert "in 2h" in shown
    modelwarden("courier", "--drain", "--config", site.config)
    assert server.requests == []

    assert modelwarden("mute", "team", "--for", "0", "--config", site.config).stdout == "team hears all again\n"
    modelwarden("courier", "--drain", "--config", site.config)
    assert len(server.accepted) == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("mute", "tea", "--for", "2h"), "no destination is called 'tea'"),
        (("mute", "team", "--for", "soon"), "give a time"),
        (("mute", "team", "--for", "99999999d"), "give a time of at most 36500d"),
    ],
)
def test_mute_of_what_is_not_there_or_for_no_time_is_refused(
    tmp_path: Path, server: HttpServer, arguments: tuple[str, ...], what: str
) -> None:
    """With what would be right."""
    site = make_site(tmp_path, destination("team", server.url(), "APPROVED"))

    result = modelwarden(*arguments, "--config", site.config)

    assert result.returncode == 2
    assert what in result.stderr


def test_notify_test_sends_a_marked_message_and_says_what_came_of_it(tmp_path: Path, server: HttpServer) -> None:
    """Each destination its own line; the exit code is for scripts; the URL is never shown."""
    broken = destination("broken", f"json://127.0.0.1:{unused_port()}/{SECRET}", "APPROVED")
    site = make_site(tmp_path, destination("team", server.url(SECRET), "APPROVED"), broken)

    both = modelwarden("notify-test", "--config", site.config)
    one = modelwarden("notify-test", "team", "--config", site.config)

    assert (both.returncode, one.returncode) == (1, 0)
    assert "team: sent" in both.stdout
    assert "broken: not sent" in both.stdout
    assert one.stdout == "team: sent, and taken by the service\n"
    assert [message.title for message in server.accepted] == ["TEST from modelwarden"] * 2
    assert SECRET not in both.stdout + both.stderr


def test_notify_test_without_a_destination_says_what_to_do(tmp_path: Path) -> None:
    """Nothing to test is an answer, too."""
    result = modelwarden("notify-test", "--config", make_site(tmp_path).config)

    assert result.returncode == 2
    assert "no destination to test" in result.stderr


def test_url_comes_from_a_file_or_a_credential(tmp_path: Path, server: HttpServer) -> None:
    """Kept apart from the settings, for who may not read both."""
    (tmp_path / "hook.url").write_text(f"{server.url(SECRET)}\n")
    tables = [
        '[[notify.destination]]\nname = "file"\nurl_file = "hook.url"\n',
        '[[notify.destination]]\nname = "credential"\nurl_credential = "hook.url"\n',
    ]
    site = make_site(tmp_path, *tables)

    result = modelwarden("notify-test", "--config", site.config, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert result.returncode == 0, result.stdout + result.stderr
    assert len(server.accepted) == 2


@pytest.mark.delivery
@pytest.mark.parametrize(
    ("table", "what"),
    [
        ('url_file = "missing.url"', "can't be read from"),
        ('url_file = "empty.url"', "is empty"),
        ('url_credential = "hook"', "there are none"),
        (f'url = "nosuch://{SECRET}"', "not one that Apprise understands"),
    ],
)
def test_url_that_cant_be_had_is_named_by_its_destination(tmp_path: Path, table: str, what: str) -> None:
    """At `config check` and at the start alike; never the URL itself."""
    (tmp_path / "empty.url").write_text("\n")
    site = make_site(tmp_path, f'[[notify.destination]]\nname = "team"\n{table}\n')

    checked = modelwarden("config", "check", site.config)
    started = modelwarden("run", "--once", "--config", site.config)

    for result in (checked, started):
        assert result.returncode == 2
        assert 'destination "team"' in result.stderr
        assert what in result.stderr
        assert SECRET not in result.stderr


@pytest.mark.delivery
def test_silence_of_a_folder_is_announced_once_and_its_end_once(tmp_path: Path, server: HttpServer) -> None:
    """A trainer that died leaves no file; over restarts it is still one message each."""
    watch = '[[watch]]\npath = "out"\nexpect_every = "1s"\n'
    site = make_site(tmp_path, destination("team", server.url(), "PROBLEM"), watch=watch)
    for _ in range(2):
        with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
            if not outbox_of(site.state):
                daemon.wait_for("summaries_missing")
            daemon.stop()
    assert [row["event"].split(":")[1] for row in outbox_of(site.state)] == ["silence"]

    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("summaries_again")
        daemon.stop()

    first, second = (row["payload"] for row in outbox_of(site.state)[:2])
    assert first.startswith(f"no summary in {site.out} since")
    assert second.startswith(f"summaries come again in {site.out}")


@pytest.mark.parametrize("words", [("outbox",), ("outbox", "--json"), ("verify", "--json"), ("reindex",)], ids=" ".join)
def test_state_file_that_is_damaged_is_said_in_one_sentence(
    tmp_path: Path, server: HttpServer, words: tuple[str, ...]
) -> None:
    """What it is and what to do; no half of a document."""
    site = owing(tmp_path, server)
    file = site.state / "modelwarden.sqlite"
    with closing(sqlite3.connect(file)) as state:
        (size,) = state.execute("PRAGMA page_size").fetchone()
        about = "tbl_name = 'outbox'" if "outbox" in words else "tbl_name IN ('outbox', 'all_runs')"
        pages = [page for (page,) in state.execute(f"SELECT rootpage FROM sqlite_master WHERE rootpage AND {about}")]
    with file.open("r+b") as stream:
        for page in pages:
            stream.seek((page - 1) * size)
            stream.write(b"\xff" * size)

    done = modelwarden(*words, "--config", site.config)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("modelwarden: ")
    assert "malformed" in done.stderr
    assert "move it away: it is made again from the archive" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("policies", ["'[1'", "'{\"gates\": 7}'", "NULL"])
@pytest.mark.parametrize("words", [("verify",), ("reindex",)], ids=" ".join)
def test_policy_that_is_damaged_in_the_state_file_is_damage_of_the_file(
    tmp_path: Path, server: HttpServer, words: tuple[str, ...], policies: str
) -> None:
    """SQLite reads the row, and there is no policy in it: told as what SQLite itself can't read."""
    site = owing(tmp_path, server)
    with closing(sqlite3.connect(site.state / "modelwarden.sqlite")) as state, state:
        if policies == "NULL":
            state.execute("DELETE FROM policies")
        else:
            state.execute(f"UPDATE policies SET thresholds = {policies}")

    done = modelwarden(*words, "--config", site.config)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("modelwarden: the state file modelwarden.sqlite is damaged")
    assert "move it away: it is made again from the archive" in done.stderr


@pytest.mark.parametrize(
    "words", [("outbox",), ("outbox", "retry"), ("mute", "team", "--for", "2h"), ("courier",)], ids=" ".join
)
def test_state_folder_that_is_closed_to_who_asks_is_not_called_empty(
    tmp_path: Path, server: HttpServer, words: tuple[str, ...]
) -> None:
    """It is the service's user's: nobody may look for settings that are right, and no courier wait for a daemon."""
    site = owing(tmp_path, server)
    program = (*without_the_rights_of_root(), sys.executable, "-P", "-m", "modelwarden")
    site.state.chmod(0)
    try:
        done = subprocess.run(
            [*program, *words, "--config", site.config],
            env=clean_environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    finally:
        site.state.chmod(0o700)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"modelwarden: {site.state}: no right to look there: run this as the service's user\n"


@pytest.mark.parametrize(
    "words", [("outbox",), ("outbox", "retry"), ("outbox", "drop", "1"), ("mute", "team", "--for", "2h")]
)
def test_command_about_a_daemon_that_never_ran_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A state file of root's would keep the service out, and one in the wrong place says that nothing is owed."""
    site = make_site(tmp_path, destination("team", "json://127.0.0.1:9", "APPROVED"))

    result = modelwarden(*words, "--config", site.config)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"modelwarden: {site.state}: no state file there")
    assert "--config" in result.stderr
    assert not site.archive.exists()


def test_outbox_at_eighty_columns_keeps_each_message_on_a_line(tmp_path: Path, server: HttpServer) -> None:
    """Errors stand below, whole, once a destination; what has no destination any more or is dead says what to do."""
    server.answer = 500
    more = [destination("on call", f"json://127.0.0.1:{unused_port()}/{SECRET}", "APPROVED", "DROP")]
    site = owing(tmp_path, server, *more, "[notify]\ndigest_above = 1")  # so that one send fails for two rows
    drop(encoded(flat_summary(timestamp="20250101_000000", run_name="two")), site.out, "two.json")
    modelwarden("run", "--once", "--no-courier", "--config", site.config)
    modelwarden("courier", "--drain", "--config", site.config)
    make_site(tmp_path, more[0])
    environment = {"COLUMNS": "80", "TERM": "dumb", "TTY_COMPATIBLE": "1"}

    shown = modelwarden("outbox", "--config", site.config, env=environment)

    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    assert max(map(len, lines[:6])) <= 80
    rows = [line.split() for line in lines if "pending" in line]
    assert [(row[0], row[-1]) for row in rows if "team" in row] == [("1", "-"), ("3", "-")]
    assert sum("20241224_153000" in line for line in lines) == sum("20250101_000000" in line for line in lines) == 2
    on_call, team = (line for line in lines if line.startswith(("team: ", "on call: ")))
    assert team.endswith("error=500.")
    assert "Connection refused" in on_call
    assert any(line.startswith("team is not in the settings") for line in lines)
    assert SECRET not in shown.stdout


def test_outbox_says_what_to_do_about_the_dead(tmp_path: Path, server: HttpServer) -> None:
    """The two commands, where there is something for them to do."""
    site = owing(tmp_path, server, "[notify]\ndeadline_hours = 0.0000001")
    server.answer = 500
    modelwarden("courier", "--drain", "--config", site.config)
    shown = modelwarden("outbox", "--config", site.config)
    assert "`modelwarden outbox retry` revives it" in shown.stdout
    as_json = modelwarden("outbox", "--json", "--config", site.config)
    assert json.loads(as_json.stdout)["messages"][0]["status"] == "dead"
    assert (shown.returncode, as_json.returncode) == (1, 1), "a message was given up"

    dropped = modelwarden("outbox", "drop", "1", "--config", site.config)
    assert dropped.returncode == 0
    assert modelwarden("outbox", "--config", site.config).returncode == 0


def test_outbox_shows_as_many_as_are_asked_for_and_counts_the_rest(tmp_path: Path, server: HttpServer) -> None:
    """The dead first; fifty unless told otherwise; all of them for a script."""
    site = owing(tmp_path, server)
    with closing(sqlite3.connect(site.state / "modelwarden.sqlite", isolation_level=None)) as connection:
        connection.executemany(
            "INSERT INTO outbox (event, destination, kind, payload, status, created_at, next_at, deadline) "
            "VALUES (?, ?, 'PROBLEM', 'x', ?, 1, 1, 9e9)",
            [(f"problem:{number}", "team", "dead" if number == 99 else "pending") for number in range(100)],
        )
    shown, few, script = (
        modelwarden("outbox", *words, "--config", site.config) for words in ((), ("--limit", "2"), ("--json",))
    )
    assert "… and 51 more" in shown.stdout
    assert "team: 100 pending" in shown.stdout
    assert shown.stdout.index("dead") < shown.stdout.index("pending")
    assert few.stdout.count("PROBLEM") + few.stdout.count("20241224_153000") == 2
    assert len(json.loads(script.stdout)["messages"]) == 101
    assert [each.returncode for each in (shown, few, script)] == [1, 1, 1]


@pytest.mark.delivery
def test_retry_with_nothing_dead_says_how_to_hurry_what_waits(tmp_path: Path, server: HttpServer) -> None:
    """Exit code 1, and how many there are to choose from; by its id a pending one is due at once."""
    server.answer = 500
    site = owing(tmp_path, server)
    modelwarden("courier", "--drain", "--config", site.config)

    none = modelwarden("outbox", "retry", "--config", site.config)
    one = modelwarden("outbox", "retry", "1", "--config", site.config)

    assert (none.returncode, none.stdout) == (1, "no message is dead; 1 pending: name an ID to try one at once\n")
    assert (one.returncode, one.stdout, one.stderr) == (0, "1 message will be tried again\n", "")
    assert " due" in modelwarden("outbox", "--config", site.config).stdout


@pytest.mark.delivery
@pytest.mark.parametrize("command", ["retry", "drop"])
def test_id_that_does_not_fit_is_named_with_the_reason(tmp_path: Path, server: HttpServer, command: str) -> None:
    """Unknown, delivered, under way: each says which; the others are done, and the exit code is 1."""
    site = owing(tmp_path, server)
    assert modelwarden("courier", "--drain", "--config", site.config).returncode == 0
    drop(encoded(flat_summary(timestamp="20250101_000000")), site.out, "two.json")
    drop(encoded(flat_summary(timestamp="20250102_000000")), site.out, "three.json")
    modelwarden("run", "--once", "--no-courier", "--config", site.config)
    with closing(sqlite3.connect(site.state / "modelwarden.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE outbox SET status = 'sending' WHERE id = 3")

    result = modelwarden("outbox", command, "1", "2", "3", "99", "--config", site.config)

    assert result.returncode == 1
    assert result.stdout.startswith("1 message ")
    assert result.stderr.splitlines() == [
        "modelwarden: 1 is delivered already",
        "modelwarden: 3 is being sent right now: wait for what comes of it",
        "modelwarden: 99 is no message's id: `modelwarden outbox` lists them",
    ]
    assert outbox_of(site.state)[2]["status"] == "sending"


def test_notify_test_remarks_on_mail_that_goes_unencrypted(tmp_path: Path) -> None:
    """Before it is sent, by name; `.invalid` is nowhere."""
    url = f"mailto://warden:{SECRET}@mail.invalid?to=a@example.org"
    site = make_site(tmp_path, destination("desk", url, "APPROVED"))
    result = modelwarden("notify-test", "--config", site.config)
    assert result.stderr.startswith('modelwarden: destination "desk": its mail and its password cross the network')
    assert SECRET not in result.stdout + result.stderr


def test_notify_test_says_why_a_connection_failed(tmp_path: Path) -> None:
    """Refused is another thing to mend than a wrong name."""
    site = make_site(tmp_path, destination("gone", f"json://127.0.0.1:{unused_port()}/{SECRET}", "APPROVED"))
    result = modelwarden("notify-test", "--config", site.config)
    assert "Connection refused" in result.stdout
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize("words", [("notify-test",), ("doctor", "--send")], ids=" ".join)
@pytest.mark.parametrize("kind", ["chat", "webhook"])
def test_test_message_to_a_server_that_never_ends_its_answer_has_an_end(
    tmp_path: Path, server: HttpServer, kind: str, words: tuple[str, ...]
) -> None:
    """A byte at a time is no silence, so no socket times out; who asked has an answer all the same, and the prompt."""
    server.answer = Answer.TRICKLE
    table = destination("team", server.url(SECRET), "APPROVED")
    if kind == "webhook":
        url = f"http://127.0.0.1:{server.port}/{SECRET}"
        table = destination("team", url, "APPROVED") + f'kind = "webhook"\nsecret = "{SECRET}"\n'
    site = make_site(tmp_path, table, "[notify]\nsend_timeout_seconds = 1\n")
    result = modelwarden(*words, "--config", site.config)
    assert result.returncode == 1
    assert "team" in result.stdout
    assert " 1 s" in result.stdout
    assert SECRET not in result.stdout + result.stderr


def test_retry_and_drop_tell_as_data_what_could_not_be_done(tmp_path: Path, server: HttpServer) -> None:
    """Each that was named and does not fit, with why; exit code 1, and still one document."""
    site = owing(tmp_path, server)
    where = ("--config", site.config)
    assert answer("outbox retry", *where, code=1)["retried"] == 0
    assert answer("outbox retry", "1", *where) == {"schema_version": 1, "retried": 1, "refused": []}
    found = answer("outbox drop", "1", "99", *where, code=1)
    assert found["dropped"] == 1
    (refused,) = found["refused"]
    assert (refused["id"], refused["status"], refused["what"]) == (99, None, "is no message's id")
    (refused,) = answer("outbox drop", "1", *where, code=1)["refused"]
    assert (refused["id"], refused["what"]) == (1, "is suppressed already")


def test_mute_tells_as_data_until_when(tmp_path: Path, server: HttpServer) -> None:
    """And null once it has ended."""
    site = owing(tmp_path, server)
    where = ("--config", site.config)
    muted = answer("mute", "team", "--for", "2h", *where)
    assert muted["destination"] == "team"
    assert datetime.fromisoformat(muted["muted_until"]) > datetime.now(UTC)
    assert answer("mute", "team", "--for", "0", *where)["muted_until"] is None


def test_notify_test_tells_as_data_what_came_of_each(tmp_path: Path, server: HttpServer) -> None:
    """In the words of the figures; what went wrong without the URL; a warning on standard error."""
    broken = destination("broken", f"json://127.0.0.1:{unused_port()}/{SECRET}", "APPROVED")
    site = make_site(tmp_path, destination("team", server.url(SECRET), "APPROVED"), broken)
    taken, failed = answer("notify-test", "--config", site.config, code=1)["destinations"]
    assert taken == {"destination": "team", "outcome": "delivered", "last_error": None}
    assert (failed["destination"], failed["outcome"]) == ("broken", "try_later")
    assert "Connection refused" in failed["last_error"]
    assert SECRET not in str(failed)


def test_options_before_the_name_of_a_groups_command_are_its_own(tmp_path: Path, server: HttpServer) -> None:
    """`outbox --json --config FILE drop 1`: not these settings and no table would be a surprise."""
    site = owing(tmp_path, server)
    done = command("outbox", "--json", "--config", site.config, "drop", "1")
    assert (done.code, json.loads(done.out)["dropped"], done.err) == (0, 1, "")
    assert [row["status"] for row in outbox_of(site.state)] == ["suppressed"]
