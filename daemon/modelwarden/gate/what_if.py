"""What another policy would make of models that were judged: who would change class, and which gate decides. Pure.

The rule: the gate itself judges. A class follows from the bands and from what caps it, so of the models that agree in
these one is judged, and counts for all.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from modelwarden.gate.assessment import CLASSIFICATIONS, Band, Classification
from modelwarden.gate.gates import Gate
from modelwarden.gate.gating import judge
from modelwarden.gate.policy import Policy

Judged = tuple[str, int, Sequence[float | None] | None, float | None, bool]
"""A model that was judged: its symbol, its class as a place in CLASSIFICATIONS, its figures, one a gate of the policy
that is tried (None: its run knows none of that policy's metrics), its run's reward scale, and whether its summary says
two different things of it."""

Move = tuple[Classification, Classification]
"""From the class that a model was given to the one that it would have."""


@dataclass
class GateCount:
    """How often a gate keeps models from a better class under the policy that is tried.

    Attributes:
        review: models in REVIEW that this gate keeps from APPROVED.
        drop: models in DROP that it keeps from REVIEW.
        alone: those of both that no other gate keeps there.
    """

    review: int = 0
    drop: int = 0
    alone: int = 0


@dataclass
class WhatIf:
    """What a policy comes to.

    Attributes:
        assessments: how many models were looked at, one a run and symbol.
        foreign: how many have none of the policy's metrics: it has nothing to say of them, and they count nowhere else.
        before: how many were given each class.
        after: how many would be in each.
        moves: how many would go from one class to another.
        gates: by metric, how often its gate decides.
        symbols: by symbol and move, in how many runs.
    """

    assessments: int = 0
    foreign: int = 0
    before: Counter[Classification] = field(default_factory=Counter)
    after: Counter[Classification] = field(default_factory=Counter)
    moves: Counter[Move] = field(default_factory=Counter)
    gates: dict[str, GateCount] = field(default_factory=dict)
    symbols: Counter[tuple[str, Move]] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        """How many would change class."""
        return sum(self.moves.values())


class Step(NamedTuple):
    """A bound that is tried in a sweep, and what it comes to.

    Attributes:
        bound: the bound.
        after: how many models would be in each class.
        changed: how many would change class.
        problem: why no policy can have that bound; "" if one can.
    """

    bound: float
    after: Mapping[Classification, int]
    changed: int
    problem: str = ""


_INVALID, _REVIEW, _DROP = Band.INVALID, Band.REVIEW, Band.DROP


def try_policy(models: Iterable[Judged], policy: Policy) -> WhatIf:
    """What a policy would make of these models."""
    found = WhatIf(gates={metric: GateCount() for metric in policy.metrics})
    groups: dict[tuple[object, ...], _Alike] = {}
    functions: dict[str, Callable[[Sequence[float | None]], tuple[Band, ...]]] = {}
    symbols: dict[tuple[str, int, int], int] = {}
    bands_of, overridden, foreign = _bands_of(policy.gates), bool(policy.overrides), 0
    for symbol, code, values, scale, contradicted in models:
        if values is None:
            foreign += 1
            continue
        if overridden:
            if (function := functions.get(symbol)) is None:
                function = functions[symbol] = _bands_of(policy.for_symbol(symbol).gates)
            bands_of = function
        bands = bands_of(values)
        key = (code, bands, scale, contradicted)
        alike = groups.get(key)
        if alike is None:
            bounds = policy.for_symbol(symbol) if overridden else policy
            verdict = judge(values, None, None, scale, bounds, contradicted=contradicted)
            alike = groups[key] = _Alike(code, bands, CLASSIFICATIONS.index(verdict.classification))
        alike.count += 1
        if alike.now != code:
            change = (symbol, code, alike.now)
            symbols[change] = symbols.get(change, 0) + 1
    found.foreign = foreign
    for alike in groups.values():
        _count(found, policy, CLASSIFICATIONS[alike.code], alike.bands, CLASSIFICATIONS[alike.now], alike.count)
    for (symbol, code, now), count in symbols.items():
        found.symbols[symbol, (CLASSIFICATIONS[code], CLASSIFICATIONS[now])] = count
    found.assessments = sum(alike.count for alike in groups.values()) + foreign
    return found


class _Alike:
    """Models of one class that agree in all that decides.

    Attributes:
        code: the class that they were given.
        bands: the bands of their figures under the policy that is tried.
        now: the class that they would have.
        count: how many there are.
    """

    __slots__ = ("bands", "code", "count", "now")

    def __init__(self, code: int, bands: tuple[Band, ...], now: int) -> None:
        self.code = code
        self.bands = bands
        self.now = now
        self.count = 0


def _bands_of(gates: Sequence[Gate]) -> Callable[[Sequence[float | None]], tuple[Band, ...]]:
    """What gives the bands of a model's figures.

    The usual number of gates is written out: this is called millions of times, and a loop costs as much as comparing.
    """
    functions = [gate.band for gate in gates]
    if len(functions) == 4:  # noqa: PLR2004 - the default policy's
        first, second, third, fourth = functions

        def bands_of_four(values: Sequence[float | None]) -> tuple[Band, ...]:
            one, two, three, four = values
            return (first(one), second(two), third(three), fourth(four))

        return bands_of_four
    return lambda values: tuple([band(value) for band, value in zip(functions, values, strict=True)])


def _count(
    found: WhatIf, policy: Policy, before: Classification, bands: Sequence[Band], after: Classification, count: int
) -> None:
    found.before[before] += count
    found.after[after] += count
    if before != after:
        found.moves[before, after] += count
    if after is Classification.APPROVED:
        return
    guilty = {_REVIEW} if after is Classification.REVIEW else {_DROP, _INVALID}
    deciding = [metric for metric, band in zip(policy.metrics, bands, strict=True) if band in guilty]
    for metric in deciding:
        gate = found.gates[metric]
        if after is Classification.REVIEW:
            gate.review += count
        else:
            gate.drop += count
        if len(deciding) == 1:
            gate.alone += count


def with_bound(policy: Policy, metric: str, which: str, bound: float) -> Policy:
    """The policy with another bound of a gate; `which` is approve or review.

    Raises:
        PolicyError: it contradicts itself then.
    """
    gates = tuple(
        gate
        if gate.metric != metric
        else replace(gate, approve=bound)
        if which == "approve"
        else replace(gate, review=bound)
        for gate in policy.gates
    )
    return replace(policy, gates=gates)


def sweep(
    models: Iterable[Judged], policy: Policy, metric: str, which: str, bounds: Sequence[float]
) -> tuple[int, list[Step]]:
    """How many models would be in each class for each of several bounds of one gate, in one pass over the models.

    Args:
        models: as for `try_policy`.
        policy: which has the gate; its other bounds stay.
        metric: of the gate.
        which: approve or review.
        bounds: what is tried.

    Returns:
        How many models were judged, and a step a bound.
    """
    at = policy.metrics.index(metric)
    groups = _gathered(models, policy, at)
    judged = sum(len(group.figures) for group in groups)
    steps = []
    for bound in bounds:
        try:
            tried = with_bound(policy, metric, which, bound)
        except ValueError as error:
            steps.append(Step(bound, {}, 0, str(error)))
            continue
        after: Counter[Classification] = Counter()
        changed = 0
        for group in groups:
            gate_policy = tried.for_symbol(group.symbol) if tried.overrides else tried
            for figure, count in group.by_band(gate_policy.gates[at]):
                values = [*group.values]
                values[at] = figure
                now = judge(
                    values, None, None, group.scale, gate_policy, contradicted=group.contradicted
                ).classification
                after[now] += count
                changed += count if now is not CLASSIFICATIONS[group.code] else 0
        steps.append(Step(bound, after, changed))
    return judged, steps


class _Group:
    """Models that agree in all but one figure.

    Attributes:
        symbol: one of them: the same override fits all.
        code: the class that they were given.
        values: one's figures.
        scale: their run's reward scale.
        contradicted: whether their summaries say two different things of them.
        figures: the figure in which they differ, of each.
    """

    def __init__(
        self, symbol: str, code: int, values: Sequence[float | None], scale: float | None, *, contradicted: bool
    ) -> None:
        self.symbol = symbol
        self.code = code
        self.values = values
        self.scale = scale
        self.contradicted = contradicted
        self.figures: list[float | None] = []
        self._usable: list[float] | None = None
        self._others: list[tuple[float | None, int]] = []

    def by_band(self, gate: Gate) -> Iterator[tuple[float | None, int]]:
        """One figure of each stretch in which the band is the same, and how many lie there."""
        if self._usable is None:
            self._usable = sorted(value for value in self.figures if value is not None and not math.isnan(value))
            missing = self.figures.count(None)
            not_numbers = len(self.figures) - len(self._usable) - missing
            self._others = [each for each in ((None, missing), (math.nan, not_numbers)) if each[1]]
        yield from self._others
        usable = self._usable
        edges = (gate.least, gate.review, gate.approve, gate.most, math.inf)
        cuts = {0, len(usable), *[bisect(usable, edge) for edge in edges for bisect in (bisect_left, bisect_right)]}
        for start, end in pairwise(sorted(cuts)):
            yield usable[start], end - start


def _gathered(models: Iterable[Judged], policy: Policy, at: int) -> list[_Group]:
    groups: dict[tuple[object, ...], _Group] = {}
    resolved: dict[str, Policy] = {}
    bands_of = [gate.band for place, gate in enumerate(policy.gates) if place != at]
    bounds, overridden = policy, bool(policy.overrides)
    for symbol, code, values, scale, contradicted in models:
        if values is None:
            continue
        if overridden:
            if (known := resolved.get(symbol)) is None:
                known = resolved[symbol] = policy.for_symbol(symbol)
            bounds = known
            bands_of = [gate.band for place, gate in enumerate(bounds.gates) if place != at]
        others = (*values[:at], *values[at + 1 :])
        key = (
            id(bounds),
            code,
            scale,
            contradicted,
            *[band(value) for band, value in zip(bands_of, others, strict=True)],
        )
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(symbol, code, values, scale, contradicted=contradicted)
        group.figures.append(values[at])
    return [*groups.values()]
