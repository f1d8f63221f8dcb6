"""Two daemons on one archive, one stopped after a call of its walk or refused one, and what must become of both.

The rule: the other is held up only as long as the lock is really held; it completes what the dead one began; neither
archives a summary twice; and once the dead one is started again nothing is left of the halves.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from rigs.crash_scenes import ALONE, EARLIER, HARMLESS, WARM, Host, Place, replaces_the_index, scratch
from rigs.crash_subject import Orders, Report
from rigs.lives import Life, Subjects
from rigs.refusals import TRIES
from rigs.system_calls import Point, refusing

OTHERS: Final = ("other-warm.json", "other-1.json", "other-2.json")
LATE: Final = ("late.json",)
"""The victim's, and left to it but for a start: what it archives after that."""


class Pair(NamedTuple):
    """The daemon that is stopped, and its neighbour.

    Attributes:
        place: of both.
        victim: the first.
        neighbour: the second.
        first: what the neighbour archives while the victim stands still, or before it tries again; the victim's file
            too, where they share a folder.
        last: what it archives while the victim pauses in its start, likewise.
    """

    place: Place
    victim: Host
    neighbour: Host
    first: str
    last: str

    def walk(self) -> Orders:
        """The victim's: one file, with its spare of the index at hand."""
        return self.victim.orders(WARM, ALONE, stops=["1"])

    def start(self) -> Orders:
        """The victim's: it starts, walks the same file, and one more."""
        return self.victim.orders(ALONE, LATE, stops=["start"])

    def leave_half_a_commit(self) -> None:
        """The victim was killed when its run had a name, and index.json lacked it; that is how every scene begins."""
        point = [call.point for call in self.place.calls_of(self.walk()) if replaces_the_index(call)][-1]
        self.place.put_back()
        self.place.kill(self.walk(), point)
        self.place.keep()

    def play(self, point: Point, end: "End", *, starts: bool) -> None:
        """Let the neighbour archive while the victim stands still; then the victim comes to its end, then the other.

        Args:
            point: after which the victim stands still.
            end: what then becomes of it.
            starts: whether the neighbour starts only now; else it lives already, with its spare of the index at hand.
        """
        orders = self.neighbour.orders(OTHERS[:1], [self.first], OTHERS[2:], stops=["2"] if starts else ["1", "2"])
        with ExitStack() as stack:
            neighbour = None if starts else stack.enter_context(self.place.lives.life(orders))
            if neighbour is not None:
                neighbour.stopped_at("1")
            with self.place.halted(self.walk(), point) as victim:
                must_wait = self._is_locked()  # it is as good as dead with the lock in its hand
                if neighbour is None:
                    neighbour = stack.enter_context(self.place.lives.life(orders))
                else:
                    neighbour.go_on()
                if not must_wait:
                    neighbour.stopped_at("2")
                end(self, victim)
            if must_wait:
                neighbour.stopped_at("2")
            neighbour.go_on()
            report = neighbour.end()
        self._assert_well(report)

    def refuse(self, point: Point, error: str) -> None:
        """Refuse a call of the victim's walk; before it tries again the neighbour archives, and finishes its halves."""
        orders = self.neighbour.orders(OTHERS[:1], [self.first], OTHERS[2:], stops=["1", "2"])
        with self.place.lives.life(orders) as neighbour:
            neighbour.stopped_at("1")
            with self._refused(self.walk(), point, error):
                neighbour.go_on()
                neighbour.stopped_at("2")
            neighbour.go_on()
            report = neighbour.end()
        self._assert_well(report)

    def refuse_start(self, point: Point, error: str) -> None:
        """Refuse a call of the victim's start; before it tries again the neighbour starts, and archives."""
        orders = self.neighbour.orders(OTHERS[:1], [self.first], [self.last])
        with self._refused(self.start(), point, error), self.place.lives.life(orders) as neighbour:
            report = neighbour.end()
        self._assert_well(report)

    @contextmanager
    def _refused(self, orders: Orders, point: Point, error: str) -> Iterator[None]:
        """A life of the victim's that pauses after a refusal while entered; then it must deal with all it is given.

        A start may end instead, with a sentence: the next one must make it good.
        """
        tries = replace(orders, stops=[*orders.stops, "again"], tries=TRIES)
        with self.place.disturbed(tries, refusing(point, error)) as victim:
            told = victim.end_or_stop("again")
            yield
            while told is None:
                victim.go_on()
                told = victim.end_or_stop("again")
        assert not told.unforeseen, told.unforeseen
        if told.ended:
            assert "start" in orders.stops, told.ended
        else:
            assert told.dealt == [path for batch in orders.batches for path in batch], f"it gave up: {told}"

    def _assert_well(self, report: Report | None) -> None:
        """The neighbour had no trouble, and nothing is left of what the other had."""
        assert report is not None, "the neighbour was killed"
        assert len(report.dealt) == len(OTHERS), f"the neighbour was held up: {report}"
        assert {event["event"] for event in report.told()} <= HARMLESS, report
        self.place.assert_index_is_true()
        self.place.assert_as_left()
        self.place.assert_recovers()

    def _is_locked(self) -> bool:
        try:
            descriptor = os.open(self.place.archive / ".index.lock", os.O_RDWR)
        except FileNotFoundError:  # nobody ever wanted it
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


End = Callable[[Pair, Life], None]


def killed(_: Pair, victim: Life) -> None:
    """It dies where it stands."""
    victim.kill()


def goes_on(both: Pair, victim: Life) -> None:
    """It was only slow, and ends its walk."""
    victim.let_run()
    both.place.assert_dealt(both.walk(), victim.end())


@contextmanager
def pair(lives: Subjects, *, root: str) -> Iterator[Pair]:
    """Two daemons, each with a state of its own, that watch the same folder or not; both have been here before."""
    with scratch() as folder:
        place = Place(folder, lives)
        own = [*EARLIER, *WARM, *ALONE, *LATE]
        shared = root == "out"
        others = [OTHERS[0], ALONE[0], OTHERS[2]] if shared else list(OTHERS)
        victim_files = [*own, *others[::2]] if shared else own
        victim = place.host("victim", victim_files, state="state-1")
        neighbour = place.host("neighbour", victim_files if shared else others, root=root, state="state-2")
        place.live(victim.orders(EARLIER))
        place.live(neighbour.orders(EARLIER if shared else []))
        place.keep()
        yield Pair(place, victim, neighbour, others[1], LATE[0] if shared else OTHERS[2])
