"""The figures: what is measured against which yardstick, in interleaved rounds, as ratios.

The rule: both sides of a ratio are measured in the same run, in turn, on the same file system; a target that is missed
is printed as missed.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench import naive
from bench.subject import Subject, subject
from bench.workload import grow_archive, grow_whole_archive, published_files, summary_bytes
from bench.yardsticks import publish_all, publish_alone
from modelwarden.gate.assessment import Classification
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.what_if import try_policy
from modelwarden.intake.scan import Root, Scan
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt, Ledger
from processes import modelwarden, until


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        figure: what was measured.
        case: under which circumstances.
        ours: with its unit.
        yardstick: with its unit, or what the target is absolute about.
        ratio: ours against the yardstick, or None for an absolute figure.
        target: as the project set it; "" for a figure that is only reported.
        met: whether it was reached, None without a target.
    """

    figure: str
    case: str
    ours: str
    yardstick: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    burst: Sequence[int]
    drops: int
    grown: Sequence[int]
    grown_burst: int
    start_runs: int
    start_files: int
    idle_files: int
    idle_seconds: float
    overflow: int
    whole_runs: int


FULL = Sizes(5, (2_000, 20_000), 200, (100, 10_000, 100_000), 2_000, 100_000, 100_000, 10_000, 130.0, 100_000, 20_000)
QUICK = Sizes(2, (300,), 30, (100, 2_000), 300, 2_000, 2_000, 500, 5.0, 2_000, 500)

NAIVE_SECONDS = 120.0
"""How long the naive script may go on. It writes all of its index for every run and so gets slower with each: what it
did a second so far is more than it would do to the end, and a ratio against it is the least that can be."""

_seeds = itertools.count()


def take_seeds(count: int) -> list[int]:
    """So many seeds that no summary of this run had before."""
    return [next(_seeds) for _ in range(count)]


def burst(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Many summaries renamed in at once, against the bare loop and against the naive script."""
    for size in sizes.burst:
        ours, limit, naives, synced, firsts, cpu, memory = [], [], [], [], [], [], 0.0
        is_small = size == sizes.burst[0]
        for number in range(sizes.rounds if is_small else max(1, sizes.rounds // 2 + 1)):
            with scratch(folder, f"burst-{size}-{number}") as place:
                seeds = take_seeds(size)
                runs = [(f"r{seed}", published_files(summary_bytes(seed))) for seed in seeds]
                (place / "limit").mkdir()
                os.sync()
                limit.append(size / publish_all(place / "limit", runs))
                del runs
                with subject(place / "ours") as daemon:
                    took = daemon.burst(daemon.prepare(seeds))
                    ours.append(size / took.seconds)
                    firsts.append(took.first * 1e3)
                    cpu.append(took.cpu / size * 1e3)
                    memory = max(memory, daemon.most_mib)
                naives.append(_naive_rate(place / "naive", seeds))
                if number < 2:  # fifteen minutes of fsyncs tell no more
                    synced.append(_naive_rate(place / "naive-synced", seeds, "--fsync"))
        median = statistics.median(ours)
        aim = 0.35 if is_small else None
        yield _at_least("burst", f"{size} summaries, limit", median, statistics.median(limit), "runs/s", aim)
        begun = "" if is_small else f", its first {NAIVE_SECONDS:.0f} s"
        aim = 1.9 if is_small else 10
        yield _at_least(
            "burst", f"{size}, naive without fsync{begun}", median, statistics.median(naives), "runs/s", aim
        )
        yield _at_least("burst", f"{size}, naive with fsync{begun}", median, statistics.median(synced), "runs/s", None)
        took_cpu, first = statistics.median(cpu), statistics.median(firsts)
        yield Row(
            "burst", f"{size}, CPU a run, all processes", f"{took_cpu:.2f} ms", "", None, "<= 2.5 ms", took_cpu <= 2.5
        )
        yield Row(
            "burst", f"{size}, the first is archived after", f"{first:.0f} ms", "", None, "<= 100 ms", first <= 100
        )
        case = f"{size}, most memory of daemon and workers"
        yield Row("burst", case, f"{memory:.0f} MiB", "", None, "<= 130 MiB", memory <= 130)


def polled(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """A burst while somebody reads index.json every 50 ms, against one that nobody looks at."""
    size = sizes.burst[0]
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(sizes.rounds):
        for is_read, so_far in rates.items():
            with scratch(folder, f"polled-{is_read}-{number}") as place, subject(place / "ours") as daemon:
                paths = daemon.prepare(take_seeds(size))
                with _reader(daemon.archive / "index.json") if is_read else nullcontext():
                    so_far.append(size / daemon.burst(paths).seconds)
    ours, base = statistics.median(rates[True]), statistics.median(rates[False])
    yield _at_least("a reader polls", f"burst of {size}, against no reader", ours, base, "runs/s", 0.9)


def lone(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """One summary at a time on an idle daemon, against a lone bare publish of the same bytes."""
    with scratch(folder, "lone") as place, subject(place / "ours") as daemon:
        yield from _latency("lone latency", "idle daemon", daemon, place / "bare", sizes.drops, 2.8, 2.5)
        yield Row("lone latency", "resident memory, idle daemon", f"{daemon.shared_mib():.0f} MiB")


def growth(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Burst and lone latency on archives that have grown, against the smallest."""
    with scratch(folder, "growth") as place:
        for runs in sizes.grown:
            grow_archive(place / f"{runs}" / "archive", runs)
        os.sync()
        bursts: dict[int, list[float]] = {runs: [] for runs in sizes.grown}
        lones: dict[int, list[float]] = {runs: [] for runs in sizes.grown}
        for _ in range(sizes.rounds):
            for runs in sizes.grown:
                with subject(place / f"{runs}" / "ours", archive=place / f"{runs}" / "archive") as daemon:
                    seeds = take_seeds(sizes.grown_burst)
                    bursts[runs].append(sizes.grown_burst / daemon.burst(daemon.prepare(seeds)).seconds)
                    for path in daemon.prepare(take_seeds(max(10, sizes.drops // sizes.rounds))):
                        lones[runs].append(daemon.lone(path))
                        time.sleep(0.01)
        least = sizes.grown[0]
        for runs in sizes.grown[1:]:
            ours, base = statistics.median(bursts[runs]), statistics.median(bursts[least])
            yield _at_least("growth", f"burst at {runs} runs, against {least}", ours, base, "runs/s", 0.8)
        for runs in sizes.grown[1:]:
            ours, base = statistics.median(lones[runs]) * 1e3, statistics.median(lones[least]) * 1e3
            yield _at_most("growth", f"lone p50 at {runs} runs, against {least}", ours, base, "ms", 3)


def backfill(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Summaries older than all that a large archive has, against the same into an empty one."""
    lones: list[float] = []
    with scratch(folder, "backfill") as place:
        into: dict[int, list[float]] = {0: [], sizes.start_runs: []}
        for number in range(sizes.rounds):
            seeds = take_seeds(sizes.grown_burst)
            for runs, rates in into.items():
                here = place / f"{runs}-{number}"
                if runs:
                    grow_archive(here / "archive", runs)
                    os.sync()
                with subject(here / "ours", archive=here / "archive") as daemon:
                    rates.append(sizes.grown_burst / daemon.burst(daemon.prepare(seeds, year=2000)).seconds)
                    if runs:
                        for path in daemon.prepare(take_seeds(max(10, sizes.drops // sizes.rounds)), year=1999):
                            lones.append(daemon.lone(path))
                            time.sleep(0.02)
        ours, base = statistics.median(into[sizes.start_runs]), statistics.median(into[0])
        yield _at_least(
            "backfill", f"{sizes.grown_burst} old into {sizes.start_runs} runs, into none", ours, base, "runs/s", 0.7
        )
        # All runs stand in one file, oldest first: what is older than all of them moves all of them.
        mib = max(index.stat().st_size for index in place.glob("*/archive/index.json")) / 2**20
        case = f"one old into {sizes.start_runs} runs, p50; index.json {mib:.0f} MiB"
        yield Row("backfill", case, f"{statistics.median(lones) * 1e3:.0f} ms")


def start(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """From the command to READY on a grown archive and a folder full of files that are archived already."""
    with scratch(folder, "start") as place:
        archive = place / "archive"
        grow_archive(archive, sizes.start_runs)
        watched = place / "ours" / "watched"
        watched.mkdir(parents=True)
        for number in range(sizes.start_files):
            (watched / f"old-{number}.json").write_bytes(b'{"models": [], "number": %d}' % number)
        _mark_dealt_with(archive, watched)
        seconds, memory = [], 0.0
        for _ in range(sizes.rounds):
            began = time.perf_counter()
            with subject(place / "ours", archive=archive) as daemon:
                seconds.append(time.perf_counter() - began)
                until(lambda: daemon.cpu_seconds() and _is_quiet(daemon), "the first scan to end", 60)
                memory = max(memory, daemon.peak_mib())
            (place / "ours" / "daemon.log").unlink()
        case = f"{sizes.start_runs} runs, {sizes.start_files} old files"
        took = statistics.median(seconds)
        yield Row("start", f"{case}: to READY", f"{took:.2f} s", "", None, "<= 5 s", took <= 5)
        yield Row("start", f"{case}: peak memory", f"{memory:.0f} MiB", "", None, "<= 250 MB", memory * 1.048576 <= 250)


def queries(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Questions about a grown archive, in process."""
    with scratch(folder, "queries") as place:
        archive = place / "archive"
        grow_archive(archive, sizes.start_runs)
        database = Database(str(archive / ".state"), "")
        catalog = Catalog(database)
        name = catalog.latest(time.time()) or ""
        questions: dict[str, Callable[[], object]] = {
            "runs (youngest 50)": lambda: catalog.runs(50),
            "history of one symbol (youngest 50)": lambda: catalog.history("SYM007", 50),
            "approved": lambda: catalog.symbols(name, Classification.APPROVED),
            "show": lambda: (catalog.run(name), catalog.assessments(name)),
        }
        for question, ask in questions.items():
            took = statistics.median(_timed(ask) for _ in range(max(5, sizes.rounds))) * 1e3
            yield Row("queries", question, f"{took:.2f} ms", "", None, "<= 50 ms", took <= 50)
        stricter = Policy.from_config(ModelGatingConfig(approved_min_fitness=0.8, approved_min_pf=2.0))
        rates = []
        for _ in range(3):
            began = time.perf_counter()
            count = try_policy(catalog.figures(stricter), stricter).assessments
            rates.append(count / (time.perf_counter() - began))
        rate = statistics.median(rates)
        case = f"{sizes.start_runs * 50} assessments, one core"
        yield Row("regate", case, f"{rate:,.0f}/s", "", None, ">= 200,000/s", rate >= 200_000)
        database.close()


def upkeep(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """`reindex` and `verify` of runs that are whole, once they are in the cache."""
    runs = sizes.whole_runs
    with scratch(folder, "upkeep") as place:
        grow_whole_archive(place / "archive", runs)
        os.sync()
        rates: dict[str, list[float]] = {"reindex": [], "verify": []}
        for number in range(4):
            for command, so_far in rates.items():
                began = time.perf_counter()
                answer = modelwarden(command, "--archive", place / "archive", timeout=600)
                if answer.returncode:
                    raise RuntimeError(f"{command}: {answer.stdout}{answer.stderr}")
                if number:  # the first warms both up
                    so_far.append(runs / (time.perf_counter() - began))
        for command, so_far in rates.items():
            rate = statistics.median(so_far)
            yield Row("upkeep", f"{command} of {runs} runs", f"{rate:.0f}/s", "", None, ">= 2000/s", rate >= 2000)


def idle(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """What watching costs when nothing happens."""
    with scratch(folder, "idle") as place:
        watched = place / "ours" / "watched"
        watched.mkdir(parents=True)
        for number in range(sizes.idle_files):
            (watched / f"old-{number}.json").write_bytes(b'{"models": [], "number": %d}' % number)
        _mark_dealt_with(place / "ours" / "archive", watched)
        with subject(place / "ours") as daemon:
            until(lambda: _is_quiet(daemon), "the first scan to end", 60)
            before = daemon.cpu_seconds()
            time.sleep(sizes.idle_seconds)
            share = (daemon.cpu_seconds() - before) / sizes.idle_seconds * 100
        case = f"{sizes.idle_files} old files, {sizes.idle_seconds:.0f} s"
        yield Row("idle", case, f"{share:.3f} % of a core", "", None, "<= 0.1 %", share <= 0.1)


def beside_trainer(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Lone latency while another process writes 1 GiB and syncs, in a loop."""
    with scratch(folder, "trainer") as place, subject(place / "ours") as daemon, _trainer(place):
        yield from _latency(
            "beside a trainer", "1 GiB and fsync, in a loop", daemon, place / "bare", sizes.drops, None, 2
        )


def overflow(folder: Path, sizes: Sizes) -> Iterator[Row]:
    """More renames at once than the kernel's queue holds."""
    with scratch(folder, "overflow") as place, subject(place / "ours") as daemon:
        paths = daemon.prepare(take_seeds(sizes.overflow), models=1)
        hidden = []
        for path in paths:  # tmp -> final inside the watched folder, as a careful trainer does
            temporary = daemon.watched / f".{path.name}.tmp"
            os.rename(path, temporary)
            hidden.append(temporary)
        took = daemon.burst(hidden, lambda temporary: temporary.name[1:].removesuffix(".tmp"))
        daemon.daemon.stop()
        archived = len([name for name in os.listdir(daemon.archive) if name[:4].isdigit()])
        lost = len(daemon.daemon.events("events_lost"))
        once = archived == sizes.overflow
        yield Row(
            "overflow",
            f"{sizes.overflow} tmp->final at once: archived",
            f"{archived} ({archived / took.seconds:.0f}/s)",
            f"overflows seen: {lost}",
            None,
            "each once",
            once,
        )


FIGURES: dict[str, Callable[[Path, Sizes], Iterator[Row]]] = {
    "burst": burst,
    "polled": polled,
    "lone": lone,
    "growth": growth,
    "backfill": backfill,
    "start": start,
    "queries": queries,
    "upkeep": upkeep,
    "idle": idle,
    "trainer": beside_trainer,
    "overflow": overflow,
}


def _latency(
    figure: str, case: str, daemon: Subject, bare: Path, drops: int, median: float | None, tail: float
) -> Iterator[Row]:
    bare.mkdir()
    ours, yardstick = [], []
    paths = daemon.prepare(take_seeds(drops + 5))
    for number, path in enumerate(paths):
        files = published_files(path.read_bytes())
        yardstick.append(publish_alone(bare, f"r{number}", files))
        ours.append(daemon.lone(path))
        time.sleep(0.02)  # idle again: the state's transaction comes after the index
    ours, yardstick = sorted(ours[5:]), sorted(yardstick[5:])  # the first few warm both up
    for name, place, target in (("p50", 0.5, median), ("p99", 0.99, tail)):
        rank = min(len(ours) - 1, int(len(ours) * place))
        yield _at_most(figure, f"{case}, {name} of {drops}", ours[rank] * 1e3, yardstick[rank] * 1e3, "ms", target)


def _naive_rate(place: Path, seeds: Sequence[int], *options: str) -> float:
    """The naive script's runs a second until the last, or so far after NAIVE_SECONDS."""
    ready, watched, archive = place / "ready", place / "watched", place / "archive"
    for folder in (ready, watched, archive):
        folder.mkdir(parents=True)
    for seed in seeds:
        (ready / f"{seed}.json").write_bytes(summary_bytes(seed))
    os.sync()
    process = subprocess.Popen(
        [sys.executable, naive.__file__, str(watched), str(archive), *options], stdout=subprocess.PIPE
    )
    try:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError("the naive script did not start")
        if archive.stat().st_nlink < 2:
            raise RuntimeError("this file system does not count folders: take one that does, such as ext4 or xfs")
        began = time.perf_counter()
        for seed in seeds:
            os.rename(ready / f"{seed}.json", watched / f"{seed}.json")
        # Its index is written last; the folder's link count tells how many runs there are without opening a file.
        while (done := archive.stat().st_nlink - 2) < len(seeds) or (archive / "index.json.tmp").exists():
            if time.perf_counter() - began > NAIVE_SECONDS:
                break
            time.sleep(0.005)
        return done / (time.perf_counter() - began)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _reader(index: Path) -> Iterator[None]:
    program = (
        "import sys, time\n"
        "while True:\n"
        "    try:\n"
        "        open(sys.argv[1], 'rb').read()\n"
        "    except FileNotFoundError:\n"
        "        pass\n"
        "    time.sleep(0.05)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(index)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _trainer(place: Path) -> Iterator[None]:
    program = (
        "import os,sys\n"
        "block = os.urandom(1 << 20)\n"
        "while True:\n"
        "    with open(sys.argv[1], 'wb') as stream:\n"
        "        for _ in range(1024):\n"
        "            stream.write(block)\n"
        "        stream.flush()\n"
        "        os.fsync(stream.fileno())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(place / "checkpoint")])
    try:
        time.sleep(3)  # until it has dirty pages to write back
        yield
    finally:
        process.kill()
        process.wait()


def _mark_dealt_with(archive: Path, watched: Path) -> None:
    """Note every file in the ledger, as if it had been archived long ago."""
    archive.mkdir(parents=True, exist_ok=True)
    database = Database(str(archive / ".state"), "2000-01-01T00:00:00Z")
    with database.transaction():
        Ledger(database).record(
            Dealt(path, figures, "0" * 64, "20010101_000000", None) for path, figures in Scan(Root(str(watched)))
        )
    database.close()


def _is_quiet(daemon: Subject) -> bool:
    """Whether a second passed without work."""
    before = daemon.cpu_seconds()
    time.sleep(1)
    return daemon.cpu_seconds() - before < 0.02


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """A new folder of that name. It stays until the figure is done: ext4 makes files slowly after it removed many."""
    place = folder / name
    place.mkdir(parents=True)
    yield place


def _at_least(figure: str, case: str, ours: float, yardstick: float, unit: str, target: float | None) -> Row:
    ratio = ours / yardstick
    met = None if target is None else ratio >= target
    wanted = "" if target is None else f">= {target:g} x"
    return Row(figure, case, f"{ours:.0f} {unit}", f"{yardstick:.0f} {unit}", ratio, wanted, met)


def _at_most(figure: str, case: str, ours: float, yardstick: float, unit: str, target: float | None) -> Row:
    ratio = ours / yardstick
    met = None if target is None else ratio <= target
    wanted = "" if target is None else f"<= {target:g} x"
    return Row(figure, case, f"{ours:.2f} {unit}", f"{yardstick:.2f} {unit}", ratio, wanted, met)
