"""The courier's metrics over HTTP, for this host alone: `/metrics` for Prometheus, `/healthz` for who asks if it lives.

The rule: whoever connects gets the figures or nothing, however slow he is: no more than a few connections are open at
once, each on a thread of its own that touches neither the state nor a send. An address that can't be had costs the
metrics and never a message.
"""

import os
import socket
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

from prometheus_client import Counter, Gauge, MetricsHandler

from modelwarden.log import log
from modelwarden.service.metrics_export import Metrics, heartbeat, outbox
from modelwarden.state.reading import Messages

LOOK_SECONDS: Final = 5.0
"""How often the courier looks what the outbox owes, at most: while it sends, it comes round twenty times a second."""

MOST_CONNECTIONS: Final = 8
"""Open at once; the next one takes the place of the oldest, which had its time."""

PATIENCE: Final = 10.0
"""Seconds that a client may be silent."""

AGAIN_SECONDS: Final = 60.0
"""Until an address that could not be had is tried again."""

OUTCOMES: Final = ("delivered", "refused", "try_later", "perhaps_delivered")
"""What a send may come to."""

STILL_SECONDS: Final = 120.0
"""A courier that did not come round for so long is not well: with nothing to do it does each half minute."""

_GROUP_MAY: Final = 0o660
"""Connect to a socket in the file system."""

_WAITING: Final = 16
"""Connections that the kernel keeps until they are looked at."""

Address = str | tuple[str, int]
"""The path of a socket in the file system, or a host's address and a port."""


class MetricsServer:
    """The metrics of the courier, and who answers for them.

    Args:
        address: where it listens, from the first `turn` on.
        archive: see Metrics.
        destinations: what is sent to; their names are labels.
        timer: seconds that only ever grow.

    Attributes:
        metrics: what is told.
        trouble: why nobody can ask; "" while it listens, and before it tried.
    """

    def __init__(
        self,
        address: Address,
        archive: str,
        destinations: Iterable[str] = (),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics(archive, "courier")
        self.trouble = ""
        self._address = address
        self._timer = timer
        self._listener: socket.socket | None = None
        self._listen_at = float("-inf")
        self._turned_at = timer()
        self._look_at = float("-inf")
        self._lock = Lock()
        self._open: list[socket.socket] = []  # oldest first
        registry = self.metrics.counted
        self._sends = Counter(
            "modelwarden_sends",
            "Sends to a destination, by what they came to; one may stand for many messages.",
            ("destination", "outcome"),
            registry=registry,
        )
        for name in destinations:
            for outcome in OUTCOMES:
                self._sends.labels(name, outcome)  # 0 from the start: else nobody sees the first one come
        self._delivered_at = Gauge(
            "modelwarden_last_delivered_timestamp_seconds",
            "When a destination last took something, since the epoch; nothing if it did not since the start.",
            ("destination",),
            registry=registry,
        )

    def sent(self, destination: str, outcome: str) -> None:
        """A send ended."""
        self._sends.labels(destination, outcome).inc()
        if outcome == "delivered":
            self._delivered_at.labels(destination).set(time.time())

    def turn(self) -> bool:
        """The courier came round; whether `stand` is to be called."""
        now = self._turned_at = self._timer()
        if self._listener is None and now >= self._listen_at:
            self._listen_at = now + AGAIN_SECONDS
            self._listen()
        return now >= self._look_at

    def stand(self, messages: Messages | None) -> None:
        """What the outbox owes from now on."""
        self._look_at = self._timer() + LOOK_SECONDS
        self.metrics.standing = (heartbeat(), *outbox(messages))

    def is_well(self) -> bool:
        """Whether the courier comes round."""
        return self._timer() - self._turned_at < STILL_SECONDS

    def close(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends the wait of its thread
        listener.close()
        if isinstance(self._address, str):
            with suppress(OSError):
                os.unlink(self._address)

    def _listen(self) -> None:
        """Take the address; if it can't be had, say so once."""
        try:
            listener = _listener_at(self._address)
        except OSError as error:
            trouble = f"the metrics can't be asked: {_shown(self._address)}: {error.strerror or error}"
            if trouble != self.trouble:
                hint = "mend listen in [metrics], or end who else listens there (`ss -lptn`); messages are delivered"
                log.warning("metrics_not_served", address=_shown(self._address), reason=error.strerror, hint=hint)
            self.trouble = trouble
            return
        self.trouble, self._listener = "", listener
        Thread(target=self._accept, args=(listener,), name="metrics", daemon=True).start()
        log.info("metrics_served", address=_shown(self._address))

    def _accept(self, listener: socket.socket) -> None:
        """On a thread of its own: each connection gets one, and too many cost the oldest."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._listener is not listener:  # closed
                    return
                time.sleep(1.0)  # no descriptors left: there will be
                continue
            with self._lock:
                self._open.append(connection)
                if len(self._open) > MOST_CONNECTIONS:
                    with suppress(OSError):  # its thread sees the end, and closes it
                        self._open[0].shutdown(socket.SHUT_RDWR)
            try:
                Thread(target=self._answer, args=(connection,), name="scrape", daemon=True).start()
            except RuntimeError:  # no thread left: whoever asks comes again
                self._let_go(connection)

    def _answer(self, connection: socket.socket) -> None:
        try:
            _Handler(connection, self)
        except Exception as error:  # noqa: BLE001 - whatever a stranger sends or breaks off is no news
            log.debug("metrics_not_asked", reason=f"{type(error).__name__}: {error}")
        finally:
            self._let_go(connection)

    def _let_go(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.remove(connection)
        connection.close()


class _Handler(MetricsHandler):
    """One request."""

    timeout = PATIENCE
    server_version, sys_version = "modelwarden", ""

    def __init__(self, connection: socket.socket, metrics: MetricsServer) -> None:
        self.registry, self._metrics = metrics.metrics, metrics
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # there is no server, and none is asked

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        path = self.path.partition("?")[0]
        if path == "/metrics":
            super().do_GET()
        elif path == "/healthz":
            self._say(*((200, "well") if self._metrics.is_well() else (503, "the courier stands still")))
        else:
            self._say(404, "there are /metrics and /healthz")

    def _say(self, code: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _listener_at(address: Address) -> socket.socket:
    """A socket that listens there. Raises OSError if the address can't be had."""
    if isinstance(address, str):
        return _listener_in_file_system(address)
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what an earlier courier answered may linger
        listener.bind(address)
        listener.listen(_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def _listener_in_file_system(path: str) -> socket.socket:
    if _is_left_over(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, _GROUP_MAY)
        listener.listen(_WAITING)
    except OSError:
        listener.close()
        raise
    return listener


def _is_left_over(path: str) -> bool:
    """Whether a socket is there at which nobody listens: of a courier that was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(1.0)
            caller.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _shown(address: Address) -> str:
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
