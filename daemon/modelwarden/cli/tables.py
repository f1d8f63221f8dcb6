"""How tables look: on a terminal as wide as it is, elsewhere wide and plain; text from summaries is never markup.

The rule: figures and names of classes stay whole and stand under one another, sentences break at blanks, and only a
word that is wider than its column is cut up. If the last column has no room left for its sentences, they go below.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from modelwarden.cli.lines import cell_width, clipped, hanging, wrapped
from modelwarden.cli.screen import has_colour, styled, visible, width
from modelwarden.gate.assessment import Assessment, Band, Classification
from modelwarden.gate.gates import Gate
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons

BAND_STYLES: Final[Mapping[str, str]] = {
    Band.APPROVED: "green",
    Band.REVIEW: "yellow",
    Band.DROP: "red",
    Band.INVALID: "bold red",
    Band.IGNORED: "dim",
}
"""Also by class, whose names these are."""

SHORT: Final = {"profit_factor": "PF", "consistency": "cons.", "max_drawdown": "max DD"}
"""What a heading calls a metric that has a long name."""

WHOLE: Final = frozenset(
    (
        *("class", "id", "run", "policy", "archived", "about", "status", "since (UTC)", "next try", "flag", "metric"),
        "setting",
    )
)
"""Columns that are never narrower than what stands in them."""

_BETWEEN: Final = "  "
_NARROWEST: Final = 8
_WORD: Final = 26
"""A column whose sentences break is at least as wide as its longest word, up to here: the longest flag, and a stop."""

_SENTENCES: Final = 20
"""If the last column is narrower than this, and than its longest word, what stands in it goes below its row."""


class Cell(NamedTuple):
    """A text and its style; see `screen.styled`."""

    text: str
    style: str = ""


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    right: Sequence[str] = (),
    short: Sequence[str] = (),
) -> None:
    """Print rows under headings.

    Args:
        headings: of the columns.
        rows: what stands under them.
        right: the columns that are aligned there; they are never broken.
        short: those of which a text loses its end if a word of it is too wide: another command has it whole.
    """
    cells = [[visible_cell(cell) for cell in row] for row in rows]
    columns = range(len(headings))
    natural = [max(map(cell_width, (headings[at], *(row[at].text for row in cells)))) for at in columns]
    whole = [heading in right or heading in WHOLE for heading in headings]
    widths = _fitted(natural, whole, cells, width() - len(_BETWEEN) * (len(headings) - 1))
    is_right = [heading in right for heading in headings]
    is_below = len(headings) > 1 and not whole[-1] and _is_crowded(widths, cells, is_short=headings[-1] in short)
    if is_below:
        room = width() - len(_BETWEEN) * (len(headings) - 2)
        beside = _fitted(natural[:-1], whole[:-1], [row[:-1] for row in cells], room)
        widths = [*beside, max(_NARROWEST, width() - len(_BETWEEN))]
    for at in (at for at, heading in enumerate(headings) if heading in short):
        for row in cells:
            if any(cell_width(word) > widths[at] for word in row[at].text.split(" ")):
                row[at] = row[at]._replace(text=clipped(row[at].text, widths[at]))
    out, coloured = sys.stdout, has_colour()
    _write_row([Cell(each, "bold") for each in headings], widths, is_right, is_below=is_below, coloured=coloured)
    # What stands in the last column of a pipe may be long; the line under the headings need not be.
    rule = sum(widths) + len(_BETWEEN) * (len(headings) - 1)
    out.write(f"{styled('─' * min(rule, max(width(), 1), 200), 'dim')}\n")
    for row in cells:
        _write_row(row, widths, is_right, is_below=is_below, coloured=coloured)


def print_sentence(text: str) -> None:
    """Print a text; what is too wide goes on in the next line."""
    sys.stdout.write("".join(f"{line}\n" for line in hanging(visible(text), width())))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print what is known of one thing, a name and a text a line; a text that is too wide goes on below itself."""
    listed = [(name, visible(text)) for name, text in facts]
    column = max((cell_width(name) for name, _ in listed), default=0) + len(_BETWEEN)
    for name, text in listed:
        for at, line in enumerate(wrapped(text, max(_NARROWEST, width() - column))):
            sys.stdout.write(f"{'' if at else name:<{column}}{line}".rstrip() + "\n")


def visible_cell(cell: str | Cell) -> Cell:
    """The cell with nothing in it that moves a cursor."""
    return Cell(visible(cell)) if isinstance(cell, str) else Cell(visible(cell.text), cell.style)


def _fitted(natural: Sequence[int], whole: Sequence[bool], cells: Sequence[Sequence[Cell]], room: int) -> Sequence[int]:
    """A width for each column: its natural one if all fit, else less for those that may break."""
    if sum(natural) <= room:
        return natural
    loose = [at for at, is_whole in enumerate(whole) if not is_whole]
    left = room - sum(wide for wide, is_whole in zip(natural, whole, strict=True) if is_whole)
    least = {at: min(natural[at], max(_NARROWEST, _longest_word(row[at].text for row in cells))) for at in loose}
    while sum(least.values()) > left and (widest := max(least.values())) > _NARROWEST:
        at = next(each for each in loose if least[each] == widest)
        least[at] -= 1
    widths = [*natural]
    # The one that needs least gets what it needs, as long as the others get their least; what is left is the last's.
    for number, at in enumerate(sorted(loose, key=lambda at: natural[at])):
        others = sorted(loose, key=lambda at: natural[at])[number + 1 :]
        fair = max(left // (len(others) + 1), left - sum(natural[other] for other in others))
        widths[at] = max(least[at], min(natural[at], fair, left - sum(least[other] for other in others)))
        left -= widths[at]
    return widths


def _is_crowded(widths: Sequence[int], cells: Sequence[Sequence[Cell]], *, is_short: bool) -> bool:
    """Whether the last column can't be read beside the others; one that is short may lose its end."""
    if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > width():
        return True
    return not is_short and widths[-1] < min(_SENTENCES, _longest_word(row[-1].text for row in cells))


def _longest_word(texts: Iterable[str]) -> int:
    return min(_WORD, max((cell_width(word) for text in texts for word in text.split(" ")), default=0))


def _write_row(
    row: Sequence[Cell], widths: Sequence[int], is_right: Sequence[bool], *, is_below: bool, coloured: bool
) -> None:
    """Write a row in as many lines as it takes, and then what goes below it."""
    out = sys.stdout
    if is_below:
        _write_row(row[:-1], widths[:-1], is_right[:-1], is_below=False, coloured=coloured)
        for part in wrapped(row[-1].text, widths[-1]) if row[-1].text else ():
            out.write(f"{_BETWEEN}{styled(part, row[-1].style)}\n")
    elif all(cell_width(cell.text) <= width for cell, width in zip(row, widths, strict=True)):
        out.write(_line(row, widths, is_right, coloured=coloured))
    else:
        parts = [wrapped(cell.text, width) for cell, width in zip(row, widths, strict=True)]
        for at in range(max(map(len, parts))):
            line = [Cell(part[at] if at < len(part) else "", cell.style) for part, cell in zip(parts, row, strict=True)]
            out.write(_line(line, widths, is_right, coloured=coloured))


def _line(row: Sequence[Cell], widths: Sequence[int], is_right: Sequence[bool], *, coloured: bool) -> str:
    parts = []
    for (text, style), wide, right in zip(row, widths, is_right, strict=True):
        blanks = " " * (wide - cell_width(text))
        shown = styled(text, style) if coloured and style and text else text
        parts.append(blanks + shown if right else shown + blanks)
    return f"{_BETWEEN.join(parts).rstrip()}\n"


MOST_COLUMNS: Final = 5
"""Most metrics with a column of their own. With more no terminal is wide enough: what decided stands in the last."""


def print_models(models: Iterable[tuple[str, Assessment, Policy]], first: str) -> None:
    """Print one row a model, a column a metric; each figure has the colour of its band.

    Args:
        models: each with what stands in its first column, and what judged it. If their policies name other metrics, a
            model has `-` under those that its own does not name.
        first: the heading of the first column.
    """
    rows = list(models)
    labels: dict[str, str] = {}
    for policy in {policy.id: policy for _, _, policy in rows}.values():
        for gate in policy.gates:
            labels.setdefault(gate.metric, heading_of(gate))
    shown = dict(labels) if len(labels) <= MOST_COLUMNS else {}
    print_table(
        (first, "class", *shown.values(), "why"),
        ((head, *_cells(model, policy, shown)) for head, model, policy in rows),
        right=[*shown.values()],
    )


def heading_of(gate: Gate) -> str:
    """What a column of the gate's figures is called."""
    return SHORT.get(gate.metric, gate.label)


def _cells(model: Assessment, policy: Policy, shown: Mapping[str, str]) -> Sequence[str | Cell]:
    gates = policy.for_symbol(model.symbol).gates
    cells = {
        gate.metric: Cell(figure_text(gate, value, band), BAND_STYLES[band])
        for gate, value, band in zip(gates, model.values, model.bands, strict=True)
    }
    figures = [cells.get(metric, Cell("-")) for metric in shown]
    why = _why(model, policy) if shown else "; ".join(filter(None, (_why(model, policy), *_missed(model, policy))))
    return (class_cell(model.classification), *figures, why)


def class_cell(classification: Classification) -> Cell:
    """A class in its colour."""
    return Cell(classification.value, BAND_STYLES[classification])


def _missed(model: Assessment, policy: Policy) -> Sequence[str]:
    """What decided, for a table that has no room for the figures."""
    return metric_comparisons(model, policy, (Band.REVIEW, Band.DROP, Band.INVALID))


def figure_text(gate: Gate, value: float | None, band: Band) -> str:
    """Four digits, and more if fewer would show a figure of another band: 0.69999 is not 0.7."""
    if value is None:
        return "-"
    texts = (f"{value:.{digits}g}" for digits in range(4, 17))
    return next((text for text in texts if gate.band(float(text)) is band), repr(value))


def _why(model: Assessment, policy: Policy) -> str:
    missed = [
        SHORT.get(gate.metric, gate.label)
        for gate, band in zip(policy.gates, model.bands, strict=True)
        if band is Band.REVIEW and model.classification is Classification.REVIEW
    ]
    review = [f"review {'+'.join(missed)}"] if missed else []
    listed = " ".join([*review, *model.flags, *model.remarks])
    return "; ".join(filter(None, (listed, str(checkpoint_advice(model, policy)))))
