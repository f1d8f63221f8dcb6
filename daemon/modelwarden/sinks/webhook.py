"""The webhook sink: one event a request, as CloudEvents 1.0 in structured mode over HTTPS, signed.

The rule: a receiver can tell who sent a request, when, and that nothing was changed; see `signature_of`. A secret or
a URL is told to nobody, and a redirect is not followed: it would take both elsewhere.
"""

import hashlib
import hmac
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from modelwarden.errors import StopService
from modelwarden.sinks.announcing import Asked, CloudEvent, Target, encoded
from modelwarden.sinks.protocol import (
    ONE_AT_A_TIME,
    Delivered,
    Delivery,
    PerhapsDelivered,
    Refused,
    TryLater,
)
from modelwarden.sinks.redactor import Redactor

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
SIGNATURE: Final = "Modelwarden-Signature"

SHORTEST_SECRET: Final = 16
"""Characters."""

_AGAIN: Final = frozenset({408, 429})
"""The answers below 500 that say that a later try may be taken."""

_OF_GATEWAYS: Final = frozenset({502, 504})
"""A gateway handed the request on and got no answer, or none that it could read: who stands behind it may have it."""


class Webhook(Target):
    """A receiver.

    Args:
        asked: what the settings say.
        url: https://, or http:// to this host.
        secret: what requests are signed with.
        redactor: hides what may be secret.
        clock: seconds since the epoch.

    Raises:
        StopService: the URL is no such URL, or the secret is too short; neither is told.
    """

    bundling = ONE_AT_A_TIME

    def __init__(
        self, asked: Asked, url: str, secret: str, redactor: Redactor, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(asked)
        redactor.hide(url)
        self._redactor = redactor
        self._url = url
        self._secret = secret.encode()
        self._clock = clock
        self._insist(url, secret)
        for name in ("urllib3", "urllib3.connectionpool"):  # at DEBUG they say paths, which hold tokens
            logging.getLogger(name).setLevel(logging.ERROR)
        self._pool = urllib3.PoolManager(retries=False)

    def _insist(self, url: str, secret: str) -> None:
        where = f'destination "{self.name}"'
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if parts.scheme not in {"http", "https"} or not host or not url.isascii() or not url.isprintable():
            raise StopService("its URL is not one of HTTPS", where=where, hint="write it as https://host/path")
        if parts.scheme == "http" and not _is_this_host(host):
            raise StopService(
                "its URL is http://, so everybody on the way could read and change what is sent",
                where=where,
                hint="write https://; http:// is for this host alone",
            )
        if "@" in parts.netloc:
            raise StopService("its URL names a user", where=where, hint="a request is signed, and needs none")
        if len(secret) < SHORTEST_SECRET:
            raise StopService(
                f"its secret is shorter than {SHORTEST_SECRET} characters",
                where=where,
                hint="make one: `openssl rand -hex 32`",
            )

    def send(self, events: Sequence[CloudEvent], seconds: float) -> Delivery:
        """Post the one event."""
        (event,) = events
        body = encoded(event)
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": "modelwarden",
            SIGNATURE: signature_of(body, self._secret, int(self._clock())),
        }
        timeout = urllib3.Timeout(total=max(0.001, seconds))
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=timeout,
                preload_content=False,  # the status says it all, and a body may never end
            )
        except HTTPError as error:
            said = self.redact(f"{type(error).__name__}: {error}")
            return TryLater(said) if _was_not_taken(error) else PerhapsDelivered(said)
        status, retry_after = answer.status, answer.headers.get("Retry-After", "")
        answer.close()
        return self._outcome(status, retry_after)

    def address(self) -> tuple[str, int] | None:
        """The receiver's."""
        parts = urlsplit(self._url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self._redactor(text)

    def _outcome(self, status: int, retry_after: str) -> Delivery:
        if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own classes
            return Delivered()
        said = f"it answered {status}"
        if status < 200 or status in _OF_GATEWAYS:  # noqa: PLR2004
            return PerhapsDelivered(said)
        if 300 <= status < 400:  # noqa: PLR2004
            return TryLater(f"{said}, a redirect, which is not followed: mend its URL")
        if 400 <= status < 500 and status not in _AGAIN:  # noqa: PLR2004
            return Refused(said)
        return TryLater(said, _pause(retry_after, self._clock()))


def signature_of(body: bytes, secret: bytes, at: int) -> str:
    """The header's value: `t=` seconds since the epoch, and `v1=` the HMAC-SHA256 of `{t}.{body}` as hex digits."""
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _pause(retry_after: str, now: float) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 if it can't be read."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _was_not_taken(error: HTTPError) -> bool:
    """Whether no request can have reached the receiver: all else leaves that open."""
    if isinstance(error, SSLError):
        return any(isinstance(each, ssl.SSLCertVerificationError) for each in (*error.args, error.__cause__))
    return isinstance(error, NewConnectionError | ConnectTimeoutError)


def _is_this_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
