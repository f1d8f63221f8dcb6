"""From the messages that one send stands for to what it says: what is asked of the outbox and the catalog for it.

The rule: of many models those are loaded that a message may name, and the others are counted. Who stands in for another
says for whom, and what that one asked for.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from modelwarden.gate.assessment import CHANGED, CLASSIFICATIONS, Assessment, Classification
from modelwarden.sinks.chat.digest import (
    MODELS_NAMED,
    RUNS_NAMED,
    Message,
    ModelChange,
    RunNews,
    many_runs_message,
    problem_message,
    rejected_message,
    reviewed_message,
    run_message,
    series_of,
)
from modelwarden.state.catalog import Catalog, Change, RunTally
from modelwarden.state.messages import Bundle, Kind, is_chosen

ALL_MODELS = -1

GONE: Final = "gone: the run is not in the archive any more"
"""What stands in the place of a report's path."""


class _Asked(NamedTuple):
    """What of which runs a message is to say; the same for many destinations."""

    runs: tuple[int, ...]
    on: frozenset[str]
    symbols: tuple[str, ...]
    pictured: bool


class _Changes(NamedTuple):
    """What changed in a run: the changes that a message may name, and how many there are by the class now."""

    named: Sequence[ModelChange]
    counts: Mapping[Classification, int]


class Composer:
    """Composes messages.

    Args:
        catalog: has the runs.
        report_path: from a run's name to the path of its report.
    """

    def __init__(
        self,
        catalog: Catalog,
        report_path: Callable[[str], str],
    ) -> None:
        self._catalog = catalog
        self._report_path = report_path
        self._loaded: dict[_Asked, Sequence[RunNews]] = {}

    def start_over(self) -> None:
        """Let go of what was loaded for one destination and kept for the next."""
        self._loaded.clear()

    def compose(
        self, bundle: Bundle, on: Collection[str], symbols: Sequence[str], *, takes_pictures: bool
    ) -> tuple[Message, RunNews | None] | None:
        """The message that stands for these, and the run of which it wants a picture; None if a run is not known.

        Args:
            bundle: what it stands for.
            on: classifications and kinds that were asked for, by whom it was owed first.
            symbols: shell patterns of the models, likewise.
            takes_pictures: whether the service does.
        """
        first, repeated, meant_for = bundle.first, bundle.repeated, bundle.first.stands_for
        if first.kind is not Kind.RUN:
            message = _COMPOSERS[first.kind](bundle.texts, repeated=repeated, stands_for=meant_for)
            return message._replace(mark=_mark(bundle)), None
        # Every other try goes without a picture: it may be what the service refuses.
        wants_picture = (
            len(bundle.runs) == 1 and Classification.APPROVED in on and takes_pictures and bundle.attempts % 2 == 0
        )
        news = self._news(bundle.runs, on, symbols, pictured=wants_picture)
        if len(news) < len(bundle.runs):
            return None
        if len(bundle.runs) > 1:
            message = many_runs_message(news, on, repeated=repeated, stands_for=meant_for)
        else:
            message = run_message(news[0], on, repeated=repeated, stands_for=meant_for)
        return message._replace(mark=_mark(bundle)), news[0] if wants_picture else None

    def _news(
        self, runs: Sequence[int], on: Collection[str], symbols: Sequence[str], *, pictured: bool
    ) -> Sequence[RunNews]:
        """The runs with exact counts, and with as many of their models as a message may name."""
        topics = frozenset(each for each in (*CLASSIFICATIONS, CHANGED) if each in on)
        asked = _Asked(tuple(runs), topics, tuple(symbols), pictured)
        if asked not in self._loaded:
            self._loaded[asked] = self._load(asked)
        return self._loaded[asked]

    def _load(self, asked: _Asked) -> Sequence[RunNews]:
        def chosen(symbol: str) -> bool:
            return is_chosen(symbol, asked.symbols)

        fits = None if "*" in asked.symbols else chosen
        most = RUNS_NAMED if len(asked.runs) > 1 else MODELS_NAMED
        left = dict.fromkeys(asked.on, most)
        if asked.pictured:
            left[Classification.APPROVED] = ALL_MODELS
        tallies = self._catalog.tallies(asked.runs, fits)
        changes = self._changes(asked, fits, most, {each.key: each for each in tallies})
        news = []
        for tally in tallies:
            run, counts = tally.run, tally.counts
            models: list[Assessment] = []
            for each in CLASSIFICATIONS:
                if counts[each] and left.get(each):
                    found = self._catalog.first(tally, each, fits, left[each])
                    if left[each] != ALL_MODELS:
                        left[each] -= len(found)
                    models += found
            changed = changes.get(tally.key, _Changes((), Counter()))
            news.append(
                RunNews(
                    timestamp=run.timestamp,
                    run_name=run.run_name,
                    host=run.archived_by,
                    report=self._report_path(run.timestamp) if tally.is_there else GONE,
                    counts=counts,
                    policy=run.policy,
                    assessments=models,
                    series=series_of(run.run_name, run.source.path),
                    changes=changed.named,
                    changed=changed.counts,
                    supersedes=run.supersedes,
                )
            )
        return news

    def _changes(
        self, asked: _Asked, fits: Callable[[str], bool] | None, most: int, runs: Mapping[int, RunTally]
    ) -> Mapping[int, _Changes]:
        """What changed, by the key of the run in which it did; of the changes those named that a message may name."""
        found = [
            change
            for change in self._catalog.changes(asked.runs)
            if (fits is None or fits(change.symbol)) and asked.on & {CHANGED, change.now, change.before}
        ]
        by_run: dict[int, list[Change]] = {}
        for change in found:
            by_run.setdefault(change.run, []).append(change)
        changes = {}
        for key, here in by_run.items():
            named = here[:most]
            most -= len(named)
            models = self._catalog.at(runs[key], [change.position for change in named])
            changes[key] = _Changes(
                tuple(
                    ModelChange(model, change.before, change.other_policy)
                    for model, change in zip(models, named, strict=True)
                ),
                Counter(change.now for change in here),
            )
        return changes


_COMPOSERS: Final = {
    Kind.REJECTED: rejected_message,
    Kind.PROBLEM: problem_message,
    Kind.REVIEWED: reviewed_message,
}


def _mark(bundle: Bundle) -> str:
    """Eight hex digits that say which event it is: the first of the summary's sha256 if it is about a summary."""
    if bundle.first.kind is Kind.PROBLEM:
        return hashlib.sha256(bundle.first.event.encode()).hexdigest()[:8]
    return bundle.first.event.partition(":")[2][:8]
