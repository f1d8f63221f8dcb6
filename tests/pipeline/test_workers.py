"""Workers stage what they are given, and nothing is lost with one that dies."""

import fcntl
import os
import pickle
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import pytest

from invariants import assert_archive_whole, assert_nothing_half_made
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed, Rejected, Unfinished
from modelwarden.archive.publishing import Archive
from modelwarden.archive.tree import Tree
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.gate.json_object import KeyTwice, NotJson
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.run import Source
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.pipeline import walk as pipeline_module
from modelwarden.pipeline import workers as workers_module
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.staging import Candidate, StagedRun, Stager
from modelwarden.pipeline.walk import GROUP, Found, Pipeline
from modelwarden.pipeline.workers import Orders, WorkerLost, Workers
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from processes import clean_environment, is_running, outbox_of, until
from summaries import encoded, flat_summary, random_summary

NAME = "20241224_153000"
SIZE = 2


def candidate(data: bytes, name: str | None = None) -> Candidate:
    """A summary on its way."""
    return Candidate(
        data, sha256(data).hexdigest(), Source("/out/s.json", len(data), None), "now", NAME, DEFAULT_NAME, name
    )


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """An archive's tree whose staging folder is there."""
    tree = Tree(str(tmp_path / "archive"), "abcd")
    tree.enter_staging()
    yield tree
    tree.close()


def orders(tree: Tree, policy: Policy | None = None) -> Orders:
    """What the workers of that tree must know."""
    return Orders(tree.root, tree.staging, "abcd", "trainer-7", {DEFAULT_NAME: policy or Policy.from_config()})


@pytest.fixture
def workers(tree: Tree) -> Iterator[Workers]:
    """Two workers that wait for work."""
    with closing(Workers(orders(tree), SIZE)) as workers:
        workers.call()
        until(workers.is_ready, "the workers to be ready")
        yield workers


def pids(workers: Workers) -> list[int]:
    """The workers' processes."""
    return [worker._process.pid for worker in workers._workers]


def test_worker_stages_what_this_process_would_stage_byte_for_byte(workers: Workers, tree: Tree) -> None:
    """Where a run is staged makes no difference: files, record and rows are the same."""
    policy = Policy.from_config(ModelGatingConfig(approved_min_fitness=0.9))
    batch = [candidate(encoded(random_summary(seed, models=3)), f"{NAME}_{seed + 2}") for seed in range(5)]
    here = Stager(tree, {DEFAULT_NAME: Policy.from_config()}, "abcd", "trainer-7")
    stricter = Stager(tree, {DEFAULT_NAME: policy}, "abcd", "trainer-7")

    theirs, ours = workers.stage(batch).result(), here.stage(batch)

    for mine, other, strict in zip(ours, theirs, stricter.stage(batch), strict=True):
        assert isinstance(mine, StagedRun)
        assert isinstance(other, StagedRun)
        assert isinstance(strict, StagedRun)
        assert (other.run, other.models) == (mine.run, mine.models)
        assert files(other.folder) == files(mine.folder)
        assert files(strict.folder) != files(mine.folder), "the policy must reach the files"
    here.close()
    stricter.close()


def files(folder: str) -> dict[str, bytes]:
    """What a staged folder holds."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_worker_inherits_no_secret_of_the_daemon(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, no credential and no URL, whoever it is for: it needs none, and anybody of its user may read them."""
    monkeypatch.setenv("MODELWARDEN_NOTIFY__DESTINATION", '[{"name": "team", "url": "json://h/c4nary"}]')
    monkeypatch.setenv("modelwarden_archive_dir", "/c4nary")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/c4nary")
    monkeypatch.setenv("https_proxy", "http://warden:c4nary@proxy")
    monkeypatch.setenv("KEPT", "by the workers")
    with closing(Workers(orders(tree), SIZE)) as workers:
        workers.call()
        until(workers.is_ready, "the workers to be ready")
        for pid in pids(workers):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"KEPT=by the workers" in environment
            assert b"c4nary" not in environment


def test_worker_tells_what_is_no_summary_with_its_place(workers: Workers) -> None:
    """A refusal comes back as the error that it is: kind, place and hint."""
    bad = flat_summary()
    bad["models"][1]["final_pf"] = "much"

    broken, twice, wrong, good = workers.stage(
        [candidate(b'{"a'), candidate(b'{"a": 1, "a": 2}'), candidate(encoded(bad)), candidate(encoded(flat_summary()))]
    ).result()

    assert isinstance(broken, NotJson)
    assert isinstance(twice, KeyTwice)
    assert str(twice).startswith('the key "a" stands twice in one object: keep one')
    assert isinstance(wrong, RejectSummary)
    assert wrong.where == "models[1].final_pf"
    assert wrong.what
    assert isinstance(good, StagedRun)


def test_worker_whose_disk_refuses_says_so_and_leaves_nothing(workers: Workers, tree: Tree) -> None:
    """A refusal of the disk is the same error as it is here."""
    os.rename(tree.staging, f"{tree.staging}-away")

    (outcome,) = workers.stage([candidate(encoded(flat_summary()))]).result()

    assert isinstance(outcome, RetryLater)
    assert not isinstance(outcome, StagedRun)
    assert tree.staging in outcome.where
    os.rename(f"{tree.staging}-away", tree.staging)
    assert [each for each in os.scandir(tree.staging) if each.is_dir()] == []


def test_worker_killed_before_it_answers_is_reported_and_others_go_on(workers: Workers) -> None:
    """What a dead worker was given is the caller's again."""
    victims = pids(workers)
    for victim in victims:
        os.kill(victim, signal.SIGSTOP)  # so that no answer can come first
    answers = [workers.stage([candidate(encoded(random_summary(seed)))]) for seed in range(SIZE)]
    os.kill(victims[0], signal.SIGKILL)
    os.kill(victims[1], signal.SIGCONT)

    lost = [answer for answer in answers if isinstance(answer.exception(30), WorkerLost)]

    assert len(lost) == 1
    assert not workers.is_ready()


def test_worker_that_stands_still_is_killed_and_reported(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stopped it: the daemon does not wait for whoever did to let it go on."""
    monkeypatch.setattr(workers_module, "SILENCE_SECONDS", 0.2)
    for victim in pids(workers):
        os.kill(victim, signal.SIGSTOP)

    answer = workers.stage([candidate(encoded(flat_summary()))])

    assert isinstance(answer.exception(30), WorkerLost)
    for victim in filter(is_running, pids(workers)):
        os.kill(victim, signal.SIGCONT)


def test_answer_that_a_signal_interrupts_arrives_whole(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the environment asks for streams without buffers, as containers do."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    batch = [candidate(encoded(random_summary(seed, models=200, points=2)), f"run-{seed}") for seed in range(16)]
    worker = workers_module._Worker(orders(tree))
    with ThreadPoolExecutor(1) as pool:
        worker.wait()
        workers_module._write(worker._questions, batch)

        def is_full() -> bool:
            waiting = fcntl.ioctl(worker._answers, termios.FIONREAD, bytes(4))
            return int.from_bytes(waiting, sys.byteorder) == fcntl.fcntl(worker._answers, fcntl.F_GETPIPE_SZ)

        until(is_full, "the answer to fill the pipe")
        os.kill(worker._process.pid, signal.SIGSTOP)
        os.kill(worker._process.pid, signal.SIGCONT)

        reading = pool.submit(pickle.load, worker._answers)
        try:
            assert len(reading.result(30)) == len(batch)
        finally:
            worker.kill()  # ends the read, however the test does
            worker.ask_to_end()
            worker.end(time.monotonic())


def test_workers_called_again_after_a_death_is_whole_again(workers: Workers) -> None:
    """The next backlog has all its workers."""
    os.kill(pids(workers)[0], signal.SIGKILL)
    until(lambda: not workers.is_ready(), "the death to be seen")

    workers.dismiss()
    workers.call()

    until(workers.is_ready, "the new workers to be ready")
    assert isinstance(workers.stage([candidate(encoded(flat_summary()))]).result()[0], StagedRun)


def test_dismissed_workers_end(workers: Workers) -> None:
    """A host that trains has no use for workers that wait."""
    before = pids(workers)

    workers.dismiss()

    assert not any(map(is_running, before))
    assert not workers.is_ready()


@pytest.mark.parametrize("moment", ["at its start", "at rest"])
def test_dismissed_worker_that_stands_still_is_killed(tree: Tree, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Whoever stopped it, and whenever: the daemon goes on without it."""
    monkeypatch.setattr(workers_module, "STOP_SECONDS", 0.2)
    with closing(Workers(orders(tree), SIZE)) as workers:
        workers.call()
        until(lambda: len(workers._workers) == SIZE, "the workers to be there")
        if moment == "at rest":
            until(workers.is_ready, "the workers to be ready")
        stopped = pids(workers)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

        workers.dismiss()

        assert not any(map(is_running, stopped))


def test_one_core_calls_no_workers(tree: Tree) -> None:
    """One worker is no faster than the process it would work for."""
    with closing(Workers(orders(tree), 1)) as workers:
        workers.call()

        assert pids(workers) == []
        assert not workers.is_ready()


def test_workers_end_with_a_process_that_was_killed(tmp_path: Path) -> None:
    """Nobody is left to send them SIGTERM: they end when their standard input does."""
    program = f"""
import sys, time
from modelwarden.archive.tree import Tree
from modelwarden.pipeline.workers import Workers, Orders
from modelwarden.gate.policy import Policy
tree = Tree({str(tmp_path / "archive")!r}, "abcd")
workers = Workers(Orders(tree.root, tree.staging, "abcd", "host", {{"default": Policy.from_config()}}), 2)
workers.call()
while not workers.is_ready():
    time.sleep(0.01)
print(*[worker._process.pid for worker in workers._workers], flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=clean_environment())
    assert process.stdout is not None
    with process.stdout:
        workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()

    assert len(workers) == SIZE
    until(lambda: not any(map(is_running, workers)), "the workers to end")


class Place:
    """A walk that may use workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.root = folder / "archive"
        self.state = folder / "state"
        database = stack.enter_context(closing(Database(str(self.state), "2024-12-24T15:30:00Z")))
        archive = stack.enter_context(closing(Archive(str(self.root), database.daemon_id)))
        self.pipeline = stack.enter_context(
            closing(
                Pipeline(
                    archive,
                    database,
                    Policies(Policy.from_config()),
                    [Route("slack", frozenset({"APPROVED", "REVIEW", "DROP"}))],
                    owner=database.daemon_id,
                    host=socket.gethostname(),
                    clock=lambda: 1_735_000_000.0,
                    deadline_seconds=3600.0,
                    workers=SIZE,
                )
            )
        )
        self.pipeline.recover()

    @property
    def workers(self) -> Workers:
        """Its workers."""
        return self.pipeline._workers

    def call(self) -> None:
        """Have the workers ready before the batch comes."""
        archive = self.pipeline.archive
        archive.tree.enter_staging()
        self.workers.call()
        until(self.workers.is_ready, "the workers to be ready")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place of work."""
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def batch_of(count: int, *, named: bool = True) -> list[Found]:
    """Small summaries handed over in memory, each with its timestamp or all without."""
    batch = []
    for seed in range(count):
        summary = random_summary(seed, models=2)
        summary.pop("timestamp", None)
        if named:
            summary["timestamp"] = f"20250101_{seed // 3600:02}{seed // 60 % 60:02}{seed % 60:02}"
        batch.append(Found("", encoded(summary), None))
    return batch


def assert_all_archived(place: Place, batch: Sequence[Found]) -> None:
    """Each is one run, one entry, one event, and nothing is half made."""
    expected = [found.data for found in batch]
    assert_archive_whole(place.root, expected)
    owed = [row["event"] for row in outbox_of(place.state)]
    assert sorted(owed) == sorted(f"run:{sha256(data).hexdigest()[:16]}" for data in expected)
    assert place.pipeline.recorder.catalog.names() == set(place.pipeline.archive.names())
    assert [each for each in place.root.glob(".staging/*/*") if each.is_dir()] == []


def test_backlog_staged_by_workers_is_archived_whole_in_order(place: Place) -> None:
    """However many processes stage, every summary has its own outcome at its own place."""
    batch = batch_of(3 * GROUP + 5)
    place.call()

    outcomes = place.pipeline.process(batch)

    names = [outcome.run.timestamp for outcome in outcomes if isinstance(outcome, Archived)]
    assert len(names) == len(batch)
    assert names == sorted(names), "the batch's order is the outcomes' order"
    assert_all_archived(place, batch)
    place.pipeline.close()
    place.pipeline.archive.close()
    assert_nothing_half_made(place.root)


def test_backlog_that_calls_the_workers_itself_is_archived_whole(place: Place) -> None:
    """The first groups are staged here while the workers start; who staged a run can't be told."""
    batch = batch_of(8 * GROUP)

    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    assert_all_archived(place, batch)


def test_backlog_of_one_second_gives_every_run_its_own_name(place: Place) -> None:
    """Summaries without a timestamp, or all with the same: no two workers may take one name."""
    same = [Found("", encoded(random_summary(seed, models=1) | {"timestamp": NAME}), None) for seed in range(GROUP)]
    batch = batch_of(2 * GROUP, named=False) + same
    place.call()

    outcomes = place.pipeline.process(batch)

    names = {outcome.run.timestamp for outcome in outcomes if isinstance(outcome, Archived)}
    assert len(names) == len(batch)
    assert {NAME} | {f"{NAME}_{suffix}" for suffix in range(2, GROUP + 1)} <= names, "no number is left out"
    assert_all_archived(place, batch)


def test_backlog_with_every_kind_of_end_gives_each_its_own(place: Place) -> None:
    """Rejected, unfinished, twice and archived before: one batch, no outcome at a neighbour's place."""
    good = batch_of(3 * GROUP)
    place.pipeline.process(good[:1])
    bad, unfinished = Found("", b'{"models": []}', None), Found("", b'{"models": [', None)
    batch = [*good, bad, unfinished, good[7]]
    place.call()

    outcomes = place.pipeline.process(batch)

    assert isinstance(outcomes[0], AlreadyArchived)
    assert all(isinstance(outcome, Archived) for outcome in outcomes[1 : len(good)])
    rejected, waiting, twin = outcomes[len(good) :]
    assert isinstance(rejected, Rejected)
    assert isinstance(waiting, Unfinished)
    assert twin == AlreadyArchived("20250101_000007")


def test_worker_killed_in_a_backlog_costs_no_run(place: Place) -> None:
    """What it was given is staged by the walk itself."""
    batch = batch_of(4 * GROUP)
    place.call()
    os.kill(pids(place.workers)[0], signal.SIGKILL)
    place.workers._is_whole = lambda: True  # type: ignore[method-assign] # it dies after the look that found it alive

    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    expected = [found.data for found in batch]
    assert_archive_whole(place.root, expected)


def test_worker_that_stands_still_holds_up_no_stop(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that was told to stop ends its batch without the worker that somebody paused."""
    monkeypatch.setattr(pipeline_module, "STOP_SECONDS", 0.1)
    batch = batch_of(4 * GROUP)
    place.call()
    os.kill(pids(place.workers)[0], signal.SIGSTOP)

    place.pipeline.hurry()
    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    assert_archive_whole(place.root, [found.data for found in batch])


def test_backlog_whose_commit_fails_is_postponed_and_leaves_nothing_staged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the workers go on staging meanwhile is cleared away; the sources are still owed, and archived later."""
    batch = batch_of(4 * GROUP)
    place.call()
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise RetryLater("no lock")

        broken.setattr(place.pipeline.archive, "commit", refuse)
        outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Postponed) for outcome in outcomes)
    assert [each for each in place.root.glob(".staging/*/*") if each.is_dir()] == []

    assert all(isinstance(outcome, Archived) for outcome in place.pipeline.process(batch))
    assert_all_archived(place, batch)


def test_walk_at_rest_has_no_workers(place: Place) -> None:
    """They end when there is no backlog any more."""
    place.call()
    before = pids(place.workers)

    place.pipeline.rest()

    assert not any(map(is_running, before))
