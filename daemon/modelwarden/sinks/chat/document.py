"""The HTML reading of a page: a document for mail clients, as `templates/mail.html` has it.

The rule: all markup is the template's, and all that it prints is made visible and escaped from here: no line of it has
to remember that, and none may ask for less. Jinja2 is loaded when a page is written and not before: who judges a mail's
URL, or sends to a chat, does not pay for it.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from modelwarden.sinks.chat.page import Page, Section, cut, left_out, meant_for, render_title, shown

if TYPE_CHECKING:
    from jinja2 import Template

LONGEST_HTML: Final = 90_000
"""Bytes. Gmail cuts a mail at 102 kB."""


class Picture(NamedTuple):
    """A picture above the facts.

    Attributes:
        source: where it is, such as `cid:...`.
        caption: what it shows: for who sees it, below it; for who does not, in its place.
    """

    source: str
    caption: str


def render_html(page: Page, picture: Picture | None = None) -> str:
    """The page as a document of its own for mail clients: inline styles, nothing to fetch, light and dark.

    At most LONGEST_HTML bytes beside the picture: it may name what the text has no room for.
    """
    return _document(fitted_to_html(page), picture)


def fitted_to_html(page: Page) -> Page:
    """The page with so much cut, and counted, that its HTML has at most LONGEST_HTML bytes."""
    return cut(page, lambda each: len(_document(each).encode()), LONGEST_HTML)


def _document(page: Page, picture: Picture | None = None) -> str:
    about = " on ".join(filter(None, (page.subject, page.host)))
    return _template().render(page=page, title=render_title(page), about=about, picture=picture)


def _columns_of(section: Section) -> tuple[str, ...]:
    """A column a figure if all rows have the same ones and each is a word; else none, and figures keep their names.

    So that no cell is ever empty: a mail's plain part is made of its cells, one after the other.
    """
    labels = {tuple(figure.label for figure in row.figures) for row in section.rows}
    words = all(" " not in figure.value for row in section.rows for figure in row.figures)
    return next(iter(labels)) if len(labels) == 1 and words else ()


def _visible(printed: Any) -> Any:
    """What the template prints, of a text with its controls made visible; its own markup is not a text any more."""
    return shown(printed) if isinstance(printed, str) and not hasattr(printed, "__html__") else printed


@cache
def _template() -> "Template":
    """Read and compiled once: a page that is too long is written over and over until it fits."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - the courier's alone

    environment = Environment(
        loader=PackageLoader("modelwarden.sinks.chat"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(columns_of=_columns_of, left_out=left_out, meant_for=meant_for)
    return environment.get_template("mail.html")
