"""Loopback servers for tests: HTTP with answers to choose, and SMTP; both keep what arrives."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Answer(Enum):
    """How a server misbehaves; a plain number is a status that it answers with."""

    HANG = auto()  # reads the request, says nothing until `release`
    TRICKLE = auto()  # a byte of the answer at a time, never the end of it
    CLOSE = auto()  # reads the request and hangs up
    ENDLESS = auto()  # takes it, and its answer has no end


class Posted(NamedTuple):
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = 0.0  # seconds since the epoch

    @property
    def title(self) -> str:
        """The message's title, as Apprise's `json://` sends it."""
        return str(json.loads(self.body)["title"])

    @property
    def text(self) -> str:
        """The message's text."""
        return str(json.loads(self.body)["message"])


Answering = int | Answer | Callable[[Posted], int | Answer]
"""What a request gets; a function finds it for each."""


class HttpServer:
    """An HTTP server on loopback.

    Args:
        listener: the socket on which it listens; one of its own where there is none.
        tls: what it speaks HTTPS with; None for HTTP.

    Attributes:
        answer: what every request gets from now on.
        tls: what the next connection is taken with.
        location: the Location header of a redirect.
        headers: more headers of what is answered.
        says: the body of what is answered; b"" quotes the request back.
        requests: everything that arrived, whatever was answered.
        accepted: what was answered with 200.
        released: set, it lets the requests go that hang; they are closed without an answer.
    """

    def __init__(self, listener: socket.socket | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answering = 200
        self.tls = tls
        self.location = "/elsewhere"
        self.headers: dict[str, str] = {}
        self.says = b""
        self.requests: list[Posted] = []
        self.accepted: list[Posted] = []
        self.released = threading.Event()
        self._open = 0
        self._lock = threading.Lock()
        self._server = _Server(self, listener)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def url(self, path: str = "hook", *, user: str = "", query: str = "") -> str:
        """The Apprise URL that leads here."""
        return f"json://{user}{'@' if user else ''}127.0.0.1:{self.port}/{path}{'?' if query else ''}{query}"

    @property
    def is_idle(self) -> bool:
        """Whether every connection that was taken has ended."""
        return self._open == 0

    def count(self, connections: int) -> None:
        """So many more are open."""
        with self._lock:
            self._open += connections

    def titles(self) -> list[str]:
        """The titles of what was accepted, in the order of arrival."""
        return [each.title for each in self.accepted]

    def close(self) -> None:
        """Stop listening."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def take(self) -> None:
        outer = self.server.outer
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # its sender is gone: no service acts on half a request
            self.close_connection = True
            return
        posted = Posted(self.command, self.path, dict(self.headers), body, time.time())
        answer = outer.answer
        if callable(answer):
            answer = answer(posted)
        if answer == 200:
            outer.accepted.append(posted)
        outer.requests.append(posted)
        self.close_connection = True
        match answer:
            case Answer.HANG:
                outer.released.wait()
            case Answer.TRICKLE:
                self._trickle()
            case Answer.CLOSE:
                return
            case Answer.ENDLESS:
                self._say_endlessly()
            case int(status):
                self._say(status, posted)

    def _trickle(self) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"." * 10_000:
            self.wfile.write(bytes([byte]))
            if self.server.outer.released.wait(0.02):
                return

    def _say_endlessly(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.server.outer.released.is_set():
            self.wfile.write(bytes(2**20))

    def _say(self, status: int, posted: Posted) -> None:
        # A service that quotes the request back is what brings secrets into error texts.
        quoted = self.server.outer.says or f"no such hook: {posted.path} {posted.headers}".encode()
        self.send_response(status, f"Refused {posted.path}" if status >= 400 else None)
        if 300 <= status < 400:
            self.send_header("Location", self.server.outer.location)
        for name, value in self.server.outer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(quoted)))
        self.end_headers()
        self.wfile.write(quoted)

    do_GET = do_POST = take  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, outer: HttpServer, listener: socket.socket | None) -> None:
        self.outer = outer
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=listener is None)
        if listener is not None:
            self.socket.close()
            self.socket = listener
            self.server_port = listener.getsockname()[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; the handshake is the handler's, so that it holds up nobody else's."""
        connection, address = super().get_request()
        if self.outer.tls is not None:
            connection = self.outer.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the connection to a thread of its own."""
        self.outer.count(1)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End the connection."""
        super().shutdown_request(request)
        self.outer.count(-1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is part of the test."""


@contextmanager
def http_server(listener: socket.socket | None = None, tls: ssl.SSLContext | None = None) -> Iterator[HttpServer]:
    """An HTTP server that is closed at the end."""
    server = HttpServer(listener, tls)
    try:
        yield server
    finally:
        server.close()


class SmtpServer:
    """An SMTP server on loopback that wants a login and keeps every mail.

    Attributes:
        mails: as they arrived, parsed.
        recipients: of each mail, as the sender named them to the server.
        logins: user and password of each login.
        thinks: seconds that it looks at a mail before it takes it.
        says_goodbye: whether it answers QUIT.
    """

    def __init__(self) -> None:
        self.thinks = 0.0
        self.says_goodbye = True
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[tuple[str, str]] = []
        self._controller = _Controller(
            self,
            hostname="127.0.0.1",
            port=0,
            authenticator=self._authenticate,
            auth_require_tls=False,
        )
        self._controller.start()
        self.port = int(self._controller.port)

    def url(self, password: str, to: str = "team@example.org") -> str:
        """The Apprise URL that leads here, without TLS."""
        sender = "modelwarden@example.org"
        return f"mailto://warden:{password}@127.0.0.1:{self.port}?mode=insecure&from={sender}&to={to}"

    def close(self) -> None:
        """Stop listening."""
        self._controller.stop()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep a mail; called by aiosmtpd."""
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(list(envelope.rcpt_tos))
        await asyncio.sleep(self.thinks)
        return "250 taken"

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - likewise
        """Say goodbye, or nothing."""
        if not self.says_goodbye:
            await asyncio.Event().wait()  # until the client is gone
        return "221 goodbye"

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: object
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        self.logins.append((login.login.decode(), login.password.decode()))
        return AuthResult(success=True)


class _Controller(Controller):
    def _trigger_server(self) -> None:
        server = self.server
        assert server is not None
        self.port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@contextmanager
def smtp_server() -> Iterator[SmtpServer]:
    """An SMTP server that is closed at the end."""
    server = SmtpServer()
    try:
        yield server
    finally:
        server.close()


def unused_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
