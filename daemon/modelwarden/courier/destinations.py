"""Where messages go: Apprise behind one verb, and nothing of Apprise leaks out.

The rule: a URL is a secret. It is refused at start by the destination's name, and what a service or library says is
redacted before anybody else sees it.
"""

import logging
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

import apprise
from apprise.common import NotifyFormat, NotifyType

from modelwarden.courier.digest import Message
from modelwarden.errors import StopService

_TALKATIVE: Final = ("apprise", "urllib3", "requests")
_SHORTEST_SECRET: Final = 6
_MAIL: Final = frozenset({"mailto", "mailtos"})
_MASK: Final = "***"


class Sent(NamedTuple):
    """The service took the message."""


class NotSent(NamedTuple):
    """The service refused it, or could not be reached; the error is redacted."""

    error: str


class TimedOut(NamedTuple):
    """The service did not answer in time, and the attempt may still be running in this process."""

    error: str


Delivery = Sent | NotSent | TimedOut


class Destination:
    """One configured destination.

    Args:
        name: as configured.
        url: an Apprise URL.
        on: classifications and kinds that it asked for.
        symbols: shell patterns of the models that it wants to hear of.
        fallback: the destination that stands in for it, "" for none.
        fallback_after: seconds that a message may be owed until then.
        redactor: hides what may be secret; one for all destinations, since a library's log lines know no bounds.

    Raises:
        StopService: Apprise does not understand the URL; the message has the name and never the URL.
    """

    def __init__(
        self,
        name: str,
        url: str,
        on: Sequence[str],
        symbols: Sequence[str] = ("*",),
        fallback: str = "",
        fallback_after: float = 0.0,
        redactor: "Redactor | None" = None,
    ) -> None:
        self.name = name
        self.on = frozenset(on)
        self.symbols = tuple(symbols)
        self.fallback = fallback
        self.fallback_after = fallback_after
        self.redact = redactor or Redactor()
        self.redact.hide(url)
        self._service = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False, storage_mode="memory"))
        if not self._service.add(url):
            raise StopService(
                "its URL is not one that Apprise understands",
                where=f'destination "{name}"',
                hint="see Apprise's list of services for how a URL is written",
            )

        self._is_mail = url.partition("://")[0].lower() in _MAIL
        for service in self._service:
            service.request_rate_per_sec = 0.0  # Apprise would sleep inside the time of a send; the courier paces

    def send(self, message: Message, timeout: float) -> Delivery:
        """Hand the message to the service: as a page where it is mail, else as plain text declared as such."""
        as_page = bool(message.html) and self._is_mail
        result = self._service.notify(
            title=message.title,
            body=message.html if as_page else message.body,
            notify_type=NotifyType.INFO,
            body_format=NotifyFormat.HTML if as_page else NotifyFormat.TEXT,
            interpret_escapes=False,
            timeout=timeout,
        )
        said = "; ".join(dict.fromkeys(entry.message for entry in result.logs()))
        match result.status:
            case apprise.AppriseResultStatus.SUCCESS:
                return Sent()
            case apprise.AppriseResultStatus.TIMEOUT:
                return TimedOut(f"no answer within {timeout:g} s")
            case status:
                return NotSent(self.redact(said) or status.name.lower())


class Redactor:
    """Hides every part of the URLs that it was told of."""

    def __init__(self) -> None:
        self._secrets: list[str] = []

    def hide(self, url: str) -> None:
        """From now on nothing of this URL comes through."""
        self._secrets = sorted({*self._secrets, *_secrets_of(url)}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without secrets, and no longer than a log line may be."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text[:_LONGEST_ERROR]


_LONGEST_ERROR: Final = 500


def quiet_libraries() -> None:
    """Hold the loggers that print tokens where they say only what is needed, and away from standard error."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _secrets_of(url: str) -> list[str]:
    """The parts of a URL that may be secret: every piece of some length, as written and decoded, longest first."""
    pieces = {piece for part in (url, unquote(url)) for piece in re.split(r"[/:@?&=#]+", part)}
    return sorted((each for each in pieces if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)
