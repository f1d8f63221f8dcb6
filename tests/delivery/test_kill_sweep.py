"""SIGKILL before every call between a message that is owed and what is recorded of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from conftest import Figure
from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE, Mutant
from rigs.send_path import MODULE, WAYS, post

pytestmark = pytest.mark.delivery

SHARDS: Final = 2
"""Into how many tests the points of the whole way are dealt."""


@pytest.fixture(scope="module")
def couriers() -> Iterator[Subjects]:
    """Couriers of the product as it is."""
    with subjects(PACKAGE.parent, module=MODULE) as started:
        yield started


@pytest.mark.parametrize("shard", range(SHARDS))
def test_courier_killed_before_any_call_loses_nothing(couriers: Subjects, figure: Figure, shard: int) -> None:
    """Every event arrives at least once, and at most once more for a crash; what is repeated is marked."""
    with post(WAYS["one_message"], couriers) as place:
        figure("kill sweep, one_message", place.sweep(place.calls()[shard::SHARDS]))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "one_message"])
def test_courier_killed_on_its_other_ways_loses_nothing(couriers: Subjects, figure: Figure, way: str) -> None:
    """Before any change or word: at most once more for a lost answer, also for a digest, or after a crash."""
    with post(WAYS[way], couriers) as place:
        calls = place.telling()
        telling = {"write", "fsync"} if WAYS[way].kind == "file" else {"connect", "sendto", "recvfrom", "fdatasync"}
        assert telling <= {call.point.call for call in calls}
        figure(f"kill sweep, {way}", place.sweep(calls))


MUTANTS: Final = {
    Mutant(
        "acknowledges_before_the_send",
        "courier/delivery.py",
        "        lane.bundle, lane.overdue_at = bundle,",
        "        self._outbox.delivered(bundle.ids, now)\n        lane.bundle, lane.overdue_at = bundle,",
    ): "recorded as delivered, and nobody got it",
    Mutant(
        "does_not_commit_that_it_sends",
        "courier/delivery.py",
        "        if not self._outbox.sending(bundle.ids):\n            return\n",
        "",
    ): "something was sent again although nobody was killed",
    Mutant(
        "does_not_record_that_it_sent",
        "courier/delivery.py",
        "                self._outbox.delivered(ids, now, lambda: self._watchman.succeeded(lane.sink))\n",
        "",
    ): "something was sent again although nobody was killed",
    Mutant(
        "forgets_what_was_being_sent",
        "courier/delivery.py",
        "        count = self._outbox.recover()\n",
        "        count = 0\n",
    ): "lost: rows are",
    Mutant(
        "does_not_mark_a_repeat",
        "state/outbox.py",
        'set_also="repeated = 1"',
        'set_also="repeated = repeated"',
    ): "a repeat does not say that it may be one",
    Mutant(
        "takes_a_lost_answer_for_a_refusal",
        "courier/delivery.py",
        "perhaps_sent=perhaps_sent,",
        "perhaps_sent=False,",
    ): "a repeat does not say that it may be one",
}
"""Each with the words by which it must be caught: by what its fault does, not by failing undisturbed."""


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_mutant_is_caught(tmp_path: Path, mutant: Mutant) -> None:
    """One that survives means that the sweep is blind."""
    way = WAYS["a_message_whose_answer_is_lost" if "lost_answer" in mutant.name else "one_message"]
    with subjects(mutant.make(tmp_path / "mutant"), module=MODULE) as couriers, post(way, couriers) as place:
        calls = place.telling()
        with pytest.raises(AssertionError, match=MUTANTS[mutant]):
            place.sweep(calls)
