"""The picture of a run: the fitness histories of its approved models, as a PNG for services that take attachments.

The rule: matplotlib is optional and heavy, so it is imported when a picture is wanted and nothing fails without it; a
symbol is a stranger's text, never mathematics, and what the font can't draw is written as an escape.
"""

from collections.abc import Collection, Sequence
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from modelwarden.gate.assessment import Assessment, Classification
from modelwarden.gate.deployment import advises_checkpoint
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.page import clipped, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 1000
HEIGHT: Final = 500
"""Pixels of the picture."""

MOST_LINES: Final = 12
"""More can't be told apart."""

_DPI: Final = 100
_LEFT, _BOTTOM, _TALL = 0.065, 0.11, 0.77
"""Where the axes begin and how high they are, as shares of the picture; labels stand to the right of them."""

_LABEL_STEP: Final = 0.046
"""Between two labels, as a share of the axes' height."""

_GAP: Final = 0.014
"""Before each part of a label and after the last, as a share of the width."""

_NARROWEST: Final = 0.3
"""The axes' least width, whatever the names."""

_LETTERS: Final = 9
_LONGEST_NAME: Final = 16
_LONGEST_CHECKPOINT: Final = 13
_STRETCHES: Final = 500
"""A longer history is drawn by the lowest and the highest point of so many stretches: the pixels have no more."""

_FARTHEST: Final = 1e100
"""A point beyond this is left out: the axis that reaches it would overflow."""

_LEADER: Final = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.5, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
_LARGE: Final = 1000.0
"""From here on a figure is written with an exponent."""

_INK: Final = "#24292f"
_FAINT: Final = "#6e7781"
_COLOURS: Final = (
    *("#0072b2", "#d55e00", "#00805e", "#b0559b", "#7a5195", "#8c564b"),
    *("#2f4b7c", "#96700a", "#c62828", "#117a8b", "#4f7d24", "#606060"),
)
"""One a line, dark enough on white to write its name in."""


class _Line(NamedTuple):
    """One model's history as it is drawn.

    Attributes:
        model: whose it is.
        points: index and fitness; at least one.
        peak: the highest, as the gate has it; None if it is not drawn.
    """

    model: Assessment
    points: Sequence[tuple[int, float]]
    peak: tuple[int, float] | None

    @property
    def last(self) -> tuple[int, float]:
        """Where the line ends."""
        return self.points[-1]


class _Label(NamedTuple):
    """What stands beside a line's end, a text each: the font's reading direction must not mix them.

    Attributes:
        figure: the final fitness.
        name: the symbol.
        checkpoint: the one to use instead of the last; "" if it is the last.
    """

    figure: str
    name: str
    checkpoint: str


def fitness_plot(news: RunNews) -> bytes | None:
    """A PNG of WIDTH x HEIGHT pixels; None if matplotlib is not installed or no approved model has a history.

    Of many models those are drawn that have an earlier checkpoint to use, then those that end highest.
    """
    approved = _approved(news)
    lines = [line for line in map(_line_of, approved) if line is not None]
    if not lines:
        return None
    try:
        return _picture(news, lines[:MOST_LINES], len(approved))
    except ImportError:
        return None


def caption_of(news: RunNews) -> str:
    """What `fitness_plot` shows, in words; the same also without the histories."""
    approved = _approved(news)
    drawn = [model for model in approved if model.best_idx is not None][:MOST_LINES]
    some = "" if len(drawn) == len(approved) else f" {len(drawn)} of {len(approved)}"
    named = ", ".join(
        f"{clipped(shown(each.symbol), _LONGEST_NAME)} {_figure(_final(each, news.policy))}" for each in drawn
    )
    gate = _history_gate(news)
    marks = "A circle is a peak"
    if gate is not None:
        marks = f"The dashed line is the bound of APPROVED, {gate.approve:g}; a circle is a peak"
    if any(map(advises_checkpoint, drawn)):
        marks += ", a diamond one to use instead of the last checkpoint"
    label = news.policy.history_label
    what = f"{label[:1].upper()}{label[1:]} of{some} approved models over the validation points"
    return f"{what}, with the last figure: {named}. {marks}."


def _history_gate(news: RunNews) -> Gate | None:
    """The gate of the metric that is drawn; None if the policy does not bound it."""
    at = news.policy.history_position
    return None if at is None else news.policy.gates[at]


def _approved(news: RunNews) -> list[Assessment]:
    """The approved models, those first that are drawn first."""
    approved = [model for model in news.assessments if model.classification is Classification.APPROVED]
    sign = -1 if news.policy.history_better is Better.HIGHER else 1
    return sorted(approved, key=lambda model: (not advises_checkpoint(model), sign * _final(model, news.policy)))


def _line_of(model: Assessment) -> _Line | None:
    points = [(at, point) for at, point in enumerate(model.history) if abs(point) <= _FARTHEST]  # NaN is not
    peak = next((point for point in points if point[0] == model.best_idx), None)
    return _Line(model, points, peak) if points else None


def _final(model: Assessment, policy: Policy) -> float:
    """The figure of the history's metric that was judged; if it has no gate, the last point, as far as it is known."""
    if (at := policy.history_position) is not None:
        return model.values[at] or 0.0
    return model.history[-1] if model.history and abs(model.history[-1]) <= _FARTHEST else model.peak or 0.0


def _figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) < _LARGE else f"{value:.2g}"


def _picture(news: RunNews, lines: Sequence[_Line], approved: int) -> bytes:
    # The figure's own classes and not pyplot, which keeps every figure and looks for a screen.
    import matplotlib as mpl  # noqa: PLC0415 - optional and heavy
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a matplotlibrc says: with usetex, a symbol would be a program
        figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        labels = _labels(lines, news.policy, get_font(findfont(FontProperties())).get_charmap())
        columns = _columns(figure, labels)
        axes = figure.add_axes((_LEFT, _BOTTOM, max(_NARROWEST, columns[0] - _GAP - _LEFT), _TALL))
        _dress(axes, news, lines, approved)
        heights = _label_heights(axes, lines)
        for line, label, colour, height in zip(lines, labels, _COLOURS, heights, strict=False):
            _draw(axes, line, colour)
            _write(axes, line, label, colour, height, columns)
        picture = BytesIO()
        figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()


def _dress(axes: "Axes", news: RunNews, lines: Sequence[_Line], approved: int) -> None:
    """Title, scales, the bound, and what the marks mean."""
    gate = _history_gate(news)
    bound = None if gate is None else max(-_FARTHEST, min(gate.approve, _FARTHEST))
    heights = [*([] if bound is None else [bound]), *(point for line in lines for _, point in line.points)]
    low, high = min(heights), max(heights)
    margin = 0.06 * (high - low) or max(0.05 * abs(high), 0.05)
    axes.set_ylim(low - margin, high + margin)
    last = max(line.last[0] for line in lines) + 1
    axes.set_xlim(1 - 0.01 * last, last + 0.01 * last)
    axes.locator_params(axis="x", integer=True)
    axes.ticklabel_format(useOffset=False)
    axes.yaxis.get_offset_text().set_horizontalalignment("right")
    axes.tick_params(colors=_FAINT, labelsize=_LETTERS, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.set_xlabel("validation point", color=_FAINT, fontsize=_LETTERS)
    axes.set_ylabel(news.policy.history_label, color=_FAINT, fontsize=_LETTERS)
    if bound is not None:
        axes.axhline(bound, color=_FAINT, linewidth=1, linestyle=(0, (4, 4)))
    some = "" if len(lines) == approved else f" ({len(lines)} of {approved})"
    title = f"Run {shown(news.timestamp)}: {news.policy.history_label} of the approved models{some}"
    axes.text(0, 1.07, title, transform=axes.transAxes, color=_INK, fontsize=12, weight="bold", parse_math=False)
    marks = "\N{WHITE CIRCLE} peak"
    if gate is not None:
        marks = f"- - approved {'from' if gate.better is Better.HIGHER else 'to'} {bound:g}    {marks}"
    if any(advises_checkpoint(line.model) for line in lines):
        marks += "    \N{BLACK DIAMOND} peak to use instead of the last checkpoint"
    axes.text(0, 1.02, marks, transform=axes.transAxes, color=_FAINT, fontsize=_LETTERS, parse_math=False)


def _draw(axes: "Axes", line: _Line, colour: str) -> None:
    points = _thinned(line.points)
    axes.plot(
        [at + 1 for at, _ in points],
        [point for _, point in points],
        color=colour,
        linewidth=1.6,
        marker="." if len(points) == 1 else None,
    )
    if line.peak is not None:
        at, point = line.peak
        marker, size, face = ("D", 7, colour) if advises_checkpoint(line.model) else ("o", 6, "white")
        axes.plot([at + 1], [point], marker, markersize=size, markerfacecolor=face, markeredgecolor=colour, zorder=3)


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """The points, or of many the lowest and the highest of each stretch: no peak and no fall is lost."""
    if len(points) <= 2 * _STRETCHES:
        return points
    edges = [len(points) * step // _STRETCHES for step in range(_STRETCHES + 1)]
    kept = set()
    for start, end in pairwise(edges):
        stretch = points[start:end]
        kept |= {min(stretch, key=_height), max(stretch, key=_height)}
    return sorted(kept | {points[0], points[-1]})


def _height(point: tuple[int, float]) -> float:
    return point[1]


def _label_heights(axes: "Axes", lines: Sequence[_Line]) -> list[float]:
    """Where each label stands, as a share of the axes' height: beside its line's end, and clear of the others."""
    low, high = axes.get_ylim()
    heights = [(line.last[1] - low) / (high - low) for line in lines]
    order = sorted(range(len(lines)), key=lambda at: heights[at])
    for below, above in pairwise(order):
        heights[above] = max(heights[above], heights[below] + _LABEL_STEP)
    heights[order[-1]] = min(heights[order[-1]], 1.0)
    for above, below in pairwise(reversed(order)):
        heights[below] = min(heights[below], heights[above] - _LABEL_STEP)
    return heights


def _write(axes: "Axes", line: _Line, label: _Label, colour: str, height: float, columns: Sequence[float]) -> None:
    """The label in the line's colour, with a thin line to where its line ends."""
    height = _BOTTOM + _TALL * height
    at, point = line.last
    axes.annotate(
        label.figure,
        xy=(at + 1, point),
        xytext=(columns[0], height),
        textcoords="figure fraction",
        color=colour,
        fontsize=_LETTERS,
        verticalalignment="center",
        annotation_clip=False,
        arrowprops=_LEADER | {"color": colour},
    )
    for text, start in zip(label[1:], columns[1:], strict=True):
        axes.figure.text(
            start, height, text, color=colour, fontsize=_LETTERS, verticalalignment="center", parse_math=False
        )


def _labels(lines: Sequence[_Line], policy: Policy, glyphs: Collection[int]) -> list[_Label]:
    return [
        _Label(
            figure=_figure(_final(line.model, policy)),
            name=_drawable(line.model.symbol, glyphs, _LONGEST_NAME),
            checkpoint=_checkpoint(line.model, glyphs),
        )
        for line in lines
    ]


def _columns(figure: "Figure", labels: Sequence[_Label]) -> list[float]:
    """Where each part of the labels begins, as a share of the picture's width; the last ends at its edge."""
    edge, starts = 1.0, []
    for part in reversed(list(zip(*labels, strict=True))):
        edge -= max(_width(figure, text) for text in part) + _GAP
        starts.append(edge)
    return starts[::-1]


def _width(figure: "Figure", text: str) -> float:
    written = figure.text(0, 0, text, fontsize=_LETTERS, parse_math=False)
    width = written.get_window_extent().width
    written.remove()
    return width / WIDTH


def _checkpoint(model: Assessment, glyphs: Collection[int]) -> str:
    if not advises_checkpoint(model):
        return ""
    known = model.checkpoint_update
    name = f"point {(model.best_idx or 0) + 1}" if known is None else str(known)
    return f"\N{BLACK DIAMOND} {_drawable(name, glyphs, _LONGEST_CHECKPOINT)}"


def _drawable(text: str, glyphs: Collection[int], longest: int) -> str:
    """The text as the font can draw it, cut to so many characters."""
    escaped = "".join(each if ord(each) in glyphs else f"\\u{ord(each):04x}" for each in shown(text))
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 1]}…"
