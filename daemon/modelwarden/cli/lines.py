"""Text in lines of so many columns, and what is wrong as such lines on standard error.

The rule: lines break at blanks, and only a word that is wider than a line is cut up; a pipe gets a line as it is.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from typing import Final

_INDENT: Final = "  "
_USUAL: Final = 80


def counted(count: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`; the number has commas."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def cell_width(text: str) -> int:
    """Columns that a text takes at a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most tables hold nothing wide

    return cell_len(text)


def clipped(text: str, wide: int) -> str:
    """The beginning of a text of more columns than that, to the end of a word if one is near, with a sign for more."""
    if cell_width(text) <= wide:
        return text
    piece = next(_cut(text, wide - 1))
    words, blank, _ = piece.rpartition(" ")
    is_in_word = blank and text[len(piece)] != " " and cell_width(words) * 2 > wide
    return f"{words if is_in_word else piece.rstrip(' ')}…"


def wrapped(text: str, wide: int) -> list[str]:
    """The text in lines of that many columns, broken at blanks; a word that is wider is cut up."""
    if cell_width(text) <= wide:
        return [text]
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cell_width(lines[-1]) + 1 + cell_width(word) <= wide:
            lines[-1] += f" {word}"
            continue
        pieces = [*_cut(word, wide)]
        if lines[-1]:
            lines += pieces
        else:
            lines[-1:] = pieces
    return lines


def _cut(word: str, wide: int) -> Iterator[str]:
    """A word in pieces of that many columns."""
    if cell_width(word) <= wide:
        yield word
        return
    piece, taken = "", 0
    for each in word:
        columns = cell_width(each)
        if piece and taken + columns > wide:
            yield piece
            piece, taken = "", 0
        piece += each
        taken += columns
    yield piece


def hanging(text: str, wide: int) -> list[str]:
    """The text in lines of that many columns, those after the first a little to the right."""
    if cell_width(text) <= wide:
        return [text]
    first, *more = wrapped(text, max(wide - len(_INDENT), 1))
    return [first, *(f"{_INDENT}{each}" for each in more)]


def complain(text: str) -> None:
    """Say on standard error what is wrong; at a terminal no line is wider than it is."""
    for line in text.splitlines():
        lines = hanging(line, _columns()) if sys.stderr.isatty() else [line]
        sys.stderr.write("".join(f"{each}\n" for each in lines))
    sys.stderr.flush()


def _columns() -> int:
    """Columns of standard error, which is the terminal of standard output if that is one."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL
    except OSError:
        return _USUAL
