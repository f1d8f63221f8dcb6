"""The soak for some seconds: it starts, does its worst and finds nothing wrong; and it would find what is.

The rule: what a soak of seconds can't be sure to meet is not asked of it: every mutant here is one that it always does.
What a long one found now and then stands below, made certain.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from invariants import sha256
from modelwarden.archive import publishing
from modelwarden.archive.index import IndexLock
from modelwarden.archive.outcomes import AlreadyArchived, Outcome, Postponed, Unfinished
from modelwarden.archive.publishing import Archive, Staged
from modelwarden.config import load_settings
from modelwarden.errors import RetryLater
from modelwarden.gate.json_object import NotJson
from modelwarden.intake import reading
from modelwarden.intake.reading import Whole, read_whole
from modelwarden.pipeline.staging import run_files
from modelwarden.pipeline.walk import Found
from modelwarden.service.lifecycle import Service
from modelwarden.wiring.service import open_service
from processes import Site, drop, make_site, until
from rigs.mutants import Mutant
from rigs.needs import needs
from summaries import encoded, judged_run, random_summary

SOAK = Path(__file__).with_name("soak.py")


def soaked(
    folder: Path, *only: str, seconds: float, rate: float = 15, burst: int = 0, product: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A soak to its end, always with the same seed.

    Args:
        folder: where.
        only: the faults to choose from.
        seconds: of load.
        rate: things done a second.
        burst: summaries at once.
        product: what PYTHONPATH must be to run a mutant.
    """
    options = {"--dir": folder, "--seed": 7, "--minutes": seconds / 60, "--rate": rate, "--burst": burst}
    words = [str(word) for option in options.items() for word in option]
    return subprocess.run(
        [sys.executable, SOAK, *words, "--only", *only],
        env=os.environ | ({"PYTHONPATH": str(product)} if product is not None else {}),
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder outside the shared memory: the soak has one of its own in that one's place."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.crash
def test_short_soak_finds_nothing_wrong(on_disk: Path) -> None:
    """Some seconds of load, a kill, a stepped clock and a deleted index lose nothing and leave nothing behind."""
    result = soaked(on_disk / "soak", "daemon killed", "clock stepped", "index.json deleted", seconds=3)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "every promise held" in result.stdout
    assert "daemon killed" in result.stdout
    assert not (on_disk / "soak").exists()


class Broken(NamedTuple):
    """A mutant, and what the soak must say of it.

    Attributes:
        mutant: the mutation.
        says: part of the line that tells what is wrong.
        only: the faults that it takes.
        burst: how many summaries at once.
    """

    mutant: Mutant
    says: str
    only: Sequence[str] = ("index.json deleted",)
    burst: int = 0


BROKEN = (
    Broken(
        Mutant(
            "twins_are_archived_twice",
            "archive/publishing.py",
            "if (name := self.find(staged.run.sha256)) is not None:",
            "if (name := None) is not None:",
        ),
        "the same bytes are archived twice",
    ),
    Broken(
        Mutant(
            "refused_message_counts_as_delivered",
            "courier/delivery.py",
            "dead = self._outbox.failed(",
            "self._outbox.delivered(ids, now)\n                dead = self._outbox.failed(",
        ),
        "messages lost",
    ),
    Broken(
        Mutant(
            "sources_are_deleted_unasked",
            "service/processing.py",
            "if self._delete_archived and fingerprint is not None:",
            "if fingerprint is not None:",
        ),
        "sources: ",
    ),
    Broken(
        Mutant(
            "files_stay_open_after_the_read",
            "intake/reading.py",
            "            os.close(descriptor)\n    if (before",
            "            pass\n    if (before",
        ),
        "open files: ",
    ),
    Broken(
        Mutant(
            "batches_stay_in_memory",
            "service/processing.py",
            "outcomes: Sequence[Outcome] = self._pipeline.process(batch, final=final)",
            "outcomes: Sequence[Outcome] = self._pipeline.process(batch, final=final)\n"
            '            self.__dict__.setdefault("kept", []).append(b"x" * (len(batch) << 20))',
        ),
        "memory: ",
    ),
    Broken(
        Mutant(
            "staging_of_the_dead_stays",
            "archive/tree.py",
            "if not is_ours or name == os.path.basename(self._staging):",
            "if True:",
        ),
        "archive: ",
        only=("daemon killed",),
        burst=200,
    ),
    Broken(
        Mutant(
            "refusal_of_the_disk_is_unforeseen",
            "pipeline/walk.py",
            "        except RetryLater as error:\n            outcomes = {",
            "        except ZeroDivisionError as error:\n            outcomes = {",
        ),
        "batch_failed",
        only=("disk full",),
    ),
)


@pytest.mark.crash
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.mutant.name)
def test_broken_product_is_found_out(on_disk: Path, broken: Broken) -> None:
    """The soak says what is wrong with each of these, and that it is."""
    needs(root=True, commands=("unshare", "mount", "mkfs.ext4"), devices=("/dev/loop-control",))
    product = broken.mutant.make(on_disk / "product")
    result = soaked(on_disk / "soak", *broken.only, seconds=8, burst=broken.burst, product=product)
    assert result.returncode == 1, result.stdout + result.stderr
    assert broken.says in result.stdout


# -- Found by the soak ---------------------------------------------------------------------------------------------


def archive_one(archive: Archive, number: int) -> None:
    """Commit one run."""
    summary = random_summary(number, models=3, points=4)
    run, assessments = judged_run(summary, timestamp=summary["timestamp"])
    archive.tree.enter_staging()
    folder = archive.tree.stage(run_files(run, encoded(summary), assessments))
    archive.commit([Staged(folder, run)])


@pytest.mark.parametrize("way", ["renamed", "truncated"])
def test_index_that_a_hand_replaces_during_a_commit_is_never_built_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Whatever somebody writes over index.json, from the next commit on readers have a whole index."""
    index = tmp_path / "archive" / "index.json"

    def by_hand() -> None:
        sync()
        if way == "renamed":
            (tmp_path / "by-hand").write_bytes(b"x" * 5_000)
            (tmp_path / "by-hand").rename(index)
        else:
            index.write_bytes(b"")

    with closing(Archive(str(tmp_path / "archive"), "0a1b2c3d")) as archive:
        archive.reconcile()
        for number in range(3):
            archive_one(archive, number)
        sync = archive.tree.sync
        with monkeypatch.context() as patch:
            patch.setattr(archive.tree, "sync", by_hand)
            archive_one(archive, 3)
        for number in range(4, 7):
            archive_one(archive, number)
            assert len(json.loads(index.read_bytes())["runs"]) == number + 1


def test_rewrite_during_the_read_with_its_time_restored_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes never count under the fingerprint of other bytes: those would be taken for dealt with, and be lost."""
    path = tmp_path / "summary.json"
    path.write_bytes(b"old")
    before = path.stat()
    read = reading._read_up_to

    def read_and_rewrite(*arguments: Any) -> bytes:
        data = read(*arguments)
        path.write_bytes(b"new")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return data

    monkeypatch.setattr(reading, "_read_up_to", read_and_rewrite)
    assert not isinstance(read_whole(str(path), 100), Whole)


def dropped(site: Site, count: int) -> list[Path]:
    """So many new summaries in the watched folder."""
    return [drop(encoded(random_summary(n, models=1, points=1)), site.out, f"{n}.json") for n in range(count)]


def only_postponed(batch: Sequence[Found], **_: bool) -> list[Outcome]:
    """What comes of a batch while the disk is full."""
    return [Postponed(RetryLater("full")) for _ in batch]


def turned(service: Service) -> None:
    """Turn the loop until nothing waits, or it is to stop."""

    def is_done() -> bool:
        service._turn()
        return service._stopping or (service._discovery.has_scanned and not len(service._settling))

    until(is_done, "all to be dealt with")


def test_state_file_that_refuses_to_forget_a_file_ends_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full when a source is deleted costs a warning; the file is forgotten by a later scan."""
    site = make_site(tmp_path)
    paths = dropped(site, 3)

    def full(_paths: Sequence[str]) -> None:
        raise RetryLater("database or disk is full")

    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        service._start()
        turned(service)
        paths[0].unlink()
        with monkeypatch.context() as patch:
            patch.setattr(service._pipeline.recorder, "forget", full)
            service._discovery.scan()
        service._discovery.scan()
        assert str(paths[0]) not in set(service._pipeline.recorder.ledger.paths())
        service._stop()


def test_disk_that_refuses_a_batch_is_asked_again_after_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first refusal costs the shortest pause, however many files it stops."""
    site = make_site(tmp_path)
    paths = dropped(site, 20)
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        monkeypatch.setattr(service._pipeline, "process", only_postponed)
        service._processing.work(list(map(str, paths)))
        assert service._processing.trouble_pause == 1.0


def test_stop_while_suspects_are_worked_on_alone_is_heeded_after_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that was killed over a backlog stops in time when it is told to, not after the whole backlog."""
    site = make_site(tmp_path)
    paths = dropped(site, 5)
    batches: list[int] = []
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        # Each of them was being judged when a process died.
        service._processing._attempts._write({sha256(path.read_bytes()): 1 for path in paths})
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:

        def process(batch: Sequence[Found], **_: bool) -> list[Outcome]:
            batches.append(len(batch))
            service.request_stop()
            return only_postponed(batch)

        monkeypatch.setattr(service._pipeline, "process", process)
        turned(service)
        assert batches == [1]


def test_pauses_grow_while_one_file_is_refused_whatever_else_goes_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A twin of an archived run needs no lock: that it goes well does not mean that the trouble is over."""
    site = make_site(tmp_path)
    paths = dropped(site, 3)
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:

        def process(batch: Sequence[Found], **_: bool) -> list[Outcome]:
            return [*only_postponed(batch[1:]), AlreadyArchived("20241224_153000")]

        monkeypatch.setattr(service._pipeline, "process", process)
        pauses = []
        for _ in range(3):
            service._processing.work(list(map(str, paths)))
            pauses.append(service._processing.trouble_pause)
    assert pauses == [1.0, 2.0, 4.0]
    assert [record.levelname for record in caplog.records if "postponed" in record.message].count("WARNING") == 1


def test_file_that_can_not_be_rejected_is_tried_again_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk that refuses even the reason is not asked again at once, and again, and again."""
    site = make_site(tmp_path)
    path = drop(b"no summary", site.out, "bad.json")
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        batches: list[bool] = []

        def process(batch: Sequence[Found], *, final: bool) -> list[Outcome]:
            batches.append(final)
            return only_postponed(batch) if final else [Unfinished(NotJson("not JSON")) for _ in batch]

        monkeypatch.setattr(service._pipeline, "process", process)

        def is_refused() -> bool:
            service._processing.work([str(path)])
            return service._processing.trouble_pause > 0

        until(is_refused, "it to be given up")
        assert service._processing.trouble_pause == 1.0
        assert batches[-2:] == [False, True]


def test_files_that_are_rejected_need_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad files beside an archive that another holds are rejected, and do not keep a daemon that is to stop."""
    site = make_site(tmp_path)
    monkeypatch.setattr(publishing, "LOCK_TIMEOUT", -1.0)  # who waits for it, waits for ever
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        service._start()
        for number in range(3):
            drop(b"no summary %d" % number, site.out, f"{number}.json")
        with IndexLock(str(site.archive)).held(1.0):
            turned(service)
        assert service._processing.rejected == 3
        service._stop()


@pytest.mark.parametrize("fault", [False, True], ids=["given up", "batch failed"])
def test_stop_amid_a_batch_is_heeded_before_its_files_are_taken_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fault: bool
) -> None:
    """What is left over is found again by the next start, and nobody is under suspicion for it."""
    site = make_site(tmp_path)
    paths = [drop(b"no summary %d" % number, site.out, f"{number}.json") for number in range(3)]
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        batches: list[int] = []

        def process(batch: Sequence[Found], **_: bool) -> list[Outcome]:
            batches.append(len(batch))
            service.request_stop()
            if fault:
                raise ZeroDivisionError
            return [Unfinished(NotJson("not JSON")) for _ in batch]

        monkeypatch.setattr(service._pipeline, "process", process)
        monkeypatch.setattr(service._settling, "unfinished", lambda *_: True)
        service._processing.work(list(map(str, paths)))
        assert batches == [3]
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:
        assert not service._processing._attempts


def test_start_that_waits_says_so_and_never_that_it_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is started after it has to wait; what it waits for is in its status."""
    site = make_site(tmp_path)
    said: list[str] = []
    with open_service(load_settings(str(site.config))[0], (), courier=False) as service:

        def refuse() -> None:
            service.request_stop()
            raise RetryLater("the lock is held")

        monkeypatch.setattr(service._pipeline.upkeep, "recover", refuse)
        monkeypatch.setattr(service._notifier, "ready", said.append)
        service.run()
    assert said == ["waiting: the lock is held"]
