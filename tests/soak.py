"""The soak: minutes of random load on real daemons while things go wrong, and then everything must be there.

    python tests/soak.py --minutes 3 [--seed N] [--dir D]

Two daemons archive to one archive and share one of the folders that they watch. One of them is killed again and again;
the other never is, so that what it keeps in memory can be told. Both announce to one destination.

The rule: what is done follows from the seed alone, and it is printed what was held and survived. Exit code 0: every
promise held; 1: it is printed which did not, and the folder is left for whoever looks into it.
"""

import argparse
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, NamedTuple

from processes import Site, outbox_of, until
from rigs.soak import verdict
from rigs.soak.disks import OWN_MOUNTS, Disk, disk_in, what_is_missing_for_a_disk
from rigs.soak.faults import GARBAGE, Faults
from rigs.soak.hosts import Host
from rigs.soak.index_reader import IndexReader
from rigs.soak.readings import open_files, peak_mib, resident_mib
from rigs.soak.trainers import ArchivedRuns, Left, Trainer, Works
from rigs.soak.unreliable import UnreliableServer

A_SECOND: Final = 25.0
"""How many things the trainer does a second."""

BURST: Final = 300
"""How many summaries come at once: several times as many as make a daemon start its workers."""

ARRIVAL_SECONDS: Final = 240.0
"""How long the last summary and the last message may take once nothing goes wrong any more: pauses have grown long."""

IDLE_SECONDS: Final = 30.0
"""How long a daemon may take to let go of what it needed for a backlog."""

DISK_MIB: Final = 1_024
DISK_MIB_A_MINUTE: Final = 512

LOOK_SECONDS: Final = 0.05
"""Pause between two looks after the daemons, while time passes."""

PROGRESS_SECONDS: Final = 15.0
"""Pause between two lines that tell how far it is."""


class Sample(NamedTuple):
    """What the daemon that is never killed holds at a moment.

    Attributes:
        mib: resident memory.
        files: what each open descriptor leads to.
        runs: how many runs the archive has.
    """

    mib: float
    files: Sequence[str]
    runs: int


class Soak:
    """One soak: its folders, its hosts, and what is known of them.

    Args:
        folder: where everything is; empty.
        disk: on which the archive and the states are.
        server: the destination.
        seed: of all chance.
        seconds: of load and faults.
        a_second: how many things the trainer does in one.
        burst: how many summaries come at once.
        only: the faults to choose from; all where it is empty.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        server: UnreliableServer,
        *,
        seed: int,
        seconds: float,
        a_second: float,
        burst: int,
        only: Sequence[str],
    ) -> None:
        self._folder = folder
        self._server = server
        self._seconds = seconds
        archive = disk.folder / "archive"
        watched = folder / "watched"
        roots = [watched / name for name in ("shared", "steady", "mortal")]
        for root in roots:
            root.mkdir(parents=True)

        def host(name: str, state: Path) -> Host:
            site = Site(folder / name, out_folder=watched, archive_folder=archive, state_folder=state)
            return Host(name, site, [roots[0], watched / name], server.url(name), disk)

        self.steady = host("steady", archive / ".state")
        self.mortal = host("mortal", disk.folder / "state-of-mortal")
        self.archived = ArchivedRuns(archive)
        self.reader = IndexReader(archive / "index.json", GARBAGE)
        chance = random.Random(seed)
        self._trainer = Trainer("t", roots, self.archived, random.Random(chance.random()))
        self._bursts = Trainer("b", roots, self.archived, random.Random(chance.random()))
        self._works = Works(self._trainer, a_second, random.Random(chance.random()))
        self.faults = Faults(
            self.steady,
            self.mortal,
            self._bursts,
            burst,
            server,
            disk,
            only,
            self._let_pass,
            random.Random(chance.random()),
        )
        self._roots = roots
        self._began = 0.0
        self._told_at = 0.0

    @property
    def left(self) -> Left:
        """What all trainers left."""
        return self._trainer.left.plus(self._bursts.left)

    def run(self) -> "Figures":
        """Load and faults for the time asked for, then wait until everything has arrived; the daemons still run."""
        self.steady.start(ready=True)
        self.mortal.start(ready=True)
        until(self.steady.couriers, "a courier")
        start = self._sample()
        self._began = time.monotonic()
        quarter = None
        with self._works:
            for root in self._roots:
                self.faults.burst(root)
            while (elapsed := time.monotonic() - self._began) < self._seconds:
                if quarter is None and elapsed >= self._seconds / 4:
                    quarter = self._sample()
                self.faults.go_on()
        loaded = time.monotonic() - self._began
        runs_loaded = len(self.archived.digests())
        self.faults.end()
        arrived = self._wait_for(self._has_arrived, ARRIVAL_SECONDS)
        took = time.monotonic() - self._began - loaded
        self._wait_for(lambda: self._sample().files == start.files, IDLE_SECONDS)
        return Figures(
            loaded, runs_loaded, arrived, took, start, quarter or start, self._sample(), peak_mib(self.steady.pid)
        )

    def stop(self) -> None:
        """Stop the daemons."""
        for host in (self.steady, self.mortal):
            host.stop()

    def checks(self, figures: "Figures") -> Mapping[str, Callable[[], object]]:
        """Everything that must hold once they have stopped, by name."""
        left, archive, torn = self.left, self.steady.site.archive, self.reader.torn
        found: dict[str, Callable[[], object]] = {
            "arrival": partial(_assert, figures.arrived, f"something is still owed after {ARRIVAL_SECONDS:g} s"),
            "archive": partial(verdict.assert_all_archived, archive, left),
            "rejected": partial(verdict.assert_all_rejected, archive, left),
            "sources": partial(verdict.assert_sources_untouched, left, self._roots),
            "index": partial(_assert, not torn, f"read torn {len(torn)} times: {[each[:60] for each in torn[:3]]}"),
            "memory": partial(
                verdict.assert_memory_bounded,
                figures.quarter.mib,
                figures.end.mib,
                figures.end.runs - figures.quarter.runs,
            ),
            "open files": partial(
                _assert, figures.start.files == figures.end.files, f"{figures.start.files} are {figures.end.files}"
            ),
            "processes": partial(verdict.assert_nobody_left, self._folder),
        }
        hosts = (self.steady, self.mortal)
        found["rejections announced"] = partial(verdict.assert_rejections_announced, hosts, left)
        for host in hosts:
            taken = list(self._server.accepted)
            found |= {
                f"ends of {host.name}": partial(_assert, not host.unforeseen, "\n".join(map(str, host.unforeseen))),
                f"messages of {host.name}": partial(verdict.assert_announced, host, left, taken),
                f"logs of {host.name}": partial(verdict.assert_logs_clean, host),
                # The start comes first: a catalog learns of another's last runs at its own next commit, or start.
                f"one more start of {host.name}": partial(verdict.assert_starts_change_nothing, host),
                f"verify at {host.name}": partial(verdict.assert_verified, host),
            }
        return found

    def _sample(self) -> Sample:
        pid = self.steady.pid
        return Sample(resident_mib(pid), open_files(pid), len(self.archived.digests()))

    def _let_pass(self, seconds: float) -> None:
        """Wait, and look after everything meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._look_after()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(LOOK_SECONDS, left))

    def _look_after(self) -> None:
        self._works.check()
        self.reader.read()
        for host in (self.steady, self.mortal):
            host.supervise()
        now = time.monotonic()
        if now >= self._told_at + PROGRESS_SECONDS:
            self._told_at = now
            runs, faults = len(self.archived.digests()), self.faults.survived.total()
            mib = resident_mib(self.steady.pid)
            print(f"  {now - self._began:5.0f} s: {runs} runs, {faults} faults, {mib:.0f} MiB", flush=True)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._let_pass(0.2)
        return True

    def _has_arrived(self) -> bool:
        """Whether all that was left is archived or rejected, and all messages are delivered."""
        left = self.left
        if left.must - self.archived.digests():
            return False
        rows = [row for host in (self.steady, self.mortal) for row in outbox_of(host.site.state)]
        if {f"rejected:{digest[:16]}" for digest in left.bad} - {row["event"] for row in rows}:
            return False
        return all(row["status"] not in {"pending", "sending"} for row in rows)


class Figures(NamedTuple):
    """What is printed.

    Attributes:
        loaded: seconds of load.
        runs_loaded: how many runs were archived by their end.
        arrived: whether all the rest came in time.
        took: seconds until it had.
        start: before the load.
        quarter: after the first quarter of it.
        end: when all had arrived.
        peak_mib: the most memory it ever had.
    """

    loaded: float
    runs_loaded: int
    arrived: bool
    took: float
    start: Sample
    quarter: Sample
    end: Sample
    peak_mib: float


def main() -> int:
    """Run the soak that the arguments ask for; return the exit code."""
    asked = _arguments()
    if not os.environ.get(OWN_MOUNTS) and not what_is_missing_for_a_disk():
        # In mounts of its own, which go when it does, however that happens.
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    folder = Path(asked.dir or mkdtemp(prefix="soak-")).resolve()
    folder.mkdir(exist_ok=True)
    print(f"soak: seed {asked.seed}, {asked.minutes:g} minutes, in {folder}", flush=True)
    with (
        closing(UnreliableServer(random.Random(asked.seed))) as server,
        disk_in(folder, DISK_MIB + round(asked.minutes * DISK_MIB_A_MINUTE)) as disk,
    ):
        soak = Soak(
            folder,
            disk,
            server,
            seed=asked.seed,
            seconds=asked.minutes * 60,
            a_second=asked.rate,
            burst=asked.burst,
            only=asked.only,
        )
        with soak.steady, soak.mortal:
            figures = soak.run()
            soak.stop()
        wrong = list(verdict.problems(soak.checks(figures)))
        _tell(soak, figures, server)
    for text in wrong:
        print(f"WRONG: {text}")
    if wrong:
        print(f"{len(wrong)} promises broken; the folder is left: {folder} (`mount -o loop` shows what is in image)")
        return 1
    print("every promise held")
    shutil.rmtree(folder)
    return 0


def _tell(soak: Soak, figures: Figures, server: UnreliableServer) -> None:
    """Print what was held and survived."""
    left, faults = soak.left, soak.faults
    files = sum(left.counts.values())
    print("load held")
    print(f"  {files} things done in {figures.loaded:.0f} s, {files / figures.loaded:.1f}/s: {_counts(left.counts)}")
    print(
        f"  {figures.runs_loaded} runs archived meanwhile, {figures.runs_loaded / figures.loaded:.1f}/s; "
        f"{figures.end.runs} in all, the rest within {figures.took:.0f} s"
    )
    print(f"  {len(left.bad)} bad files rejected; index.json read whole {soak.reader.reads} times")
    refused = len(server.requests) - len(server.accepted)
    print(f"  {len(server.accepted)} messages taken by the destination, {refused} refused")
    print("faults survived")
    print(f"  {faults.survived.total()}: {_counts(faults.survived)}")
    for host in (soak.steady, soak.mortal):
        if host.refusals:
            print(f"  starts refused on a full disk ({host.name}): {_counts(host.refusals)}")
    if faults.missed:
        print(f"  nothing there to hit: {_counts(faults.missed)}")
    for reason in dict.fromkeys(faults.left_out.values()):
        names = ", ".join(name for name, why in faults.left_out.items() if why == reason)
        print(f"  LEFT OUT ({reason}): {names}")
    start, quarter, end = figures.start, figures.quarter, figures.end
    print("the daemon that was never killed")
    print(
        f"  memory: {start.mib:.1f} MiB at the start, {quarter.mib:.1f} after a quarter ({quarter.runs} runs), "
        f"{end.mib:.1f} at the end ({end.runs} runs); peak {figures.peak_mib:.1f}"
    )
    print(f"  open files: {len(start.files)} at the start, {len(end.files)} at the end")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common() if count) or "none"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Random load and faults for some minutes; then nothing may be lost.")
    parser.add_argument("--minutes", type=float, default=3.0, help="of load and faults (default: 3)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all chance (default: a new one)")
    parser.add_argument("--dir", help="an empty folder to work in (default: a new one)")
    parser.add_argument("--rate", type=float, default=A_SECOND, help=f"things done a second (default: {A_SECOND:g})")
    parser.add_argument("--burst", type=int, default=BURST, help=f"summaries at once; 0: never (default: {BURST})")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="FAULT", help="the faults to choose from (default: all)"
    )
    asked = parser.parse_args()
    sys.argv += ["--seed", str(asked.seed)]  # the same one when it starts itself again
    return asked


def _assert(holds: bool, text: str) -> None:
    assert holds, text


if __name__ == "__main__":
    sys.exit(main())
