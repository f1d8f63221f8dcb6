"""A model's lists over its validation points, held against what else its entry says.

The rule: nothing here refuses a summary. A field that is no list of numbers says nothing; two that say different
things of one figure are a contradiction, which is told with both places and both values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from modelwarden.gate.policy import MetricGate

HISTORY_SERIES: Final = "fitness_score"
"""The list over validation points that is the fitness history."""

HISTORY_FIELD: Final = "fitness_history"
"""The fitness history in the flat layout."""

AGREEMENT: Final = 1e-6
"""Two figures agree that differ by no more than this share: what single precision, or seven printed digits, leave.
Nothing else is compared with this allowance; a bound never is."""

_NEAR_ZERO: Final = 1e-9
"""And two so near to each other agree, for a share of nothing is nothing."""

Lists = Mapping[str, Any]
"""A model's `metrics` or `validation_metrics`, as the trainer wrote them: any values under any names."""


def number_list(points: object) -> Sequence[float | None] | None:
    """The points if they are a list of numbers and nulls, else None. A whole number beyond floats is infinite."""
    if not isinstance(points, list):
        return None
    if set(map(type, points)) <= {float}:
        return points
    if any(isinstance(point, bool) or not isinstance(point, int | float | None) for point in points):
        return None
    return [_figure(point) for point in points]


def figures_at(
    lists: Lists, history: Sequence[float], index: int, gates: Sequence[MetricGate]
) -> tuple[float | None, ...] | None:
    """The figure per gate at one validation point; None if the lists do not tell all of them.

    A list that is missing, or that has not one point for each of the history, tells nothing. One that has the point and
    no number there tells that the figure is missing.
    """
    figures: list[float | None] = []
    for gate in gates:
        points = history if gate.series == HISTORY_SERIES else lists.get(gate.series)
        if not isinstance(points, list) or len(points) != len(history):
            return None
        figures.append(_figure(points[index]))
    return tuple(figures)


def contradictions_of_lists(name: str, lists: Lists, history: object, gates: Sequence[MetricGate]) -> tuple[str, ...]:
    """What a model in the layout of lists says twice, and differently.

    Args:
        name: of the object of lists.
        lists: those.
        history: what stands as a flat history beside them, if anything.
        gates: whose lists count.
    """
    counts = [len(points) for gate in gates if isinstance(points := lists.get(gate.series), list)]
    if history is None and counts.count(counts[0] if counts else 0) == len(counts):
        return ()  # nearly always
    return tuple(_lengths_and_ends(name, lists, number_list(history), gates))


def contradictions_of_figures(
    values: Sequence[float | None], history: object, name: str, lists: Lists, gates: Sequence[MetricGate]
) -> tuple[str, ...]:
    """What a model in the flat layout says twice, and differently.

    Args:
        values: its final figures, one a gate.
        history: its flat history as it was written, if there is one.
        name: of the object of lists beside them.
        lists: those; empty if there are none.
        gates: of the figures and the lists.
    """
    points_of_history = number_list(history)
    found: list[str] = []
    for gate, value in zip(gates, values, strict=True):
        courses = {f"{name}.{gate.series}": number_list(lists.get(gate.series))}
        if gate.series == HISTORY_SERIES:
            courses[HISTORY_FIELD] = points_of_history
        found += [
            f"{gate.argument} is {_shown(value)}, but {place} ends at {_shown(points[-1])}"
            for place, points in courses.items()
            if points and _differ(value, points[-1])
        ]
    found += _lengths_and_ends(name, lists, points_of_history, gates)
    return tuple(found)


def _lengths_and_ends(
    name: str, lists: Lists, history: Sequence[float | None] | None, gates: Sequence[MetricGate]
) -> Iterator[str]:
    """Lists of different lengths, and a flat history that ends elsewhere than the list of it."""
    counts = {
        f"{name}.{gate.series}": len(points)
        for gate in gates
        if (points := number_list(lists.get(gate.series))) is not None
    }
    if history is not None:
        counts[HISTORY_FIELD] = len(history)
    if counts:
        (first, length), *others = counts.items()
        for place, count in others:
            if count != length:
                yield f"{first} has {_of_points(length)}, but {place} has {count}"
    listed = number_list(lists.get(HISTORY_SERIES))
    if history and listed and _differ(history[-1], listed[-1]):
        yield (
            f"{HISTORY_FIELD} ends at {_shown(history[-1])}, but {name}.{HISTORY_SERIES} ends at {_shown(listed[-1])}"
        )


def _of_points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _differ(one: float | None, other: float | None) -> bool:
    """Whether two figures can't both be true. A missing one contradicts nothing; NaN is a figure unlike all others."""
    if one is None or other is None or one == other:
        return False
    if math.isnan(one) or math.isnan(other):
        return not (math.isnan(one) and math.isnan(other))
    return not math.isclose(one, other, rel_tol=AGREEMENT, abs_tol=_NEAR_ZERO)


def _figure(point: object) -> float | None:
    if isinstance(point, bool) or not isinstance(point, int | float):
        return None
    try:
        return float(point)
    except OverflowError:
        return math.inf if point > 0 else -math.inf


def _shown(figure: float | None) -> str:
    return "NaN" if figure is not None and math.isnan(figure) else repr(figure)
