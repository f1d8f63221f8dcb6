"""The form of a message: what it holds, as plain data, and its reading as text; `document` has the one as HTML. Pure.

The rule: both readings are written from one page and say the same figures; each says how much of a list it left out.
What comes from a summary is shown as it stands and is never markup, a control character or a line of its own.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

LONGEST_TITLE: Final = 150
"""Characters that Slack takes in a header."""

LONGEST_TEXT: Final = 3000
"""Characters that Slack takes in a section."""

REPEAT_MARK: Final = "(possible repeat) "

SEPARATOR: Final = " · "

_LONGEST_LINE: Final = 600
"""Of a path, a host or a line of a reason: so that one of them can't crowd out the others."""

_LONGEST_SUBJECT: Final = 60
"""What a title keeps of a subject of which something is said: a long name must leave room for that."""

_HOST_AT_LEAST: Final = 40
"""What a title keeps of a host's name, however long the rest is."""

_LONGEST_MEANT: Final = 20
"""What a title keeps of the name of the destination that it was meant for."""

_UNSHOWN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Controls, line separators, lone surrogates and what turns the reading direction."""


class Figure(NamedTuple):
    """One figure of a row: `profit factor` `1.10` `< 1.30`.

    Attributes:
        label: what it is; "" if the value says it.
        value: the figure, one word; or what is wrong with it, in words.
        bound: the bound beside it, with its sign; "" if it is compared with none.
    """

    label: str
    value: str
    bound: str = ""


class Row(NamedTuple):
    """One model, or one run.

    Attributes:
        name: a model's symbol or a run's name.
        figures: those that decided.
        remarks: what else a person should know.
        advice: what to do; "" for nothing.
        caveat: what is known of what is advised; "" for nothing.
    """

    name: str
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...] = ()
    advice: str = ""
    caveat: str = ""


class Section(NamedTuple):
    """A list under a heading.

    Attributes:
        heading: such as APPROVED.
        total: how many there are, with those that were cut.
        rows: those that are named.
        of: what a row is, as the head of its column.
    """

    heading: str
    total: int
    rows: tuple[Row, ...]
    of: str = "model"


class Page(NamedTuple):
    """All that a message says.

    Attributes:
        lead: what the title begins with: `APPROVED 3`, `REVIEW 5`, `DROP 42`; or REJECTED, PROBLEM or REVIEWED.
        subject: what it is about.
        host: where; "" if that is not known.
        sections: lists of models or runs.
        texts: paragraphs of one line or more.
        texts_total: how many there are, with those that were cut.
        facts: name and value, a line each, at the end.
        said: what the title says of the subject, such as why a file was rejected; "" for nothing.
        stands_for: the destination that all this was meant for, if it can't be reached; else "".
    """

    lead: tuple[str, ...]
    subject: str
    host: str = ""
    sections: tuple[Section, ...] = ()
    texts: tuple[str, ...] = ()
    texts_total: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    said: str = ""
    stands_for: str = ""


def shown(text: str) -> str:
    r"""The text on one line: what would end the line, turn it around or can't be encoded as `\u....`."""
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def size(text: str) -> int:
    """Characters as a service counts them that takes `<`, `>` and `&` as entities."""
    return len(escape(text, quote=False))


def clipped(text: str, longest: int) -> str:
    """The text, or as much of its beginning as has that size, with an ellipsis."""
    if size(text) <= longest:
        return text
    room = longest - 1
    for length, character in enumerate(text):
        room -= size(character)
        if room < 0:
            return f"{text[:length]}…"
    return text


def fitted(page: Page) -> Page:
    """The page with so much cut, and counted, that its text has at most LONGEST_TEXT characters.

    The longest list gives first, and of equally long ones the last; the first list, the best, counts a third.
    """
    return cut(page, lambda each: size(_text(each)), LONGEST_TEXT)


def cut(page: Page, measure: Callable[[Page], int], limit: int) -> Page:
    """The page with single lines, and cut until it measures no more than the limit."""
    page = page._replace(
        subject=_line(page.subject),
        said=_line(page.said),
        host=_line(page.host),
        texts=tuple("\n".join(_line(line) for line in text.split("\n")) for text in page.texts),
        facts=tuple((name, _line(value)) for name, value in page.facts),
    )
    while (length := measure(page)) > limit:
        over = length - limit
        if rows := sum(len(section.rows) for section in page.sections):
            # Of what seems too much half at once, then measured again.
            for _ in range(max(1, rows * over // (2 * length))):
                page = page._replace(sections=_without_one_row(page.sections))
        elif len(page.texts) > 1:
            page = page._replace(texts=page.texts[:-1])
        else:  # one text of many lines: headings and facts alone never come here
            text = page.texts[0]
            page = page._replace(texts=(clipped(text, max(1, size(text) - over)),))
    return page


def _without_one_row(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The longest list gives, and of equally long ones the last; the first list, the best, counts a third."""
    lengths = [len(section.rows) * (1 if at else 1 / 3) for at, section in enumerate(sections)]
    longest = max(range(len(lengths)), key=lambda at: (lengths[at], at))
    return tuple(
        section._replace(rows=section.rows[:-1]) if at == longest else section for at, section in enumerate(sections)
    )


def render_title(page: Page, *, repeated: bool = False) -> str:
    """The title, at most LONGEST_TITLE characters; the same with and without the mark of a repeat."""
    lead = f"{SEPARATOR.join(page.lead)}: "
    tail = f", for {clipped(page.stands_for, _LONGEST_MEANT)}" if page.stands_for else ""
    room = LONGEST_TITLE - len(REPEAT_MARK) - size(lead) - size(tail)
    subject, said, host = shown(page.subject), shown(page.said), shown(page.host)
    if said:
        subject = f"{clipped(subject, _LONGEST_SUBJECT)}: {said}"
    if host:
        host = f" ({clipped(host, max(_HOST_AT_LEAST, room - len(' ()') - size(subject)))})"
    title = f"{lead}{clipped(subject, room - size(host))}{host}{tail}"
    return f"{REPEAT_MARK}{title}" if repeated else title


def render_text(page: Page) -> str:
    """The page as plain text, of at most LONGEST_TEXT characters."""
    return _text(fitted(page))


def _line(text: str) -> str:
    return clipped(shown(text), _LONGEST_LINE)


def meant_for(page: Page) -> str:
    """For whom the page stands, as its first line says it."""
    return f"for {page.stands_for}, which can't be reached"


def left_out(total: int, named: Sequence[object]) -> str:
    """How much of a list is not named, as its last line says it."""
    return f"… and {total - len(named)} more"


def _text(page: Page) -> str:
    blocks = [meant_for(page)] if page.stands_for else []
    blocks += ["\n".join(_section_lines(section)) for section in page.sections]
    blocks += page.texts
    if len(page.texts) < page.texts_total:
        blocks.append(left_out(page.texts_total, page.texts))
    if page.facts:
        blocks.append("\n".join(f"{name}: {value}" for name, value in page.facts))
    return "\n\n".join(blocks)


def _section_lines(section: Section) -> Iterator[str]:
    yield f"{section.heading} ({section.total})"
    for row in section.rows:
        said = [" ".join(filter(None, figure)) for figure in row.figures]
        said += [*row.remarks, "; ".join(filter(None, (row.advice, row.caveat)))] if row.advice else row.remarks
        yield shown(f"- {row.name}: {', '.join(said)}" if said else f"- {row.name}")
    if len(section.rows) < section.total:
        yield left_out(section.total, section.rows)
