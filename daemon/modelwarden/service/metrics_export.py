"""The metrics as Prometheus reads them: their names, and the file that the daemon leaves for node_exporter.

The rule: this and the server are all that knows prometheus-client, which is optional (the extra `metrics`). Names and
units are Prometheus's own: seconds, bytes, `_total`, and moments instead of ages, which go on while nothing is written.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from modelwarden.errors import RetryLater, StorageSuspect
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import CLASSIFICATIONS
from modelwarden.gate.run import RunRecord
from modelwarden.log import log
from modelwarden.service.metrics import Readings
from modelwarden.state.reading import Messages

WRITE_SECONDS: Final = 15.0
"""How often the daemon's file is written: about as often as anybody asks for it."""

LOOK_SECONDS: Final = 5.0
"""How often the courier looks what the outbox owes, at most: while it sends, it comes round twenty times a second."""

OUTCOMES: Final = ("archived", "already_archived", "pruned", "rejected", "postponed")

_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: a lone summary takes hundredths, a backlog minutes, and what a full disk holds up hours."""

_READABLE: Final = 0o644
"""node_exporter runs as somebody else."""


class Metrics(Collector):
    """The metrics of one process: what was counted, and how it stands.

    Each has the labels `archive` and `process`: node_exporter refuses what two teams on a host would call alike.

    Args:
        archive: its folder, as it is shown.
        process: `daemon` or `courier`.

    Attributes:
        counted: takes the counters.
        standing: the gauges, as of the last look.
    """

    def __init__(self, archive: str, process: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # of each counter a second series, which nobody asks for
        self.counted = CollectorRegistry()
        self.standing: Sequence[Metric] = ()
        self._labels = {"archive": archive, "process": process}
        self._build = GaugeMetricFamily(
            "modelwarden_build_info", "The version that runs.", labels=("version", "python_version")
        )
        self._build.add_metric((version("modelwarden"), platform.python_version()), 1)
        self._start = gauge("start_time_seconds", "When the process began, since the epoch.", time.time())

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        for metric in (self._build, self._start, *self.counted.collect(), *self.standing):
            metric.samples = [each._replace(labels=self._labels | each.labels) for each in metric.samples]
            yield metric


def gauge(name: str, what: str, value: float | Mapping[str, float] | None, label: str = "") -> Metric:
    """A gauge: one value, one for each value of a label, or None: there is nothing to be told."""
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(f"modelwarden_{name}", what, value=value)
    family = GaugeMetricFamily(f"modelwarden_{name}", what, labels=(label,))
    for each, number in value.items():
        family.add_metric((each,), number)
    return family


def heartbeat() -> Metric:
    """The loop that does the work came round just now."""
    return gauge(
        "heartbeat_timestamp_seconds", "When the loop that works last came round, since the epoch.", time.time()
    )


def outbox(messages: Messages | None) -> Iterator[Metric]:
    """What the outbox owes; both processes tell it, since either may be the one that is down."""
    counts = {} if messages is None else {"owed": messages.owed, "dead": messages.dead}
    yield gauge("outbox_messages", "Messages that are owed, or were given up (dead).", counts, "status")
    yield gauge(
        "outbox_oldest_owed_timestamp_seconds",
        "When the oldest message that is owed came, since the epoch; nothing if none is.",
        None if messages is None else messages.oldest,
    )


class TextFile:
    """The daemon's metrics, in a file for node_exporter's textfile collector.

    Args:
        path: of the file.
        archive: see Metrics.
        timer: seconds that only ever grow.

    Attributes:
        metrics: what is in it.
        trouble: why it can't be written; "" while it can.
    """

    def __init__(self, path: str, archive: str, timer: Callable[[], float] = time.monotonic) -> None:
        self.metrics = Metrics(archive, "daemon")
        self.trouble = ""
        self._path = path
        self._draft = f"{path}.new"  # not a name that node_exporter reads
        self._timer = timer
        self._due_at = float("-inf")
        registry = self.metrics.counted
        outcomes = Counter("modelwarden_summaries", "Summaries, by what they came to.", ("outcome",), registry=registry)
        self._outcomes = {each: outcomes.labels(each) for each in OUTCOMES}
        models = Counter(
            "modelwarden_models", "Models of archived runs, by class.", ("classification",), registry=registry
        )
        self._models = {each: models.labels(each) for each in CLASSIFICATIONS}
        self._seconds = Histogram(
            "modelwarden_ready_to_archived_seconds",
            "From the moment at which a summary was first seen as it is until it was archived.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._suspect = Counter("modelwarden_storage_suspect", "Writes or syncs that a disk failed.", registry=registry)

    def archived(self, run: RunRecord, seconds: float) -> None:
        """A run was archived, so long after its summary was ready."""
        self._outcomes["archived"].inc()
        self._seconds.observe(max(0.0, seconds))
        for classification, count in run.counts.items():
            self._models[classification].inc(count)

    def came_to(self, outcome: str) -> None:
        """A summary came to one of the other OUTCOMES."""
        self._outcomes[outcome].inc()

    def refused(self, error: RetryLater) -> None:
        """Something was in the way; of a disk in doubt a person must hear."""
        if isinstance(error, StorageSuspect):
            self._suspect.inc()

    def is_due(self) -> bool:
        """Whether the file is to be written again."""
        return self._timer() >= self._due_at

    def stand(self, readings: Readings) -> None:
        """Write the file; if that fails, say so once, and try again at the next time."""
        self._due_at = self._timer() + WRITE_SECONDS
        self.metrics.standing = tuple(_gauges(readings))
        try:
            self._write(generate_latest(self.metrics))
        except OSError as error:
            trouble = f"the metrics can't be written: {show_path(self._path)}: {error.strerror or error}"
            if trouble != self.trouble:
                hint = "give the service's user the right, or mend file in [metrics]"
                log.warning("metrics_not_written", path=show_path(self._path), reason=error.strerror, hint=hint)
            self.trouble = trouble
        else:
            if self.trouble:
                log.info("metrics_written", path=show_path(self._path))
            self.trouble = ""

    def close(self) -> None:
        """Take the file away: of what does not run there are no figures."""
        with suppress(OSError):
            os.unlink(self._path)

    def _write(self, text: bytes) -> None:
        """In one piece and without a sync: whoever reads it finds the one before or this one."""
        with suppress(FileNotFoundError):
            os.unlink(self._draft)  # a life before ended in the middle; and whatever else stands there is not followed
        descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READABLE)
        try:
            with open(descriptor, "wb") as stream:
                os.fchmod(descriptor, _READABLE)  # whatever the umask says
                stream.write(text)
            os.replace(self._draft, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(self._draft)
            raise


def _gauges(readings: Readings) -> Iterator[Metric]:
    yield heartbeat()
    yield gauge("queue_files", "Files that are there and not dealt with.", readings.waiting)
    yield gauge("unreadable_paths", "Folders and files that the last scan could not look at.", readings.unseen)
    yield gauge("watch_active", "1 if each folder gives hints, 0 if one is only scanned.", readings.is_watching)
    yield CounterMetricFamily(
        "modelwarden_watch_restarts",
        "Times that the watch on a folder was lost, and was armed anew.",
        value=readings.losses,
    )
    yield CounterMetricFamily(
        "modelwarden_watch_overflows", "Times that the kernel's queue of hints was full.", value=readings.overflows
    )
    yield gauge("archive_available", "1 if the archive is there, 0 if it is away.", readings.has_archive)
    yield gauge("archive_runs", "Runs in the archive.", readings.runs)
    yield gauge(
        "last_archived_timestamp_seconds",
        "When a run was archived last, since the epoch; nothing if none ever was.",
        readings.last_archived,
    )
    rooms = readings.rooms
    yield gauge("disk_size_bytes", "How large the disk is.", {name: room.size for name, room in rooms.items()}, "disk")
    yield gauge("disk_free_bytes", "What is left of it.", {name: room.free for name, room in rooms.items()}, "disk")
    yield from outbox(readings.messages)
