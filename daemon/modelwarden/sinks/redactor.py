"""What may be told of a destination's URL: its secrets are hidden in whatever a service or a library says.

The rule: a secret is hidden whole, in every form that a library may give it; a word is no secret by itself. Hidden
wherever it stands, a password such as `test` would make an error unreadable, and would be told by the gap. Such a one
is hidden where it can only be the password: beside its user, after the name of a password, in an encoded login.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus, unquote, unquote_plus

LONGEST_ERROR: Final = 500
"""Characters kept of what a service or a library says."""

_MASK: Final = "***"

_SHORTEST_PIECE: Final = 6
"""Characters that a piece of a URL has at least to be a secret by itself."""

_SHORTEST_PASSWORD: Final = 3
"""The same of what stands where a password does; a shorter one is hidden beside its user alone."""

_SURE_PASSWORD: Final = 6
"""From here on a password that is a word is hidden wherever it stands, unless errors are made of that word."""

_AS_A_PART: Final = 8
"""From here on a secret is hidden inside a longer word, too."""

_WORD: Final = r"(?:[A-Za-z][a-z]{0,14}|[A-Z]{2,15})"
_ONE_WORD: Final = re.compile(_WORD)
_WORDS: Final = re.compile(rf"{_WORD}(?:[ ._+-]{_WORD})*")
_HOST: Final = re.compile(rf"{_WORD}\d{{0,3}}(?:[.-](?:{_WORD}\d{{0,3}}|\d{{1,3}}))*")

_OF_ERRORS: Final = re.compile(
    r"""
    accept | accepted | access | account | action | address | allowed | answer | attachment | attempt | authenticate
    | authentication | authorization | authorized | available | before | broker | certificate | channel | client |
    closed | command | config | connect | connected | connection | content | courier | credential | credentials |
    daemon | default | delivered | delivery | denied | destination | disabled | domain | enabled | encoding |
    endpoint | error | errors | example | exceeded | exception | exist | expired | failed | failure | family |
    forbidden | format | found | gateway | handshake | header | host | hostname | http | https | incorrect |
    insecure | internal | invalid | known | length | limit | local | localhost | lookup | mail | mailbox | mailto |
    message | messages | method | model | models | modelwarden | modified | moved | name | network | notification |
    notify | object | occurred | outbox | parameter | password | permission | policy | port | posting | problem |
    protocol | publish | quota | reason | receive | received | recipient | recipients | redirect | refused |
    rejected | release | remote | request | require | required | reset | resolve | resource | response | result |
    retries | retry | route | run | sender | sending | server | service | signature | slack | smtp | socket |
    starttls | status | subject | summary | syntax | system | team | temporary | text | timed | timeout | title |
    token | topic | training | trying | unable | unauthorized | unavailable | unexpected | unknown | unreachable |
    upgrade | url | user | username | verify | version | warden | webhook | with | wrong
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Words that errors are made of: hidden, they would tell more than they do now."""

_LOGIN_REFUSED: Final = re.compile(r"\b53\d\b")
"""The answers of a mail server to a login, which may quote the password."""

_NAMED: Final = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api.?key|auth)[\"']?\s*[:=]\s*[\"']?"
_PASSWORD_FIELD: Final = re.compile(r"^[+:-]|pass|pwd|token|key|secret|auth", re.IGNORECASE)


class Redactor:
    """Hides the secrets of the URLs that it was told of, however they are encoded."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._words: set[str] = set()
        self._named: set[str] = set()
        self._everywhere: re.Pattern[str] | None = None
        self._in_logins: re.Pattern[str] | None = None
        self._after_names: re.Pattern[str] | None = None

    def hide(self, url: str) -> None:
        """From now on no secret of this URL comes through."""
        parts = _parts_of(url)
        for password in parts.passwords:
            word = _ONE_WORD.fullmatch(password) is not None
            named = len(password) < _SHORTEST_PASSWORD or (word and _OF_ERRORS.fullmatch(password) is not None)
            if named or (word and len(password) < _SURE_PASSWORD):
                self._named |= set(_forms(password))
                self._words |= set() if named else set(_forms(password))
            else:
                self._secrets |= set(_forms(password))
            self._secrets |= set(_logins(parts.user, password))
        self._secrets |= {form for piece in _secret_pieces(parts) for form in _forms(piece)}
        self._everywhere = _any_of(self._secrets)
        self._in_logins = _any_of(self._words)
        self._after_names = _any_of(self._named, after=_NAMED)

    def __call__(self, text: str) -> str:
        """The text without secrets, and no longer than a log line may be."""
        if self._everywhere is not None:
            text = self._everywhere.sub(_MASK, text)
        if self._after_names is not None:
            text = self._after_names.sub(rf"\1{_MASK}", text)
        if self._in_logins is not None:
            sentences = re.split(r"([;\n])", text)
            text = "".join(
                self._in_logins.sub(_MASK, each) if _LOGIN_REFUSED.search(each) else each for each in sentences
            )
        return text[:LONGEST_ERROR]


class _Parts(NamedTuple):
    """A URL in parts, as written."""

    user: str
    passwords: tuple[str, ...]  # decoded: one may hold whatever separates
    host: str
    rest: tuple[str, ...]  # the pieces of all else


def _parts_of(url: str) -> _Parts:
    found = re.match(r"[^:/]*://(?:([^/?#]*)@)?([^/?#@]*)", url)
    login, host = (found[1] or "", found[2]) if found else ("", "")
    user, _, password = login.partition(":")
    fields = [each.partition("=") for each in re.split("[?&]", url)[1:]]
    named = [value for name, _, value in fields if _PASSWORD_FIELD.search(unquote_plus(name))]
    user = next((value for name, _, value in fields if name.lower() == "user"), user)
    passwords = {plain for each in (password, *named) for plain in (unquote(each), unquote_plus(each))} - {""}
    rest = re.split(r"[/:@?&=#,]+", url[found.end() :] if found else url)
    return _Parts(unquote(user), tuple(passwords), host.partition(":")[0].strip("[]"), (*rest, user, password))


def _secret_pieces(parts: _Parts) -> Iterator[str]:
    """What is no word, and long enough to be no accident."""
    pieces = {plain for each in parts.rest for plain in (each, unquote(each), unquote_plus(each))}
    yield from (each for each in pieces if len(each) >= _SHORTEST_PIECE and not _WORDS.fullmatch(each))
    if len(parts.host) >= _SHORTEST_PIECE and not _HOST.fullmatch(parts.host) and not _is_address(parts.host):
        yield parts.host


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _forms(plain: str) -> Iterator[str]:
    """In every form that a library may give it."""
    yield from (plain, quote(plain, safe=""), quote(plain), quote_plus(plain), escape(plain), repr(plain)[1:-1])
    yield from (json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1])
    yield b64encode(plain.encode()).decode()


def _logins(user: str, password: str) -> Iterator[str]:
    """A login as a URL, HTTP's Authorization and SMTP's AUTH have it."""
    for each in _forms(password):
        yield from (f"{user}:{each}@", f"{user}:{each}", f":{each}@") if user else (f":{each}@",)
    for login in (password, f"{user}:{password}", f"\0{user}\0{password}"):
        yield b64encode(login.encode()).decode()


def _any_of(texts: Iterable[str], after: str = "") -> re.Pattern[str] | None:
    """A pattern of all of these, the longest first; short ones as whole words alone."""
    longest_first = sorted(texts, key=len, reverse=True)
    if not longest_first:
        return None
    return re.compile(f"({after})(?:{'|'.join(map(_whole, longest_first))})", re.IGNORECASE)


def _whole(text: str) -> str:
    if len(text) >= _AS_A_PART:
        return re.escape(text)
    before = "(?<![^\\W_])" if text[:1].isalnum() else ""
    behind = "(?![^\\W_])" if text[-1:].isalnum() else ""
    return f"{before}{re.escape(text)}{behind}"
