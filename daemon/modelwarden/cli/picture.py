"""The picture of a symbol's history over the runs: a PNG, a panel a metric, with its bounds.

The rule: matplotlib is optional and heavy, so it is imported when a picture is wanted; a symbol is a stranger's text,
never mathematics.
"""

import math
import os
from collections.abc import Sequence
from typing import Final

from modelwarden.cli.comparing import courses_of
from modelwarden.cli.lines import counted
from modelwarden.durable import refusal
from modelwarden.errors import StopService
from modelwarden.questions import SymbolInRun

_INCHES: Final = (10.0, 1.7)
_DPI: Final = 100
_FARTHEST: Final = 1e100
"""A figure beyond this is left out: the axis that reaches it would overflow."""

_MOST_NAMES: Final = 10
_COLOURS: Final = {"APPROVED": "#1a7f37", "REVIEW": "#9a6700", "DROP": "#cf222e"}


def draw_history(path: str, symbol: str, rows: Sequence[SymbolInRun]) -> None:
    """Write the picture.

    Raises:
        StopService: matplotlib is not installed.
        RetryLater: the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional and heavy
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise StopService(
            "a picture needs matplotlib", where="--png", hint="pip install 'modelwarden[plots]'"
        ) from None
    courses = courses_of(rows)
    figure = Figure(figsize=(_INCHES[0], _INCHES[1] * len(courses) + 0.8), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(courses), 1, sharex=True, squeeze=False)
    figure.suptitle(_plain(f"{symbol}: {counted(len(rows), 'run')}"), parse_math=False)
    colours = [_COLOURS[row.assessment.classification] for row in rows]
    for panel, (gate, values) in zip(panels[:, 0], courses.values(), strict=True):
        shown = [value if math.isfinite(value) and abs(value) < _FARTHEST else math.nan for value in values]
        panel.plot(range(len(shown)), shown, color="#6e7781", linewidth=1)
        panel.scatter(range(len(shown)), shown, color=colours, s=22, zorder=3)
        for bound, colour in ((gate.approve, _COLOURS["APPROVED"]), (gate.review, _COLOURS["DROP"])):
            if abs(bound) < _FARTHEST:
                panel.axhline(bound, color=colour, linewidth=0.8, linestyle="--")
        panel.set_ylabel(_plain(gate.label), parse_math=False)
    step = max(1, math.ceil(len(rows) / _MOST_NAMES))
    panels[-1, 0].set_xticks(range(0, len(rows), step), [row.run for row in rows[::step]], rotation=25, ha="right")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise refusal("write", os.path.abspath(path), error) from error


def _plain(text: str) -> str:
    """What the font that is always there can draw; the rest is written as an escape."""
    return "".join(each if each.isascii() else f"\\u{ord(each):04x}" for each in text)
