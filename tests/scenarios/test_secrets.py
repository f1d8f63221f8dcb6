"""A canary in every place of a URL that may hold a secret, servers that fail in every way, and nowhere a trace of it.

The rule: it may be where the operator put it (the config file, a variable of the operator's own, the wire) and nowhere
else. Each part of the canary is itself one, so that a part that comes through is found, too.
"""

import json
import os
import re
import socketserver
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from processes import (
    Daemon,
    Site,
    destination,
    drop,
    make_site,
    modelwarden,
    outbox_of,
    running_daemon,
    until,
)
from servers import HttpServer, http_server, unused_port
from summaries import BAD, GOOD, encoded, flat_summary

pytestmark = pytest.mark.delivery

CANARY = "c4nary9"
"""In every secret below, and in nothing else."""

TOKEN = f"{CANARY}A-{CANARY}B"
PASSWORD = f"{CANARY}C/{CANARY}D {CANARY}E+{CANARY}F@{CANARY}G"
WRITTEN = quote(PASSWORD, safe="")
QUERY = f"-X-Key={CANARY}H%2F{CANARY}I&+X-Token={CANARY}J"
TRACES = [
    CANARY.encode(),
    *(b64encode(f"{before}{CANARY}C".encode())[: len(before) + 8] for before in ("warden:", "\0warden\0")),
    b64encode(PASSWORD.encode())[:10],
]
"""What of it would be seen, as it is and as logins encode it."""


class _EchoingMailServer(socketserver.ThreadingTCPServer):
    """Says after every line that it does not like it, with the line."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _EchoingHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _EchoingHandler(socketserver.StreamRequestHandler):
    server: _EchoingMailServer

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            self.server.heard.append(line)
            greeting = line.upper().startswith(b"EHLO")
            self.wfile.write(b"250-here\r\n250 AUTH PLAIN LOGIN\r\n" if greeting else b"535 no: " + line)


class Leaks:
    """Watches what `ps` and who reads /proc would see, for as long as it is entered.

    Attributes:
        found: where a trace was.
        looked_at: the processes that were seen.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.looked_at: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._end.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes()
                    if b"modelwarden" not in words or process.name == str(os.getpid()):
                        continue
                    environment = (process / "environ").read_bytes()
                except OSError:  # it ended
                    continue
                self.looked_at.add(words.replace(b"\0", b" ").decode())
                own = b"MODELWARDEN_NOTIFY__DESTINATION=" in environment
                self.found |= {f"cmdline {words!r}"} if has_trace(words) else set()
                self.found |= {f"environ of {words!r}"} if has_trace(environment) and not own else set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()


def has_trace(content: bytes) -> bool:
    """Whether any of the canary is in there."""
    lowered = content.lower()
    return any(trace in content or trace.lower() in lowered for trace in TRACES)


class Scene(NamedTuple):
    """A daemon at its most talkative with its courier, and destinations each of which fails in its way."""

    site: Site
    daemon: Daemon
    leaks: Leaks
    refusing: HttpServer
    redirecting: HttpServer
    mail: _EchoingMailServer


NAMES = ("echoes", "redirects", "refused", "no such host", "no tls", "raises", "mail echoes", "mail refused")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Every destination has failed once when the first test begins, and a healthy one beside them was told."""
    with ExitStack() as stack:
        refusing, redirecting, healthy = (stack.enter_context(http_server()) for _ in range(3))
        refusing.answer, redirecting.answer = 401, 302
        redirecting.location = f"/login?from={TOKEN}&password={WRITTEN}"
        mail = stack.enter_context(_EchoingMailServer())
        threading.Thread(target=mail.serve_forever, args=(0.01,), daemon=True).start()
        stack.callback(mail.shutdown)
        login = f"warden:{WRITTEN}"
        snowman = quote(f"{CANARY}☃", safe="")  # no header can hold it: the library's library raises
        folder = tmp_path_factory.mktemp("secrets")
        (folder / "mail.url").write_text(
            f"mailto://{login}@127.0.0.1:{mail.port}?mode=insecure&from=a@example.org&to={TOKEN}@example.org"
        )
        (folder / "mail.url").chmod(0o600)
        urls = {
            "echoes": refusing.url(f"{TOKEN}/{WRITTEN}", user=login, query=QUERY),
            "redirects": redirecting.url(TOKEN, user=login, query=QUERY),
            "refused": f"json://{login}@127.0.0.1:{unused_port()}/{TOKEN}?{QUERY}",
            "no such host": f"json://{login}@{TOKEN}.invalid/{TOKEN}?{QUERY}",
            "no tls": f"jsons://{login}@127.0.0.1:{refusing.port}/{TOKEN}?{QUERY}",
            "raises": f"json://warden:{snowman}@127.0.0.1:{refusing.port}/{TOKEN}",
            "mail refused": f"mailto://{login}@127.0.0.1:{unused_port()}?mode=insecure&from=a@example.org&to=b@example.org",
        }
        site = make_site(
            folder,
            *(destination(name, url, "APPROVED") for name, url in urls.items()),
            '[[notify.destination]]\nname = "mail echoes"\nurl_file = "mail.url"\non = ["APPROVED"]\n',
            destination("healthy", healthy.url(TOKEN), "APPROVED"),
            level="debug",
        )
        leaks = stack.enter_context(watching())
        with running_daemon("--config", site.config, log=site.log) as daemon:
            drop(encoded(flat_summary({"A": GOOD, "B": BAD})), site.out)
            until(lambda: set(NAMES) <= set(failures(daemon)), f"failures of all:\n{site.log.read_text()}")
            until(lambda: healthy.accepted, "the healthy one's message")
            yield Scene(site, daemon, leaks, refusing, redirecting, mail)
            assert daemon.stop() == 0
            assert places_with_traces(site) == [], "after the end, the log folded in"


@contextmanager
def watching() -> Iterator[Leaks]:
    """Leaks, looked for."""
    leaks = Leaks()
    with leaks.watched():
        yield leaks


def failures(daemon: Daemon) -> dict[str, str]:
    """The first error of each destination that failed."""
    return {each["destination"]: each["error"] for each in reversed(daemon.events("message_not_delivered"))}


def places_with_traces(site: Site) -> list[Path]:
    """The files below the site that hold any of it, but for those that the operator wrote."""
    own = {site.config, site.folder / "mail.url"}
    return [path for path in site.folder.rglob("*") if path.is_file() and path not in own and _holds(path)]


def _holds(path: Path) -> bool:
    try:
        return has_trace(path.read_bytes())
    except FileNotFoundError:  # the courier's log was folded in meanwhile
        return False


def test_canary_went_out_to_the_servers_and_came_back(scene: Scene) -> None:
    """What follows could fail: the secrets were sent, quoted in the answers, and every failure has its own error."""
    assert any(TOKEN in request.path for request in scene.refusing.requests)
    assert any(has_trace(value.encode()) for value in scene.refusing.requests[0].headers.values())
    assert any(has_trace(line) for line in scene.mail.heard)
    errors = failures(scene.daemon)
    assert "401" in errors["echoes"]
    assert "302" in errors["redirects"]
    assert all(errors[name] for name in NAMES)
    assert len(set(errors.values())) > 3


def test_canary_is_in_no_file(scene: Scene) -> None:
    """Not in the log at its most talkative, not in the state file nor its write-ahead log, not in the archive."""
    names = {path.name for path in scene.site.state.iterdir()}
    assert {"modelwarden.sqlite", "modelwarden.sqlite-wal"} <= names
    assert {event["level"] for event in scene.daemon.events()} >= {"debug", "info", "warning"}
    assert any(row["last_error"] for row in outbox_of(scene.site.state))
    assert places_with_traces(scene.site) == []


@pytest.mark.parametrize(
    "words",
    [
        ("outbox",),
        ("outbox", "--json"),
        ("config", "show"),
        ("config", "show", "--json"),
        ("config", "check"),
        ("notify-test",),
        ("outbox", "retry"),
        ("mute", "echoes", "--for", "1h"),
        ("run",),
        ("courier",),
    ],
    ids=" ".join,
)
def test_canary_is_in_nothing_that_a_command_prints(scene: Scene, words: tuple[str, ...]) -> None:
    """Whether it asks, sends, or is refused because the daemon runs already; nor do its processes show it."""
    done = modelwarden(*words, "--config", scene.site.config)

    assert (done.stdout + done.stderr).strip()
    assert not has_trace((done.stdout + done.stderr).encode()), done.stdout + done.stderr
    if words == ("notify-test",):
        assert all(re.search(f"{name}: not (sent|known whether it was sent): ", done.stdout) for name in NAMES)
        assert "healthy: sent" in done.stdout
    assert scene.leaks.found == set()


def test_canary_is_not_to_be_seen_with_ps(scene: Scene) -> None:
    """In no process's words, and in no process's environment; the courier was among those that were seen."""
    assert any(" courier --attached " in words for words in scene.leaks.looked_at)
    assert scene.leaks.found == set()


REFUSED = {
    "no such service": f"nosuchservice://warden:{WRITTEN}@host/{TOKEN}",
    "no URL": TOKEN,
    "no host": f"json://[{TOKEN}/{WRITTEN}",
    "too few tokens": f"slack://{TOKEN}/#models",
    "no address": f"mailtos://warden:{WRITTEN}@example.com?to={TOKEN}",
    "two addresses": f"mailtos://warden:{WRITTEN}@example.com?to={TOKEN}@example.org,b@example.org",
    "two URLs": f"json://127.0.0.1/{TOKEN}, json://127.0.0.1/{TOKEN}",
    "no such mode": f"mailtos://warden:{WRITTEN}@example.com?mode={TOKEN}",
}


@pytest.mark.parametrize("kind", REFUSED)  # the URL itself would be in the name of the test, which pytest exports
def test_canary_in_a_url_that_is_refused_is_not_quoted(tmp_path: Path, kind: str) -> None:
    """By no command, from the file, from a file of its own or from the environment."""
    url = REFUSED[kind]
    site = make_site(tmp_path, destination("team", url, "APPROVED"))
    (tmp_path / "a.url").write_text(url)
    other = make_site(tmp_path / "other", '[[notify.destination]]\nname = "team"\nurl_file = "../a.url"\n')
    bare = make_site(tmp_path / "bare")
    own = {"MODELWARDEN_NOTIFY__DESTINATION": json.dumps([{"name": "team", "url": url}])}
    for words, each, env in (
        (("config", "check"), site, {}),
        (("run", "--once"), other, {}),
        (("notify-test",), bare, own),
    ):
        done = modelwarden(*words, "--config", each.config, env=env)
        assert done.returncode == 2
        assert 'destination "team"' in done.stderr
        assert not has_trace((done.stdout + done.stderr).encode()), done.stderr
        assert "Traceback" not in done.stderr


def test_canary_in_a_variable_stays_in_it(tmp_path: Path) -> None:
    """The operator chose the environment: it is in no argument, file, log or message of a process that has it."""
    with http_server() as server, watching() as leaks:
        server.answer = 401
        site = make_site(tmp_path, level="debug")
        own = [{"name": "team", "url": server.url(TOKEN, user=f"warden:{WRITTEN}"), "on": ["APPROVED"]}]
        env = {"MODELWARDEN_NOTIFY__DESTINATION": json.dumps(own)}
        with running_daemon("--config", site.config, log=site.log, env=env) as daemon:
            drop(encoded(flat_summary({"A": GOOD})), site.out)
            daemon.wait_for("message_not_delivered")
            assert places_with_traces(site) == []
            assert daemon.stop() == 0
        assert server.requests
        assert leaks.found == set()
        assert places_with_traces(site) == []
