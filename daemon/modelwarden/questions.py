"""Questions about an archive: runs, a run, the approved models, a symbol's history, what changed between two runs.

The rule: asking opens nothing for writing, repairs nothing and remembers nothing. The folders are the truth: a run is
read from its own. The catalog answers for all of them only while the archive looks as it did when it had them all, and
else only for runs that index.json and the folders have just so.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from modelwarden.archive.decisions import Kept, read_all, read_decisions, read_kept, reviewed_runs
from modelwarden.archive.folders import (
    look_of,
    oldest_first,
    read_file,
    read_identity,
    read_index,
    read_record,
    read_run,
    read_run_names,
    run_names,
)
from modelwarden.archive.histories import read_histories
from modelwarden.archive.identity import difference, stranger
from modelwarden.archive.record import REPORT_FILE
from modelwarden.errors import RejectSummary, RetryLater, UnknownRun
from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Classification
from modelwarden.gate.decision import Decision, Verb, deployable, in_force
from modelwarden.gate.json_object import shorten
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import AHEAD, is_run_name
from modelwarden.gate.what_if import Judged
from modelwarden.state.catalog import Asked, Catalog, Connected, InReview
from modelwarden.state.reading import Unreadable, reading

_T = TypeVar("_T")

LATEST: Final = "latest"
"""What a person calls the run that was archived last."""

MOST_CANDIDATES: Final = 10
"""Of the runs that an ambiguous name may mean so many are named, the youngest."""

_BEGINNING: Final = re.compile("[0-9]{1,8}|[0-9]{8}_[0-9]{0,6}|[0-9]{8}_[0-9]{6}_[0-9]*")
_DATE: Final = re.compile(
    "([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?)?Z?)?)?)?"
)
_EVERYTHING: Final = Asked()
_ALL_RUNS: Final = 1 << 31


class JudgedRun(NamedTuple):
    """A run with its models, in the summary's order, without their histories."""

    record: RunRecord
    models: Sequence[Assessment]

    @property
    def approved(self) -> list[Assessment]:
        """The models that are APPROVED."""
        return [model for model in self.models if model.classification is Classification.APPROVED]

    def deployable(self, decided: Mapping[str, Decision]) -> list[Assessment]:
        """The models that the gate or a person approved, but for those that a person rejected."""
        return deployable(self.models, decided)


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

    def runs(self, limit: int, now: float, asked: Asked = _EVERYTHING) -> Runs:
        """The youngest runs by name that meet what is asked, so many at most.

        Args:
            limit: how many.
            now: seconds since the epoch, for `latest`.
            asked: which runs.
        """
        return self._ask(
            lambda catalog: Runs(
                shown := catalog.runs(limit, asked), catalog.count(asked) - len(shown), catalog.latest(now)
            ),
            lambda: self._runs_by_folder(limit, now, asked),
        )

    def _runs_by_folder(self, limit: int, now: float, asked: Asked) -> Runs:
        names = sorted(run_names(self._root), key=oldest_first)
        shown: list[RunRecord] = []
        hidden = 0
        while names and (len(shown) < limit or asked != _EVERYTHING):
            record = self._asked_for(names.pop(), asked)
            if record is None:
                continue
            if len(shown) < limit:
                shown.append(record)
            else:
                hidden += 1
        return Runs(shown[::-1], hidden + len(names), self._latest_by_folder(now))

    def _asked_for(self, name: str, asked: Asked) -> RunRecord | None:
        """A run's record if it is one and meets what is asked."""
        record = self._record(name)
        if record is None or not asked.takes(record):
            return None
        if asked.symbol is not None:
            models = read_run(self._root, name)[1]
            if not any(asked.takes_model(model.symbol, model.classification) for model in models):
                return None
        return record

    def find(self, text: str, now: float) -> str:
        """The name of the run that a person means.

        Args:
            text: a run's name, the beginning of one, a date (`2024-12-24`, `2024-12-24T15:30`), the trainer's name for
                it, or `latest`.
            now: seconds since the epoch.

        Raises:
            UnknownRun: no run is meant, or several are; the hint names these, the youngest last.
            RetryLater: the disk refused.
        """
        if text == LATEST:
            name = self.latest(now)
            if name is None:
                raise UnknownRun("the archive has no runs", where=self._root)
            return name
        if is_run_name(text) and os.path.isdir(os.path.join(self._root, text)):
            return text
        meant = self._meant(text)
        if not meant:
            raise UnknownRun(f"no run {shorten(text)!r}", where=self._root, hint="see `modelwarden runs`")
        if len(meant) > 1:
            listed = ", ".join(meant[-MOST_CANDIDATES:])
            hint = listed if len(meant) <= MOST_CANDIDATES else f"the last {MOST_CANDIDATES} of them are {listed}"
            raise UnknownRun(f"{shorten(text)!r} may mean {len(meant)} runs", where=self._root, hint=hint)
        return meant[0]

    def _meant(self, text: str) -> list[str]:
        """The runs whose name begins so, on that date, or that the trainer called so, oldest first."""
        first = _beginning(text)
        if not _is_text(text):
            return []
        return self._ask(lambda catalog: catalog.named(first, text), lambda: self._meant_by_folder(first, text))

    def _meant_by_folder(self, first: str | None, text: str) -> list[str]:
        called = read_run_names(self._root)
        meant = []
        for name in sorted(run_names(self._root), key=oldest_first):
            if first is not None and name.startswith(first):
                meant.append(name)
            elif name in called:
                meant += [name] if called[name] == text else []
            elif (record := self._record(name)) is not None and record.run_name == text:
                meant.append(name)
        return meant

    def decided(self, run: RunRecord) -> Mapping[str, Decision]:
        """By symbol the decision that is in force about a run's models.

        Raises:
            UnknownRun: a decision's file is damaged.
            RetryLater: the disk refused.
        """
        return in_force(read_decisions(self._root, run.timestamp), run.sha256)

    def is_reviewed(self, run: RunRecord) -> bool:
        """Whether anything was decided about the run; a decision that can't be read counts. Raises as `decisions`."""
        return any(
            kept.decision is None or kept.decision.sha256 == run.sha256 for kept in read_kept(self._root, run.timestamp)
        )

    def approves(self, run: RunRecord) -> bool:
        """Whether a person approved a model of the run; what can't be read is taken for an approval."""
        try:
            return any(each.verb is Verb.APPROVE for each in self.decided(run).values())
        except UnknownRun:
            return True

    def metrics(self) -> Sequence[str]:
        """Every metric that a policy of a run gates, the youngest policy's first."""
        runs = self.runs(_ALL_RUNS, 0.0).shown
        return list(dict.fromkeys(metric for run in reversed(runs) for metric in run.policy.metrics))

    def everything(self) -> tuple[int, Iterator[tuple[RunRecord, Assessment, bool, str | None]]]:
        """Every model of every run, oldest run first: whether it may be deployed, and who decided, if a person did.

        Returns:
            About how many there are, and the models as they are read.

        Raises:
            UnknownRun: a decision's file is damaged.
            RetryLater: the disk refused.
        """
        runs = self.runs(_ALL_RUNS, 0.0).shown
        return sum(run.models for run in runs), self._everything(runs)

    def _everything(self, runs: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, Assessment, bool, str | None]]:
        reviewed = set(reviewed_runs(self._root))
        for run in runs:
            decided = self.decided(run) if run.timestamp in reviewed else {}
            judged = self.run(run.timestamp, 0.0)
            chosen = {model.symbol for model in judged.deployable(decided)}
            for model in judged.models:
                by = decided[model.symbol].by if model.symbol in decided else None
                yield run, model, model.symbol in chosen, by

    def decisions(self) -> Sequence[Kept]:
        """Every decision's file, by number, damaged ones too. Raises RetryLater if the disk refuses."""
        return read_all(self._root)

    def waiting(self, limit: int, run: str | None = None) -> tuple[Sequence[InReview], int]:
        """The models in REVIEW about which nobody decided, oldest run first, so many at most; and how many there are.

        A run in whose place there is another by now waits for nobody, unless it is named.

        Args:
            limit: how many.
            run: of this run alone.

        Raises:
            RetryLater: the disk refused.
        """
        decided: dict[str, list[Decision]] = {}
        for kept in self.decisions():
            if kept.decision is not None:
                decided.setdefault(kept.decision.sha256, []).append(kept.decision)
        force = {sha256: in_force(each, sha256) for sha256, each in decided.items()}
        superseded = self.superseded() if run is None else {}

        def is_open(each: InReview) -> bool:
            return each.run not in superseded and each.symbol not in force.get(each.sha256, {})

        def of_catalog(catalog: Catalog) -> tuple[Sequence[InReview], int]:
            closed = sum(not is_open(each) for each in catalog.in_review(run, force)) if force else 0
            for name in superseded:
                closed += sum(each.sha256 not in force for each in catalog.in_review(name))
            shown = list(islice(filter(is_open, catalog.in_review(run)), limit))
            return shown, catalog.count_in_review(run) - closed

        def of_folders() -> tuple[Sequence[InReview], int]:
            found = list(filter(is_open, self._in_review_by_folder(run)))
            return found[:limit], len(found)

        return self._ask(of_catalog, of_folders)

    def _in_review_by_folder(self, run: str | None) -> list[InReview]:
        found = []
        for name in sorted(run_names(self._root), key=oldest_first):
            record = self._record(name) if run in {None, name} else None
            if record is not None and record.review_count:
                found += [
                    InReview(name, model.symbol, record.archived_at, record.sha256)
                    for model in read_run(self._root, name)[1]
                    if model.classification is Classification.REVIEW
                ]
        return found

    def judged(self, policy: Policy) -> tuple[int, Iterator[Judged]]:
        """Every model of every run with its figures as another policy would judge them.

        Returns:
            About how many there are, and the models as they are read.
        """
        if self._catalog is not None:
            with suppress(Unreadable):
                look = look_of(self._root)
                if look is not None and look == self._catalog.look():
                    return self._catalog.models(), self._judged_by_catalog(self._catalog, policy)
        names = sorted(run_names(self._root), key=oldest_first)
        return sum(
            record.models for name in names if (record := self._record(name)) is not None
        ), self._judged_by_folder(names, policy)

    def _judged_by_catalog(self, catalog: Catalog, policy: Policy) -> Iterator[Judged]:
        try:
            yield from catalog.figures(policy)
        except Unreadable as error:
            hint = "try again; if it stays so, `modelwarden reindex` makes it again"
            raise RetryLater(f"the state file can't be read ({error})", where=self._root, hint=hint) from error

    def _judged_by_folder(self, names: Sequence[str], policy: Policy) -> Iterator[Judged]:
        for name in names:
            try:
                run, models = read_run(self._root, name)
            except UnknownRun:
                continue
            known = {*run.policy.metrics}
            for model in models:
                figures = {**model.others, **dict(zip(run.policy.metrics, model.values, strict=True))}
                has_any = any(metric in known or metric in model.others for metric in policy.metrics)
                values = tuple(figures.get(metric) for metric in policy.metrics) if has_any else None
                code = CLASSIFICATIONS.index(model.classification)
                yield model.symbol, code, values, run.reward_scale, bool(model.contradictions)

    def names(self, limit: int) -> Sequence[str]:
        """The names of the youngest runs, so many at most, the youngest first."""
        return self._ask(
            lambda catalog: catalog.youngest(limit),
            lambda: sorted(run_names(self._root), key=oldest_first, reverse=True)[:limit],
        )

    def symbols(self) -> list[str]:
        """Every symbol that the catalog knows, or those of the run archived last; for who completes what is typed."""
        return self._ask(
            lambda catalog: catalog.all_symbols(),
            lambda: sorted(
                model.symbol for name in sorted(run_names(self._root))[-1:] for model in read_run(self._root, name)[1]
            ),
        )

    def course(self, run: RunRecord, symbol: str) -> Sequence[float]:
        """A model's history over the validation points, NaN if one is missing; none if it can't be told."""
        try:
            return read_histories(self._root, run.timestamp, run.policy).get(symbol, ())
        except (OSError, RejectSummary):
            return ()

    def run(self, name: str | None, now: float) -> JudgedRun:
        """A run by its name, or the one that was archived last.

        Raises:
            UnknownRun: there is none, or a folder of that name is no run.
            RetryLater: the disk refused.
        """
        if name is None:
            return self._latest_run(now)
        if not is_run_name(name):
            raise UnknownRun(f"no run {shorten(name)!r}", where=self._root, hint="see `modelwarden runs`")
        return JudgedRun(*read_run(self._root, name))

    def _latest_run(self, now: float) -> JudgedRun:
        name = self.latest(now)
        if name is None:
            raise UnknownRun("the archive has no runs", where=self._root)
        return JudgedRun(*read_run(self._root, name))

    def superseded(self, names: Sequence[str] | None = None) -> Mapping[str, str]:
        """Those of the runs (of all, if none are named) that another of them supersedes, each with that one.

        Raises RetryLater if the disk refused.
        """
        if names is None:  # nobody reads all names if no run supersedes one
            names = (
                run_names(self._root) if self._ask(lambda catalog: catalog.superseding() != [], lambda: True) else ()
            )
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


def _beginning(text: str) -> str | None:
    """What the names of the runs begin with that a beginning or a date means; None if it is neither."""
    if is_run_name(text):  # a whole name means that run alone: `_2` is another
        return None
    if _BEGINNING.fullmatch(text):
        return text
    if found := _DATE.fullmatch(text):
        day, time = "".join(filter(None, found.groups()[:3])), "".join(filter(None, found.groups()[3:]))
        return f"{day}_{time}" if time else day
    return None


def _is_text(text: str) -> bool:
    """Whether a trainer can have written it: an argument of bytes that are no UTF-8 is nobody's name for a run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
