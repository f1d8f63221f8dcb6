"""Where messages go: Apprise behind one verb, and nothing of Apprise leaks out.

The rule: a URL is a secret. It is refused at start by the destination's name, and what a service or library says is
redacted before anybody else sees it.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import apprise
from apprise.attachment.memory import AttachMemory
from apprise.common import NotifyFormat, NotifyType
from apprise.plugins import url_to_dict
from apprise.utils.parse import parse_emails

from modelwarden.errors import StopService
from modelwarden.sinks.chat.digest import PICTURE_FILE, Message
from modelwarden.sinks.chat.document import render_html
from modelwarden.sinks.protocol import Delivered, Delivery, PerhapsDelivered, TryLater
from modelwarden.sinks.redactor import Redactor

_TALKATIVE: Final = ("apprise", "urllib3", "requests", "matplotlib")
_SAID: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
"""The levels of what a person is told; Apprise's other lines hold payloads."""

_LOST: Final = "Socket Exception: "
"""How Apprise's debug line begins if an exception ended a send; an answer that refuses raises none."""

_NOT_TAKEN: Final = re.compile(
    r"Connection refused|Failed to establish|NameResolution|name resolution|getaddrinfo|Name or service not known"
    r"|No address associated|No route to host|Network is unreachable|ConnectTimeout|CERTIFICATE_VERIFY_FAILED"
    # The status of an HTTP answer, as Apprise's warnings have it; not of one before the answer, nor of a gateway's.
    r"|\berror=(?!502|504)[2-9]\d\d\b"
    r"|extension not supported"  # of a mail server, for TLS or a login
    rf"|^{_LOST}(\(\d{{3}},|\{{)"  # smtplib shows the server's own answer: (554, b'no') or {recipient: (550, b'no')}
)
"""What shows that nothing was taken. All else leaves that open: to doubt too much repeats no message."""

_CAUSE: Final = re.compile(r"\w+ Exception: (?:.*\(Caused by (.+)\)|(.+))", re.DOTALL)
"""An exception's line, with what it says at last."""

_US: Final = "modelwarden"
"""Who writes, as a service shows it."""

_SIGNED: Final = frozenset({"pgp", "wkd"})
"""Of a mail's URL: what has it signed or encrypted, which is Apprise's business."""

_CALL: Final = re.compile(
    r"(?<!\w)@"  # a person or a group, in most chats
    r"|@(?=(?:everyone|here|channel|all)\b)"  # Discord calls all, whatever stands before
    r"|<(?=at\b)",  # in Lark
    re.IGNORECASE,
)
"""What calls people in a chat's text; nobody in Slack, whose own form Apprise escapes."""

_BROKER: Final = frozenset({"mqtt", "mqtts"})
_MAIL: Final = frozenset({"mailto", "mailtos"})


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

    Attributes:
        takes_pictures: whether the service takes attachments.

    Raises:
        StopService: Apprise does not understand the URL, or it names several recipients, of which a message could
            reach half; the message has the name and never the URL.
    """

    def __init__(
        self,
        name: str,
        url: str,
        on: Sequence[str],
        symbols: Sequence[str] = ("*",),
        fallback: str = "",
        fallback_after: float = 0.0,
        redactor: Redactor | None = None,
    ) -> None:
        self.name = name
        self.on = frozenset(on)
        self.symbols = tuple(symbols)
        self.fallback = fallback
        self.fallback_after = fallback_after
        self.redact = redactor or Redactor()
        self.redact.hide(url)
        _quiet_libraries()
        asset = apprise.AppriseAsset(
            app_id=_US,
            app_desc="modelwarden judges training runs",
            http_redirects=False,
            storage_mode="memory",
            service_timeout=0,  # whoever sends has a thread for it, and gives up by itself: see `send`
        )
        self._apprise = apprise.Apprise(asset=asset)
        if not self._apprise.add(_acknowledged(url)) or len(self._apprise) != 1:
            raise StopService(
                "its URL is not one that Apprise understands",
                where=f'destination "{name}"',
                hint="see Apprise's list of services for how it is written, and for what some need (mqtt: paho-mqtt)",
            )
        self._service: Any = _ours(next(iter(self._apprise)), url, asset)
        self._apprise = apprise.Apprise(self._service, asset=asset)
        # Else the URL sets one of its own.
        self._is_patient = self._service.socket_read_timeout == apprise.URLBase.socket_read_timeout
        self._service.request_rate_per_sec = 0.0  # Apprise would sleep inside the time of a send; the courier paces
        # Apprise imports a plugin when it is asked for; its attributes say what it is.
        scheme = _schema_of(url)
        self._is_mail = scheme in _MAIL
        self._insist_on_one_recipient(url)
        self._is_slack = self._service.service_name == "Slack"
        # A webhook of Slack's says that it takes attachments, and does not.
        is_webhook = self._is_slack and self._service.mode != "bot"
        self.takes_pictures = bool(self._service.attachment_support) and not is_webhook

    def address(self) -> tuple[str, int] | None:
        """Host and port of the server that its messages go to, as far as Apprise's plugin says them; else None.

        Where a URL has a token and no host, the plugin calls the token its host: that is never told.
        """
        service = self._service
        if self._is_mail:
            return service.smtp_host, service.port
        if "host" in service.template_tokens:
            return service.host, service.port or (443 if service.secure else 80)
        for name in ("webhook_url", "notify_url"):
            fixed = getattr(type(service), name, None)
            if isinstance(fixed, str) and (host := urlsplit(fixed).hostname) and "{" not in host:
                return host, 443
        return None

    def goes_unencrypted(self) -> bool:
        """Whether mail to it, and the password for it, crosses a network as plain text."""
        return self._is_mail and self._service.secure_mode == "insecure" and not _is_this_host(self._service.smtp_host)

    def _insist_on_one_recipient(self, url: str) -> None:
        count = len(self._service)
        if self._is_mail:
            said = self._service.parse_url(url)
            named = (said.get("targets"), said.get("cc"), said.get("bcc"))
            count = len(parse_emails(*named))  # type: ignore[no-untyped-call]
            if count == 1 and not self._service.targets:
                raise StopService(
                    "its URL names a recipient that is no mail address",
                    where=f'destination "{self.name}"',
                    hint="write it as mailtos://user:password@host?to=name@example.com",
                )
        if count > 1:
            raise StopService(
                "its URL names several recipients, and a message may reach some of them and not the others",
                where=f'destination "{self.name}"',
                hint="give each recipient a destination of its own",
            )

    def test(self, timeout: float) -> Delivery:
        """Send a message that is about no run."""
        return self.send(Message("TEST from modelwarden", "This is a test message. No run was archived."), timeout)

    def send(self, message: Message, timeout: float) -> Delivery:
        """Hand the message to the service: with its page if it is mail, else as plain text declared as such.

        On the caller's thread, which a server that says a byte now and then can keep longer than the timeout. Apprise
        would see to that with a pool of a few threads for all destinations: some that hang would starve the others.
        """
        if self._is_patient:
            # Apprise gives up after 4 s, and a service that takes 5 would be sent the same again and again.
            self._service.socket_read_timeout = max(apprise.URLBase.socket_read_timeout, timeout)
        title, body = message.title, message.body
        if self._is_mail:
            title = f"{title} [{message.mark}]" if message.mark else title
        elif not self._is_slack:
            title, body = _calling_nobody(title), _calling_nobody(body)
        html, picture = "", None
        if hasattr(self._service, "message"):  # it composes the mail itself
            self._service.message = message
        else:
            if self._is_mail and message.page is not None:
                html = render_html(message.page)  # of a mail that Apprise composes
            if message.picture and self.takes_pictures:
                picture = AttachMemory(  # type: ignore[no-untyped-call]
                    message.picture, name=PICTURE_FILE, mimetype="image/png"
                )
        result = self._apprise.notify(
            title=title,
            body=html or body,
            notify_type=NotifyType(message.severity),
            body_format=NotifyFormat.HTML if html else NotifyFormat.TEXT,
            attach=picture,
            interpret_escapes=False,
            log_level=logging.DEBUG,
        )
        logs = list(result.logs())
        lines = [entry.message for entry in logs]
        said = "; ".join(dict.fromkeys([*(each.message for each in logs if each.level in _SAID), *_causes(lines)]))
        match result.status:
            case apprise.AppriseResultStatus.SUCCESS:
                return Delivered()
            case status:
                after_the_text = picture is not None and not self._is_mail
                error = self.redact(said) or status.name.lower()
                return PerhapsDelivered(error) if after_the_text or _is_open(lines) else TryLater(error)


def _calling_nobody(text: str) -> str:
    """The text as a person sees it, in which a chat finds nobody to call: a symbol is not to wake a team."""
    return _CALL.sub("\\g<0>\N{ZERO WIDTH SPACE}", text)


def _quiet_libraries() -> None:
    """Keep what the loggers that print tokens say away from standard error; Apprise's own is heard by a send alone."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG if name == "apprise" else logging.WARNING)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _ours(service: Any, url: str, asset: apprise.AppriseAsset) -> Any:
    """The service as it is, or our own form of it, of the same URL.

    A form is imported when it is wanted: it brings its service's module along, which Apprise leaves alone till then.
    """
    settings = url_to_dict(url)  # type: ignore[no-untyped-call]
    if type(service).__name__ == "NotifyEmail" and not _SIGNED & settings["qsd"].keys():
        from modelwarden.sinks.chat.mail import Mail  # noqa: PLC0415

        return Mail(**settings, asset=asset)  # type: ignore[no-untyped-call]
    if type(service).__name__ == "NotifySlack":
        from modelwarden.sinks.chat.slack import Slack  # noqa: PLC0415

        return Slack(**settings, asset=asset)  # type: ignore[no-untyped-call]
    return service


def _acknowledged(url: str) -> str:
    """The URL, so that a broker has to say that it took a message: Apprise's default is to hear nothing of it."""
    if _schema_of(url) not in _BROKER or "qos=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}qos=1"


def _is_open(lines: Sequence[str]) -> bool:
    """Whether a send of which Apprise says this may have reached the service all the same."""
    lost = [line for line in lines if line.startswith(_LOST)]
    return any(not _NOT_TAKEN.search(line) for line in lost) or not any(map(_NOT_TAKEN.search, lines))


def _causes(lines: Sequence[str]) -> Iterator[str]:
    """Why a connection failed: Apprise says it at DEBUG alone."""
    for line in lines:
        if (found := _CAUSE.fullmatch(line)) is not None:
            yield found[1] or found[2]


def _schema_of(url: str) -> str:
    return url.partition("://")[0].lower()


def _is_this_host(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
