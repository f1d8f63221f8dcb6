"""The courier's metrics over HTTP: answered on this host alone, whoever asks and however slowly."""

import http.client
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import readings
from modelwarden.service import metrics_server
from modelwarden.service.metrics_server import AGAIN_SECONDS, MOST_CONNECTIONS, STILL_SECONDS, Address, MetricsServer
from modelwarden.state.reading import Messages
from processes import DEADLINE, until
from servers import unused_port


class Clock:
    """A timer that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["IPv4", "IPv6", "unix"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """Where the courier may listen."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    if request.param == "unix":
        return "metrics.sock"
    return ("::1" if request.param == "IPv6" else "127.0.0.1"), unused_port()


@pytest.fixture
def server(address: Address) -> Iterator[MetricsServer]:
    with closing(MetricsServer(address, "/a", ["team"])) as server:
        assert server.turn()
        yield server


def connected(address: Address) -> socket.socket:
    if isinstance(address, str):
        caller = socket.socket(socket.AF_UNIX)
        try:
            caller.connect(address)
        except OSError:
            caller.close()
            raise
    else:
        caller = socket.create_connection(address, DEADLINE)
    caller.settimeout(DEADLINE)
    return caller


def asked(address: Address, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    """The status and the body of an answer."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connected(address)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def samples(address: Address) -> Mapping[tuple[str, ...], float]:
    code, text = asked(address)
    assert code == 200
    return readings.samples(text, "/a", "courier")


def test_what_came_of_sends_and_what_is_owed_is_answered(server: MetricsServer, address: Address) -> None:
    """By destination and outcome; each is there with 0 before it first comes."""
    assert samples(address)["sends_total", "team", "refused"] == 0
    server.sent("team", "delivered")
    server.sent("team", "try_later")
    server.sent("team", "try_later")
    server.stand(Messages(2, 1, 1_600_000_000.0))
    found = samples(address)
    assert found["sends_total", "team", "delivered"] == 1
    assert found["sends_total", "team", "try_later"] == 2
    assert found["last_delivered_timestamp_seconds", "team"] > 1_700_000_000
    assert found["outbox_messages", "owed"] == 2
    assert found["outbox_messages", "dead"] == 1
    assert found["outbox_oldest_owed_timestamp_seconds",] == 1_600_000_000.0
    assert ("heartbeat_timestamp_seconds",) in found


def test_two_who_ask_at_once_are_both_answered(server: MetricsServer, address: Address) -> None:
    """And many in turn."""
    server.stand(Messages(0, 0, None))
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.extend(asked(address)[0] for _ in range(10))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [200] * 20


def test_slow_clients_hold_up_nobody(server: MetricsServer, address: Address) -> None:
    """More of them than there is room for: the oldest gives way, and who asks is answered."""
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(address))) for _ in range(MOST_CONNECTIONS + 3)]
        for each in slow[3:]:
            each.sendall(b"GET /metrics HTTP/1.0\r\nX-Slow: ")
        assert asked(address)[0] == 200
        assert server.turn() in {True, False}  # does not wait
        assert slow[0].recv(1) == b""  # gave way


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0\xff\xfe garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"GET /metrics?" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n",
        b"GET /metrics?name[]=" + b"&x=1" * 5_000 + b" HTTP/1.0\r\n\r\n",
        b"GET /../etc/passwd HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"",
    ],
    ids=["garbage", "no path", "version", "post", "long", "many parameters", "path", "many headers", "nothing"],
)
def test_what_a_stranger_sends_is_answered_or_dropped(
    server: MetricsServer, address: Address, request_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """No traceback, no line, and the next one is answered."""
    with closing(connected(address)) as caller:
        caller.sendall(request_bytes)
        caller.shutdown(socket.SHUT_WR)
        answer = b""
        while part := caller.recv(65_536):
            answer += part
    assert b"Traceback" not in answer
    assert not answer.startswith(b"HTTP/1.0 200") or b"modelwarden_" in answer or b"\r\n\r\n" in answer
    assert asked(address)[0] == 200
    assert capfd.readouterr() == ("", "")
    assert server.trouble == ""


def test_health_says_whether_the_courier_comes_round(address: Address) -> None:
    """503 once its loop stands still, and 404 for what there is not."""
    clock = Clock()
    with closing(MetricsServer(address, "/a", timer=clock)) as server:
        server.turn()
        assert asked(address, "/healthz") == (200, "well\n")
        clock.now += STILL_SECONDS
        assert asked(address, "/healthz?x=1") == (503, "the courier stands still\n")
        assert asked(address)[0] == 200
        server.turn()
        assert asked(address, "/healthz")[0] == 200
        assert asked(address, "/")[0] == 404


def test_prometheus_gets_the_form_it_asks_for(server: MetricsServer, address: Address) -> None:
    """OpenMetrics, to who accepts it."""
    server.stand(Messages(0, 0, None))
    code, text = asked(address, Accept="application/openmetrics-text;version=1.0.0")
    assert code == 200
    assert text.endswith("# EOF\n")


def test_address_that_is_taken_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """It costs the metrics alone; once the other one ends they are there."""
    clock = Clock()
    with closing(socket.create_server(("127.0.0.1", 0))) as other, caplog.at_level("INFO", logger="modelwarden"):
        address = other.getsockname()
        server = MetricsServer(address, "/a", timer=clock)
        for _ in range(3):
            server.turn()
            server.stand(Messages(0, 0, None))
            clock.now += AGAIN_SECONDS
        assert [record.message for record in caplog.records] == ["metrics_not_served"]
        assert f"127.0.0.1:{address[1]}" in server.trouble
    server.turn()
    with closing(server):
        assert server.trouble == ""
        assert asked(address)[0] == 200


def test_socket_of_a_courier_that_was_killed_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at which somebody listens is not, and what is no socket stays."""
    monkeypatch.chdir(tmp_path)
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind("metrics.sock")
    with closing(MetricsServer("metrics.sock", "/a")) as server:
        server.turn()
        assert asked("metrics.sock")[0] == 200
        assert stat.S_IMODE(os.stat("metrics.sock").st_mode) == 0o660
        second = MetricsServer("metrics.sock", "/a")
        second.turn()
        assert "unix:metrics.sock" in second.trouble
        second.close()
        assert asked("metrics.sock")[0] == 200
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.sock").write_text("a file", encoding="utf-8")
    third = MetricsServer("metrics.sock", "/a")
    third.turn()
    third.close()
    assert third.trouble
    assert (tmp_path / "metrics.sock").read_text(encoding="utf-8") == "a file"


def test_end_of_the_server_ends_its_thread(server: MetricsServer, address: Address) -> None:
    """And nobody is answered any more."""
    server.close()
    until(lambda: not any(each.name == "metrics" for each in threading.enumerate()), "the thread's end")
    with pytest.raises(OSError):  # noqa: PT011 - refused, or not there
        connected(address)


@pytest.mark.usefixtures("server")
def test_no_thread_left_costs_one_answer(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again is answered."""

    class NoThread:
        def __init__(self, **_: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(metrics_server, "Thread", NoThread)
        with closing(connected(address)) as caller:
            assert caller.recv(1) == b""
    assert asked(address)[0] == 200
