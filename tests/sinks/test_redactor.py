"""No secret of a URL comes through in any form that a library may give it, and no word goes with it."""

import html
import json
import re
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.sinks.redactor import Redactor

passwords = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=6, max_size=20)


def redactor(*urls: str) -> Redactor:
    """One that was told of these."""
    redact = Redactor()
    for url in urls:
        redact.hide(url)
    return redact


def is_word(text: str) -> bool:
    """Whether it could stand in any sentence."""
    return re.fullmatch("[A-Za-z]+", text) is not None


@given(passwords.filter(lambda text: not set(text) <= set("*") and not is_word(text)))
def test_password_comes_through_in_no_form(password: str) -> None:
    """As written, decoded, encoded anew, as JSON, HTML or Python would show it, and in an Authorization header."""
    redact = redactor(f"json://warden:{quote(password, safe='')}@127.0.0.1/hook")
    forms = [
        quote(password, safe=""),
        quote(password, safe="").lower(),
        quote(password),
        quote_plus(password),
        password,
        html.escape(password),
        json.dumps(password)[1:-1],
        json.dumps(password, ensure_ascii=False)[1:-1],
        repr(password)[1:-1],
        b64encode(password.encode()).decode(),
        b64encode(f"warden:{password}".encode()).decode(),
        b64encode(f"\0warden\0{password}".encode()).decode(),
    ]
    for form in forms:
        assert redact(f"[{form}]") == "[***]"


@given(st.from_regex("[a-z]{1,12}|[A-Z][a-z]{1,11}|[A-Z]{1,12}", fullmatch=True))
def test_password_that_is_a_word_is_hidden_where_it_is_the_password(password: str) -> None:
    """Beside its user, after what names it, and in each form of a login, whatever the word."""
    redact = redactor(f"mailtos://warden:{password}@mail.example.com")
    for login in (password, f"warden:{password}", f"\0warden\0{password}"):
        assert redact(f"535 no: {b64encode(login.encode()).decode()}") == "535 no: ***"
    assert redact(f"at mailtos://warden:{password}@mail.example.com/") == "at mailtos://***mail.example.com/"
    for before, behind in (("password=", ""), ("'pass': '", "'"), ('"token":"', '"'), ("X-Api-Key: ", "")):
        assert redact(f"{before}{password}{behind}") == f"{before}***{behind}"


@pytest.mark.parametrize(
    "password", ["pw3", "swordfish", "zebra", "hunter2", "p", "1", "Sommer", "correct horse battery"]
)
def test_password_that_a_server_quotes_is_hidden(password: str) -> None:
    """A mail server that refuses a login may repeat it: what is no word of errors is hidden there, however short."""
    redact = redactor(f"mailtos://warden:{quote(password)}@mail.example.com")
    said = f"Socket Exception: (535, b'5.7.8 {password}: authentication failed')"
    if len(password) > 2:
        assert redact(said) == "Socket Exception: (535, b'5.7.8 ***: authentication failed')"
    assert redact(f"401 for warden:{password}") == "401 for ***"


@pytest.mark.parametrize(
    "url",
    [
        "mailtos://model:test@mail.example.com?from=modelwarden@example.com&to=team@example.org&mode=starttls",
        "mailtos://test:message@smtp2.corp.example.com?to=test@example.org",
        "json://connection:refused@127.0.0.1:8025/summary/training/model-alerts?+X-Name=modelwarden",
        "json://daemon:a@localhost/modelwarden",
        "mqtt://warden:Error@broker-3.lab/modelwarden/topic",
    ],
)
def test_word_that_is_part_of_a_url_is_left_in_an_error(url: str) -> None:
    """What went wrong, and where, is what the reader needs; masked, a word would only tell what the password is."""
    redact = redactor(url)
    said = (
        'the test message of modelwarden to "model team": Connection refused; a Message to mail.example.com timed out; '
        "mode starttls; smtp2.corp.example.com: Name or service not known; 127.0.0.1: error=500; broker-3.lab is gone; "
        "Error in summary of training, model alerts; no model was tested by the daemon on localhost"
    )
    assert redact(said) == said


@pytest.mark.parametrize(
    "token",
    [
        "TIiajkdnlazkcOXrIdevi7",
        "A1BRTD4JD",
        "xoxb-1234-abcd",
        "123456789",
        "x9Q2aa",
        "abcdefghijklmnopqrst",
        "c4n-ry_9",
    ],
)
@pytest.mark.parametrize("place", ["json://127.0.0.1/hook/{}", "slack://{}/A1/#x", "json://h/?-K={}", "json://{}@h/"])
def test_token_is_hidden_wherever_the_url_has_it(token: str, place: str) -> None:
    """Path, host, user or query: what is no word is taken for a secret."""
    assert redactor(place.format(token))(f"url: /services/{token} refused") == "url: /services/*** refused"


def test_short_secret_is_hidden_as_a_whole_word_alone() -> None:
    """Three characters are a password, and no part of another word is."""
    redact = redactor("mailtos://warden:a1b@mail.example.com")
    assert redact("535 a1b: no; a1bc ca1b 0xa1b4") == "535 ***: no; a1bc ca1b 0xa1b4"


def test_password_given_in_the_query_is_one() -> None:
    """Apprise takes it from there, too."""
    redact = redactor("mailto://mail.example.com?user=warden&pass=swordfish&+X-Auth-Token=Walrus")
    assert redact("swordfish / Walrus / warden:swordfish") == "*** / *** / ***"


def test_secrets_of_all_urls_are_hidden_together() -> None:
    """A library's log lines know no bounds."""
    redact = redactor("json://127.0.0.1/hook/s3cret-A", "json://127.0.0.1/hook/s3cret-B")
    assert redact("s3cret-A, s3cret-B") == "***, ***"


def test_error_is_cut_after_it_was_redacted() -> None:
    """A secret that the cut goes through is no secret half told."""
    redact = redactor("json://127.0.0.1/c4nary-s3cret-t0ken")
    assert "c4nary" not in redact("." * 490 + "c4nary-s3cret-t0ken")
