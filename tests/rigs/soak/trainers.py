"""Trainers by chance: every way in which a summary gets into a folder, and what must become of each.

The rule: what a file is to become is noted before the file can be seen, by its bytes alone. Where old bytes make way
for new ones before anybody is known to have archived them, they may be archived and need not.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from typing import IO, Final, Self

from invariants import sha256
from summaries import encoded, random_summary

HABITS: Final[Mapping[str, int]] = {
    "renamed": 40,
    "in_parts": 12,
    "hard_link": 6,
    "two_hard_links": 4,
    "rewritten": 6,
    "renamed_over": 4,
    "rewritten_with_old_time": 3,
    "copied": 4,
    "touched": 4,
    "removed": 4,
    "bad": 6,
}
"""What a trainer does, each as often as its number among all."""

MODELS: Final = (1, 3, 3, 10, 10, 50, 200)
POINTS: Final = (1, 4, 30)
HUGE_SHARE: Final = 0.004
"""How many summaries have HUGE models."""
HUGE: Final = 1_000

SHARED_NAMES: Final = 10
"""How many timestamps every fifth summary shares with others."""

MAX_BYTES: Final = 2 << 20
"""The cap on a file that the daemons are to have: a bad file in ten is larger."""

MOST_BACKLOG: Final = 600
"""While so many of its summaries wait, a trainer at work rests: what a slow machine has before it has an end."""

REST_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.5
"""Pause between two looks at the archive: listing it is work too."""

_KEPT_OF_OVERSIZE: Final = 1 << 20
"""How much the product keeps of a file beyond the cap."""

_REVISION: Final = b"-rev-0000"
"""Part of every run's name: bytes of a summary that can change while its size does not."""


class ArchivedRuns:
    """Which bytes the archive has, told from its folders; each is read once, and a look is good for a moment.

    Args:
        archive: the archive directory.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._lock = Lock()
        self._names: set[str] = set()
        self._digests: frozenset[str] = frozenset()
        self._look_at = 0.0

    def digests(self) -> frozenset[str]:
        """The sha256 of every summary that was archived LOOK_SECONDS ago; of some that were since."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look()
                self._look_at = time.monotonic() + LOOK_SECONDS
            return self._digests

    def _look(self) -> None:
        there = os.listdir(self._archive) if self._archive.is_dir() else ()
        new = [name for name in there if name[0].isdecimal() and name not in self._names]
        self._names.update(new)
        self._digests |= {sha256((self._archive / name / "summary.json").read_bytes()) for name in new}


@dataclass(eq=False)
class _Writing:
    """A file that is being written, its rest still to come."""

    path: Path
    stream: IO[bytes]
    rest: list[bytes]


@dataclass
class Left:
    """What must become of all that was left.

    Attributes:
        must: digests of what is to be archived.
        may: digests of what may be.
        bad: digests of what is to be rejected, each with the watched folders it lay in.
        parts: summaries that stood on disk in part for a while: a beginning of one may be rejected too.
        sources: what each file holds at the end, by path.
        counts: how often each thing was done.
    """

    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)
    bad: dict[str, set[Path]] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    sources: dict[Path, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def plus(self, other: "Left") -> "Left":
        """Both together; they have no file in common."""
        return Left(
            self.must | other.must,
            (self.may | other.may) - self.must - other.must,
            self.bad | other.bad,
            self.parts + other.parts,
            self.sources | other.sources,
            self.counts + other.counts,
        )


class Trainer:
    """One trainer. Its choices depend on the chance alone.

    Args:
        name: part of all its files' names and bytes.
        roots: the watched folders.
        archived: what the archive has.
        chance: its own.

    Attributes:
        left: what it left so far.
    """

    def __init__(self, name: str, roots: Sequence[Path], archived: ArchivedRuns, chance: Random) -> None:
        self.left = Left()
        self._name = name
        self._roots = roots
        self._archived = archived
        self._chance = chance
        self._count = 0
        self._writing: list[_Writing] = []
        self._plain: list[Path] = []  # files with one name that nobody is writing

    def backlog(self) -> int:
        """How many summaries wait to be archived."""
        return len(self.left.must - self._archived.digests())

    def act(self) -> None:
        """Do one thing more, and go on with one of the files that are being written."""
        habit = self._chance.choices(list(HABITS), list(HABITS.values()))[0]
        if habit in {"rewritten", "renamed_over", "rewritten_with_old_time", "copied", "touched", "removed"}:
            pick = self._chance.random()
            if not self._plain:
                return
            self._change(habit, self._plain[int(pick * len(self._plain))])
        else:
            self._add(habit)
        if self._writing:
            self._go_on(self._writing[int(self._chance.random() * len(self._writing))])

    def burst(self, root: Path, count: int) -> None:
        """Rename many small summaries into the folder at once."""
        ready = root.parent / f".ready-{self._name}"
        ready.mkdir(exist_ok=True)
        waiting = []
        for _ in range(count):
            data = self._summary(self._chance.choice((1, 3, 10)), 4)
            path = ready / self._new_name()
            path.write_bytes(data)
            waiting.append((path, data))
        for path, data in waiting:
            target = root / path.name
            self._expect(target, data)
            path.rename(target)
            self._plain.append(target)
        self.left.counts["renamed_in_a_burst"] += count

    def finish(self) -> None:
        """Write to the end what is half written."""
        while self._writing:
            self._go_on(self._writing[0])

    def _add(self, habit: str) -> None:
        """Leave a new file."""
        root = self._chance.choice(self._roots)
        folder = root / self._chance.choice((".", ".", "deep", f"deep/{self._chance.randrange(20)}"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self._new_name()
        self.left.counts[habit] += 1
        if habit == "bad":
            data = self._rubbish()
            self.left.bad.setdefault(_identity(data), set()).add(root)
            self.left.sources[path] = sha256(data)
            _rename_in(data, path)
            return
        models = HUGE if self._chance.random() < HUGE_SHARE else self._chance.choice(MODELS)
        data = self._summary(models, self._chance.choice(POINTS))
        self._expect(path, data)
        match habit:
            case "in_parts":
                self._begin(path, data)
            case "hard_link" | "two_hard_links":
                temporary = path.with_name(f".{path.name}")
                temporary.write_bytes(data)
                path.hardlink_to(temporary)
                if habit == "two_hard_links":
                    other = path.with_name(f"also-{path.name}")
                    self.left.sources[other] = sha256(data)
                    other.hardlink_to(temporary)
                temporary.unlink()
            case _:
                _rename_in(data, path)
                self._plain.append(path)

    def _change(self, habit: str, path: Path) -> None:
        """Do something to a file that is there; where somebody took it away, that is found at the end."""
        if not path.exists():
            self._plain.remove(path)
            return
        self.left.counts[habit] += 1
        match habit:
            case "touched":
                path.touch()
            case "copied":
                copy = path.with_name(f"copy-{self._new_name()}")
                self.left.sources[copy] = self.left.sources[path]
                _rename_in(path.read_bytes(), copy)
            case "removed":
                self._give_up(path)
                del self.left.sources[path]
                self._plain.remove(path)
                path.unlink()
            case "renamed_over":
                self._give_up(path)
                data = self._summary(3, 4)
                self._expect(path, data)
                _rename_in(data, path)
            case "rewritten":
                self._give_up(path)
                data = self._summary(10, 4)
                self._expect(path, data)
                self._plain.remove(path)
                self._begin(path, data)
            case _:
                self._rewrite_with_old_time(path)

    def _rewrite_with_old_time(self, path: Path) -> None:
        """Other bytes, as many of them, and the modification time as it was: only the ctime tells."""
        old = path.read_bytes()
        at = old.index(_REVISION[:-4]) + len(_REVISION) - 4
        data = old[:at] + b"%04d" % (int(old[at : at + 4]) + 1) + old[at + 4 :]
        status = path.stat()
        self._give_up(path)
        self._expect(path, data)
        with path.open("r+b", buffering=0) as stream:
            stream.write(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _begin(self, path: Path, data: bytes) -> None:
        """Write the first part under the final name, over what is there."""
        self.left.parts.append(data)
        cuts = sorted(self._chance.sample(range(1, len(data)), self._chance.randint(1, 5)))
        parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        self._writing.append(_Writing(path, path.open("wb", buffering=0), parts))
        self._go_on(self._writing[-1])

    def _go_on(self, writing: _Writing) -> None:
        """Write the next part; with the last one the file is closed."""
        writing.stream.write(writing.rest.pop(0))
        if not writing.rest:
            writing.stream.close()
            self._writing.remove(writing)
            self._plain.append(writing.path)

    def _expect(self, path: Path, data: bytes) -> None:
        """From now on these bytes are owed, and the file holds them."""
        digest = sha256(data)
        self.left.must.add(digest)
        self.left.sources[path] = digest

    def _give_up(self, path: Path) -> None:
        """The file's bytes go now: they must be archived only where they are already."""
        digest = self.left.sources[path]
        if digest not in self._archived.digests():
            self.left.must.discard(digest)
            self.left.may.add(digest)

    def _summary(self, models: int, points: int) -> bytes:
        """New bytes: most with a timestamp of their own, some with one that others have too, some with none."""
        self._count += 1
        summary = random_summary(self._chance.randrange(28 * 86_400 * 20), models=models, points=points)
        summary["run_name"] = f"{self._name}-{self._count}{_REVISION.decode()}"
        match self._chance.randrange(10):
            case 0 | 1:
                summary["timestamp"] = f"20241224_1530{self._chance.randrange(SHARED_NAMES):02d}"
            case 2:
                del summary["timestamp"]
            case _:
                pass
        return encoded(summary)

    def _rubbish(self) -> bytes:
        """New bytes that are no summary."""
        self._count += 1
        mark = f"{self._name}-{self._count}"
        return (
            f"no JSON at all: {mark}".encode(),
            encoded({"models": [], "note": mark}),
            json.dumps([mark]).encode(),
            encoded({"note": mark}),
            self._summary(3, 4)[:-20],
            encoded({"models": [{"symbol": "A", "final_pf": "high"}], "note": mark}),
            mark.encode() + b"\0" * 100,
            b"\xff\xfe" + mark.encode("utf-16-le"),
            b"[" * 50_000 + mark.encode(),
            mark.encode() + b" " * MAX_BYTES,
        )[self._chance.randrange(10)]

    def _new_name(self) -> str:
        return f"{self._name}-{self._count}-{self._chance.randrange(10**6)}.json"


def _identity(rubbish: bytes) -> str:
    """The digest by which a rejected file is known: of a file beyond the cap its beginning and its size count."""
    if len(rubbish) <= MAX_BYTES:
        return sha256(rubbish)
    return sha256(rubbish[:_KEPT_OF_OVERSIZE] + b" and so on up to %d bytes" % len(rubbish))


class Works:
    """A trainer at work in a thread of its own.

    Args:
        trainer: who works.
        a_second: how many things it does a second.
        chance: for the pauses.
    """

    def __init__(self, trainer: Trainer, a_second: float, chance: Random) -> None:
        self._trainer = trainer
        self._rate = a_second
        self._chance = chance
        self._ended = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="trainer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what ended the trainer before its time."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        began = time.monotonic()
        due = 0.0  # in seconds since then: what the disk delays is caught up with
        try:
            while not self._ended.wait(max(0.0, began + due - time.monotonic())):
                while self._trainer.backlog() > MOST_BACKLOG and not self._ended.wait(REST_SECONDS):
                    began += REST_SECONDS
                self._trainer.act()
                due += self._chance.expovariate(self._rate)
            self._trainer.finish()
        except BaseException as error:  # noqa: BLE001 - whoever looks after the thread raises it
            self._error = error


def _rename_in(data: bytes, path: Path) -> None:
    """As a careful trainer does it, over what is there."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(data)
    temporary.rename(path)
