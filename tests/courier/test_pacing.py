"""Pacing delays and never more than that; time is an argument."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modelwarden.courier.pacing import (
    BURST,
    FIRST_PAUSE,
    GATHER_LONGEST,
    GATHER_QUIET,
    LONGEST_PAUSE,
    CircuitBreaker,
    TokenBucket,
    more_may_come,
    pause_after,
)

MOMENTS = st.lists(st.floats(0, 1000), min_size=1, max_size=60)


def test_bucket_lets_a_burst_through_and_then_one_a_second() -> None:
    """Three at once after a quiet time, then at the rate that Slack allows."""
    bucket = TokenBucket()

    assert [bucket.take(100.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert not bucket.take(100.9)
    assert bucket.take(101.1)
    assert not bucket.take(101.2)


@given(MOMENTS)
def test_bucket_never_lets_more_through_than_burst_and_rate(moments: list[float]) -> None:
    """Whenever it is asked, also by a clock that jumps back."""
    bucket = TokenBucket()
    taken = sum(bucket.take(moment) for moment in moments)
    forwards = sum(max(0.0, later - earlier) for earlier, later in pairwise(moments))

    assert taken <= BURST + forwards


def test_bucket_after_a_clock_stepped_back_goes_on_within_a_second() -> None:
    """A day stepped back delays no message by a day."""
    bucket = TokenBucket()
    for _ in range(BURST):
        bucket.take(100_000.0)

    assert not bucket.take(13_600.0)
    assert bucket.take(13_601.1)


def test_breaker_is_closed_until_a_send_fails_and_after_one_succeeds() -> None:
    """One success is enough."""
    breaker = CircuitBreaker()
    assert breaker.lets_through(5.0)

    pause = breaker.failed(5.0)

    assert 0 <= pause <= FIRST_PAUSE
    assert breaker.lets_through(5.0 + pause)
    breaker.succeeded()
    assert breaker.lets_through(5.0)
    assert breaker.failures == 0


@given(st.integers(1, 2000))
def test_pause_is_within_its_bound(attempts: int) -> None:
    """Full jitter: anything from nothing to the bound, which doubles up to a quarter of an hour."""
    assert 0 <= pause_after(attempts) <= min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 60))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-1e6, 1e6))
def test_gathering_ends_with_a_quiet_time_and_within_a_minute(oldest: float, span: float, late: float) -> None:
    """Whatever comes, and wherever the clock is stepped to."""
    newest = oldest + span
    assert not more_may_come(max(newest, newest + late) + GATHER_QUIET + 1e-3, oldest, newest)
    assert not more_may_come(oldest + GATHER_LONGEST + 1e-3, oldest, newest)
    assert not more_may_come(oldest - 1.0, oldest, newest)
    assert more_may_come(newest, newest - GATHER_LONGEST / 2, newest)
