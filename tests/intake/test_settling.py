"""A waiting file is looked at when it is ready, given up only when it stood still, and never forgotten unless told."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.settling import Settling

SETTLE = 2.0
REJECT_AFTER = 60.0

OLD = Fingerprint(1, 10, 100, 1_000, 1_000)
NEW = Fingerprint(1, 10, 200, 2_000, 2_000)


def waiting() -> Settling:
    return Settling(SETTLE, REJECT_AFTER)


def test_file_with_a_hint_is_due_at_once() -> None:
    """After an event a file is looked at now: a trainer that renames a finished file does not wait."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=5.0)
    assert settling.next_look() == 5.0
    assert settling.due(5.0, 10) == ["a"]


def test_file_without_a_hint_is_due_after_the_settle_time() -> None:
    """A file that a scan found has to stand still for the settle time first."""
    settling = waiting()
    settling.seen("a", OLD, hinted=False, now=5.0)
    assert settling.next_look() == 7.0
    assert settling.due(6.999, 10) == []
    assert settling.due(7.0, 10) == ["a"]


def test_file_seen_again_unchanged_keeps_its_time() -> None:
    """Scans that come faster than the settle time do not push a file that stands still further away."""
    settling = waiting()
    for now in (0.0, 1.0, 1.9):
        settling.seen("a", OLD, hinted=False, now=now)
    assert settling.due(2.0, 10) == ["a"]


def test_file_seen_with_other_figures_settles_anew() -> None:
    """A file that grew between two scans has not stood still: its time starts again."""
    settling = waiting()
    settling.seen("a", OLD, hinted=False, now=0.0)
    settling.seen("a", NEW, hinted=False, now=1.5)
    assert settling.due(3.4, 10) == []
    assert settling.due(3.5, 10) == ["a"]


def test_hint_for_a_settling_file_brings_its_look_forward() -> None:
    """An event (closed, renamed) outranks the settle time of a file that is waiting already."""
    settling = waiting()
    settling.seen("a", OLD, hinted=False, now=0.0)
    settling.seen("a", OLD, hinted=True, now=0.5)
    assert settling.due(0.5, 10) == ["a"]


def test_due_file_is_handed_out_once() -> None:
    """A file that was taken is not handed out again while the caller works on it."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    assert settling.due(0.0, 10) == ["a"]
    assert settling.due(1_000.0, 10) == []
    assert settling.next_look() is None
    assert len(settling) == 1


def test_taken_file_without_an_answer_comes_back_with_the_next_scan() -> None:
    """A caller that failed half-way loses nothing: the next scan schedules the file again."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.due(0.0, 10)
    settling.seen("a", OLD, hinted=False, now=60.0)
    assert settling.due(62.0, 10) == ["a"]


def test_due_files_come_longest_due_first_and_no_more_than_asked() -> None:
    """Under backlog batches are bounded, and nobody is overtaken for ever."""
    settling = waiting()
    for number in (3, 1, 2, 0):
        settling.seen(f"f{number}", OLD, hinted=True, now=float(number))
    assert settling.due(10.0, 3) == ["f0", "f1", "f2"]
    assert settling.due(10.0, 3) == ["f3"]


def test_unfinished_file_is_looked_at_again_after_the_settle_time() -> None:
    """A file that does not parse may still be being written: it is read again, not rejected."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.due(0.0, 10)
    assert settling.unfinished("a", OLD, 0.0) is False
    assert settling.due(1.9, 10) == []
    assert settling.due(2.0, 10) == ["a"]


@pytest.mark.parametrize(("stood_still", "given_up"), [(0.0, False), (59.9, False), (60.0, True), (500.0, True)])
def test_unfinished_file_is_given_up_only_after_standing_still(stood_still: float, given_up: bool) -> None:
    """The verdict "no summary" falls when the same bytes stood there for reject_after_seconds, not before."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=10.0)
    settling.due(10.0, 10)
    assert settling.unfinished("a", OLD, 10.0 + stood_still) is given_up


def test_unfinished_file_that_changed_gets_the_whole_time_again() -> None:
    """A writer that stalls and goes on is never given up because of its first half."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.due(0.0, 10)
    assert settling.unfinished("a", NEW, 59.0) is False
    settling.due(61.0, 10)
    assert settling.unfinished("a", NEW, 118.9) is False
    assert settling.unfinished("a", NEW, 119.0) is True


def test_unfinished_file_is_read_a_last_time_when_its_time_is_over() -> None:
    """The look before giving up comes at the moment itself, not a settle time later."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.due(0.0, 10)
    settling.unfinished("a", OLD, 59.5)
    assert settling.next_look() == 60.0


def test_postponed_file_is_looked_at_when_asked() -> None:
    """What could not be stored is tried again at the moment the caller chose."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.due(0.0, 10)
    settling.again("a", 33.0)
    assert settling.next_look() == 33.0
    assert settling.due(33.0, 10) == ["a"]


def test_forgotten_file_is_never_due() -> None:
    """What was dealt with, or is gone, leaves no look behind; nor does a late answer bring it back."""
    settling = waiting()
    settling.seen("a", OLD, hinted=True, now=0.0)
    settling.seen("b", OLD, hinted=False, now=0.0)
    settling.forget("a")
    settling.forget("never seen")
    settling.again("a", 0.0)
    assert settling.due(1_000.0, 10) == ["b"]
    assert len(settling) == 1


def test_forgotten_file_seen_again_starts_like_a_new_one() -> None:
    """A rejected file that changes is looked at again; its old time in the schedule counts for nothing."""
    settling = waiting()
    settling.seen("a", OLD, hinted=False, now=0.0)
    settling.forget("a")
    settling.seen("a", NEW, hinted=False, now=1.0)
    assert settling.due(2.0, 10) == []
    assert settling.due(3.0, 10) == ["a"]


@dataclass
class Expected:
    """What the machine below believes of one file."""

    fingerprint: Fingerprint
    since: float
    look_at: float  # infinite: taken by a caller


class SettlingMachine(RuleBasedStateMachine):
    """Settling agrees with a plain dictionary that is searched from end to end, whatever is asked in whatever order."""

    taken = Bundle("taken")
    paths = st.sampled_from("abcde")
    states: ClassVar[st.SearchStrategy[Fingerprint]] = st.sampled_from(
        [OLD, NEW, Fingerprint(1, 11, 100, 1_000, 1_000)]
    )

    def __init__(self) -> None:
        super().__init__()
        self.settling = waiting()
        self.expected: dict[str, Expected] = {}
        self.now = 1_000.0

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, SETTLE, 7.0, REJECT_AFTER, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.settling.next_look() is not None)
    @rule()
    def sleep_until_the_next_look(self) -> None:
        self.now = max(self.now, self.settling.next_look() or 0.0)
        assert any(each.look_at <= self.now for each in self.expected.values())

    @rule(path=paths, fingerprint=states, hinted=st.booleans())
    def file_is_seen(self, path: str, fingerprint: Fingerprint, hinted: bool) -> None:
        self.settling.seen(path, fingerprint, hinted=hinted, now=self.now)
        known = self.expected.get(path)
        if known is None or known.fingerprint != fingerprint:
            self.expected[path] = Expected(fingerprint, self.now, self.now if hinted else self.now + SETTLE)
        elif hinted:
            known.look_at = min(known.look_at, self.now)
        elif known.look_at == math.inf:
            known.look_at = self.now + SETTLE

    @rule(target=taken, limit=st.integers(1, 4))
    def due_files_are_taken(self, limit: int) -> object:
        due = sorted((each.look_at, path) for path, each in self.expected.items() if each.look_at <= self.now)
        paths = self.settling.due(self.now, limit)
        assert len(set(paths)) == len(paths) == min(limit, len(due))
        assert [self.expected[path].look_at for path in paths] == [look_at for look_at, _ in due[:limit]]
        for path in paths:
            self.expected[path].look_at = math.inf
        return multiple(*paths)

    @rule(path=taken, fingerprint=states)
    def taken_file_does_not_parse(self, path: str, fingerprint: Fingerprint) -> None:
        given_up = self.settling.unfinished(path, fingerprint, self.now)
        known = self.expected.get(path)
        if known is None or known.fingerprint != fingerprint:
            known = self.expected[path] = Expected(fingerprint, self.now, math.inf)
        assert given_up == (self.now >= known.since + REJECT_AFTER)
        if not given_up:
            known.look_at = min(self.now + SETTLE, known.since + REJECT_AFTER)

    @rule(path=taken, seconds=st.sampled_from([0.05, 1.0, 60.0]))
    def taken_file_is_postponed(self, path: str, seconds: float) -> None:
        self.settling.again(path, self.now + seconds)
        if path in self.expected:
            self.expected[path].look_at = self.now + seconds

    @rule(path=paths)
    def file_is_forgotten(self, path: str) -> None:
        self.settling.forget(path)
        self.expected.pop(path, None)

    @invariant()
    def nothing_is_forgotten_unless_told(self) -> None:
        assert len(self.settling) == len(self.expected)

    @invariant()
    def next_look_is_the_earliest_look(self) -> None:
        looks = [each.look_at for each in self.expected.values() if each.look_at < math.inf]
        assert self.settling.next_look() == min(looks, default=None)


SettlingMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_any_order_of_calls_agrees_with_a_plain_dictionary = SettlingMachine.TestCase
