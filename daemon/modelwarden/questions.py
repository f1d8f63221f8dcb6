"""Questions about an archive: runs, a run, the approved models, a symbol's history, what changed between two runs.

The rule: asking opens nothing for writing, repairs nothing and remembers nothing. The folders are the truth: a run is
read from its own. The catalog answers for all of them only while the archive looks as it did when it had them all, and
else only for runs that index.json and the folders have just so.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from modelwarden.archive.folders import (
    look_of,
    oldest_first,
    read_file,
    read_identity,
    read_index,
    read_record,
    read_run,
    run_names,
)
from modelwarden.archive.identity import difference, stranger
from modelwarden.archive.record import REPORT_FILE
from modelwarden.errors import UnknownRun
from modelwarden.gate.assessment import Assessment, Classification
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import AHEAD, is_run_name
from modelwarden.state.catalog import Catalog, Connected
from modelwarden.state.reading import Unreadable, reading

_T = TypeVar("_T")


class JudgedRun(NamedTuple):
    """A run with its models, in the summary's order, without their histories."""

    record: RunRecord
    models: Sequence[Assessment]

    @property
    def approved(self) -> list[Assessment]:
        """The models that are APPROVED."""
        return [model for model in self.models if model.classification is Classification.APPROVED]


class Runs(NamedTuple):
    """Some of the runs.

    Attributes:
        shown: the youngest by name, oldest first.
        hidden: how many older ones there are.
        latest: the name of the run that was archived last; None if there are no runs.
    """

    shown: Sequence[RunRecord]
    hidden: int
    latest: str | None


class SymbolInRun(NamedTuple):
    """A symbol's assessment in a run, and what judged it."""

    run: str
    assessment: Assessment
    policy: Policy


class Difference(NamedTuple):
    """A model that is not the same in two runs.

    Attributes:
        symbol: its name.
        before: its assessment in the earlier run; None if it is new.
        after: its assessment in the later one; None if it is gone.
    """

    symbol: str
    before: Assessment | None
    after: Assessment | None

    @property
    def is_of_class(self) -> bool:
        """Whether its class is another, or it came, or it went."""
        return self.before is None or self.after is None or self.before.classification != self.after.classification


class Comparison(NamedTuple):
    """Two runs, and every model whose class or figures differ, in the later run's order, those that went last."""

    before: RunRecord
    after: RunRecord
    models: Sequence[Difference]


class Questions:
    """Answers about one archive.

    Args:
        archive_dir: the archive.
        state: about it, open; None if there is none: a history takes longer then.

    Attributes:
        archive_dir: the archive.
    """

    def __init__(self, archive_dir: str, state: Connected | None = None) -> None:
        self.archive_dir = self._root = archive_dir
        self._catalog = None if state is None else Catalog(state)

    def runs(self, limit: int, now: float) -> Runs:
        """The youngest runs by name, so many at most; `now` is seconds since the epoch, for `latest`."""
        return self._ask(
            lambda catalog: Runs(shown := catalog.runs(limit), len(catalog) - len(shown), catalog.latest(now)),
            lambda: self._runs_by_folder(limit, now),
        )

    def _runs_by_folder(self, limit: int, now: float) -> Runs:
        names = sorted(run_names(self._root), key=oldest_first)
        shown: list[RunRecord] = []
        foreign = 0
        while names and len(shown) < limit:
            record = self._record(names.pop())
            if record is None:
                foreign += 1
            else:
                shown.append(record)
        return Runs(shown[::-1], len(names), self._latest_by_folder(now) if shown else None)

    def run(self, name: str | None, now: float) -> JudgedRun:
        """A run by its name, or the one that was archived last.

        Raises:
            UnknownRun: there is none, or a folder of that name is no run.
            RetryLater: the disk refused.
        """
        if name is None:
            return self._latest_run(now)
        if not is_run_name(name):
            raise UnknownRun(f"no run {name!r}", where=self._root, hint="see `modelwarden runs`")
        return JudgedRun(*read_run(self._root, name))

    def _latest_run(self, now: float) -> JudgedRun:
        name = self.latest(now)
        if name is None:
            raise UnknownRun("the archive has no runs", where=self._root)
        return JudgedRun(*read_run(self._root, name))

    def superseded(self, names: Sequence[str]) -> Mapping[str, str]:
        """Those of the runs that another of them supersedes, each with that one. Raises RetryLater if refused."""
        wanted = set(names)
        pairs = self._ask(
            lambda catalog: catalog.superseding(),
            lambda: [(each.supersedes, name) for name in names if (each := self._record(name)) is not None],
        )
        return {earlier: later for earlier, later in pairs if earlier in wanted and later in wanted}

    def report(self, name: str) -> str:
        """A run's recommendations.md. Raises as `run`."""
        return read_file(self._root, name, REPORT_FILE).decode()

    def latest(self, now: float) -> str | None:
        """The name of the run that was archived last, or None if there is none; of several, the last by name.

        A run that is dated ahead does not stay the latest for ever, and neither does one that was archived under a
        clock that was ahead: what was archived more than a day after `now` (seconds since the epoch) comes last.
        """
        return self._ask(lambda catalog: catalog.latest(now), lambda: self._latest_by_folder(now))

    def _latest_by_folder(self, now: float) -> str | None:
        index = read_index(self._root)
        limit = (datetime.fromtimestamp(now, UTC) + AHEAD).isoformat(timespec="microseconds").replace("+00:00", "Z")
        names = run_names(self._root)
        moments = {name: line[0] for name in names if (line := index.get(name)) is not None}
        for name in names:
            if name not in moments and (record := self._record(name)) is not None:
                moments[name] = record.archived_at
        return max(moments, key=lambda name: (moments[name] <= limit, moments[name], oldest_first(name)), default=None)

    def history(self, symbol: str, limit: int | None = None) -> list[SymbolInRun]:
        """A symbol's assessments over the runs, oldest first; with a limit the youngest so many."""
        return self._ask(
            lambda catalog: [SymbolInRun(*row) for row in catalog.history(symbol, limit)],
            lambda: self._history_by_folder(symbol, limit),
        )

    def _history_by_folder(self, symbol: str, limit: int | None) -> list[SymbolInRun]:
        names = run_names(self._root)
        try:
            known, found = self._history_by_catalog(symbol, names)
        except Unreadable:  # the folders say the same
            known, found = set(), []
        for name in names:
            if name in known:
                continue
            try:
                run, models = read_run(self._root, name)
            except UnknownRun:
                continue
            found += [SymbolInRun(name, model, run.policy) for model in models if model.symbol == symbol]
        found.sort(key=lambda each: oldest_first(each.run))
        return found if limit is None else found[-limit:]

    def _history_by_catalog(self, symbol: str, names: Sequence[str]) -> tuple[set[str], list[SymbolInRun]]:
        """The runs of which the catalog may speak, and what it says of the symbol in them."""
        known = self._known(names)
        if self._catalog is None or not known:
            return set(), []
        rows = self._catalog.history(symbol)  # all: of the youngest some may not be there any more
        return known, [SymbolInRun(*row) for row in rows if row[0] in known]

    def compare(self, before: str | None, after: str | None, now: float) -> Comparison:
        """What changed between two runs.

        Args:
            before: the earlier one; None for the one before `after` by name.
            after: the later one; None for the one that was archived last.
            now: seconds since the epoch.

        Raises:
            UnknownRun: one of them is not there, or there is no earlier one.
            RetryLater: the disk refused.
        """
        later = self.run(after, now)
        earlier = self.run(before or self._before(later.record.timestamp), now)
        was = {model.symbol: model for model in earlier.models}
        models = [Difference(model.symbol, was.pop(model.symbol, None), model) for model in later.models]
        models += [Difference(symbol, model, None) for symbol, model in was.items()]
        return Comparison(
            earlier.record, later.record, [each for each in models if _differs(each, earlier.record, later.record)]
        )

    def _before(self, name: str) -> str:
        before = self._ask(lambda catalog: catalog.before(name), lambda: self._before_by_folder(name))
        if before is None:
            raise UnknownRun(f"there is no run before {name}", where=self._root)
        return before

    def _before_by_folder(self, name: str) -> str | None:
        earlier = (other for other in run_names(self._root) if oldest_first(other) < oldest_first(name))
        for other in sorted(earlier, key=oldest_first, reverse=True):
            if self._record(other) is not None:
                return other
        return None

    def _ask(self, of_catalog: Callable[[Catalog], _T], of_folders: Callable[[], _T]) -> _T:
        """The catalog's answer if it has all of the archive as it looks now; else that of the folders."""
        if self._catalog is not None:
            with suppress(Unreadable):  # the folders say the same
                look = look_of(self._root)
                if look is not None and look == self._catalog.look():
                    return of_catalog(self._catalog)
        return of_folders()

    def _record(self, name: str) -> RunRecord | None:
        """A run's record; None for a folder that only looks like a run."""
        try:
            return read_record(self._root, name)
        except UnknownRun:
            return None

    def _known(self, names: Sequence[str]) -> set[str]:
        """The runs of which the catalog says what the archive does: index.json has them with the same bytes."""
        if self._catalog is None:
            return set()
        index = read_index(self._root)
        there = set(names)
        return {
            name
            for name, sha256 in self._catalog.digests()
            if name in there and (line := index.get(name)) is not None and line[1] == sha256
        }


def _differs(each: Difference, before: RunRecord, after: RunRecord) -> bool:
    """Whether the class is another, or a figure of a metric that both policies gate."""
    if each.before is None or each.after is None or each.is_of_class:
        return True
    was = dict(zip(before.policy.metrics, each.before.values, strict=True))
    now = dict(zip(after.policy.metrics, each.after.values, strict=True))
    return any(repr(was[metric]) != repr(now[metric]) for metric in now if metric in was)  # NaN is not another NaN


@contextmanager
def asking(archive_dir: str, state_dir: str | None) -> Iterator[Questions]:
    """The questions of an archive, with the state of that folder if it can be read.

    Raises:
        NotTheArchive: the folder does not hold the archive that the state knows.
        RetryLater: the disk refused.
    """
    with reading(state_dir) if state_dir is not None else _nothing() as snapshot:
        if snapshot is not None and (known := snapshot.archive_id()) is not None:
            found = read_identity(archive_dir)
            if found != known:
                raise stranger(archive_dir, difference(found, known))
        yield Questions(os.path.abspath(archive_dir), snapshot)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
