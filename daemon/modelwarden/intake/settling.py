"""When a file is ready to be read: a table of waiting files and the moments to look at them. Pure.

The rule: time comes in as an argument (a monotonic clock, seconds), so a stepped clock never stalls a file; and a file
that does not parse is given up only after it has stood still for `reject_after_seconds`.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from modelwarden.fingerprint import Fingerprint


@dataclass(slots=True)
class _Waiting:
    fingerprint: Fingerprint
    since: float  # when it was first seen with this fingerprint
    look_at: float


class Settling:
    """The files that are not dealt with yet.

    Args:
        settle_seconds: how long a file found without a hint must stand still, and the pause between two looks at
            one that does not parse.
        reject_after_seconds: how long one that does not parse must have stood still to be given up.
    """

    def __init__(self, settle_seconds: float, reject_after_seconds: float) -> None:
        self._settle = settle_seconds
        self._reject_after = reject_after_seconds
        self._waiting: dict[str, _Waiting] = {}
        self._order: list[tuple[float, int, str]] = []  # a heap; entries that were rescheduled are skipped
        self._ticket = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> Iterator[tuple[str, float]]:
        """The files, each with the moment at which it was first seen as it is."""
        return ((path, waiting.since) for path, waiting in self._waiting.items())

    def since(self, path: str, now: float) -> float:
        """When a file was first seen as it is; now if it is not waiting."""
        waiting = self._waiting.get(path)
        return now if waiting is None else waiting.since

    def seen(self, path: str, fingerprint: Fingerprint, *, hinted: bool, now: float) -> None:
        """A file is there. With a hint it is looked at now, without one once it has stood still."""
        known = self._waiting.get(path)
        if known is None or known.fingerprint != fingerprint:
            known = self._waiting[path] = _Waiting(fingerprint, now, 0.0)
            self._schedule(path, known, now if hinted else now + self._settle)
        elif hinted and known.look_at > now:
            self._schedule(path, known, now)
        elif known.look_at == math.inf:
            self._schedule(path, known, now + self._settle)

    def forget(self, path: str) -> bool:
        """The file was dealt with, or is gone; whether it was waiting."""
        return self._waiting.pop(path, None) is not None

    def due(self, now: float, limit: int) -> list[str]:
        """Take up to `limit` files that are to be looked at now, longest due first.

        They leave the schedule: the caller answers each with `forget`, `unfinished` or `again`, or the next scan
        brings it back.
        """
        paths: list[str] = []
        while len(paths) < limit and (look_at := self.next_look()) is not None and look_at <= now:
            path = heapq.heappop(self._order)[2]
            self._waiting[path].look_at = math.inf
            paths.append(path)
        return paths

    def unfinished(self, path: str, fingerprint: Fingerprint, now: float) -> bool:
        """What was read with this fingerprint does not parse. True: it stood still long enough to be given up."""
        waiting = self._waiting.get(path)
        if waiting is None or waiting.fingerprint != fingerprint:
            waiting = self._waiting[path] = _Waiting(fingerprint, now, 0.0)
        given_up_at = waiting.since + self._reject_after
        if now >= given_up_at:
            return True
        self._schedule(path, waiting, min(now + self._settle, given_up_at))
        return False

    def again(self, path: str, at: float) -> None:
        """It could not be read, or what came of it could not be stored: look again then."""
        waiting = self._waiting.get(path)
        if waiting is not None:
            self._schedule(path, waiting, at)

    def next_look(self) -> float | None:
        """When the next file is due, or None if none waits."""
        while self._order:
            look_at, _, path = self._order[0]
            waiting = self._waiting.get(path)
            if waiting is not None and waiting.look_at == look_at:
                return look_at
            heapq.heappop(self._order)
        return None

    def _schedule(self, path: str, waiting: _Waiting, look_at: float) -> None:
        waiting.look_at = look_at
        heapq.heappush(self._order, (look_at, next(self._ticket), path))
