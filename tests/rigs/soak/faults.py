"""What goes wrong during a soak: strokes, which are over at once, and spells, which last and in which strokes fall.

The rule: what is done, and in which order, follows from the seed alone; only what it hits is left to the machine. Every
spell takes itself back.
"""

import fcntl
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from random import Random
from threading import Event
from typing import Final, Generic, TypeVar

from rigs.soak.disks import Disk
from rigs.soak.hosts import Host, paused
from rigs.soak.trainers import Trainer
from rigs.soak.unreliable import UnreliableServer
from servers import Answer

HOUR: Final = 3_600
CLOCKS: Final = (-24 * HOUR, -HOUR, -1, 0, 1, HOUR, 24 * HOUR)
"""What a clock is set to, in seconds ahead of the true one."""

GARBAGE: Final = (b"", b"\0" * 5_000, b'{"schema_version": 1, "runs": [\n', b"no index")
"""What somebody writes over index.json."""

REFUSALS: Final[Sequence[int | Answer]] = (500, 503, 429, Answer.CLOSE, Answer.HANG)
"""How the destination fails."""

LOCK_SECONDS: Final = (0.5, 3.0, 11.0)
"""How long somebody holds the lock: the last is longer than the daemons wait for it."""

BURST_SHARE: Final = 0.1
"""Before how many strokes a backlog is left, besides those that are left to see workers."""

READY_SHARE: Final = 0.4
START_SECONDS: Final = 5.0
"""After how many kills the new daemon is given so many seconds to start; the others meet one that has not."""

WORKERS_WITHIN: Final = 5.0
"""Seconds within which a burst makes a daemon start its workers, where nothing else is in its way."""

T = TypeVar("T")

Stroke = Callable[[Random], None]
Spell = Callable[[Random], AbstractContextManager[None]]


class Faults:
    """All that goes wrong, and how often it did.

    Args:
        steady: the host whose daemon is never killed.
        mortal: the host whose daemon is.
        bursts: who leaves many summaries at once.
        burst: how many; 0 for none.
        server: the destination.
        disk: of the archive.
        only: the faults to choose from; all where it is empty.
        let_pass: wait so many seconds, and look after everything meanwhile.
        chance: what chooses.

    Attributes:
        survived: how often each thing went wrong.
        missed: how often a process that was to be hit was not there.
        left_out: the faults that there are none of, each with the reason.

    Raises:
        ValueError: a fault that is not known.
    """

    def __init__(
        self,
        steady: Host,
        mortal: Host,
        bursts: Trainer,
        burst: int,
        server: UnreliableServer,
        disk: Disk,
        only: Sequence[str],
        let_pass: Callable[[float], None],
        chance: Random,
    ) -> None:
        self._steady = steady
        self._mortal = mortal
        self._bursts = bursts
        self._burst_size = burst
        self._server = server
        self._disk = disk
        self._let_pass = let_pass
        self._chance = chance
        self._index_copy: bytes | None = None
        self.survived: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        strokes: dict[str, Stroke] = {
            "daemon killed": self._kill_daemon,
            "daemon stopped": self._stop_daemon,
            "worker killed": self._kill_worker,
            "courier killed": self._kill_courier,
            "clock stepped": self._step_clock,
            "index.json deleted": self._delete_index,
            "index.json spoiled": self._spoil_index,
            "older index.json put back": self._put_back_index,
        }
        spells: dict[str, Spell] = {
            "disk full": self._fill_disk,
            "lock held": self._hold_lock,
            "daemon paused": self._pause_daemon,
            "courier paused": self._pause_courier,
            "worker paused": self._pause_worker,
            "destination failing": self._fail_destination,
        }
        if unknown := set(only).difference(strokes, spells):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join([*strokes, *spells])}")
        self.left_out = self._what_there_is_none_of()
        if only:
            self.left_out |= {name: "not asked for" for name in (*strokes, *spells) if name not in only}
        self._strokes = _Deck({name: act for name, act in strokes.items() if name not in self.left_out}, chance)
        self._spells = _Deck({name: act for name, act in spells.items() if name not in self.left_out}, chance)

    def _what_there_is_none_of(self) -> dict[str, str]:
        left_out = {}
        if self._disk.why_never_full:
            left_out["disk full"] = self._disk.why_never_full
        if not self._steady.clock.env:
            left_out["clock stepped"] = "this machine lacks the command faketime"
        if not self._burst_size:
            left_out |= dict.fromkeys(("worker killed", "worker paused"), "no bursts, no workers")
        return left_out

    def go_on(self) -> None:
        """One spell, or none, and some strokes in it."""
        chance = self._chance
        name, spell = self._spells.draw() if chance.random() < 0.7 else ("", None)
        self.survived[name] += bool(name)
        own = Random(chance.random())
        with spell(own) if spell is not None else nullcontext():
            for _ in range(chance.randint(0, 3)):
                self._let_pass(chance.uniform(0.1, 1.5))
                if chance.random() < BURST_SHARE:
                    self.burst(chance.choice((*self._steady.roots, *self._mortal.roots)))
                name, stroke = self._strokes.draw()
                own = Random(chance.random())
                if stroke is not None:
                    self.survived[name] += 1
                    stroke(own)
        self._let_pass(chance.uniform(0.3, 2))

    def burst(self, root: Path) -> None:
        """Leave a backlog."""
        if self._burst_size:
            self._bursts.burst(root, self._burst_size)

    def end(self) -> None:
        """Nothing goes wrong any more, and time heals: the clocks are put where everything owed is due by now."""
        self._server.relent()
        for host in (self._steady, self._mortal):
            host.clock.step_to(max(CLOCKS) + HOUR)

    # -- Strokes ------------------------------------------------------------------------------------------------------

    def _kill_daemon(self, chance: Random) -> None:
        self._mortal.kill()
        self._let_pass(chance.uniform(0, 1.5))
        self._mortal.start(ready=False)
        if chance.random() < READY_SHARE:
            self._wait_for(self._mortal.is_ready, START_SECONDS)

    def _stop_daemon(self, chance: Random) -> None:
        self._mortal.stop()
        self._let_pass(chance.uniform(0, 1.5))
        self._mortal.start(ready=False)

    def _kill_worker(self, chance: Random) -> None:
        host = chance.choice((self._steady, self._mortal))
        delay = chance.uniform(0, 0.3)
        if (pid := self._worker_of(host, chance)) is not None:
            self._let_pass(delay)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return
        self._miss("worker killed")

    def _kill_courier(self, chance: Random) -> None:
        if (pid := self._courier(chance)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return
        self._miss("courier killed")

    def _step_clock(self, chance: Random) -> None:
        chance.choice((self._steady, self._mortal)).clock.step_to(chance.choice(CLOCKS))

    def _delete_index(self, _chance: Random) -> None:
        self._index.unlink(missing_ok=True)

    def _spoil_index(self, chance: Random) -> None:
        data = chance.choice(GARBAGE)
        by_hand = self._index.with_name(".by-hand")
        try:
            if chance.random() < 0.5:
                self._index.write_bytes(data)
            else:
                by_hand.write_bytes(data)
                by_hand.rename(self._index)
        except OSError:  # no room for it, while the disk is full
            by_hand.unlink(missing_ok=True)
            self._miss("index.json spoiled")

    def _put_back_index(self, chance: Random) -> None:
        """Somebody restores the copy that was made at the last stroke of this kind, and makes one for the next."""
        try:
            older, self._index_copy = self._index_copy, self._index.read_bytes()
            if older is None:
                self._miss("older index.json put back")
            elif chance.random() < 0.5:
                self._index.write_bytes(older)
            else:
                by_hand = self._index.with_name(".by-hand")
                by_hand.write_bytes(older)
                by_hand.rename(self._index)
        except OSError:  # deleted a moment ago, or no room for it
            self._miss("older index.json put back")

    # -- Spells -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _fill_disk(self, chance: Random) -> Iterator[None]:
        with self._disk.filled():
            yield
            self._let_pass(chance.uniform(0.5, 4))

    @contextmanager
    def _hold_lock(self, chance: Random) -> Iterator[None]:
        with (self._index.parent / ".index.lock").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            end = time.monotonic() + chance.choice(LOCK_SECONDS)
            yield
            self._let_pass(max(0.0, end - time.monotonic()))

    @contextmanager
    def _pause_daemon(self, chance: Random) -> Iterator[None]:
        with paused(chance.choice((self._steady, self._mortal)).pid):
            yield
            self._let_pass(chance.uniform(0.2, 6))

    @contextmanager
    def _pause_courier(self, chance: Random) -> Iterator[None]:
        pid = self._courier(chance)
        if pid is None:
            self._miss("courier paused")
        with paused(pid) if pid is not None else nullcontext():
            yield
            self._let_pass(chance.uniform(0.2, 4))

    @contextmanager
    def _pause_worker(self, chance: Random) -> Iterator[None]:
        pid = self._worker_of(chance.choice((self._steady, self._mortal)), chance)
        if pid is None:
            self._miss("worker paused")
        with paused(pid) if pid is not None else nullcontext():
            yield
            self._let_pass(chance.uniform(0.2, 3))

    @contextmanager
    def _fail_destination(self, chance: Random) -> Iterator[None]:
        self._server.answer = chance.choice(REFUSALS)
        try:
            yield
            self._let_pass(chance.uniform(0.5, 4))
        finally:
            self._server.answer = 200
            held, self._server.released = self._server.released, Event()
            held.set()  # who hangs is let go without an answer

    # -- What they have in common -------------------------------------------------------------------------------------

    @property
    def _index(self) -> Path:
        return self._steady.site.archive / "index.json"

    def _courier(self, chance: Random) -> int | None:
        """One host's, else the other's; None where neither has one just now."""
        hosts = chance.sample((self._steady, self._mortal), 2)
        return next((pid for host in hosts for pid in host.couriers()), None)

    def _worker_of(self, host: Host, chance: Random) -> int | None:
        """One of the workers that a burst makes a host start; None where it starts none."""
        self.burst(host.roots[-1])
        workers = self._wait_for(host.workers, WORKERS_WITHIN)
        return chance.choice(workers) if workers else None

    def _wait_for(self, look: Callable[[], T], seconds: float) -> T:
        """What a look gives, once it gives something; what the last one gave after so many seconds."""
        end = time.monotonic() + seconds
        while not (found := look()) and time.monotonic() < end:
            self._let_pass(0.02)
        return found

    def _miss(self, name: str) -> None:
        self.survived[name] -= 1
        self.missed[name] += 1


class _Deck(Generic[T]):
    """Things to draw, all of them before the first comes again."""

    def __init__(self, things: dict[str, T], chance: Random) -> None:
        self._things = things
        self._chance = chance
        self._left: list[str] = []

    def draw(self) -> tuple[str, T | None]:
        """The next and its name; none where there are none."""
        if not self._things:
            return "", None
        if not self._left:
            self._left = self._chance.sample(list(self._things), len(self._things))
        name = self._left.pop()
        return name, self._things[name]
