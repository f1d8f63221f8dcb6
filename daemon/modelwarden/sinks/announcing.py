"""What happened, as data: one CloudEvents 1.0 object for each event that is owed, for sinks that a program reads.

The rule: an event is the same in every repeat but for `possiblerepeat`, and its id is the outbox's own, so that a
receiver can tell a repeat by `source` and `id`.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from modelwarden.gate.assessment import (
    CHANGED,
    CLASSIFICATIONS,
    NOT_KEPT,
    Assessment,
    Classification,
    finite_or_none,
)
from modelwarden.gate.deployment import advises_checkpoint
from modelwarden.gate.policy import Policy
from modelwarden.sinks.protocol import Bundling, Call, Delivery, Sink
from modelwarden.state.catalog import Catalog, RunTally
from modelwarden.state.messages import Bundle, Judged, Kind, Noticed, Owed, is_chosen
from modelwarden.state.outbox import Outbox

MODELS_TOLD: Final = 1000
"""Most models of a run that an event holds; the counts are of all."""

TYPES: Final = {
    Kind.RUN: "io.modelwarden.run.judged.v1",
    Kind.REJECTED: "io.modelwarden.file.rejected.v1",
    Kind.PROBLEM: "io.modelwarden.problem.noticed.v1",
    Kind.REVIEWED: "io.modelwarden.model.reviewed.v1",
}
TEST_TYPE: Final = "io.modelwarden.test.v1"

CloudEvent = dict[str, Any]


class Asked(NamedTuple):
    """What the settings say of a destination of any kind; see Sink."""

    name: str
    on: Sequence[str]
    symbols: Sequence[str] = ("*",)
    fallback: str = ""
    fallback_after: float = 0.0


class Target(ABC):
    """Where the events of one destination go.

    Args:
        asked: what its settings say.
    """

    bundling: Bundling

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.name = asked.name

    @abstractmethod
    def send(self, events: Sequence[CloudEvent], seconds: float) -> Delivery:
        """Hand the events over, within so many seconds."""

    def test(self, seconds: float) -> Delivery:
        """Send an event that is about no run."""
        return self.send([_test_event()], seconds)

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return text

    def address(self) -> tuple[str, int] | None:
        """Host and port that it is sent to; None if it goes to none."""
        return None

    def goes_unencrypted(self) -> bool:
        """Whether what is sent crosses a network as plain text."""
        return False


class AnnouncingSink(Sink):
    """A destination that is told events as data.

    Args:
        target: where they go.
        announcer: makes the events.
    """

    def __init__(self, target: Target, announcer: "Announcer") -> None:
        super().__init__(*target.asked)
        self.bundling = target.bundling
        self._target = target
        self._announcer = announcer

    def prepare(self, bundle: Bundle, asked: Sink) -> Call | None:
        """The events, ready to be sent; None if a run of theirs is not in the catalog: they wait for it."""
        events = self._announcer.events(bundle.ids, asked)
        return None if events is None else lambda seconds: self._target.send(events, seconds)

    def test(self, seconds: float) -> Delivery:
        """Send an event that is about no run."""
        return self._target.test(seconds)

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return self._target.redact(text)


class Announcer:
    """Makes events of what the outbox and the catalog know.

    Args:
        outbox: has the messages.
        catalog: has the runs.
        host: who speaks.
    """

    def __init__(self, outbox: Outbox, catalog: Catalog, host: str) -> None:
        self._outbox = outbox
        self._catalog = catalog
        self._host = host

    def events(self, ids: Sequence[int], asked: Sink) -> list[CloudEvent] | None:
        """The events of these messages, oldest first, with the models that were asked for; None if a run is missing."""
        events = []
        for owed in self._outbox.owed(ids):
            match owed.payload:
                case Judged(run):
                    event = self._judged(owed, run, asked)
                    if event is None:
                        return None
                    events.append(event)
                case Noticed(text):
                    events.append(self._event(owed, _moment(owed.created_at), {"text": text}))
        return events if len(events) == len(ids) else None

    def _judged(self, owed: Owed, key: int, asked: Sink) -> CloudEvent | None:
        found = self._catalog.tallies([key], None)
        if not found:
            return None
        run = found[0].run
        models, left_out = self._models(found[0], asked)
        data = {
            "run": run.timestamp,
            "run_name": run.run_name,
            "host": run.archived_by,
            "archived_at": run.archived_at,
            "sha256": run.sha256,
            "policy": run.policy.id,
            "counts": {str(each): count for each, count in run.counts.items()},
            "models": models,
            "models_left_out": left_out,
        }
        if run.supersedes is not None:
            data["supersedes"] = run.supersedes
        if not found[0].is_there:
            data["removed"] = True
        return {**self._event(owed, run.archived_at, data), "subject": run.timestamp}

    def _models(self, run: RunTally, asked: Sink) -> tuple[list[dict[str, Any]], int]:
        """The models that were asked for, best class first, MODELS_TOLD at most, and how many more there are."""

        def chosen(symbol: str) -> bool:
            return is_chosen(symbol, asked.symbols)

        fits = None if "*" in asked.symbols else chosen
        key = run.key
        changed = [each for each in self._catalog.changes([key]) if fits is None or fits(each.symbol)]
        before = {each.symbol: each.before for each in changed if asked.on & {CHANGED, each.now, each.before}}
        found: list[Assessment] = []
        count = 0
        (tally,) = self._catalog.tallies([key], fits)
        for each in CLASSIFICATIONS:
            if each in asked.on:
                count += tally.counts[each]
                found += self._catalog.first(run, each, fits, MODELS_TOLD - len(found))
        # Those that only changed, into a class that was not asked for.
        others = [each for each in changed if each.symbol in before and each.now not in asked.on]
        count += len(others)
        found += self._catalog.at(run, [each.position for each in others[: MODELS_TOLD - len(found)]])
        return [_model(each, run.run.policy, before.get(each.symbol)) for each in found], count - len(found)

    def _event(self, owed: Owed, at: str, data: CloudEvent) -> CloudEvent:
        event = _envelope(owed.event, TYPES[owed.kind], self._host, at, data)
        if owed.repeated:
            event["possiblerepeat"] = True
        if owed.stands_for:
            event["standsfor"] = owed.stands_for
        return event


def _test_event() -> CloudEvent:
    now = time.time()
    data = {"text": "This is a test. No run was archived."}
    return _envelope(f"test:{now:.3f}", TEST_TYPE, "", _moment(now), data)


def encoded(event: CloudEvent) -> bytes:
    """The event as one line of JSON, without the line's end."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _envelope(identity: str, kind: str, host: str, at: str, data: CloudEvent) -> CloudEvent:
    return {
        "specversion": "1.0",
        "id": identity,
        "source": f"//{quote(host) or 'localhost'}/modelwarden",
        "type": kind,
        "time": at,
        "datacontenttype": "application/json",
        "data": data,
    }


def _model(model: Assessment, policy: Policy, before: Classification | None) -> dict[str, Any]:
    figures = {gate.metric: finite_or_none(value) for gate, value in zip(policy.gates, model.values, strict=True)}
    checkpoint = model.checkpoint_update if advises_checkpoint(model) else model.last_checkpoint
    told: dict[str, Any] = {
        "symbol": model.symbol,
        "classification": str(model.classification),
        "flags": [str(flag) for flag in model.flags],
        "figures": figures,
        "use_checkpoint": advises_checkpoint(model),
        "checkpoint": None if checkpoint == NOT_KEPT else checkpoint,
    }
    return told if before is None else {**told, "before": str(before)}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
