"""How fast a destination is written to, and how long one that fails is left in peace. Pure: time comes in.

The rule: pacing only ever delays. What is owed stays owed.
"""

import random
from dataclasses import dataclass, field
from typing import Final

RATE: Final = 1.0
BURST: Final = 3
"""Messages a second to one destination, and how many at once after a quiet time (Slack: one a second, short bursts)."""

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 900.0
"""Seconds between tries: full jitter over an exponential from 5 s to 15 min."""

OVERTIME: Final = 2.0
"""Seconds past its own timeout after which a send counts as hung."""

GATHER_QUIET: Final = 5.0
GATHER_LONGEST: Final = 60.0
"""Seconds: one message stands for many once no more of them came for so long, or the oldest has waited for so long. A
backfill of thousands takes a while, and would else be a message a second.
"""


def more_may_come(now: float, oldest: float, newest: float) -> bool:
    """Whether what is owed since these moments is best left to gather. A clock that was stepped back delays nothing."""
    return 0 <= now - newest < GATHER_QUIET and now - oldest < GATHER_LONGEST


def pause_after(attempts: int) -> float:
    """Seconds to wait after so many failed attempts: full jitter, so that many hosts don't try in step."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 30))
    return random.uniform(0, longest)  # noqa: S311 - spreads load, keeps no secret


@dataclass
class TokenBucket:
    """At most RATE messages a second, BURST at once."""

    tokens: float = BURST
    at: float = field(default=float("-inf"))

    def take(self, now: float) -> bool:
        """Whether a message may go now; it counts if so. A clock that was stepped back only delays."""
        if now > self.at:
            self.tokens = min(BURST, self.tokens + (now - self.at) * RATE)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class CircuitBreaker:
    """Open after a failure: nothing goes to the destination until a pause is over, then one message tries it.

    Attributes:
        failures: sends that failed since the last success.
        until: how long it stays open.
    """

    failures: int = 0
    until: float = float("-inf")

    def lets_through(self, now: float) -> bool:
        """Whether a message may be tried now."""
        return now >= self.until

    def succeeded(self) -> None:
        """The destination took a message."""
        self.failures, self.until = 0, float("-inf")

    def failed(self, now: float, attempts: int = 1, asked: float = 0.0) -> float:
        """A send failed; return the seconds until the next may be tried.

        Args:
            now: when.
            attempts: how often this message was tried, perhaps by couriers before: what failed then counts as well.
            asked: seconds that the destination asked for: it is not tried before, but for LONGEST_PAUSE at most.
        """
        if not self.lets_through(now):  # a person asked for this try: the pause under way neither ends nor grows by it
            return self.until - now
        self.failures = max(self.failures + 1, attempts)
        pause = max(pause_after(self.failures), min(asked, LONGEST_PAUSE))
        self.until = now + pause
        return pause
