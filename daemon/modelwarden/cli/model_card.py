"""One model of a run for a person: each figure on a bar between its bounds, its flags in words, its course.

The rule: the bar and the course only show what the gate decided; nothing is judged here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from modelwarden.archive.report import spark_line
from modelwarden.cli.lines import cell_width, counted, wrapped
from modelwarden.cli.meanings import meaning_of_flag
from modelwarden.cli.screen import styled, visible, width
from modelwarden.cli.tables import BAND_STYLES, figure_text
from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment
from modelwarden.gate.deployment import advises_checkpoint
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice

BAR: Final = 24
"""Columns of a bar; each band has a third."""

_LONGEST_NAME: Final = 16
"""Of a metric; a longer one is broken."""

COURSE: Final = 40
"""Most columns of a course."""

_WIDEST: Final = 100
"""Sentences are no longer than this, however wide the terminal is."""


def card_lines(model: Assessment, policy: Policy, course: Sequence[float]) -> Iterator[str]:
    """The lines below the model's name.

    Args:
        model: its assessment.
        policy: what judged it.
        course: its history; empty if that can't be told.
    """
    policy = policy.for_symbol(model.symbol)
    yield from _figures(model, policy)
    if model.others:
        yield ""
        listed = ", ".join(f"{visible(name)} {value:.4g}" for name, value in model.others.items())
        yield from _hanging("not judged", listed)
    if course:
        yield ""
        yield from _course(model, policy, course)
    if advice := str(checkpoint_advice(model, policy)):
        yield from _hanging("checkpoint", visible(advice))
    for flag in (*model.flags, *model.remarks):
        yield ""
        yield styled(visible(flag), "bold")
        if (meaning := meaning_of_flag(flag, policy)) is not None:
            for line in wrapped(meaning.text, min(width(), _WIDEST) - 2):
                yield f"  {line}"
    if model.reasons:
        yield ""
        yield styled("why", "bold")
    for reason in model.reasons:
        first, *more = wrapped(visible(reason), min(width(), _WIDEST) - 4)
        yield f"  - {first}"
        yield from (f"    {line}" for line in more)


def _hanging(name: str, text: str) -> Iterator[str]:
    first, *more = wrapped(text, max(20, min(width(), _WIDEST) - 12))
    yield f"{name:<12}{first}"
    yield from (f"{'':<12}{line}" for line in more)


def _figures(model: Assessment, policy: Policy) -> Iterator[str]:
    """A line a metric: name, figure, band, bar, bounds; a terminal that is too narrow for the bar does without."""
    rows = [
        (visible(gate.label), figure_text(gate, value, band), band, gate, value)
        for gate, value, band in zip(policy.gates, model.values, model.bands, strict=True)
    ]
    names = min(_LONGEST_NAME, max(cell_width(name) for name, *_ in rows))
    figures = max(len(figure) for _, figure, *_ in rows)
    third = BAR // 3
    zones = " ".join(f"{band:<{third}}" for band in CLASSIFICATIONS[::-1])
    bounds = [[f"{gate.signs[0]} {bound!r}" for bound in (gate.review, gate.approve)] for gate in policy.gates]
    wide = max(len("REVIEW"), *(len(review) for review, _ in bounds))
    longest = max(len("APPROVED"), *(len(approve) for _, approve in bounds))
    is_roomy = sum((names, figures, 8, len(zones), wide, longest)) + 5 * 2 <= width()
    drawn = f"{zones}  " if is_roomy else ""
    yield styled(f"{'':<{names}}  {'':>{figures}}  {'':<8}  {drawn}{'REVIEW':<{wide}}  APPROVED", "dim")
    for (name, figure, band, gate, value), (review, approve) in zip(rows, bounds, strict=True):
        first, *more = wrapped(name, names)
        shown = styled(f"{figure:>{figures}}  {band.value:<8}", BAND_STYLES[band])
        blanks = " " * (names - cell_width(first))
        drawn = f"{bar(gate, value)}  " if is_roomy else ""
        yield f"{first}{blanks}  {shown}  {drawn}{review:<{wide}}  {approve}"
        yield from more


def bar(gate: Gate, value: float | None) -> str:
    """A figure between its bounds: DROP on the left, REVIEW, APPROVED on the right, whichever way it improves."""
    third = BAR // 3
    at = _place(gate, value)
    track = ["─"] * BAR
    if at is not None:
        track[at] = "●"
    zones = zip(("red", "yellow", "green"), (track[:third], track[third : 2 * third], track[2 * third :]), strict=True)
    return "┊".join(styled("".join(zone), style) for style, zone in zones)


def _place(gate: Gate, value: float | None) -> int | None:
    """Where on the bar a figure stands; one beyond an end stands at the end. None if it can't be judged."""
    if value is None or math.isnan(value):
        return None
    third = BAR // 3
    sign = 1.0 if gate.better is Better.HIGHER else -1.0
    value, review, approve = sign * value, sign * gate.review, sign * gate.approve
    step = (approve - review) or max(abs(approve), 1.0)
    if value >= approve:
        share = min(1.0, (value - approve) / step) if math.isfinite(value) else 1.0
        return min(BAR - 1, 2 * third + int(share * third))
    if value >= review:
        return third + min(third - 1, int((value - review) / step * third))
    below = (review - value) / step if math.isfinite(value) else 1.0
    return max(0, third - 1 - int(min(below, 1.0) * (third - 1)))


def _course(model: Assessment, policy: Policy, course: Sequence[float]) -> Iterator[str]:
    """The history as blocks, and below it where the peak is."""
    edges = [len(course) * step // COURSE for step in range(COURSE + 1)] if len(course) > COURSE else None
    points = list(course)
    if edges is not None:
        best = min if policy.history_better is Better.LOWER else max
        stretches = (course[start:end] for start, end in pairwise(edges))
        points = [best((each for each in part if math.isfinite(each)), default=math.nan) for part in stretches]
    usable = [point for point in course if math.isfinite(point)]
    span = f"{usable[0]:.3g} -> {usable[-1]:.3g}, {counted(len(course), 'point')}" if usable else "no usable point"
    line = f"{'course':<12}{spark_line(points)}"
    is_roomy = cell_width(line) + 2 + len(span) <= width()
    yield f"{line}  {span}" if is_roomy else line
    yield from _peak(model, policy, course, edges)
    if not is_roomy:
        yield f"{'':<12}{span}"


def _peak(model: Assessment, policy: Policy, course: Sequence[float], edges: Sequence[int] | None) -> Iterator[str]:
    """Where the best point is, below the course; the edges are those of its stretches."""
    if model.best_idx is None or model.peak is None or model.best_idx >= len(course):
        return
    at = model.best_idx
    if edges is not None:
        at = next(step for step, (start, end) in enumerate(pairwise(edges)) if start <= at < end)
    called = "lowest" if policy.history_better is Better.LOWER else "peak"
    checkpoint = "" if model.checkpoint_update is None else f", checkpoint {visible(str(model.checkpoint_update))}"
    text = f"{called} {model.peak:.4g} at point {model.best_idx + 1}{checkpoint}"
    if advises_checkpoint(model):
        text += ": use this one"
    mark = styled("▲", "green" if advises_checkpoint(model) else "bold")
    room = min(width(), _WIDEST) - 12 - at - 2
    if cell_width(text) <= room:
        yield f"{'':<12}{' ' * at}{mark} {text}"
    elif cell_width(text) + 1 <= at:
        yield f"{'':<12}{' ' * (at - cell_width(text) - 1)}{text} {mark}"
    else:
        yield f"{'':<12}{' ' * at}{mark}"
        yield from (f"{'':<12}{line}" for line in wrapped(text, max(20, min(width(), _WIDEST) - 12)))


def card_json(model: Assessment, policy: Policy) -> Mapping[str, str]:
    """What each flag and remark of the model means."""
    policy = policy.for_symbol(model.symbol)
    found = {flag: meaning_of_flag(flag, policy) for flag in (*model.flags, *model.remarks)}
    return {flag: meaning.text for flag, meaning in found.items() if meaning is not None}
