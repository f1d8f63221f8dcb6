"""The mail's template shows whatever a page says as text, and is loaded when a mail is written and not before."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from modelwarden.sinks.chat.document import Picture, render_html
from modelwarden.sinks.chat.page import Figure, Page, Row, Section, shown
from processes import clean_environment

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></tr></table><h1>",
    "{{ 7*7 }}",
    "{{ page.facts }}",
    "{% raw %}",
    "{%- for each in page %}",
    "{# a comment",
    '"\' onmouseover="alert(1)" x=\'',
    "'><img src=x>",
    "&lt;b&gt; &#x41;",
    "--><!-- ]]>",
    "\u202egnp.exe",
    "a\x1b[2J\u2028b",
]


class Elements(HTMLParser):
    """What a page is made of.

    Attributes:
        elements: each tag with its attributes' names, and each end, in order.
        texts: all texts in order, but for the title: of an element, or of a picture's description.
    """

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.texts = [""]
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        known: Mapping[str, str | None] = dict(attrs)
        self.elements.append((tag, *known))
        self.texts.append(known.get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))
        if tag == "title":
            self.texts.pop()  # it may be cut
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def page_of(word: str) -> Page:
    """A page that says the word wherever it says anything: in a table with columns, in one without, and beside them."""
    figures = (Figure(word, word, word), Figure(word, word))
    row = Row(word, figures, (word, word), word, word)
    return Page(
        lead=(word,),
        subject=word,
        host=word,
        sections=(
            Section("APPROVED", 2, (row._replace(figures=(Figure(word, "0.91", word),)),)),
            Section(word, 3, (row, Row(word, ()), row._replace(figures=figures[:1], remarks=())), of=word),
        ),
        texts=(word, word),
        texts_total=3,
        facts=((word, word), (word, word)),
        stands_for=word,
    )


@pytest.mark.parametrize("word", HOSTILE, ids=ascii)
def test_no_word_of_a_page_is_markup_or_template(word: str) -> None:
    """Parsed, the page has the elements of a harmless one, and the word to the letter wherever that has its own."""
    harmless = re.sub("[^ ]", "x", word)  # as long, and with spaces in the same places: the same form
    expected = Elements(render_html(page_of(harmless), Picture("cid:x", harmless)))
    found = Elements(render_html(page_of(word), Picture("cid:x", word)))
    assert found.elements == expected.elements
    assert found.texts == [text.replace(harmless, shown(word)) for text in expected.texts]
    assert sum(text.count(shown(word)) for text in found.texts) == 38


def test_template_asks_for_no_less_than_all_is_escaped() -> None:
    """Who edits it can't forget to escape, and must not ask for what is not."""
    template = files("modelwarden.sinks.chat").joinpath("templates", "mail.html").read_text("utf-8")
    tags = re.findall(r"\{[{%].*?[%}]\}", template, re.DOTALL)
    assert len(tags) > 100
    assert [tag for tag in tags if re.search(r"safe|autoescape|format|Markup", tag)] == []


def test_jinja_is_imported_when_a_page_is_written_and_not_before() -> None:
    """The watcher never is to have it, nor who asks whether a mail's URL is one."""
    code = """
import sys
import modelwarden.wiring.courier
import modelwarden.wiring.service
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import problem_message
from modelwarden.sinks.chat.document import render_html
Destination("team", "mailto://warden:passw0rd@127.0.0.1?from=a@example.org", ["DROP"])
page = problem_message(["no space left"]).page
assert "jinja2" not in sys.modules
assert "no space left" in render_html(page)
assert "jinja2" in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", code], env=clean_environment(), timeout=60, check=True)
