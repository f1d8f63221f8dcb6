"""The form of a message: what it holds, as plain data, and its two readings, text and HTML. Pure.

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

LONGEST_HTML: Final = 90_000
"""Bytes. Gmail cuts a mail at 102 kB."""

REPEAT_MARK: Final = "(possible repeat) "

SEPARATOR: Final = " · "
_SEMICOLON: Final = "; "

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
        bound: the bound beside it, with its sign; "" where it is compared with none.
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
        lead: what the title begins with: `APPROVED 3`, `REVIEW 5`, `DROP 42`; or REJECTED, or PROBLEM.
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
    return _cut(page, lambda each: size(_text(each)), LONGEST_TEXT)


def fitted_to_html(page: Page) -> Page:
    """The page with so much cut, and counted, that its HTML has at most LONGEST_HTML bytes."""
    return _cut(page, lambda each: len("".join(_html(each)).encode()), LONGEST_HTML)


def _cut(page: Page, measure: Callable[[Page], int], limit: int) -> Page:
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


def render_html(page: Page) -> str:
    """The page as a document of its own for mail clients: inline styles, nothing to fetch, light and dark.

    At most LONGEST_HTML bytes: it may name what the text has no room for.
    """
    return "".join(_html(fitted_to_html(page)))


def with_picture(document: str, source: str, caption: str) -> str:
    """A document of `render_html` with a picture above its facts.

    Args:
        document: the page.
        source: where the picture is, such as `cid:...`.
        caption: what it shows: for who sees it, below it; for who does not, in its place.
    """
    picture = (
        f'<p style="margin:0 0 4px"><img src="{escape(source)}" alt="{escape(shown(caption))}" width="600" '
        'style="display:block;width:100%;max-width:600px;height:auto;border:0;background:#ffffff"></p>\n'
        f'<p style="margin:0 0 18px;font-size:12px;{_MUTED}{_ANYWHERE}">{_escaped(caption)}</p>\n'
    )
    before, mark, behind = document.rpartition(_FACTS if _FACTS in document else _END)
    return f"{before}{picture}{mark}{behind}"


def _line(text: str) -> str:
    return clipped(shown(text), _LONGEST_LINE)


def _meant_for(page: Page) -> str:
    return f"for {page.stands_for}, which can't be reached"


def _left_out(total: int, named: Sequence[object]) -> str:
    return f"… and {total - len(named)} more"


def _text(page: Page) -> str:
    blocks = [_meant_for(page)] if page.stands_for else []
    blocks += ["\n".join(_section_lines(section)) for section in page.sections]
    blocks += page.texts
    if len(page.texts) < page.texts_total:
        blocks.append(_left_out(page.texts_total, page.texts))
    if page.facts:
        blocks.append("\n".join(f"{name}: {value}" for name, value in page.facts))
    return "\n\n".join(blocks)


def _section_lines(section: Section) -> Iterator[str]:
    yield f"{section.heading} ({section.total})"
    for row in section.rows:
        said = [" ".join(filter(None, figure)) for figure in row.figures]
        said += [*row.remarks, _SEMICOLON.join(filter(None, (row.advice, row.caveat)))] if row.advice else row.remarks
        yield shown(f"- {row.name}: {', '.join(said)}" if said else f"- {row.name}")
    if len(section.rows) < section.total:
        yield _left_out(section.total, section.rows)


# Mail clients drop style sheets, so that no rule can ask whether it is dark: text keeps the client's own colour, and
# every colour below is readable on white and on black.
_FONT: Final = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
_CODE: Final = "font-family:ui-monospace,Menlo,Consolas,monospace;"
_ANYWHERE: Final = "overflow-wrap:anywhere;word-break:break-word;"
_WHOLE: Final = "white-space:nowrap;"
_MUTED: Final = "color:#767676;"
_LINE: Final = "border-top:1px solid #b4b4b4;border-top-color:rgba(128,128,128,0.4);"  # Outlook knows the first alone
_CELL: Final = "padding:7px 10px 7px 0;text-align:left;vertical-align:top;"
_FACTS: Final = f'<p style="margin:0;padding:10px 0 0;{_LINE}font-size:13px;{_ANYWHERE}">'
_END: Final = "</div>\n</body>\n</html>\n"
_HEAD: Final = (
    f"padding:4px 10px 4px 0;text-align:left;vertical-align:bottom;font-weight:normal;font-size:12px;{_MUTED}"
)
_GROUNDS: Final = {
    "APPROVED": "#1a7f37",
    "REVIEW": "#9a6700",
    "DROP": "#c03540",
    "CHANGED": "#0550ae",
    "REJECTED": "#c03540",
    "PROBLEM": "#c03540",
}
_OTHER_GROUND: Final = "#5f6b7a"

_LONGEST_FIGURE: Final = 28
"""A figure with its name and its bound up to this stays on one line; a phone has room for some thirty."""

_LONGEST_WHOLE: Final = 14
"""Names up to this stay on one line; longer ones may be broken anywhere."""


def _html(page: Page) -> Iterator[str]:
    title = escape(render_title(page))
    yield '<!DOCTYPE html>\n<html lang="en" style="color-scheme:light dark">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
    yield '<meta name="color-scheme" content="light dark">\n'
    yield '<meta name="supported-color-schemes" content="light dark">\n'
    yield f'<title>{title}</title>\n</head>\n<body style="margin:0;padding:0">\n'
    yield f'<div style="max-width:600px;margin:0 auto;padding:16px;{_FONT}font-size:14px;line-height:1.4">\n'
    yield f'<p style="margin:0 0 4px">{" ".join(_badge(each) for each in page.lead)}</p>\n'
    about = " on ".join(filter(None, (page.subject, page.host)))
    yield f'<h1 style="margin:0 0 18px;font-size:18px;line-height:1.3;{_ANYWHERE}">{_escaped(about)}</h1>\n'
    if page.stands_for:
        yield f'<p style="margin:0 0 18px">{_escaped(_meant_for(page))}</p>\n'
    for section in page.sections:
        yield from _section_html(section)
    for text in page.texts:
        lines = "<br>".join(escape(line) for line in text.split("\n"))
        yield f'<p style="margin:0;padding:10px 0;{_LINE}{_ANYWHERE}">{lines}</p>\n'
    if len(page.texts) < page.texts_total:
        yield f'<p style="margin:0;padding:10px 0;{_LINE}{_MUTED}">{_left_out(page.texts_total, page.texts)}</p>\n'
    if page.facts:
        yield from _facts_html(page.facts)
    yield _END


def _escaped(text: str) -> str:
    return escape(shown(text))


def _badge(words: str) -> str:
    ground = _GROUNDS.get(words.partition(" ")[0], _OTHER_GROUND)
    return (
        f'<span style="display:inline-block;margin:0 2px 4px 0;padding:2px 9px;border-radius:10px;'
        f'background:{ground};color:#ffffff;font-size:13px;font-weight:bold">{escape(words)}</span>'
    )


def _section_html(section: Section) -> Iterator[str]:
    columns = _columns(section)
    bar = f"border-left:4px solid {_GROUNDS.get(section.heading, _OTHER_GROUND)};padding-left:8px;"
    heading = escape(f"{section.heading} ({section.total})")
    yield f'<h2 style="margin:0 0 6px;font-size:15px;{bar}">{heading}</h2>\n'
    yield '<table style="width:100%;border-collapse:collapse;margin:0 0 18px;font-size:14px">\n'
    if section.rows:
        yield f'<tr><th scope="col" style="{_HEAD}width:20%;">{escape(section.of)}</th>'
        yield from (f'<th scope="col" style="{_HEAD}">{escape(head)}</th>' for head in columns or ("what decided",))
        yield "</tr>\n"
    for row in section.rows:
        yield from _row_html(row, columns)
    if len(section.rows) < section.total:
        span = 1 + max(1, len(columns))
        left_out = _left_out(section.total, section.rows)
        yield f'<tr><td colspan="{span}" style="{_CELL}{_LINE}{_MUTED}">{left_out}</td></tr>\n'
    yield "</table>\n"


def _columns(section: Section) -> tuple[str, ...]:
    """A column a figure where all rows have the same ones and each is a word; else none, and figures keep their names.

    So that no cell is ever empty: a mail's plain part is made of its cells, one after the other.
    """
    labels = {tuple(figure.label for figure in row.figures) for row in section.rows}
    words = all(" " not in figure.value for row in section.rows for figure in row.figures)
    return next(iter(labels)) if len(labels) == 1 and words else ()


def _row_html(row: Row, columns: tuple[str, ...]) -> Iterator[str]:
    caveat = f"{_SEMICOLON}{_escaped(row.caveat)}" if row.caveat else ""
    advice = [f"<strong>{_escaped(row.advice)}</strong>{caveat}"] if row.advice else []
    notes = ", ".join([*map(_escaped, row.remarks), *advice])
    below = bool(columns and notes)
    breaking = "white-space:pre;" if len(row.name) <= _LONGEST_WHOLE else f"white-space:pre-wrap;{_ANYWHERE}"
    rows, closer = (2, "padding-bottom:0;") if below else (1, "")
    yield f'<tr><th scope="row" rowspan="{rows}" style="{_CELL}{_LINE}{breaking}">{_escaped(row.name)}</th>'
    if columns:
        yield from (f'<td style="{_CELL}{_LINE}{closer}">{_figure_html(figure)}</td>' for figure in row.figures)
    else:
        figures = ", ".join(_named_figure_html(figure) for figure in row.figures)
        said = "<br>".join(filter(None, (figures, notes)))
        yield f'<td style="{_CELL}{_LINE}{_ANYWHERE}">{said}</td>'
    yield "</tr>\n"
    if below:
        yield f'<tr><td colspan="{len(columns)}" style="{_CELL}padding-top:2px;{_ANYWHERE}">{notes}</td></tr>\n'


def _named_figure_html(figure: Figure) -> str:
    label, said = _escaped(figure.label), _figure_html(figure)
    if not figure.bound:
        return " ".join(filter(None, (label, said)))
    if len(" ".join(figure)) <= _LONGEST_FIGURE:
        return f'<span style="{_WHOLE}">{label} {said}</span>'
    return f'{label} <span style="{_WHOLE}">{said}</span>'


def _figure_html(figure: Figure) -> str:
    if not figure.bound:
        return _escaped(figure.value)
    bound = f'<span style="{_WHOLE}{_MUTED}">{_escaped(figure.bound)}</span>'
    return f"<strong>{_escaped(figure.value)}</strong> {bound}"


def _facts_html(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield _FACTS
    yield "<br>".join(
        f'<span style="{_MUTED}">{escape(name)}:</span> <span style="{_CODE}">{escape(value)}</span>'
        for name, value in facts
    )
    yield "</p>\n"
