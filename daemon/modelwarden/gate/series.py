"""A model's lists over its validation points, held against what else its entry says.

The rule: nothing here refuses a summary. A field that is no list of numbers says nothing; two that say different
things of one figure are a contradiction, which is told with both places and both values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

from modelwarden.gate.gates import Gate, series_field
from modelwarden.gate.policy import Policy
from modelwarden.gate.soundness import LONGEST_NAME


class Fields(NamedTuple):
    """What the summary's two layouts call what a policy looks for.

    Attributes:
        gates: of the policy, in its order.
        flat: the final figures in the flat layout.
        lists: what a list over validation points may be called: one a gate, in their order, and the history's.
        series: the same names.
        history_series: the list that is the history's course; None if the policy has none.
        history_field: the same in the flat layout.
        history_at: where its metric stands among the gates; None if it has none.
        known_flat: all fields of the flat layout.
        known_of_model: the same with all else that a model may hold.
    """

    gates: Sequence[Gate]
    flat: frozenset[str]
    lists: Sequence[str]
    series: frozenset[str]
    history_series: str | None
    history_field: str | None
    history_at: int | None
    known_flat: frozenset[str]
    known_of_model: frozenset[str]


_OF_ANY_MODEL: Final = frozenset({"symbol", "metrics", "validation_metrics", "checkpoints", "validation_interval"})


@lru_cache(maxsize=64)
def fields_of(policy: Policy) -> Fields:
    """The names that a policy looks for in a summary."""
    flat = frozenset(gate.argument for gate in policy.gates)
    lists = [gate.series for gate in policy.gates]
    if policy.history is None:
        return Fields(policy.gates, flat, lists, frozenset(lists), None, None, None, flat, flat | _OF_ANY_MODEL)
    series, field = series_field(policy.history), f"{policy.history}_history"
    if series not in lists:
        lists.append(series)
    known = flat | {field}
    return Fields(
        policy.gates,
        flat,
        lists,
        frozenset(lists),
        series,
        field,
        policy.history_position,
        known,
        known | _OF_ANY_MODEL,
    )


AGREEMENT: Final = 1e-6
"""Two figures agree that differ by no more than this share: what single precision, or seven printed digits, leave.
Nothing else is compared with this allowance; a bound never is."""

MOST_OTHERS: Final = 64
"""Figures without a gate that are kept of a model."""

_NONE: Final[Mapping[str, float]] = {}

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


def figures_at(lists: Lists, history: Sequence[float], index: int, policy: Policy) -> tuple[float | None, ...] | None:
    """The figure per gate at one validation point; None if the lists do not tell all of them.

    A list that is missing, or that has not one point for each of the history, tells nothing. One that has the point and
    no number there tells that the figure is missing.
    """
    figures: list[float | None] = []
    history_series = fields_of(policy).history_series
    for gate in policy.gates:
        points = history if gate.series == history_series else lists.get(gate.series)
        if not isinstance(points, list) or len(points) != len(history):
            return None
        figures.append(_figure(points[index]))
    return tuple(figures)


def figures_at_best(lists: Lists, history: Sequence[float], index: int, policy: Policy) -> tuple[float | None, ...]:
    """The figure per gate at the history's best point, for a policy that judges there.

    A number in the place of a list is the figure itself. A list that does not have the point tells nothing: the figure
    is missing, and never that of another point.
    """
    figures: list[float | None] = []
    history_series = fields_of(policy).history_series
    for gate in policy.gates:
        points = history if gate.series == history_series else lists.get(gate.series)
        if isinstance(points, list):
            figures.append(_figure(points[index]) if len(points) == len(history) else None)
        else:
            figures.append(_figure(points))
    return tuple(figures)


def contradictions_of_lists(name: str, lists: Lists, history: object, fields: Fields) -> tuple[str, ...]:
    """What a model in the layout of lists says twice, and differently.

    Args:
        name: of the object of lists.
        lists: those.
        history: what stands as a flat history beside them, if anything.
        fields: whose lists count.
    """
    counts = [len(points) for series in fields.lists if isinstance(points := lists.get(series), list)]
    if history is None and counts.count(counts[0] if counts else 0) == len(counts):
        return ()  # nearly always
    return tuple(_lengths_and_ends(name, lists, number_list(history), fields))


def contradictions_of_figures(
    values: Sequence[float | None], history: object, name: str, lists: Lists, fields: Fields
) -> tuple[str, ...]:
    """What a model in the flat layout says twice, and differently.

    Args:
        values: its final figures, one a gate.
        history: its flat history as it was written, if there is one.
        name: of the object of lists beside them.
        lists: those; empty if there are none.
        fields: of the figures and the lists.
    """
    points_of_history = number_list(history)
    found: list[str] = []
    for gate, value in zip(fields.gates, values, strict=True):
        courses = {f"{name}.{gate.series}": number_list(lists.get(gate.series))}
        if gate.series == fields.history_series:
            courses[str(fields.history_field)] = points_of_history
        found += [
            f"{gate.argument} is {_shown(value)}, but {place} ends at {_shown(points[-1])}"
            for place, points in courses.items()
            if points and _differ(value, points[-1])
        ]
        beside = _figure(lists.get(gate.series))
        if _differ(value, beside):
            found.append(f"{gate.argument} is {_shown(value)}, but {name}.{gate.series} is {_shown(beside)}")
    found += _lengths_and_ends(name, lists, points_of_history, fields)
    return tuple(found)


def _lengths_and_ends(name: str, lists: Lists, history: Sequence[float | None] | None, fields: Fields) -> Iterator[str]:
    """Lists of different lengths, and a flat history that ends elsewhere than the list of it."""
    counts = {
        f"{name}.{each}": len(points) for each in fields.lists if (points := number_list(lists.get(each))) is not None
    }
    field, series = fields.history_field, fields.history_series
    if history is not None and field is not None:
        counts[field] = len(history)
    if counts:
        (first, length), *others = counts.items()
        for place, count in others:
            if count != length:
                yield f"{first} has {_of_points(length)}, but {place} has {count}"
    listed = number_list(lists.get(series)) if series is not None else None
    if history and listed and _differ(history[-1], listed[-1]):
        yield f"{field} ends at {_shown(history[-1])}, but {name}.{series} ends at {_shown(listed[-1])}"


def _of_points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _differ(one: float | None, other: float | None) -> bool:
    """Whether two figures can't both be true. A missing one contradicts nothing; NaN is a figure unlike all others."""
    if one is None or other is None or one == other:
        return False
    if math.isnan(one) or math.isnan(other):
        return not (math.isnan(one) and math.isnan(other))
    return not math.isclose(one, other, rel_tol=AGREEMENT, abs_tol=_NEAR_ZERO)


def other_figures(entry: Mapping[str, Any], lists: Lists, fields: Fields) -> Mapping[str, float]:
    """The final figures of metrics that no gate names: `final_` fields, and what the object of lists holds beside."""
    if entry.keys() <= fields.known_of_model and lists.keys() <= fields.series:
        return _NONE  # nearly always
    found: dict[str, float] = {}
    for name, value in entry.items():
        if name[:6] == "final_" and name not in fields.flat and (figure := _figure(value)) is not None:
            found[name[6:]] = figure
    for name, value in lists.items():
        if name not in fields.series:
            figure = _figure(value[-1] if isinstance(value, list) and value else value)
            if figure is not None:
                found[name] = figure
    fit = ((name, figure) for name, figure in found.items() if 1 <= len(name) <= LONGEST_NAME and name.isprintable())
    return dict(islice(fit, MOST_OTHERS))


def _figure(point: object) -> float | None:
    if isinstance(point, bool) or not isinstance(point, int | float):
        return None
    try:
        return float(point)
    except OverflowError:
        return math.inf if point > 0 else -math.inf


def _shown(figure: float | None) -> str:
    return "NaN" if figure is not None and math.isnan(figure) else repr(figure)
